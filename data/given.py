"""Texts that a command line names: files, the .txt files of folders, and what comes from a pipe."""

import sys
from collections.abc import Sequence
from pathlib import Path

from data.files import find, find_at
from data.reading import Survey, read_file, with_newlines
from system.errors import UserError

PIPE = "-"


def read(names: Sequence[str], *, keep_returns: bool = False) -> dict[str, str]:
    r"""Each text by its name, once. Line ends become \n unless `keep_returns`, which is said on
    standard error. Raises UserError where one cannot be read."""
    texts: dict[str, str] = {}
    for name in names:
        if name == PIPE:
            texts.setdefault(name, tidied(name, read_pipe(), keep_returns))
            continue
        for path in files(name):
            if str(path) not in texts:
                texts[str(path)] = tidied(str(path), "".join(read_file(path)), keep_returns)
    return texts


def files(name: str) -> list[Path]:
    """The files that `name` stands for; tiny_shakespeare is the text that comes along."""
    if name == "tiny_shakespeare":
        return find(name).files
    return find_at(name, f"{name[:200]} is no file or folder to read", flat=False).files


def read_pipe() -> str:
    """What comes from standard input, as UTF-8. Raises UserError."""
    if sys.stdin is None:
        raise UserError("- has no standard input to read; pipe a text into it")
    try:
        return sys.stdin.buffer.read().decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"standard input is not UTF-8 at byte offset {error.start}; pipe it through "
            "iconv -f WINDOWS-1252 -t UTF-8, or the name of its encoding in place of WINDOWS-1252"
        ) from None


def tidied(name: str, text: str, keep_returns: bool) -> str:
    r"""`text` with \n for each line end, unless `keep_returns`."""
    if keep_returns or "\r" not in text:
        return text
    about = Survey()
    text = "".join(with_newlines([text], about))
    count = about.crlf + about.cr
    ends = f"{count:,} line end{'s' * (count != 1)}"
    print(rf"{name}: {ends} with \r, read as \n", file=sys.stderr)
    return text
