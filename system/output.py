"""What a command prints: it arrives as it is printed, and where nothing takes it, a run goes on."""

from __future__ import annotations  # see system/versions.py

import contextlib
import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from system.errors import UserError, name_all

HARMFUL = re.compile(r"\r(?!\n)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # what terminals obey
LINE_END = re.compile("\r\n|[\n\u2028\u2029]")


@contextlib.contextmanager
def arranged() -> Iterator[None]:
    """While a command runs, each line arrives when it is printed, and stderr takes all.

    Otherwise a file or a pipe would get its lines once 8 kB have come together, and Windows would
    write "\\r\\n" for "\\n", so that a text with "\\r\\n" came out with "\\r\\r\\n".
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(line_buffering=True, newline="")
    with unbroken("stderr"):
        try:
            yield
        finally:
            let_go(sys.stdout)


@contextlib.contextmanager
def unbroken(name: str) -> Iterator[None]:
    """While this context lasts, no print to `sys.<name>` fails, for those whose files count.

    The reader may be gone, or the terminal, or the disk full: what cannot be written is lost.
    """
    before = getattr(sys, name)
    stream = before or open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    setattr(sys, name, Unbroken(stream))
    try:
        yield
    finally:
        setattr(sys, name, before)
        let_go(stream)


class Unbroken:
    """A stream whose writes never fail; each is tried, as there may be room again."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def let_go(stream: TextIO | None) -> None:
    """Flush `stream`; if that fails, drop what waits, so that Python does not try as it ends."""
    try:
        if stream:
            stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def forgive_output() -> None:
    """Let standard output escape the characters that it cannot show; one that is closed takes all.

    For commands whose texts are for looking at; sample.py asks `check_output` instead.
    """
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    elif hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def check_output(chars: str) -> None:
    """Raise UserError unless standard output can show each of `chars`."""
    if sys.stdout is None:
        raise UserError("standard output is closed; leave it open for the text")
    encoding = sys.stdout.encoding or "utf-8"  # a StringIO has none
    try:
        chars.encode(encoding, sys.stdout.errors or "strict")
    except UnicodeEncodeError as error:
        strange = name_all([chars[error.start]])
        raise UserError(
            f"standard output is {encoding} and cannot show {strange}, which this model may write; "
            "set PYTHONIOENCODING=utf-8"
        ) from None


def harmless(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces of a text as standard output should get them: as they are, or for a terminal.

    There, control characters are shown as such, ESC as \\x1b, because a text must not move the
    cursor or turn the terminal into something else. Line ends and tabs stay. A "\\r" waits for the
    next piece, because what comes then tells whether it belongs to a line end.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        yield from pieces
        return
    waiting = ""
    for piece in pieces:
        text = waiting + piece
        waiting = "\r" if text.endswith("\r") else ""
        yield escaped(text.removesuffix("\r"))
    if waiting:
        yield r"\x0d"


def escaped(text: str) -> str:
    """`text` with control characters shown as such, ESC as \\x1b, but line ends and tabs."""
    return HARMFUL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def in_one_line(text: str) -> str:
    """`text` in a line of standard output, terminal or not: line ends shown as ↵, or as \\n where
    it cannot show that, and control characters as such."""
    mark = "↵"
    try:
        mark.encode(getattr(sys.stdout, "encoding", None) or "utf-8")  # a StringIO has none
    except UnicodeEncodeError:
        mark = r"\n"
    return escaped(LINE_END.sub(lambda _: mark, text))
