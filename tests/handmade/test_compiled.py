"""Models compiled from rules: every context of any rule, and weights by hand."""

import functools
import itertools
import os
import random

import pytest
import torch

import handmade
from data import rules
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from generate import generate
from handmade import suffixes
from handmade.parts import EPS, SHARP, Columns
from proof.proof import every_context, prove
from system.errors import UserError
from tests.helpers.rules import ABC, build, draw_rule

RULES = int(os.environ.get("FUZZ", 75))


def by_search(rule: Law, context: str) -> str:
    """What follows, without `Rule.answer`."""
    if isinstance(rule, Copying):
        pairs = [b for a, b in itertools.pairwise(context) if a == context[-1]]
        return pairs[-1] if pairs else context[-1]
    if isinstance(rule, Machine):
        state = rule.start
        for char in context:
            state = rule.edges[state][char]
        return rule.states[state]
    fitting = [pattern for pattern in rule.rules if context.endswith(pattern)]
    return rule.rules[max(fitting, key=len)] if fitting else rule.default


@pytest.mark.parametrize("part", range(4))
def test_every_context_of_any_rule(part: int) -> None:
    """And one margin for all of them, whichever way the model runs."""
    rng = random.Random(part)
    for _ in range(RULES // 4):
        rule = draw_rule(rng)
        model, contexts = build(rule), every_context(rule.chars, rule.block_size, shortest=1)
        idx = [torch.tensor([[rule.chars.index(c) for c in context]]) for context in contexts]
        some = rng.sample(range(len(contexts)), min(40, len(contexts)))
        with torch.inference_mode():
            for i in some:
                logits = model(idx[i])[0, -1]
                answer = rule.chars.index(by_search(rule, contexts[i]))
                others = torch.cat((logits[:answer], logits[answer + 1 :]))
                assert (logits[answer] - others - SHARP).abs().max() < 0.01 if len(others) else True
        searched = functools.partial(by_search, rule)
        found = prove(model, rule.chars, searched, text="", shortest=1).all
        assert found.right == found.total, (rule, found.wrong[:5])


@pytest.mark.parametrize("rule", [ABC, Copying("abcd", 6), rules.read("lamp")])
def test_written_with_a_cache_and_past_the_window(rule: Law) -> None:
    model, rng = build(rule), random.Random(1)
    for length in (1, 3, rule.block_size, rule.block_size + 5):
        text = "".join(rng.choices(rule.chars, k=length))
        idx = torch.tensor([[rule.chars.index(c) for c in text]])
        for [new] in generate(model, idx, 30, torch.Generator(), temperature=0):
            assert rule.chars[new] == rule.answer(text)
            text += rule.chars[new]


def test_one_or_two_threads_and_any_batch() -> None:
    model, rng = build(ABC), random.Random(2)
    idx = torch.tensor([[rng.randrange(3) for _ in range(8)] for _ in range(257)])
    threads, found = torch.get_num_threads(), []
    with torch.inference_mode():
        try:
            for n in (1, 2):
                torch.set_num_threads(n)
                found += [model(idx), torch.cat([model(part) for part in idx.split(7)])]
        finally:
            torch.set_num_threads(threads)
    for logits in found:
        torch.testing.assert_close(logits, found[0], rtol=0, atol=1e-4)
        assert torch.equal(logits.argmax(-1), found[0].argmax(-1))


@pytest.mark.parametrize("activation", ["relu2", "gelu_tanh"])
def test_units_are_those_that_tell(activation: str) -> None:
    """A pattern that says what its longest end says has none; all weights of the others by hand."""
    patterns = {"a": "a", "ba": "b", "aba": "b", "bba": "a", "bb": "a"}
    rule = Suffixes("ab", 4, "a", patterns, activation)
    assert suffixes.units_of(rule) == ["ba", "bba"]  # a and bb say the default, aba says ba's
    config, _, weights = handmade.compiled(rule)
    assert (config.ffn_size, config.n_head, config.head_size) == (2, 2, 4)
    gain, on = {"relu2": (2, 1), "gelu_tanh": (32, 16)}[activation]
    # columns: tok a b | place 0 1 2 3 | back1 a b | back2 a b | out a b
    up = [[1, 0, -1, 0, 0, 0, 0, 1, 0, 0, 0, 0], [1, 0, -1, -1, 0, 0, 0, 1, 0, 1, 0, 0]]
    assert torch.equal(weights["blocks.0.ffwd.up.weight"], gain * torch.tensor(up).float())
    assert weights["blocks.0.ffwd.up.bias"].tolist() == [-1.5 * gain, -2.5 * gain]
    down = torch.zeros(12, 2)
    down[10:] = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]) / on
    assert torch.equal(weights["blocks.0.ffwd.down.weight"], down)
    assert weights["blocks.0.ffwd.down.bias"].tolist() == [0] * 10 + [1, 0]
    for name, ones in (("blocks.0.ln_1", 2), ("blocks.0.ln_2", 4), ("ln_f", 5)):
        row = torch.tensor([1.0] * ones + [0.0] * (12 - ones), dtype=torch.float64)
        spread = (row.var(correction=0) + EPS).sqrt()
        torch.testing.assert_close(
            weights[f"{name}.weight"], torch.full((12,), spread.item()), rtol=1e-7, atol=0
        )
        torch.testing.assert_close(weights[f"{name}.bias"], torch.full((12,), ones / 12))
        norm = torch.nn.LayerNorm(12)
        norm.load_state_dict({p: weights[f"{name}.{p}"] for p in ("weight", "bias")})
        torch.testing.assert_close(norm(row.float()), row.float(), rtol=0, atol=1e-6)
    query = weights["blocks.0.attn.heads.1.query.weight"]  # of the head that looks 2 back
    asked = torch.tensor([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]).float()
    assert torch.equal(query[:, 2:6], asked * SHARP * 2)
    assert query[:, :2].count_nonzero() == query[:, 6:].count_nonzero() == 0


def test_a_rule_without_a_telling_pattern() -> None:
    model = build(Suffixes("ab", 3, "a", {"b": "a", "ab": "a"}))
    assert prove(model, "ab", lambda context: "a", text="").all.wrong == []


def test_columns_have_names() -> None:
    columns = Columns(tok=3, place=2, out=4)
    assert [columns[name] for name in ("tok", "place", "out")] == [
        range(3),
        range(3, 5),
        range(5, 9),
    ]
    assert (columns.total, columns.legend()) == (9, "tok 0-2 | place 3-4 | out 5-8")


def test_what_is_too_large() -> None:
    chars = "".join(map(chr, range(0x100, 0x100 + 600)))
    rule = Suffixes(chars, 1000, chars[0], {chars[:40]: chars[1]})
    with pytest.raises(ValueError, match=r"^the model would have [\d,]+ weights, more than 100,00"):
        handmade.compiled(rule)


def test_names() -> None:
    assert handmade.rule_of("one-head") is None
    assert handmade.rule_of("copy") == Copying("abcd", 8)
    saved = handmade.load("abc")
    assert (saved.chars, saved.model.block_size) == ("abc", 8)
    with pytest.raises(
        UserError, match=r"^there is no hand-set model 'gone'; there are one-head, "
    ):
        handmade.load("gone")
    with pytest.raises(UserError, match=r"^there is no hand-set model 'a{50,60}\.\.\.; there are"):
        handmade.load("a" * 5000)
