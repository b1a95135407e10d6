"""Proofs against enumeration, against the reference, and against sums done by hand."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn as nn
from torch import Tensor

from data.tokenizer import CharTokenizer
from model import GPT
from proof import proof
from proof.proof import every_context, margins, probabilities, prove
from tests.helpers import reference
from tests.helpers.tiny import SIZES, tiny_gpt

CHARS = "nmlkjihgfedcb"  # 13, and not in order
MIXED = ["bn", "c", "mm", "klm", "jihgfe", "kln", "ff", "bcdefg"]  # lengths come and go
LETTERS = "".join(map(chr, range(0x100, 0x100 + 1001)))


class Oracle(nn.Module):
    """A model in outline whose last scores are what `scores` says of the context."""

    def __init__(self, chars: str, block_size: int, scores: Callable[[str], list[float]]) -> None:
        super().__init__()
        self.config = SimpleNamespace(block_size=block_size)
        self.tokenizer, self.scores = CharTokenizer(chars), scores

    def forward(self, idx: Tensor) -> Tensor:
        rows = [[self.scores(self.tokenizer.decode(row))] for row in idx]
        return torch.tensor(rows).expand(-1, idx.shape[1], -1)  # (B, T, V)


def count_up(chars: str, block_size: int) -> set[str]:
    """Every context again, made by adding a character to the shorter ones."""
    found, longest = set(), set(chars)
    for _ in range(2, block_size + 1):
        longest = {context + char for context in longest for char in chars}
        found |= longest
    return found


@pytest.mark.parametrize(
    ("chars", "block_size", "total"),
    [("ab", 2, 4), ("ab", 5, 60), ("ba", 6, 124), ("cab", 4, 9 + 27 + 81), ("x", 4, 3)],
)
def test_contexts_are_all_there_are(chars: str, block_size: int, total: int) -> None:
    contexts = every_context(chars, block_size)
    assert len(contexts) == total
    assert set(contexts) == count_up(chars, block_size)
    assert len(count_up(chars, block_size)) == total
    assert sorted(contexts, key=len) == contexts
    assert every_context(chars, block_size, shortest=1) == [*chars, *contexts]


@pytest.mark.parametrize(
    ("chars", "block_size", "total"), [("ab", 18, 2**19 - 4), (LETTERS[1:], 2, 10**6)]
)
def test_a_million_contexts_are_not_too_many(chars: str, block_size: int, total: int) -> None:
    assert len(every_context(chars, block_size)) == total


def test_a_single_character_is_a_context_where_it_is_asked_for() -> None:
    assert every_context("ba", 1, shortest=1) == ["b", "a"]
    model = Oracle("ab", 2, lambda context: [0.0, 1.0] if context == "b" else [1.0, 0.0])
    assert prove(model, "ab", lambda context: "a").all.total == 4
    found = prove(model, "ab", lambda context: "a", shortest=1).all
    assert (found.total, found.wrong) == (6, ["b"])
    with pytest.raises(ValueError, match=" make 1,048,574 contexts of length 1 to 19, but"):
        every_context("ab", 19, shortest=1)


@pytest.mark.parametrize(
    ("size", "block_size", "number"),
    [
        (2, 1, "0"),
        (2, 19, "1,048,572"),  # 2^20 - 4
        (1001, 2, "1,002,001"),  # 1001^2
        (3, 31, "926,510,094,425,916"),  # (3^32 - 9) / 2
        (2, 49, "1,125,899,906,842,620"),  # 2^50 - 4
        (65, 256, "about 10^464"),
    ],
)
def test_other_numbers_of_contexts_are_refused(size: int, block_size: int, number: str) -> None:
    with pytest.raises(ValueError, match=f"^{size} characters make ") as caught:
        every_context(LETTERS[:size], block_size)
    assert str(caught.value) == (
        f"{size} characters make {number} contexts of length 2 to {block_size}, but a proof goes "
        "through 1 to 1,000,000 of them; take a model of another block_size"
    )


@pytest.fixture
def model() -> GPT:
    """In double precision, and training, with dropout."""
    return tiny_gpt(position="learned", bias=True, dropout=0.5).double().train()


def expected(model: GPT, contexts: list[str]) -> np.ndarray:
    """What the reference expects after each context, one at a time."""
    weights = {name: p.numpy() for name, p in model.state_dict().items()}
    kinds = {"position": "learned", "activation": "relu2"}
    rows = []
    for context in contexts:
        idx = np.array([[CHARS.index(char) for char in context]])
        shares = np.exp(reference.gpt(weights, idx, n_layer=2, n_head=3, **kinds)[0, -1])
        rows.append(shares / shares.sum())
    return np.array(rows)


@pytest.mark.parametrize("batch", [1, 2, 8192])
def test_probabilities_equal_the_reference(
    model: GPT, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "BATCH", batch)
    sizes = []
    model.register_forward_pre_hook(lambda model, args: sizes.append(len(args[0])))
    contexts = [*MIXED, "bcd", "dcb", "ccc", "nnb", "mbm"]
    probs = probabilities(model, CHARS, contexts)
    assert probs.shape == (13, SIZES["vocab_size"])
    np.testing.assert_allclose(probs, expected(model, contexts), rtol=0, atol=1e-12)
    assert max(sizes) == min(batch, 5)


def test_probabilities_are_double_whatever_the_model() -> None:
    model = Oracle("ab", 2, lambda context: [20.0, 0.0])  # float32 would say 1
    assert 1 - probabilities(model, "ab", ["aa"])[0, 0].item() == pytest.approx(math.exp(-20))


@pytest.mark.parametrize("training", [True, False])
def test_dropout_rests_and_the_mode_is_put_back(model: GPT, training: bool) -> None:
    model.train(training)
    sure = expected(model, MIXED)
    np.testing.assert_allclose(probabilities(model, CHARS, MIXED), sure, rtol=0, atol=1e-12)
    assert all(module.training == training for module in model.modules())


@pytest.mark.parametrize(
    ("char", "by_hand"),
    [("x", [0.2, -0.7, -0.25]), ("y", [-0.2, -0.7, 0.25]), ("z", [-0.3, 0.7, -0.25])],
)
def test_margins_by_hand(char: str, by_hand: list[float]) -> None:
    shares = {"yz": [0.5, 0.3, 0.2], "z": [0.1, 0.1, 0.8], "zy": [0.25, 0.5, 0.25]}
    model = Oracle("xyz", 3, lambda context: [math.log(share) for share in shares[context]])
    found = margins(model, "xyz", list(shares), answers=char * 3)
    assert found == pytest.approx(by_hand)


def test_each_context_has_an_answer_of_its_own() -> None:
    """With the vocabulary the other way round: b is id 0."""
    model = Oracle("ba", 2, lambda context: [0.0, 3.0] if context[0] == "a" else [3.0, 0.0])
    contexts, sure = ["aa", "ba", "ab", "bb", "a"], math.tanh(3 / 2)  # of two shares by softmax
    right = margins(model, "ba", contexts, answers=[context[0] for context in contexts])
    assert right == pytest.approx([sure] * 5)
    mixed = margins(model, "ba", contexts, answers=[context[-1] for context in contexts])
    assert mixed == pytest.approx([sure, -sure, -sure, sure, sure])


def test_scores_that_tie_or_are_no_numbers_are_wrong() -> None:
    scores = {"ab": [0.0, 0.0], "ba": [math.nan, 1.0], "bb": [math.nan, math.nan]}
    model = Oracle("ab", 2, lambda context: scores.get(context, [1.0, 0.0]))
    found = prove(model, "ab", lambda context: "a")
    assert (found.all.right, found.all.wrong) == (1, ["ab", "ba", "bb"])
    assert (found.task.right, found.task.wrong) == (1, ["ab", "ba"])
    assert found.all.worst_margin == -1
    silent = prove(Oracle("ab", 3, lambda context: [0.0, 0.0]), "ab", lambda context: "b").all
    assert (silent.right, silent.total, silent.worst_margin) == (0, 12, 0)


def b_after_aa(context: str) -> str:
    return "b" if context[-2:] == "aa" else "a"


def sure_but(doubts: dict[str, float]) -> Oracle:
    """Scores what `b_after_aa` says 4 higher, but in some contexts as much higher as stated."""

    def scores(context: str) -> list[float]:
        lead = doubts.get(context, 4.0)
        return [0.0, lead] if b_after_aa(context) == "b" else [lead, 0.0]

    return Oracle("ab", 4, scores)


def test_text_and_all_contexts_are_told_apart() -> None:
    doubts = {"bb": -3.0, "aba": -2.0, "baa": 1.0, "abab": -1.0}  # bb, abab are not in aabaabaab...
    found = prove(sure_but(doubts), "ab", b_after_aa)
    assert (found.task.total, found.task.right, found.task.wrong) == (9, 8, ["aba"])
    assert (found.all.total, found.all.right) == (28, 25)
    assert found.all.wrong == ["bb", "aba", "abab"]
    assert found.task.worst_margin == pytest.approx(-math.tanh(1))
    assert found.all.worst_margin == pytest.approx(-math.tanh(3 / 2))


@pytest.mark.parametrize(
    ("text", "total", "wrong", "worst"),
    [
        ("abab" * 9, 6, ["aba", "abab"], -math.tanh(1)),
        ("bbbb", 3, ["bb"], -math.tanh(3 / 2)),
        ("aabb", 6, ["bb"], -math.tanh(3 / 2)),  # aa ab bb, aab abb, aabb
        ("aaaa", 3, [], math.tanh(2)),
        ("baa", 3, [], math.tanh(1 / 2)),
        ("b", 0, [], 1.0),
    ],
)
def test_text_decides_what_the_task_is(
    text: str, total: int, wrong: list[str], worst: float
) -> None:
    model = sure_but({"bb": -3.0, "aba": -2.0, "baa": 1.0, "abab": -1.0})
    found = prove(model, "ab", b_after_aa, text=text)
    assert (found.task.total, found.task.right) == (total, total - len(wrong))
    assert (found.task.wrong, found.task.worst_margin) == (wrong, pytest.approx(worst))
    assert (found.all.total, found.all.right) == (28, 25)


@torch.no_grad()
def test_model_turned_round_is_always_wrong() -> None:
    model, contexts = tiny_gpt(seed=13, vocab_size=2, block_size=4), every_context("ab", 4)
    said = probabilities(model, "ab", contexts).argmax(dim=1).tolist()
    assert sum(said) == 17  # or a constant would do
    rule = {context: "ab"[i] for context, i in zip(contexts, said, strict=True)}.__getitem__
    assert prove(model, "ab", rule).all.wrong == []
    model.lm_head.weight.neg_()
    assert prove(model, "ab", rule).all.wrong == contexts


def test_a_model_with_too_many_contexts_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^2 characters make 1,048,572 contexts .* another block_size$"
    ):
        prove(tiny_gpt(vocab_size=2, block_size=19), "ab", b_after_aa)
