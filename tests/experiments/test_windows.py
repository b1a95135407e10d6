"""What twins are trained and judged on, against the rule, context by context."""

import random
from itertools import product

import pytest
import torch

from data import aab, rules
from data.addition import Addition
from data.laws import Law, Suffixes
from data.tokenizer import CharTokenizer
from experiments import texts
from experiments.texts import domain, read_text
from experiments.windows import AGAIN, OPEN, Windows, all_windows, coverage, drawn
from proof.proof import every_context
from tests.helpers.rules import ABC, draw_rule

SUMS = Addition(1)


def decided(law: Law, windows: Windows) -> list[tuple[str, str]]:
    """Each context at whose end something is decided, and what."""
    decode, ends = CharTokenizer(law.chars).decode, (windows.targets != OPEN).nonzero().tolist()
    return [
        (decode(windows.idx[row, : t + 1]), law.chars[windows.targets[row, t]]) for row, t in ends
    ]


@pytest.mark.parametrize("seed", range(8))
def test_a_domain_has_each_context_once(seed: int) -> None:
    law = draw_rule(random.Random(seed))
    found = domain(law)
    contexts = every_context(law.chars, law.block_size, shortest=1)
    assert found.whole and found.total == len(contexts)
    assert sorted(decided(law, found.windows)) == sorted((c, law.answer(c)) for c in contexts)
    every = all_windows(law)
    assert len(every) == len(law.chars) ** law.block_size == len({*map(tuple, every.idx.tolist())})
    assert all(law.answer(context) == answer for context, answer in decided(law, every))
    assert int((every.targets == OPEN).sum()) == 0


def test_a_domain_that_is_too_large_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "SAMPLED", 400)
    law = Suffixes("abcdefgh", 10, "a", {"aa": "b", "bb": "c"})
    found, again = domain(law), domain(law)
    assert not found.whole and found.total == sum(8**n for n in range(1, 11))
    assert found.windows.idx.shape == (40, 10) and torch.equal(found.windows.idx, again.windows.idx)
    assert all(law.answer(context) == answer for context, answer in decided(law, found.windows))
    shown = read_text(law, "every", found)
    assert 0 < shown.coverage < 0.5 and shown.windows.idx.shape == (6000, 10)


def test_a_sum_is_decided_behind_its_equals_sign() -> None:
    found = domain(SUMS)
    wanted = []
    for a, b in product(range(10), repeat=2):
        said = f"{a + b:02}"[::-1]
        line = f"{a}+{b}="
        wanted += [(line, said[0]), (line + said[0], said[1]), (line + said, "\n")]
    assert sorted(decided(SUMS, found.windows)) == sorted(wanted)
    assert (found.whole, found.total) == (True, 300)


def test_sums_with_long_carries() -> None:
    law = Addition(2)
    shown = read_text(law, "every", domain(law), long=0.75)
    rows = shown.windows.idx[shown.favoured].tolist()
    lines = {"".join(law.chars[i] for i in row) for row in rows}
    long = {law.line(a, b)[:-1] for a in range(100) for b in range(100) if twice_carried(a, b)}
    assert lines == long
    idx, _ = shown.batch(4000, seed=1, step=5)
    share = sum("".join(law.chars[i] for i in row) in long for row in idx.tolist()) / 4000
    assert share == pytest.approx(0.75 + 0.25 * len(long) / 10**4, abs=0.03)


def twice_carried(a: int, b: int) -> bool:
    """Whether both digits of a and b hand on a one."""
    return a % 10 + b % 10 >= 10 and a + b >= 100


def test_games_are_decided_where_the_model_moves() -> None:
    law = rules.read("tictactoe")
    every = domain(law)
    own, more = (read_text(law, data, every) for data in ("own", "restarts"))
    for shown in (own, more):
        found = decided(law, shown.windows)
        assert found and all(law.answer(context) == answer for context, answer in found)
        assert all(context.startswith("\n") for context, _ in found)
        games = [context for context, answer in found if answer != "\n"]
        assert all(len(context) % 2 == 0 for context in games)  # a line end and an odd move
    assert 0.05 < own.coverage < 0.5 < 0.95 < more.coverage <= 1
    assert read_text(law, "every", every).coverage == 1 and own.floor == more.floor == 0


@pytest.mark.parametrize("law", [ABC, rules.read("copy"), rules.read("lamp")])
def test_restarts_begin_at_random_and_follow_the_rule(law: Law) -> None:
    every = domain(law)
    shown = read_text(law, "restarts", every)
    idx, targets = shown.windows.idx, shown.windows.targets
    first = (targets != OPEN).long().argmax(dim=1)
    assert sorted({*first.tolist()}) == list(range(law.block_size))
    begun = torch.arange(law.block_size) >= first[:, None]
    assert torch.equal(targets != OPEN, begun)  # once begun, the rule goes on
    assert torch.equal(targets[:, :-1][begun[:, :-1]], idx[:, 1:][begun[:, :-1]])
    sample = Windows(idx[:60], targets[:60])
    assert all(law.answer(context) == answer for context, answer in decided(law, sample))
    assert shown.floor == 0 == sample.entropy()
    assert 0 < shown.coverage < 1


def test_the_floor_of_a_text_that_repeats() -> None:
    """That of aabaab... by `data.aab`, and the text by itself."""
    law = rules.read("aab")
    shown = read_text(law, "own", domain(law))
    assert len(shown.windows) == AGAIN
    assert shown.floor == pytest.approx(aab.AAB.entropy_floor(5), abs=2e-3)  # 600 is no multiple
    thrice = Windows(shown.windows.idx[:300], shown.windows.targets[:300])
    assert thrice.entropy() == pytest.approx(aab.AAB.entropy_floor(5), abs=1e-6)
    # a, b, aa, ab, ba ... of each length three at most, of lengths 1 to 5
    assert shown.coverage == pytest.approx((2 + 3 + 3 + 3 + 3) / 62)


def test_entropy_by_hand() -> None:
    idx = torch.tensor([[0, 1], [0, 1], [0, 0], [0, 0]])
    targets = torch.tensor([[1, 0], [1, 0], [0, OPEN], [0, 1]])
    # after 0: twice each way; after 01: surely; after 00: once, surely
    assert Windows(idx, targets).entropy() == pytest.approx(4 * 0.693147 / 7, abs=1e-5)


def test_coverage_counts_contexts_once() -> None:
    law = Suffixes("ab", 3, "a", {"aa": "b"})
    some = drawn(law, 1, seed=2)
    assert coverage(some, domain(law)) == 3 / 14
    assert coverage(some.with_others(some), domain(law)) == 3 / 14
    assert coverage(all_windows(law), domain(law)) == 1


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    shown = read_text(ABC, "every", domain(ABC))
    idx, targets = shown.batch(50, seed=1, step=7)
    again = shown.batch(50, seed=1, step=7)
    assert idx.dtype == torch.long and torch.equal(idx, again[0]) and torch.equal(targets, again[1])
    for other in (shown.batch(50, seed=1, step=8), shown.batch(50, seed=2, step=7)):
        assert not torch.equal(idx, other[0])
