"""What can go wrong, told in one sentence that names the value and the remedy."""


class UserError(Exception):
    """Something the user can mend: one sentence that names the value and the remedy. Exit 2."""

    status = 2


class Fault(UserError):
    """Something that went wrong although the input was good, such as a full disk. Exit 1."""

    status = 1


def name_all(chars: list[str], most: int = 20) -> str:
    """'é' (U+00E9) and '€' (U+20AC), for a message; past `most` the rest is counted."""
    names = [f"{char!r} (U+{ord(char):04X})" for char in chars[:most]]
    if len(chars) > most:
        names.append(f"{len(chars) - most} more")
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
