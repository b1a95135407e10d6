"""What tests share: a small model, small runs, faults that happen to them, and a second opinion."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository


def said(err: bytes | str) -> str:
    """What a command wrote to stderr, but for the line with which it warns of an older torch."""
    err = err if isinstance(err, str) else err.decode()
    return re.sub(r"\Awarning: a checkpoint could run code in torch .*\n", "", err)
