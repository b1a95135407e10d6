"""A text in a terminal: its marks stand where they belong, and nothing in it does anything."""

import io

import numpy as np
import pytest

from analysis import shading


def shown(text: str, bits: list[float], columns: int = 80, colour: bool = False) -> list[str]:
    """The lines of `text`, whose characters but the first take `bits`."""
    places = np.arange(1, len(text))
    return [*shading.shaded(text, places, np.array(bits), columns=columns, colour=colour)]


def test_marks_stand_below() -> None:
    bits = [1.9, 2, 3.9, 4, 7.9, 8, 99, 0]
    assert shown("abcdefgh\n", bits) == ["| abcdefgh↵", "    ..::##"]
    assert shown("a日b\u0301c", [9, 9, 9, 9]) == ["| a日b\u0301c", "   ####"]
    assert shown("a\x1b\tb", [9, 2, 0]) == [r"| a\x1b⇥b", "   ####."]
    assert shown("ab\ncd", [0, 0, 0, 4]) == ["| ab↵", "| cd", "   :"]
    assert shown("a" * 21, [0.0] * 20, columns=13) == ["| " + "a" * 10] * 2 + ["| a"]


def test_colours_say_what_marks_say() -> None:
    plain, colours = shown("abcd", [2, 4, 8]), shown("abcd", [2, 4, 8], colour=True)
    assert plain[1:] == colours[1:] == ["   .:#"]
    for colour in shading.COLOURS:
        assert colour in colours[0]
        colours[0] = colours[0].replace(colour, "", 1)
    assert colours[0].replace(shading.RESET, "") == plain[0]


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert shading.coloured(Terminal()) and not shading.coloured(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not shading.coloured(Terminal())


def test_surprises_have_their_surroundings() -> None:
    text = "ab\ncd\x1bef\n"
    rows = shading.surprises(text, np.array([1, 4, 5]), np.array([1.0, 7.25, 7.5]), "xy\n", 2)
    assert [*rows][1:] == [
        [f"{'ab↵cd':>30}[\\x1b]ef↵", "7.5", "2", "3", r"\x1b", "↵"],
        [f"{'ab↵c':>30}[d]\\x1bef↵", "7.2", "2", "2", "d", "y"],
    ]
