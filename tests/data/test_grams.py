"""Counts of a text without some of its parts, against dictionaries of what is left of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.kneser_ney import KneserNey
from data import grams
from data.counts import count, count_without
from data.grams import Grams
from tests.data.test_ngrams import spelled

quickly = settings(deadline=None, derandomize=True, max_examples=40)
each_way = pytest.mark.parametrize(
    ("table", "largest"),
    [(1 << 22, (1 << 63) - 1), (1, 1 << 22), (30, 1 << 30)],  # also where no number holds a gram
)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[np.ndarray], list[np.ndarray], int, int, int, set[int]]:
    """Pieces, their parts, the vocabulary, the order that is sorted and counted, what is left out.

    Parts may be shorter than a gram, come again, and be in several pieces.
    """
    V, order = draw(st.sampled_from([2, 3, 300])), draw(st.integers(1, 7))
    pieces, parts = [], []
    for _ in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 12), max_size=5))
        named = draw(st.lists(st.integers(0, 4), min_size=len(sizes), max_size=len(sizes)))
        letters = st.integers(max(0, V - 3), V - 1)
        text = draw(st.lists(letters, min_size=sum(sizes), max_size=sum(sizes)))
        pieces.append(np.array(text, np.uint16))
        parts.append(np.repeat(np.array(named, np.uint8), sizes))
    return pieces, parts, V, order, draw(st.integers(1, order)), draw(st.sets(st.integers(0, 4)))


def left(pieces: list[np.ndarray], parts: list[np.ndarray], out: set[int]) -> list[list[int]]:
    """The stretches of the pieces that are in no part which is left out."""
    found = []
    for piece, part in zip(pieces, parts, strict=True):
        found.append([])
        for id, name in zip(piece.tolist(), part.tolist(), strict=True):
            if name in out:
                found.append([])
            else:
                found[-1].append(id)
    return found


@each_way
@quickly
@given(case=cases())
def test_without_parts(case: tuple, table: int, largest: int) -> None:
    pieces, parts, V, most, order, out = case
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(grams, "TABLE", table)
        monkeypatch.setattr(grams, "LARGEST", largest)
        levels = count_without(frozenset(out), Grams(pieces, parts, V, most), order)
    rest = left(pieces, parts, out)
    longest = max(map(len, rest))
    assert len(levels) == min(order, longest)
    if longest:
        assert spelled(levels, V) == KneserNey(rest, V, order).counts


def test_one_sorting_for_all() -> None:
    """Each fold of a text of some length, and one counted on its own."""
    rng, V = np.random.default_rng(3), 97  # nine of them, with a label, are more than 63 bits
    text = (rng.zipf(1.5, 1500) % V).astype(np.uint8)
    part = np.repeat(np.arange(8, dtype=np.uint8), [100, *[200] * 7])
    sorted_once = Grams([text], [part], V, 9)
    for out in ({}, {0}, *({0, fold} for fold in range(1, 8))):
        found = count_without(frozenset(out), sorted_once, 9)
        rest = [np.array(piece, np.uint8) for piece in left([text], [part], set(out))]
        for mine, alone in zip(found, count(rest, V, 9), strict=True):
            assert (mine.codes.dtype, mine.counts.dtype) == (np.int64, np.int32)
            np.testing.assert_array_equal(mine.codes, alone.codes)
            np.testing.assert_array_equal(mine.counts, alone.counts)
