"""What can go wrong, told in one sentence that names the value and the remedy."""

from __future__ import annotations  # see system/versions.py

from pathlib import Path
from typing import Any


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


def looked_in(path: str | Path) -> str:
    """Where a path that is not there was looked for, after its name in a message."""
    return "" if Path(path).is_absolute() else f" in {Path.cwd()}"


def show(value: Any) -> str:
    """A value as an error message quotes it, cut where it is long."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
