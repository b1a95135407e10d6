"""Proofs of sums: one by one and by parts agree, and neither overlooks a weight that matters."""

import os
import random
from functools import cache
from itertools import product

import pytest
import torch
from torch import nn

import handmade
from data.addition import CHARS, Addition
from handmade import addition as compiler
from handmade.widen import widen
from model import GPT
from page.breaks import breaks
from proof import addition, sums
from proof.bounds import Unproved
from proof.certificate import assure, certify
from proof.sums import prove_sums
from system.errors import UserError
from tests.helpers.rules import build
from tests.helpers.tiny import tiny_gpt

CHANGES = int(os.environ.get("FUZZ", 30))
ONE, TWO = Addition(1), Addition(2)
EACH = [ONE, TWO, Addition(2, "ordinary")]


@cache
def all_lines(rule: Addition) -> tuple[list[str], torch.Tensor]:
    """The lines of all pairs, and their ids."""
    n, turn, lines = rule.digits, -1 if rule.order == "reversed" else 1, []
    for a, b in product(range(10**n), repeat=2):
        parts = f"{a:0{n}}"[::turn], f"{b:0{n}}"[::turn], f"{a + b:0{n + 1}}"[::turn]
        lines.append("{}+{}={}\n".format(*parts))
    return lines, torch.tensor([[CHARS.index(char) for char in line] for line in lines])


def wrong_lines(model: GPT, rule: Addition) -> list[str]:
    """The lines in which the likeliest character is ever another one, by plain arithmetic."""
    n, (lines, idx) = rule.digits, all_lines(rule)
    with torch.inference_mode():
        said = model(idx[:, :-1]).argmax(dim=-1)
    bad = (said != idx[:, 1:])[:, 2 * n + 1 :].any(dim=1)
    return [line for line, is_bad in zip(lines, bad.tolist(), strict=True) if is_bad]


@pytest.mark.parametrize("rule", EACH)
def test_the_bounds_are_what_all_lines_reach(rule: Addition) -> None:
    """The least and the most that units get, by what the column adds up to, over all pairs."""
    columns = compiler.columns_of(rule)
    x = compiler.number_line(rule, columns).double()[None] * torch.tensor([[1.0], [-3.0]])
    lines = torch.cat(list(rule.every_line(500)))
    rows = torch.arange(len(lines))
    a, b = rule.numbered(rows)
    for place in range(rule.block_size)[rule.decided]:
        got = x[:, columns["place"][place]][:, None].expand(-1, len(lines)).clone()
        looks = {slot: asked[place] for slot, asked in compiler.asked(rule).items()}
        for slot, index in {**looks, "tok": place}.items():
            got += x[:, columns[slot].start + lines[:, index]]
        kind, column = addition.standing(rule, place + 1)
        answer = column if kind == "sum" else None
        read = addition.reading(x, rule, columns, place)
        found = addition.added_up(read, rule, answer)
        power = 10 ** (answer or 0)
        carry = (a % power + b % power) // power
        total = a // power % 10 + b // power % 10 + carry
        for key, bounds in found.items():
            group = got if key is None else got[:, total == key]
            span = torch.stack((group.amin(dim=1), group.amax(dim=1)))
            if answer is None:  # the digits of the end's window are taken as if free
                assert (bounds[0] + read.fixed <= span[0]).all()
                assert (bounds[1] + read.fixed >= span[1]).all()
            else:
                torch.testing.assert_close(bounds + read.fixed, span)
        assert answer is None or found.keys() == set(total.tolist())


def test_a_changed_weight_is_never_overlooked() -> None:
    rng, rule, broken, kept = random.Random(8), ONE, 0, 0
    model = build(rule)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    names = [name for name in weights if "ln_" not in name] + ["blocks.0.ln_2.bias", "ln_f.weight"]
    for _ in range(CHANGES):
        changed = {key: weight.clone() for key, weight in weights.items()}
        values = changed[name := rng.choice(names)].view(-1)
        there = values.nonzero()[:, 0].tolist()
        i = rng.choice(there) if there and rng.random() < 0.8 else rng.randrange(len(values))
        old = values[i].item()
        values[i] = rng.choice([0.0, -old, 100 * old, old + 1, old * 1.3, old * (1 + 1e-6)])
        model.load_state_dict(changed)
        wrong = bool(wrong_lines(model, rule))
        assert (prove_sums(model, rule).first is not None) == wrong
        try:
            certify(model, rule)
            kept += 1
            assert not wrong, (name, i, old, values[i].item())
        except Unproved:
            broken += wrong
    assert broken >= CHANGES // 5 and kept >= CHANGES // 5


