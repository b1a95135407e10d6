"""Ids as text: pieces as they are made, up to the first of several stops."""

import copy
import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from data.tokenizer import CharTokenizer
from writing.texts import Text, fetch, texts, until


def words(longest: int) -> list[str]:
    """Every text of a and b with 1 up to `longest` characters."""
    lengths = range(1, longest + 1)
    return ["".join(word) for n in lengths for word in itertools.product("ab", repeat=n)]


def cut(text: str, stops: tuple[str, ...]) -> tuple[str, str]:
    """What stands before the first stop that is whole, and that stop, by reading from the start."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, ""


def test_one_stop() -> None:
    for text, stop in itertools.product(words(7), words(4)):
        assert "".join(until(text, (stop,))) == text.split(stop)[0]
    assert "".join(until("abab", ())) == "abab"


@given(st.text("abc"), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_several_stops(text: str, stops: list[str]) -> None:
    written = Text(CharTokenizer("abc").encode(text).tolist(), CharTokenizer("abc"), stops)
    passed = "".join(written)
    assert (passed, written.stop) == cut(text, (*stops,))
    assert CharTokenizer("abc").decode(torch.tensor(written.ids)) == passed + written.stop


@given(st.text("abc"), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_only_what_may_begin_a_stop_waits(text: str, stops: list[str]) -> None:
    chars, passed_on = iter(text), ""
    for piece in until(chars, stops):
        passed_on += piece
        read = len(text) - len(list(copy.copy(chars)))
        held = text[len(passed_on) : read]
        assert held == "" or any(stop.startswith(held) for stop in stops)


def test_ids_are_fetched_in_order() -> None:
    places = [torch.tensor([i, -i]) for i in range(7)]
    for every in (1, 3, 7, 32):
        assert list(fetch(iter(places), every)) == [[i, -i] for i in range(7)]


def test_texts_are_those_of_the_rows() -> None:
    tokenizer = CharTokenizer("abc.")
    rows = ["abca.bc", "ccc....", "a.a.a.a"]
    places = list(torch.stack([tokenizer.encode(row) for row in rows], dim=1))
    for every, stops in itertools.product((1, 3, 8), ((), (".",), ("bc", "ca"))):
        written = texts(iter(places), tokenizer, 3, stops=stops, every=every)
        written[1].finish()  # out of turn
        assert ["".join(text) for text in written] == [cut(row, stops)[0] for row in rows]


def test_text_comes_as_it_is_made() -> None:
    asked = []
    places = (asked.append(i) or torch.tensor([i % 3]) for i in range(9))
    [text] = texts(places, CharTokenizer("abc"), 1)
    assert asked == [] and next(text) == "a" and asked == [0]
    assert next(text) == "b" and asked == [0, 1] == text.ids
