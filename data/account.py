"""What was done with the user's text, in lines to be shown before a run begins; often in none."""

import numpy as np

from data import split
from data.reading import Stock, Survey
from system.errors import name_all
from system.settings import DataConfig

SHOWN = 5  # characters that a line shows
MANY = 0.1  # of the alphabet: so many characters that come once are worth a line


def of(config: DataConfig, stock: Stock, tally: np.ndarray, *, settled: bool) -> list[str]:
    """The lines about the texts of a run. A single file that is read as it is needs none.

    tally: how often each character comes in training and in validation, (2, V)
    settled: whether the settings are those of a run that goes on: no line suggests another one
    """
    lines = [line for text in stock.texts for line in reading_of(text, settled=settled)]
    whole = sum(text.length for text in stock.texts)
    if stock.rare:
        gone = whole - stock.length - stock.val_length
        lines.append(
            f"{gone:,} characters left out, which come less than {config.min_count:,} times: "
            f"{name_all([*stock.rare], SHOWN)}"
        )
    if not stock.texts[0].found.files or settled:  # a text of ours, or nothing to choose
        return lines
    once = Survey(sum(text.counts for text in stock.texts)).that_come(1, 1)
    if config.min_count == 1 and len(once) > MANY * len(stock.chars):
        lines.append(
            f"{len(once):,} of {len(stock.chars):,} distinct characters come once: "
            f"{name_all([*once], SHOWN)}; data.min_count=2 leaves them out"
        )
    ends = config.val_dataset is None and config.val_from == "end"
    if ends and split.drift(*tally) > split.UNLIKE:
        lines.append(
            f"the last {tally[1].sum():,} characters, for validation, are unlike those before; "
            "data.val_from=spread takes them from all over the text"
        )
    return lines


def reading_of(about: Survey, *, settled: bool) -> list[str]:
    """The lines about how one text was read."""
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
