"""The numbers of a comparison: against NumPy, against loops, and against arithmetic by hand."""

import dataclasses
import math
from itertools import permutations, product

import numpy as np
import pytest
import torch

import handmade
from analysis.heads import look
from analysis.measure import Column, losses, measure, steps_right, to_b
from data.aab import AAB, Task, both
from model import GPT
from tests.helpers import reference
from tests.helpers.tiny import tiny_gpt

AABAB = Task("aabab", both)


def by_hand(name: str) -> Column:
    """A hand-set model as a column."""
    return Column(name, "handmade", handmade.load(name).build(), "ab")


def random_column(*, seed: int = 3, **changes: object) -> Column:
    """A model of two layers of three heads with random weights."""
    model = tiny_gpt(seed=seed, vocab_size=2, bias=True, position="learned", **changes)
    return Column("random", "trained", model.eval(), "ab")


def contexts(longest: int) -> list[str]:
    """Every text of a and b with 2 up to `longest` characters."""
    return ["".join(text) for n in range(2, longest + 1) for text in product("ab", repeat=n)]


def ids(context: str) -> torch.Tensor:
    return torch.tensor([["ab".index(char) for char in context]])


def scores(column: Column, context: str) -> np.ndarray:
    """Scores at each place by the NumPy model, (T, V)."""
    model = column.model
    weights = {name: p.numpy() for name, p in model.state_dict().items()}
    sizes = {"n_layer": model.config.n_layer, "n_head": model.config.n_head}
    kinds = {"position": model.config.position, "activation": model.config.activation}
    return reference.gpt(weights, ids(context).numpy(), **sizes, **kinds)[0]


@pytest.mark.parametrize("task", [AAB, AABAB], ids=["aab", "aabab"])
def test_losses_equal_the_reference(task: Task) -> None:
    column = random_column()
    line, expected = task.word * 5, np.zeros(6)
    for start in range(len(task.word)):
        window = line[start : start + 7]
        logits, targets = scores(column, window[:-1]), ids(window[1:]).numpy()[0]
        for place in range(6):
            at = slice(place, place + 1)
            loss = reference.cross_entropy(logits[None, at], targets[None, at])
            expected[place] += loss / len(task.word)
    np.testing.assert_allclose(losses(column, task).numpy(), expected, rtol=0, atol=1e-5)
    measured = measure(column, by_hand("one-head"), task)
    assert measured.loss == pytest.approx(expected.mean(), abs=1e-5)
    assert measured.loss_after_two == pytest.approx(expected[1:].mean(), abs=1e-5)
    assert measured.entropy_floor == task.entropy_floor(6) < measured.loss


def test_one_head_by_hand() -> None:
    """After a lone a it is sure of b by 1023, which is wrong in one window of three."""
    column = by_hand("one-head")
    measured = measure(column, column, AAB)
    assert measured.loss == pytest.approx(1023 / 3 / 5, rel=1e-6)
    assert (measured.label, measured.kind) == ("one-head", "handmade")
    assert measured.loss_after_two == 0
    assert measured.steps_right == 27
    assert (measured.task.right, measured.task.total) == (12, 12)
    assert (measured.all.right, measured.all.total) == (60, 60)
    assert measured.attention_distance == 0
    [head] = measured.heads
    assert (head.layer, head.head) == (1, 1)
    assert head.to_b == pytest.approx({"aa": 1024, "ab": 0, "ba": 0, "bb": -1024}, abs=1e-3)


def test_an_untrained_model_knows_nothing() -> None:
    one_head = by_hand("one-head")
    untrained = Column("untrained", "untrained", GPT(one_head.model.config), "ab")
    measured = measure(untrained, one_head, AAB)
    assert measured.loss == pytest.approx(math.log(2), rel=1e-6)
    assert measured.loss_after_two == pytest.approx(math.log(2), rel=1e-6)
    assert (measured.steps_right, measured.all.right, measured.task.right) == (0, 0, 0)
    assert set(measured.heads[0].to_b.values()) == {0}


@pytest.mark.parametrize("block_size", [3, 5])
@pytest.mark.parametrize("seed", [4, 19, 23])  # the latter tell the first step from a 28th
@pytest.mark.parametrize("task", [AAB, AABAB], ids=["aab", "aabab"])
def test_steps_right_is_a_count(task: Task, seed: int, block_size: int) -> None:
    column, line = random_column(seed=seed, block_size=block_size), task.word * 10
    known = [line[:step][-block_size:] for step in range(2, 29)]
    right = sum(
        "ab"[scores(column, part)[-1].argmax()] == char
        for part, char in zip(known, line[2:29], strict=True)
    )
    assert steps_right(column, task) == right
    assert 0 < right < 27 == len(known)


@pytest.mark.parametrize("tie_weights", [False, True])
def test_parameters_are_counted_once(tie_weights: bool) -> None:
    column = random_column(tie_weights=tie_weights)
    with torch.no_grad():
        column.model.wte.weight[0, 2:5] = 0
        column.model.blocks[1].attn.heads[2].query.bias[1] = 0
    measured = measure(column, by_hand("one-head"), AAB)
    weights = dict(column.model.state_dict())
    if tie_weights:
        del weights["lm_head.weight"]
    assert measured.parameters == sum(p.numel() for p in weights.values())
    assert measured.nonzero_parameters == measured.parameters - 4
    assert measured.nonzero_parameters == sum(map(np.count_nonzero, weights.values()))


