"""A text in a terminal with its surprises: marks below it and colours behind, and the worst named.

Nothing is told by colour alone: each shade has its mark.
"""

import os
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TextIO

import numpy as np

LEVELS = (2.0, 4.0, 8.0)  # bits from which on a character has each mark
MARKS = " .:#"
COLOURS = ("", "\x1b[30;48;5;229m", "\x1b[30;48;5;215m", "\x1b[97;48;5;160m")  # and how it stands
RESET = "\x1b[0m"
BEFORE, AFTER = 30, 15  # characters around a surprising one that are shown
NAMED = {"\n": "↵", "\t": "⇥"}
LEGEND = "bits to be told a character, in marks below it: " + ", ".join(
    f"{mark} from {level:g}" for mark, level in zip(MARKS[1:], LEVELS, strict=True)
)


def visible(char: str) -> str:
    """A character as a terminal may get it: one that would do something there as its number."""
    if char.isprintable():
        return char
    return NAMED.get(char) or char.encode("unicode_escape").decode()


def width(shown: str) -> int:
    """How many columns of a terminal `shown` takes: none for what stands on the one before."""
    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in shown)
    return len(shown) + wide - sum(unicodedata.category(char) in ("Mn", "Me") for char in shown)


def coloured(stream: TextIO) -> bool:
    """Whether colours may be written to `stream`: to a terminal, unless NO_COLOR is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return stream.isatty() and not plain


def shaded(
    text: str, places: np.ndarray, bits: np.ndarray, *, columns: int, colour: bool
) -> Iterator[str]:
    """Lines that show `text`, `| ` before each, and where there are marks, a line of these below.

    places, bits: (N,) which characters were judged, and what each takes; others have no mark
    columns: of the terminal, in which a longer line goes on below
    """
    levels = np.zeros(len(text), np.int8)
    levels[places] = np.searchsorted(LEVELS, bits, side="right")
    line, marks, room = "", "", max(8, columns - 3)
    for char, level in zip(text, levels.tolist(), strict=True):
        shown = visible(char)
        if width(marks + shown) > room:  # marks are as wide as what stands above them
            yield from pair(line, marks)
            line = marks = ""
        line += f"{COLOURS[level]}{shown}{RESET}" if level and colour else shown
        marks += MARKS[level] * width(shown)
        if char == "\n":
            yield from pair(line, marks)
            line = marks = ""
    if line:
        yield from pair(line, marks)


def pair(line: str, marks: str) -> Iterator[str]:
    """A line of the text, and the marks below it if there are any."""
    yield f"| {line}"
    if marks.strip():
        yield f"  {marks}".rstrip()


def surprises(
    text: str, places: np.ndarray, bits: np.ndarray, guesses: Sequence[str], most: int
) -> Iterator[list[str]]:
    """Rows of a table of the characters that take the most bits, the most first.

    places, bits, guesses: of each that was judged, (N,), and what would have been written there
    """
    yield ["where", "bits", "line", "column", "came", "expected"]
    starts = np.flatnonzero(np.frombuffer(text.encode("utf-32-le"), np.uint32) == ord("\n")) + 1
    for i in np.argsort(-bits, kind="stable")[:most].tolist():
        place = int(places[i])
        line = int(np.searchsorted(starts, place, side="right"))
        column = place - (int(starts[line - 1]) if line else 0)
        around = text[max(0, place - BEFORE) : place], text[place + 1 : place + 1 + AFTER]
        before, after = ("".join(map(visible, part)) for part in around)
        came, expected = (visible(char).replace(" ", "␣") for char in (text[place], guesses[i]))
        where = f"{before:>{BEFORE}}[{visible(text[place])}]{after}"
        yield [where, f"{bits[i]:.1f}", f"{line + 1:,}", f"{column + 1:,}", came, expected]
