"""Sums compiled to weights: all pairs against Python's own arithmetic, and text that runs on."""

import random
from itertools import product

import pytest
import torch
from torch import Tensor

import handmade
from data.addition import CHARS, Addition
from generate import generate
from handmade import addition
from handmade.parts import SHARP
from handmade.widen import widen
from model import GPT
from tests.helpers.rules import build

ORDERS = ["reversed", "ordinary"]


def line_of(a: int, b: int, n: int, order: str) -> str:
    turn = -1 if order == "reversed" else 1
    return f"{f'{a:0{n}}'[::turn]}+{f'{b:0{n}}'[::turn]}={f'{a + b:0{n + 1}}'[::turn]}\n"


@torch.inference_mode()
def leads(model: GPT, lines: list[str], right: list[str] | None = None) -> Tensor:
    """By how much the logit of the next character, or of the right one, is above all others."""
    idx = torch.tensor([[CHARS.index(char) for char in line] for line in lines])
    logits, wanted = model(idx[:, :-1]), idx[:, 1:, None]
    if right:
        wanted = torch.tensor([[[CHARS.index(char)] for char in row] for row in right])
    return logits.gather(2, wanted)[..., 0] - logits.scatter(2, wanted, -torch.inf).amax(dim=2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("digits", [1, 2])
def test_every_pair_has_the_same_margin(digits: int, order: str) -> None:
    rule = Addition(digits, order)
    lines = [line_of(a, b, digits, order) for a, b in product(range(10**digits), repeat=2)]
    found = leads(build(rule), lines)[:, rule.decided]
    assert (found - SHARP).abs().max() < 0.01


@pytest.mark.parametrize(("digits", "order"), [(3, "reversed"), (3, "ordinary"), (18, "reversed")])
def test_some_pairs_of_more_digits(digits: int, order: str) -> None:
    """Among them those that carry all the way, and those that nearly do."""
    rule, rng = Addition(digits, order), random.Random(digits)
    pairs = [tuple(rng.randrange(10**digits) for _ in range(2)) for _ in range(600)]
    pairs += [(a, 10**digits - 1 - a + more) for a, _ in pairs[:200] for more in (0, 1) if a]
    found = leads(build(rule), [line_of(a, b, digits, order) for a, b in pairs])
    assert (found[:, rule.decided] - SHARP).abs().max() < 0.01


@pytest.mark.parametrize("rule", [Addition(1), Addition(2), Addition(2, "ordinary"), Addition(3)])
def test_the_form_of_a_line(rule: Addition) -> None:
    """In front of `=`, too, the likeliest is what `answer` says."""
    rng = random.Random(4)
    lines = [rule.line(*(rng.randrange(10**rule.digits) for _ in range(2))) for _ in range(50)]
    right = [[rule.answer(line[: end + 1]) for end in range(rule.block_size)] for line in lines]
    assert (leads(build(rule), lines, right) - SHARP).abs().max() < 0.01
    assert "".join(right[0][: 2 * rule.digits + 1]) in ("+0=", "0+00=", "00+000=")


@pytest.mark.parametrize("cut", [0, 4, 12])
@pytest.mark.parametrize("digits", [1, 3])
def test_lines_that_follow_one_another(digits: int, cut: int) -> None:
    """The window then begins anywhere in a line: sums come out right, and so does the form."""
    rule, rng = Addition(digits), random.Random(5)
    first = rule.stretch(rng)[max(0, cut * (3 * digits + 3) // 12) :]
    model, text = build(rule), first + "".join(rule.stretch(rng) for _ in range(40))
    checked = 0
    for end in range(len(first) if cut else 1, len(text)):
        place = len(text[:end].rpartition("\n")[2]) - 1
        if place >= 2 * digits + 1 or place in (digits - 1, 2 * digits):
            window = text[max(0, end - rule.block_size) : end]
            idx = torch.tensor([[CHARS.index(char) for char in window]])
            with torch.inference_mode():
                assert CHARS[model(idx)[0, -1].argmax()] == text[end], (window, text[end])
            checked += 1
    assert checked == (40 + (not cut)) * (digits + 4)


@pytest.mark.parametrize("prompt", ["\n", "321+654=", "9"])
def test_it_writes_sums_of_its_own(prompt: str) -> None:
    idx = torch.tensor([[CHARS.index(char) for char in prompt]])
    new = generate(build(Addition(3)), idx, 200, torch.Generator(), temperature=0)
    text = prompt + "".join(CHARS[int(step)] for step in new)
    lines = text.removeprefix("\n").split("\n")[:-1]
    assert len(lines) >= 15
    for line in lines:
        a, b, total = (int(part[::-1]) for part in line.replace("=", "+").split("+"))
        assert a + b == total and len(line) == 12


def test_the_number_line_by_hand() -> None:
    """123 + 989, where 2 + 8 carries: in front of the 1 in 2111, x = 10 (2 + 8) + 3 + 9 - 2."""
    rule, columns = Addition(3), addition.columns_of(Addition(3))
    x = addition.number_line(rule, columns)
    row = {"tok": "2", "a": "2", "b": "8", "lower_a": "3", "lower_b": "9"}
    assert sum(x[columns[slot][CHARS.index(char)]] for slot, char in row.items()) == 110
    rule = Addition(3, "ordinary")
    columns, asked = addition.columns_of(rule), addition.asked(rule)
    line, place = "123+989=1112\n", 9  # the digits of the tens are 2 and 8, of the ones 3 and 9
    row = {slot: line[places[place]] for slot, places in asked.items()}
    assert "".join(row.values()) == "23++89==" and [*row][:2] == ["a0", "a1"]
    x = addition.number_line(rule, columns)
    assert sum(x[columns[slot][CHARS.index(char)]] for slot, char in row.items()) == 11200
    steps = addition.steps(rule)
    assert [(s.below, s.above) for s in steps[10:12]] == [(10999, 11000), (11999, 12000)]


@pytest.mark.parametrize("rule", [Addition(3), Addition(2, "ordinary")])
def test_names_and_sizes(rule: Addition) -> None:
    """Two units for each step, of 19 to a digit and 4 to what the form asks for."""
    config, chars, weights = handmade.compiled(rule)
    heads = 4 if rule.order == "reversed" else 6
    assert (config.n_layer, config.n_head, config.ffn_size, chars) == (1, heads, 46, CHARS)
    assert len(addition.columns_of(rule).names(chars)) == config.n_embd
    assert len(set(addition.units_of(rule))) == 46
    up = weights["blocks.0.ffwd.up.weight"]
    assert (up == up[0]).all()  # all units read the same number
    wide, _, widened = widen((config, chars, weights))
    assert wide.n_embd == wide.n_head * wide.head_size
    model = GPT(wide)
    model.load_state_dict(widened, strict=True)
    lines = [rule.line(a, 7 * a % 97) for a in range(97)]
    assert (leads(model.eval(), lines)[:, rule.decided] - SHARP).abs().max() < 0.01
