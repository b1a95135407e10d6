"""Finite-state machines as weights, against automata that are run one character at a time."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import handmade
from data import rules
from data.machines import Machine
from handmade import plans
from handmade.parts import SHARP
from handmade.plans import plan_of
from model import GPT
from proof.proof import every_context, prove
from tests.helpers.machines import machines, symmetric
from tests.helpers.rules import build

PARITY, LAMP = rules.read("parity"), rules.read("lamp")


def run(rule: Machine, context: str) -> str:
    """What the machine writes in the end, without `Machine.answer`."""
    reached = {rule.start}
    for char in context:
        [reached] = [{rule.edges[state][char] for state in reached}]
    [state] = reached
    return rule.states[state]


@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(machines(), st.sampled_from([plans.MOST, 0]), st.sampled_from([10**9, 0]))
def test_every_context_of_any_machine(rule: Machine, most: int, plain: int) -> None:
    """With functions and with states, with single units and with pairs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST", most)
        patch.setattr(plans, "PLAIN", plain)
        rule = rule if most else dataclasses.replace(rule, radix=2)
        plan, model = plan_of(rule), build(rule)
        assert (plan.found is None) == (most == 0) and plan.pairs == (plain == 0)
        assert plan.size == model.parameter_count() and plan.config == model.config
    contexts = every_context(rule.chars, rule.block_size, shortest=1)
    answers = {context: run(rule, context) for context in contexts}
    assert all(rule.answer(context) == answer for context, answer in answers.items())
    found = prove(model, rule.chars, answers.__getitem__, text="", shortest=1).all
    assert found.wrong == [] and (found.worst_margin > 0.9999)


@pytest.mark.parametrize(
    ("radix", "sizes"),
    [
        (2, (4, 1, 6, 34)),
        (3, (3, 2, 14, 34)),
        (4, (2, 3, 30, 34)),
        (16, (1, 15, 131_070, 50)),
    ],
)
def test_depth_against_size(radix: int, sizes: tuple[int, ...]) -> None:
    """Parity of 16 characters; a random text counts its b in integers."""
    rule = dataclasses.replace(PARITY, radix=radix)
    model = build(rule)
    c = model.config
    assert (c.n_layer, c.n_head, c.ffn_size, c.n_embd) == sizes
    idx = torch.randint(2, (30, 16), generator=torch.Generator().manual_seed(radix))
    with torch.inference_mode():
        logits = model(idx)
    answers = idx.cumsum(dim=1) % 2
    assert torch.equal(logits.argmax(-1), answers)
    leads = logits.gather(2, answers[..., None]) - logits.gather(2, 1 - answers[..., None])
    assert (leads - SHARP).abs().max() < 0.01


def test_what_the_columns_and_units_are_called() -> None:
    columns, units = handmade.legend("lamp")
    texts = ("p", "o", "d", "b", "pp", "ppp")
    assert columns[:12] == [f"{name} {text}" for name in ("last1", "back1") for text in texts]
    assert columns[12:14] == ["place 0", "place 1"]
    assert columns[-4:] == [f"out {char}" for char in "podb"]
    assert units[:7] == ["p", "o", "d", "b", "pp", "ppp", "p·p"] and len(units) == 42
    deep = plan_of(dataclasses.replace(LAMP, block_size=32))
    assert deep.names[:42] == units and deep.names[42:44] == ["less p", "less o"]
    assert deep.config.ffn_size == 84 == len(deep.names)


def test_more_functions_than_there_is_room_for() -> None:
    """Five states have 3,125 functions; then there is a one-hot for each state."""
    rule = symmetric(5, T=4)
    assert len(plans.functions(symmetric(3, T=4))) == 27
    assert len(plans.functions(rule)) > plans.MOST
    plan, model = plan_of(rule), build(rule)
    assert plan.found is None and model.config.ffn_size == 5**3 + 5**2
    assert plan.columns.names("abc")[:2] == ["last1 from q0 q0", "last1 from q0 q1"]
    assert plan.names[:2] == ["q0·q0", "q0·q1"] and len(plan.names) == 150
    found = prove(model, "abc", lambda context: run(rule, context), text="", shortest=1).all
    assert found.wrong == [] and found.total == 3 + 9 + 27 + 81


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            symmetric(5, 16, radix=4),
            r"^radix 4 takes a unit for all that .* 5 states, .*; take radix 2, ",
        ),
        (
            symmetric(3, 16, radix=16),
            r"^with radix 16 .* more than 100,000,000 weights; take radix 3$",
        ),
        (symmetric(40, 64), r"^the model would have [\d,]+ weights, .*; take a smaller block"),
        (
            dataclasses.replace(PARITY, block_size=256, radix=256),
            r"^with radix 256 .*; take radix 13$",
        ),
    ],
)
def test_what_is_too_large(rule: Machine, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the radix that the message names fits."""
    monkeypatch.setattr(GPT, "__init__", None)  # nothing is built
    with pytest.raises(ValueError, match=message) as caught:
        handmade.compiled(rule)
    for radix in re.findall(r"take radix (\d+)", str(caught.value)):
        assert plan_of(dataclasses.replace(rule, radix=int(radix))).size <= 100_000_000
