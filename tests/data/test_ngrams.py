"""The counts against an oracle of plain dictionaries, and how they are stored and damaged."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.kneser_ney import Gram, KneserNey
from data.counts import Counts, count, pack, unpack
from data.ngrams import Ngrams, discounts

quickly = settings(deadline=None, derandomize=True, max_examples=60)
each_table = pytest.mark.parametrize("dense", [1 << 20, 20, 0])  # all, some and no whole tables


def ngrams(pieces: Sequence[Sequence[int]], V: int, order: int, dense: int = 1 << 20) -> Ngrams:
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("data.ngrams.DENSE", dense)
        return Ngrams(counted(pieces, V, order), vocab_size=V)


def counted(pieces: Sequence[Sequence[int]], V: int, order: int) -> list[Counts]:
    return count([np.array(piece, np.uint8) for piece in pieces], V, order)


def spelled(levels: Sequence[Counts], V: int) -> list[dict[Gram, int]]:
    """The grams of each order with their counts."""
    found, grams = [], [()]
    for level in levels:
        assert (np.diff(level.codes) > 0).all()
        grams = [(*grams[code // V], int(code % V)) for code in level.codes]
        found.append(dict(zip(grams, level.counts.tolist(), strict=True)))
    return found


def long_text(V: int, N: int, seed: int) -> list[int]:
    """Characters that are rarer the higher their id, with enough grams of every count."""
    weights = 1 / np.arange(1, V + 1) ** 1.5
    return np.random.default_rng(seed).choice(V, N, p=weights / weights.sum()).tolist()


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[int]], int, int, list[list[int]]]:
    """Pieces of text, the size of the vocabulary, an order, and windows of one length."""
    V, order = draw(st.integers(2, 6)), draw(st.integers(1, 6))
    letters = st.integers(0, draw(st.integers(1, V)) - 1)  # the last ids may not be in the text
    piece = st.lists(letters, max_size=30)
    pieces = draw(st.lists(piece, min_size=1, max_size=3).filter(any_character))
    T = draw(st.integers(1, 8))
    row = st.lists(st.integers(0, V - 1), min_size=T, max_size=T)
    rows = draw(st.lists(row, min_size=1, max_size=3))
    longest = max(pieces, key=len)
    if len(longest) >= T:  # a window of the text itself
        start = draw(st.integers(0, len(longest) - T))
        rows.append(longest[start : start + T])
    return pieces, V, order, rows


def any_character(pieces: list[list[int]]) -> bool:
    return any(map(len, pieces))


def check(pieces: list[list[int]], V: int, order: int, rows: list[list[int]], dense: int) -> None:
    p, known = ngrams(pieces, V, order, dense).probs(torch.tensor(rows))
    expected, lengths = KneserNey(pieces, V, order).probs(rows)
    assert known.tolist() == lengths.tolist()
    np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=1e-6)


@each_table
@quickly
@given(case=cases())
def test_probabilities_equal_those_of_the_oracle(case: tuple, dense: int) -> None:
    check(*case, dense)


@each_table
@pytest.mark.parametrize("order", range(1, 7))
def test_so_they_do_where_the_discounts_are_estimated(order: int, dense: int) -> None:
    text = long_text(6, 500, seed=1)
    pieces = [text[:100], text[100:101], text[101:]]
    estimated = [off != [0, 0.5, 1, 1.5] for off in KneserNey(pieces, 6, order).off]
    assert order < 3 or any(estimated)
    check(
        pieces,
        6,
        order,
        [text[i : i + 8] for i in (0, 95, 480)] + [[5, 5, 5, 0, 0, 4, 1, 0]],
        dense,
    )


@each_table
@quickly
@given(case=cases())
def test_likelihoods_are_probabilities_to_the_last_bit(case: tuple, dense: int) -> None:
    pieces, V, order, rows = case
    model, idx = ngrams(pieces, V, order, dense), torch.tensor(rows)
    p, known = model.probs(idx)
    for targets in (idx.roll(-1, dims=1), idx.flip(0)):
        found, lengths = model.likelihood(idx, targets)
        assert torch.equal(found, p.gather(-1, targets[..., None])[..., 0])
        assert torch.equal(lengths, known)


@quickly
@given(case=cases())
def test_probabilities_sum_to_one_and_none_is_zero(case: tuple) -> None:
    pieces, V, order, rows = case
    model = ngrams(pieces, V, order)
    p, _ = model.probs(torch.tensor(rows))
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(p.shape[:2]))
    assert p.min() > 0
    torch.testing.assert_close(model.log_probs(torch.tensor(rows)), p.log(), rtol=0, atol=0)


@each_table
def test_what_no_text_had_has_a_probability(dense: int) -> None:
    p, known = ngrams([[0, 1, 0, 1, 1]], 300, 4, dense).probs(torch.tensor([[299, 0, 1, 2, 0]]))
    assert known.tolist() == [[0, 1, 2, 0, 1]]
    assert p.min() > 0
    assert torch.equal(p[..., 2], p[..., 299])
    torch.testing.assert_close(p.sum(dim=-1), torch.ones(1, 5))


def test_no_probability_is_zero_where_an_estimated_discount_would_be() -> None:
    times = [1] * 10 + [2] + [3] * 10 + [4]  # more pairs are there three times than twice
    pairs = [[2 * i, 2 * i + 1] for i, n in enumerate(times) for _ in range(n)]
    p, _ = ngrams(pairs, 44, 2).probs(torch.tensor([[20]]))  # the one that is there twice
    assert p.min() > 0


def test_a_context_known_only_from_the_end_of_a_piece_is_known_and_passes_on() -> None:
    model = ngrams([[0, 1, 0, 1, 2]], 4, 3)
    p, known = model.probs(torch.tensor([[1, 2], [3, 3]]))
    assert known[:, -1].tolist() == [2, 0]
    assert torch.equal(p[0, -1], p[1, -1])


@each_table
@quickly
@given(case=cases(), data=st.data())
def test_what_comes_later_changes_nothing_earlier(
    case: tuple, data: st.DataObject, dense: int
) -> None:
    pieces, V, order, rows = case
    model, idx = ngrams(pieces, V, order, dense), torch.tensor(rows)
    t = data.draw(st.integers(0, idx.shape[1] - 1))
    other = idx.clone()
    other[:, t:] = (idx[:, t:] + data.draw(st.integers(1, V - 1))) % V
    for before, after in zip(model.probs(idx), model.probs(other), strict=True):
        assert torch.equal(before[:, :t], after[:, :t])


@each_table
@pytest.mark.parametrize("order", range(1, 7))
@pytest.mark.parametrize("T", [1, 4, 9])
def test_the_last_places_alone(order: int, T: int, dense: int) -> None:
    text = long_text(5, 200, seed=2)
    model = ngrams([text], 5, order, dense)
    idx = torch.tensor([text[i : i + T] for i in (0, 50, 150)] + [[4] * T])
    p, known = model.probs(idx)
    for n in range(1, T + 1):
        last, length = model.probs(idx, last=n)
        assert last.shape == (4, n, 5)
        assert torch.equal(length, known[:, -n:])
        torch.testing.assert_close(last, p[:, -n:], rtol=0, atol=1e-7)


@each_table
@pytest.mark.parametrize("cut", [[1] * 9, [6, 3], [4, 1, 4], [2, 7]])
@pytest.mark.parametrize("longest", [1, 3, 8])
def test_a_window_in_pieces_is_the_window(longest: int, cut: list[int], dense: int) -> None:
    """The contexts so far say all that the next piece takes, of as long ones as are wanted."""
    text = long_text(5, 200, seed=2)
    model, oracle = ngrams([text], 5, 5, dense), KneserNey([text], 5, 5)
    rows = [text[i : i + 9] for i in (0, 50, 150)] + [[4] * 9]
    nodes, found = model.begin(len(rows), longest), []
    for piece in torch.tensor(rows).split(cut, dim=1):
        found.append(model.contexts(piece, nodes))
        nodes = found[-1][:, -1]
    p, known = model.after(torch.cat(found, dim=1))
    for t in range(9):
        seen = [row[max(0, t + 1 - longest) : t + 1] for row in rows]
        expected, lengths = oracle.probs(seen)
        assert known[:, t].tolist() == lengths[:, -1].tolist()
        np.testing.assert_allclose(p[:, t].numpy(), expected[:, -1], rtol=0, atol=1e-6)


@each_table
def test_each_window_asks_its_own_text(dense: int) -> None:
    texts = [[long_text(5, N, seed=N)] for N in (40, 90, 60)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("data.ngrams.DENSE", dense)
        model = Ngrams(*(counted(text, 5, 4) for text in texts), vocab_size=5)
    idx = torch.tensor([long_text(5, 7, seed=i) for i in range(6)])
    which = [2, 0, 1, 1, 0, 2]
    p, known = model.probs(idx, text=torch.tensor(which))
    for row, text in enumerate(which):
        expected, length = ngrams(texts[text], 5, 4).probs(idx[row : row + 1])
        torch.testing.assert_close(p[row], expected[0], rtol=0, atol=1e-6)
        assert torch.equal(known[row], length[0])
    first, _ = model.probs(idx)
    torch.testing.assert_close(first, model.probs(idx, text=torch.zeros(6).long())[0])


def test_the_sum_over_contexts_is_the_same_on_every_run() -> None:
    """Two contexts have so many followers that two threads would add to one probability at once."""
    V, threads, rng = 20_005, torch.get_num_threads(), np.random.default_rng(1)
    last = np.repeat(np.arange(V - 5), rng.integers(1, 9, V - 5))  # each once to eight times
    first = rng.integers(V - 4, V, len(last))  # after one of four pairs
    text = np.stack((first, 0 * last + V - 5, last), axis=1).flatten()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("data.ngrams.DENSE", 0)
        model = Ngrams(count([text], V, 3), vocab_size=V)
    try:
        torch.set_num_threads(2)
        first, *others = (model.probs(torch.tensor([[V - 1, V - 5]]), last=1)[0] for _ in range(20))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(first, other) for other in others)


@quickly
@given(case=cases())
def test_counts_are_those_of_the_pieces(case: tuple) -> None:
    pieces, V, order, _ = case
    levels = counted(pieces, V, order)
    assert len(levels) == min(order, max(map(len, pieces)))  # longer orders are left out
    assert spelled(levels, V) == KneserNey(pieces, V, order).counts


def test_no_gram_goes_from_one_piece_to_the_next() -> None:
    highest = spelled(counted([[0, 1, 1], [], [2], [0, 1, 2]], 3, 2), 3)[-1]
    assert highest == {(0, 1): 2, (1, 1): 1, (1, 2): 1}
    lower, highest = spelled(counted([[0, 1], [2, 0]], 3, 9), 3)
    assert highest == {(0, 1): 1, (2, 0): 1}
    assert lower == {(0,): 1, (1,): 1, (2,): 0}


@pytest.mark.parametrize(
    ("V", "last"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int16), (40000, torch.int32)]
)
def test_packed_counts_come_back(V: int, last: torch.dtype) -> None:
    text = np.random.default_rng(4).integers(V, size=300)
    text[:2] = V - 1
    levels = count([text[:100], text[100:]], V, 5)
    packed = pack(levels, V)
    for level in packed:
        for values in level.values():
            kinds = [(torch.uint8, 256), (torch.int16, 2**15), (torch.int32, 2**31)]
            assert values.dtype == next(kind for kind, end in kinds if int(values.max()) < end)
    assert packed[0]["last"].dtype == last
    back = unpack(packed, V)
    assert len(back) == len(levels) == 5
    for before, after in zip(levels, back, strict=True):
        assert (before.codes.dtype, before.counts.dtype) == (after.codes.dtype, after.counts.dtype)
        np.testing.assert_array_equal(before.codes, after.codes)
        np.testing.assert_array_equal(before.counts, after.counts)
    idx = torch.from_numpy(text[90:110])[None]
    for mine, theirs in zip(
        Ngrams(levels, vocab_size=V).probs(idx), Ngrams(back, vocab_size=V).probs(idx), strict=True
    ):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("length", "kind"),
    [(255, "uint8"), (256, "uint8"), (257, "int16"), (32768, "int16"), (32769, "int32")],
)
def test_large_counts_are_kept(length: int, kind: str) -> None:
    levels = count([np.zeros(length, np.uint8)], 2, 2)
    packed = pack(levels, 2)
    assert [str(level["counts"].dtype) for level in packed] == ["torch.uint8", f"torch.{kind}"]
    back = unpack(packed, 2)
    assert [level.counts.tolist() for level in back] == [[1], [length - 1]]


def changed(values: Tensor, place: int, value: int) -> Tensor:
    values = values.clone()
    values[place] = value
    return values


@pytest.mark.parametrize("V", [5, 300])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("last", lambda last: last[:-1]),
        ("last", lambda last: torch.cat((last, last[-1:]))),
        ("last", lambda last: last.flip(0)),
        ("last", lambda last: changed(last, 1, int(last[0]))),
        ("followers", lambda followers: followers[:-1]),
        ("followers", lambda followers: torch.cat((followers, followers[:1] * 0))),
        ("followers", lambda followers: changed(followers, 0, int(followers[0]) + 1)),
        ("counts", lambda counts: counts[:-1]),
        ("counts", lambda counts: torch.cat((counts, counts[-1:]))),
        ("counts", lambda counts: changed(counts.int(), 0, -1)),
    ],
)
def test_counts_that_do_not_fit_are_refused(name: str, damage, order: int, V: int) -> None:
    packed = pack(counted([long_text(5, 60, seed=5)], V, 3), V)
    unpack(packed, V)
    packed[order - 1][name] = damage(packed[order - 1][name])
    with pytest.raises(ValueError, match="the counts"):
        unpack(packed, V)


@pytest.mark.parametrize("id", [5, 255, -1])
def test_characters_that_are_none_are_refused(id: int) -> None:
    packed = pack(counted([[0, 1, 2, 3, 4]], 5, 1), 5)
    place = 0 if id < 0 else -1
    packed[0]["last"] = changed(packed[0]["last"].to(torch.int32), place, id)
    with pytest.raises(ValueError, match="the counts"):
        unpack(packed, 5)


def test_negative_followers_are_refused() -> None:
    packed = pack(counted([long_text(5, 60, seed=5)], 5, 2), 5)
    followers = packed[1]["followers"]
    a, b = int(followers[0]), int(followers[1])
    packed[1]["followers"] = changed(changed(followers.int(), 0, a + b + 1), 1, -1)
    with pytest.raises(ValueError, match="the counts"):
        unpack(packed, 5)


def test_discounts_by_hand() -> None:
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4] + [5, 9] + [0] * 7)
    # y = 8 / (8 + 2 * 4) = 1/2: 1 - 2/2 * 4/8, 2 - 3/2 * 2/4, 3 - 4/2 * 1/2
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.25, 2], rtol=0, atol=1e-15)
    counts = np.array([1] * 10 + [2] * 5 + [3] * 1 + [4] * 3)
    # y = 1/2: 1 - 1 * 5/10, 2 - 3/2 * 1/5, 3 - 2 * 3 < 0
    np.testing.assert_allclose(discounts(counts), [0, 0.5, 1.7, 1.5], rtol=0, atol=1e-15)


@pytest.mark.parametrize("missing", [1, 2, 3, 4])
def test_discounts_where_a_count_is_missing(missing: int) -> None:
    counts = np.array([c for c in (1, 1, 1, 2, 2, 3, 4, 5) if c != missing])
    assert discounts(counts).tolist() == [0, 0.5, 1, 1.5]