@pytest.mark.parametrize(
    ("name", "block_size"),
    [("one-head", 3), ("one-head", 5), ("one-head", 7), ("two-head", 5), ("two-head", 7)],
)
def test_heads_of_any_model(name: str, block_size: int) -> None:
    """The nearest heads are compared, on the contexts that both models can be given."""
    column, other = random_column(seed=5, block_size=block_size), by_hand(name)
    seen = {context: look(column.model, ids(context)) for context in contexts(block_size)}
    shared, apart = contexts(min(other.model.config.block_size, block_size)), 0
    for context in shared:
        known = look(other.model, ids(context)).pattern[0, :, None, -1]  # (heads, 1, T)
        apart += (seen[context].pattern[0, :, -1] - known).abs().sum(dim=-1) / 2 / len(shared)
    choices = permutations(range(6), len(apart))
    best = min(choices, key=lambda choice: sum(apart[i, h] for i, h in enumerate(choice)).item())
    measured = measure(column, other, AAB)
    mean = sum(apart[i, h].item() for i, h in enumerate(best)) / len(best)
    assert measured.attention_distance == pytest.approx(mean, abs=1e-5)
    order = [*best, *(h for h in range(6) if h not in best)]
    assert order != list(range(6))
    assert [3 * head.layer + head.head - 4 for head in measured.heads] == order
    for h, head in zip(order, measured.heads, strict=True):
        assert list(head.to_b) == ["aa", "ab", "ba", "bb"]
        for ending, mean in head.to_b.items():
            same = [inside for context, inside in seen.items() if context.endswith(ending)]
            effect = sum(inside.to_logits[0, h, 1].item() for inside in same) / len(same)
            assert mean == pytest.approx(effect, abs=1e-5)


@pytest.mark.parametrize("task", [AAB, AABAB], ids=["aab", "aabab"])
def test_contexts_are_judged_by_the_task(task: Task) -> None:
    column = random_column()
    measured = measure(column, by_hand("one-head"), task)
    answers = {context: "ab"[scores(column, context)[-1].argmax()] for context in contexts(6)}
    wrong = {context for context, answer in answers.items() if answer != task.rule(context)}
    in_text = {context for context in answers if context in task.word * 5}
    assert set(measured.all.wrong) == wrong and set(measured.task.wrong) == wrong & in_text
    assert (measured.all.total, measured.task.total) == (124, len(in_text))


def test_heads_that_changed_places() -> None:
    two_head = by_hand("two-head")
    weights = handmade.load("two-head").weights
    swapped = dict(weights)
    for name in weights:
        if ".heads.0." in name:
            twin = name.replace(".heads.0.", ".heads.1.")
            swapped[name], swapped[twin] = weights[twin], weights[name]
    proj = "blocks.0.attn.proj.weight"
    swapped[proj] = weights[proj].roll(8, dims=1)
    model = GPT(two_head.model.config)
    model.load_state_dict(swapped)
    expected = measure(two_head, two_head, AABAB)
    measured = measure(Column("swapped", "trained", model.eval(), "ab"), two_head, AABAB)
    assert measured.attention_distance == expected.attention_distance == 0
    assert [head.head for head in expected.heads] == [1, 2]
    assert [head.head for head in measured.heads] == [2, 1]
    for head, twin in zip(measured.heads, expected.heads, strict=True):
        assert head.to_b == pytest.approx(twin.to_b, abs=1e-3)
    assert expected.heads[0].to_b["aa"] > expected.heads[1].to_b["aa"] + 1


def test_to_b_is_the_mean_of_each_ending() -> None:
    effects = torch.arange(24.0).view(2, 6, 2).transpose(0, 1).clone()  # (N, H, V)
    effects[5] -= 1
    ends = ["aa", "bab", "ab", "abba", "bbb", "aaab"]
    first, second = to_b(by_hand("two-head"), effects, ends, AABAB.endings)
    assert (first.layer, first.head, second.layer, second.head) == (1, 1, 1, 2)
    assert first.to_b == {"aa": 1, "ab": (3 + 5 + 10) / 3, "ba": 7, "bb": 9}
    assert second.to_b == {"aa": 13, "ab": (15 + 17 + 22) / 3, "ba": 19, "bb": 21}


def test_the_order_of_the_vocabulary_does_not_matter() -> None:
    column, one_head = random_column(block_size=4), by_hand("one-head")
    turned = random_column(block_size=4)
    with torch.no_grad():
        for weight in (turned.model.wte.weight, turned.model.lm_head.weight):
            weight.copy_(weight.flip(0))
    turned.chars = "ba"
    one, other = (dataclasses.asdict(measure(c, one_head, AAB)) for c in (column, turned))
    assert flat(one) == pytest.approx(flat(other), abs=1e-5)
    wrong, same = (set(numbers["all"]["wrong"]) for numbers in (one, other))
    assert wrong == same != set()


def flat(value: object, name: str = "") -> dict[str, float]:
    """The numbers in nested dicts and lists, each under its path."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flat(item, f"{name}.{key}").items()}
    return {} if isinstance(value, str) else {name: value}
