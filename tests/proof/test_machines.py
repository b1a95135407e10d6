"""Finite-state machines, proved by parts: against every context, and what a mutation spoils."""

import dataclasses
import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import handmade
from data import rules
from data.machines import Machine
from handmade import machines as compiler
from handmade import plans, tables
from handmade.plans import Plan, plan_of
from handmade.tables import Units, units_of
from handmade.widen import widen
from model import GPT
from proof import machines as followed
from proof.bounds import Unproved
from proof.certificate import assure, certify
from proof.proof import prove
from tests.helpers.machines import machines, symmetric
from tests.helpers.rules import build

PARITY, LAMP = rules.read("parity"), rules.read("lamp")
SMALL = dataclasses.replace(PARITY, block_size=7, radix=3)


def holds(model: GPT, rule: Machine) -> bool:
    try:
        certify(model, rule)
    except Unproved:
        return False
    return True


def right(model: GPT, rule: Machine) -> bool:
    return not prove(model, rule.chars, rule.answer, text="", shortest=1).all.wrong


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(machines(), st.sampled_from([plans.MOST, 0]), st.sampled_from([10**9, 0]), st.data())
def test_a_changed_weight_is_never_overlooked(
    rule: Machine, most: int, plain: int, data: st.DataObject
) -> None:
    """What is compiled has a certificate; what is wrong in a single context has none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plans, "MOST", most)
        patch.setattr(plans, "PLAIN", plain)
        rule = rule if most else dataclasses.replace(rule, radix=2)
        model = build(rule)
        assert right(model, rule) and certify(model, rule).margin > 29
        weights = model.state_dict()
        for _ in range(3):
            values = weights[data.draw(st.sampled_from(sorted(weights)))].view(-1)
            places = values.nonzero()[:, 0].tolist() if data.draw(st.booleans()) else []
            place = data.draw(st.sampled_from(places or range(len(values))))
            old = values[place].item()
            changes = [0.0, -old, 100 * old, old + 1, old - 1, old * 1.3]
            values[place] = data.draw(st.sampled_from(changes))
            assert right(model, rule) or not holds(model, rule)
            values[place] = old


BROKEN = [  # columns: last1 0-1 | back1 | back2 | place 6-12 | last3 | back3 | back6 | out 19-20
    ("blocks.0.attn.heads.1.query.weight", (0, 6 + 2), -1),
    ("blocks.0.attn.heads.0.key.weight", (3, 6 + 3), 0),
    ("blocks.1.attn.heads.0.value.weight", (0, 13), 0.1),
    ("blocks.1.attn.proj.weight", (15, 0), -1),
    ("blocks.0.ln_1.weight", (0,), 3),
    ("blocks.1.ln_2.bias", (14,), -30),
    ("blocks.0.ffwd.up.weight", (6, 0), -1),
    ("blocks.0.ffwd.up.weight", (0, 6 + 1), 0),
    ("blocks.0.ffwd.up.bias", (3,), 0.2),
    ("blocks.1.ffwd.down.weight", (19, 2), -1),
    ("wte.weight", (0, 0), 0),
    ("wpe.weight", (5, 11), -3),
    ("ln_f.weight", (20,), -1),
    ("lm_head.weight", (1, 20), -1),
]


@pytest.mark.parametrize(("name", "place", "factor"), BROKEN)
def test_both_proofs_break(name: str, place: tuple[int, ...], factor: float) -> None:
    model = build(SMALL)
    assert (
        plan_of(SMALL)
        .columns.legend()
        .endswith("last3 13-14 | back3 15-16 | back6 17-18 | out 19-20")
    )
    values = model.state_dict()[name]
    assert values[place] != 0
    values[place] *= factor
    assert not right(model, SMALL) and not holds(model, SMALL)


def test_both_proofs_hold_where_nothing_is_broken() -> None:
    model = build(SMALL)
    assert right(model, SMALL) and holds(model, SMALL)


@pytest.mark.parametrize(
    ("rule", "margin", "off"),
    [
        (dataclasses.replace(PARITY, radix=2), 30, 0.1),
        (PARITY, 31.8, 0.01),
        (LAMP, 31.8, 0.01),
        (dataclasses.replace(PARITY, block_size=64, radix=2), 31.99, 3e-4),
        (dataclasses.replace(PARITY, block_size=100, radix=2), 31.98, 1e-3),
        (dataclasses.replace(PARITY, block_size=128, radix=6), 31.97, 2e-3),
        (dataclasses.replace(LAMP, block_size=64), 31.99, 3e-4),
        (symmetric(5, 16), 31.99, 2e-4),
    ],
)
def test_more_contexts_than_can_be_tried(rule: Machine, margin: float, off: float) -> None:
    """And what is really off, in float32, is within what the certificate says."""
    model = build(rule)
    found = certify(model, rule)
    assert found.margin > margin and found.columns < off and found.columns < found.allowed / 2
    assert found.attention < 1e-10
    rows: list[Tensor] = []
    for block in model.blocks:
        block.ln_2.register_forward_hook(lambda norm, args, out: rows.append(out))
    model.ln_f.register_forward_hook(lambda norm, args, out: rows.append(out))
    draw = random.Random(1)
    texts = ["".join(draw.choices(rule.chars, k=rule.block_size)) for _ in range(40)]
    with torch.inference_mode():
        logits = model(torch.tensor([[rule.chars.index(char) for char in text] for text in texts]))
    assert all((row - row.round()).abs().max() <= found.columns for row in rows)
    for text, said in zip(texts, logits.argmax(-1), strict=True):
        ends = range(1, len(text) + 1)
        assert [rule.answer(text[:end]) for end in ends] == [rule.chars[v] for v in said]


@pytest.mark.parametrize("rule", [PARITY, dataclasses.replace(PARITY, block_size=48)])
def test_in_the_widths_of_gpt2(rule: Machine) -> None:
    config, _, weights = widen(handmade.compiled(rule))
    model = GPT(config)
    model.load_state_dict(weights)
    assert config.n_embd > plan_of(rule).columns.total and certify(model, rule).margin > 31.7


def test_a_deep_stack_needs_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them bounds grow from layer to layer."""
    for T in (64, 256):
        rule = dataclasses.replace(PARITY, block_size=T, radix=2)
        assert holds(build(rule), rule)
        with monkeypatch.context() as patch:
            patch.setattr(plans, "PLAIN", 10**9)
            assert plan_of(rule).config.ffn_size == 6 and not holds(build(rule), rule)