@pytest.mark.parametrize("digits", [3, 10])
def test_more_pairs_than_can_be_tried(digits: int) -> None:
    rule = Addition(digits)
    made = handmade.compiled(rule)
    for config, _, weights in (made, widen(made))[digits % 3 :]:  # of ten digits, the wide one
        model = GPT(config)
        model.load_state_dict(weights)
        found = certify(model, rule)
        assert found.margin > 31 and found.columns < found.allowed
    many = {3: "1,000,000 pairs of 3", 10: "10^20 pairs of 10"}[digits]
    assert str(found).startswith(f"proved for all {many} digits: attention off by ")


def test_the_bounds_hold_what_really_happens() -> None:
    rule, seen = Addition(3), []
    model, columns = build(rule), compiler.columns_of(rule)
    found = addition.follow(model.double(), rule)
    model.float().ln_f.register_forward_hook(lambda norm, args, out: seen.append(args[0]))
    lines = rule.sums(*torch.randint(1000, (2, 500), generator=torch.Generator().manual_seed(1)))
    with torch.inference_mode():
        model(lines[:, :-1])
    rows = seen[0][:, rule.decided]
    off = (rows - rows.round()).abs().amax(dim=(0, 1)).double()
    assert (off <= found.stream.off.amax(dim=0) + 1e-12).all() and found.stream.off.max() < 0.01
    assert (rows[..., list(columns["out"])].round().sum(dim=-1) == 1).all()


@pytest.mark.parametrize("rule", [TWO, Addition(1, "ordinary")])
def test_assured(rule: Addition) -> None:
    model, many = build(rule), {1: "100 pairs of 1 digit", 2: "10,000 pairs of 2 digits"}
    assert assure(model, rule, "sums") == (
        f"proved for all {many[rule.digits]}, tried one by one, worst margin +1.0000"
    )
    model.lm_head.weight.data[CHARS.index("\n")] *= -1
    with pytest.raises(UserError, match=r"^sums is wrong after '0+\+0+=0+'; take fewer digits"):
        assure(model, rule, "sums")
    three = build(Addition(3))
    three.blocks[0].ffwd.up.bias.data[0] += 60
    with pytest.raises(UserError, match=r"^sums is not proved right: "):
        assure(three, Addition(3), "sums")


@pytest.mark.parametrize("block_size", [6, 9])
def test_a_model_that_nobody_set(block_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any weights, dropout off, a window that is larger, and another order of the characters."""
    monkeypatch.setattr(sums, "ROWS", 33)
    model = tiny_gpt(seed=3, vocab_size=13, block_size=block_size)
    model.train()
    found, wrong = prove_sums(model, ONE), wrong_lines(model.eval(), ONE)
    assert (found.total, found.right) == (100, 100 - len(wrong))
    assert wrong[0].startswith(found.first) and -1 <= found.worst_margin < 0
    chars, mixed = CHARS[::-1], tiny_gpt(seed=3, vocab_size=13, block_size=block_size)
    mixed.wte.weight.data = model.wte.weight.data.flip(0)
    mixed.lm_head.weight.data = model.lm_head.weight.data.flip(0)
    assert prove_sums(mixed.eval(), ONE, chars).right == found.right
    assert str(found) == f"{found.right:,} of 100 pairs, worst margin {found.worst_margin:+.4f}"
    model.train()
    assert prove_sums(model, ONE) == found and model.training
    with pytest.raises(ValueError, match="take a window of 12, more than the model's"):
        prove_sums(tiny_gpt(vocab_size=13, block_size=11), Addition(3))


def test_what_is_not_a_number_is_wrong() -> None:
    class Nothing(nn.Module):
        config = build(TWO).config

        def forward(self, idx: torch.Tensor) -> torch.Tensor:
            return torch.full((*idx.shape, 13), torch.nan)

    found = prove_sums(Nothing(), TWO)
    assert (found.right, found.worst_margin, found.first) == (0, -1.0, "00+00=")


@pytest.mark.parametrize("rule", [TWO, Addition(1, "ordinary")])
def test_what_the_breaks_of_the_page_do(rule: Addition) -> None:
    """Without carries, what needs one is wrong; without the step of 10, what adds up to it is."""
    config, _, weights = handmade.compiled(rule)
    wrong = []
    for each in breaks(config, weights, rule)[: 2 if rule == TWO else 4]:
        model = build(rule)
        for name, place, value in each.edits:
            model.state_dict()[name].view(-1)[place] = value
        wrong.append(set(wrong_lines(model, rule)))
    pairs = list(product(range(10**rule.digits), repeat=2))
    ones = {(a, b): a % 10 + b % 10 for a, b in pairs}
    tens = {(a, b): a // 10 + b // 10 + ones[a, b] // 10 for a, b in pairs}
    carries = {rule.line(*pair) for pair in pairs if ones[pair] > 9 or tens[pair] > 9}
    ten = {rule.line(*pair) for pair in pairs if 10 in (ones[pair], tens[pair])}
    assert wrong[:2] == [carries, ten]
    assert all(len(lines) > 50 for lines in wrong[2:])
