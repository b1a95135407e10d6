"""Hand-set models in bfloat16, which keeps eight bits of a number: what stays right, what breaks.

Twice: products in bfloat16, as in training, and the weights, too.
"""

import contextlib
import copy
import dataclasses
import os
import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import handmade
from data import rules
from data.addition import Addition
from data.counts import count
from data.laws import Copying, Law, Suffixes
from data.ngrams import Ngrams
from handmade.ngram import compile_ngrams
from model import GPT
from proof.proof import every_context, margins
from proof.sums import try_lines
from tests.helpers.rules import build, draw_rule

RULES = int(os.environ.get("FUZZ", 15))
each_way = pytest.mark.parametrize("whole", [False, True], ids=["products", "weights, too"])


def lower(model: GPT, whole: bool) -> tuple[GPT, contextlib.AbstractContextManager]:
    """The model, and the context in which it computes in bfloat16."""
    if whole:
        return copy.deepcopy(model).to(torch.bfloat16), contextlib.nullcontext()
    return model, torch.autocast("cpu", torch.bfloat16)


def wrong(model: GPT, rule: Law, texts: list[str], whole: bool, *, training: bool = False) -> int:
    """How often the likeliest character is another one than the rule's, at all places of texts."""
    idx = torch.tensor([[rule.chars.index(char) for char in text] for text in texts])
    ends = [[text[: place + 1] for place in range(len(text))] for text in texts]
    right = torch.tensor([[rule.chars.index(rule.answer(end)) for end in row] for row in ends])
    model, precision = lower(model, whole)
    with torch.inference_mode(not training), precision:
        return int((model(idx).argmax(dim=-1) != right).sum())


@each_way
@pytest.mark.parametrize("name", [*handmade.MODELS, "aab", "abc", "copy", "lamp", "parity"])
def test_the_models_that_come_along(name: str, whole: bool) -> None:
    saved, task = handmade.load(name), handmade.task_of(name)
    model, precision = lower(saved.build(), whole)
    shortest = 2 if name in handmade.MODELS else 1
    contexts = every_context(saved.chars, min(saved.model.block_size, 6), shortest)
    answers = [task.rule(context) for context in contexts]
    with precision:
        worst = min(margins(model, saved.chars, contexts, answers=answers))
    assert worst > {"new-head": 0.6, "two-head": 0.4}.get(name, 0.9999)


@each_way
def test_any_rule(whole: bool) -> None:
    rng = random.Random(5)
    for _ in range(RULES):
        rule = draw_rule(rng)
        contexts = every_context(rule.chars, rule.block_size, shortest=1)
        answers = [rule.answer(context) for context in contexts]
        model, precision = lower(build(rule), whole)
        with precision:
            assert min(margins(model, rule.chars, contexts, answers=answers)) > 0.9999, rule


@each_way
def test_parity_in_a_long_window(whole: bool) -> None:
    for T, radix in ((64, 8), (256, 4), (512, 2)):
        rule = dataclasses.replace(rules.read("parity"), block_size=T, radix=radix)
        texts = ["".join(random.Random(seed).choices("ab", k=T)) for seed in range(4)]
        assert wrong(build(rule), rule, texts, whole) == 0


@each_way
@pytest.mark.parametrize("digits", [1, 2])
def test_sums(digits: int, whole: bool) -> None:
    """In ordinary order one number holds all columns, which are too many digits for bfloat16."""
    for order, right in (("reversed", True), ("ordinary", False)):
        rule = Addition(digits, order)
        lines = torch.cat(list(rule.every_line(10_000)))[:: 3**digits]
        model, precision = lower(build(rule), whole)
        with precision:
            found = try_lines(model, rule, [lines])
        assert (found.right == found.total, found.worst_margin > 0.9999) == (right, right)


@each_way
def test_copying_in_a_long_window(whole: bool) -> None:
    """bfloat16 has every whole number up to 256, which is what places offer, then every other."""
    texts = ["".join(random.Random(seed).choices("ab", k=300)) for seed in range(10)]
    short = [text[:256] for text in texts]
    assert wrong(build(Copying("ab", 256)), Copying("ab", 256), short, whole) == 0
    assert wrong(build(Copying("ab", 300)), Copying("ab", 300), texts, whole) > 10


def test_copying_in_training() -> None:
    """Scores are rounded, too: places differ by 32, and bfloat16 from 8192 on by steps of 64."""
    texts = ["".join(random.Random(seed).choices("ab", k=128)) for seed in range(20)]
    for T, most, least in ((63, 0, 0), (128, 2560, 100)):
        rule = Copying("ab", T)
        found = wrong(build(rule), rule, [text[:T] for text in texts], False, training=True)
        assert least <= found <= most


@pytest.mark.parametrize(("longest", "answer"), [(128, "b"), (130, "a")])
def test_a_long_pattern(longest: int, answer: str) -> None:
    """The threshold of 130 characters is 259, which bfloat16 rounds to 260: never on."""
    pattern = "".join(random.Random(6).choices("ab", k=longest))
    rule = Suffixes("ab", longest, "a", {pattern: "b"})
    model = build(rule)
    for whole in (False, True):
        assert wrong(model, rule, [pattern], whole) == (answer != "b")


@each_way
@pytest.mark.parametrize("order", [2, 4])
def test_ngrams(order: int, whole: bool) -> None:
    """The logarithms are off by a 256th of theirs, up or down, and the loss stays."""
    rng, chars = random.Random(7), "abcdefg "
    words = ["".join(rng.choices(chars[:7], k=rng.randint(1, 5))) + " " for _ in range(12)]
    ids = torch.tensor([chars.index(c) for c in "".join(rng.choices(words, k=900))])
    seen, held_out = ids[:2000], ids[2000:2601]
    config, _, weights = compile_ngrams(seen, chars, order, 12)
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    idx, targets = held_out[:-1].view(-1, 12), held_out[1:].view(-1, 12)
    model, precision = lower(model.eval(), whole)
    with torch.inference_mode(), precision:
        said = model(idx).double().log_softmax(dim=-1)
    exact = Ngrams(count([seen.numpy()], len(chars), order), vocab_size=len(chars)).log_probs(idx)

    def loss(log_probs: Tensor) -> float:
        return F.nll_loss(log_probs.mT, targets).item()

    assert 1e-3 < (said - exact).abs().max() < 0.15
    assert loss(said) == pytest.approx(loss(exact.double()), abs=2e-3)