def test_a_layer_of_131070_units() -> None:
    """And what is wrong with a single one of them is found."""
    rule = dataclasses.replace(PARITY, radix=16)
    model = build(rule)
    assert assure(model, rule, "parity").startswith("proved for all 2^16 contexts: ")
    down = model.blocks[0].ffwd.down.weight.data
    assert sorted(down[48:, 99_999]) == [0, 1 / 16]
    down[48:, 99_999] = down[48:, 99_999].flip(0)
    with pytest.raises(Unproved, match="columns"):
        certify(model, rule)


def other(units: Units, name: str, change: Callable[[Tensor], Tensor]) -> Units:
    return dataclasses.replace(units, **{name: change(getattr(units, name))})


WRONG = {
    "a wrong product": ("adds", lambda adds: adds.flip(0)),
    "a combination twice": ("asks", lambda asks: asks[[0, *range(len(asks) - 1)]]),
    "stretches in another order": ("asks", lambda asks: asks.flip(1)),
    "a row twice": ("rows", lambda rows: rows * 0),
    "a place too few": ("places", lambda places: places[1:]),
    "a place twice": ("places", lambda places: [*places, 0]),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("rule", [LAMP, symmetric(5, 4)])
def test_a_wrong_plan_is_no_proof(
    kind: str, rule: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is as the plan says, and what the plan says is wrong."""
    name, change = WRONG[kind]
    plan = plan_of(rule)
    for layer in range(len(plan.strides)):
        *rest, last = units_of(plan, layer)
        followed.check(plan, layer, [*rest, last])
        with pytest.raises(Unproved, match="the units are not those of the machine"):
            followed.check(plan, layer, [*rest, other(last, name, change)])

    def wrong(plan: Plan, layer: int) -> list[Units]:
        return [other(each, name, change) for each in units_of(plan, layer)]

    monkeypatch.setattr(compiler, "units_of", wrong)
    monkeypatch.setattr(tables, "units_of", wrong)
    assert not holds(build(rule), rule)


def test_another_activation_is_no_proof() -> None:
    model = build(SMALL)
    model.blocks[1].ffwd.act = torch.nn.ReLU()
    with pytest.raises(Unproved, match="activation"):
        certify(model, SMALL)
