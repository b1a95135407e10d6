"""What was done with the user's text, in lines to be shown before a run begins; often in none."""

from data.reading import Survey


def of(about: Survey, *, settled: bool) -> list[str]:
    """The lines about a text. A single file that is read as it is needs none.

    Where the settings are `settled`, as those of a run that goes on, no line suggests another one.
    """
    found, lines = about.found, []
    if len(found.files) > 1 or found.left_out:
        lines.append(found.said())
    if about.utf16:
        lines.append(f"UTF-16, read as such: {listed(about.utf16)}")
    if ends := line_ends(about):
        lines.append(ends if settled else f"{ends}; data.normalize_newlines=false keeps them")
    return lines


def listed(names: list[str], most: int = 3) -> str:
    """The first `most` of the names; the others are counted."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def line_ends(about: Survey) -> str:
    r"""How many line ends were read as \n, as in `1,204 Windows line ends read as \n`."""
    kinds = [
        f"{count:,} {kind} line end{'s' * (count != 1)}"
        for count, kind in ((about.crlf, "Windows"), (about.cr, "old Mac"))
        if count
    ]
    return f"{' and '.join(kinds)} read as \\n" if kinds else ""
