"""Sums set by hand: one number for each place, and steps that turn it into a digit.

    addition: {digits: 3}                        321+654=9750 and the end of the line
    addition: {digits: 3, order: ordinary}       123+456=0579

The columns of the residual stream, for V characters and T places:

    tok V | place T | a slot for each head, V | out V

    tok     one-hot of the character at this place
    place   one-hot of the place
    slots   one-hots of digits of the two numbers, each copied from one place
    out     zero at first; in the end one-hot of what comes next

reversed    In front of a digit of the sum, the digits a and b of its column are always as far back,
            2n + 1 and n places, and one further back are those of the lower column, whose sum
            ended in the digit s at this place. With the carry that came into that column,
                lower_a + lower_b + carry_in = s + 10 carry, and so
                x = 10 (a + b) + lower_a + lower_b - s = 10 (a + b + carry) - carry_in
            is 10 v or 10 v - 1, where v = a + b + carry ends in the next digit. Four heads do.
ordinary    The digits of this and all lower columns are a number each, whose sum is
                x = 10^n (a0 + b0) + 10^(n-1) (a1 + b1) + ...
            where a1 is one column below a0, and so on; v is x / 10^n, rounded down. At each place
            2n + 2 heads look at the places of these digits, or at a mark where there is no such
            column. So a line has to begin where the window does.
the form    All but digits count as 0. Marks, or places, move x out of the reach of sums, by SHIFT
            for the end of the line, twice that for `=`, three times for `+`, and further for 0,
            which stands where numbers are written, as these are not decided. A line end may stand
            in front of a reversed line: then b shows it, whose head looks at the first place where
            there is none n back.

up          All units read x. Two of them make a step: the first begins to rise, and the second
            takes off what the first has above ON. Before and after, a step is flat, to the last bit
            of float32.
down        The bias writes 0, and each step takes off the digit that comes before it and adds the
            one behind. So `out` is one one-hot exactly, wherever x lies.
ln_*        find 2, 2 + heads and 3 + heads ones in each row, and are neutral.
lm_head     The logit of a character is SHARP times its column of out.

So the margin is the same for all pairs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.addition import CHARS, Addition
from handmade.parts import (
    ON,
    SHARP,
    Columns,
    Compiler,
    Handmade,
    blank,
    check_size,
    embed,
    look_at,
    neutral_for,
)
from model import GPTConfig

DIGITS, V = "0123456789", len(CHARS)
FORM = {"end": "\n", "=": "=", "+": "+", "number": "0"}  # what steps after those of sums lead to
ACTIVATION = "gelu_tanh"  # flat on both sides of a step, and GPT-2's
GAIN = {"reversed": 4.0, "ordinary": 32.0}  # of x, in the units; so a step is 4 or 1/2 wide


@dataclass
class Step:
    """From x = `below` on the answer may change, and from `above` on it is `char`."""

    name: str
    char: str
    below: float
    above: float


def asked(rule: Addition) -> dict[str, list[int]]:
    """For each slot the place that its head looks at, from every place."""
    n, T = rule.digits, rule.block_size
    if rule.order == "reversed":
        back = {"a": 2 * n + 1, "b": n, "lower_a": 2 * n + 2, "lower_b": n + 1}
        return {
            slot: [t - by if t >= by else 0 if slot == "b" else t for t in range(T)]
            for slot, by in back.items()
        }
    found = {}
    for slot, highest, mark in (("a", 0, n), ("b", n + 1, 2 * n + 1)):
        for lower in range(n + 1):
            places = [t if t < 2 * n + 1 else mark for t in range(T)]
            for t in range(2 * n + 1, T - 1):
                place = highest + lower + t - 2 * n - 2  # the first sum digit has no column here
                if highest <= place < highest + n:
                    places[t] = place
            found[f"{slot}{lower}"] = places
    return found


def columns_of(rule: Addition) -> Columns:
    """The residual stream."""
    slots = dict.fromkeys(asked(rule), V)
    return Columns(tok=V, place=rule.block_size, **slots, out=V)


def scale(rule: Addition) -> int:
    """How much of x is one in the digit."""
    return 10 if rule.order == "reversed" else 10**rule.digits


def room(rule: Addition) -> int:
    """How far apart the x of two digits are, at least."""
    return 9 if rule.order == "reversed" else 1


def shift(rule: Addition) -> int:
    """How far a mark moves x: beyond all that digits in the slots can make."""
    return 25 * scale(rule)


def number_line(rule: Addition, columns: Columns) -> Tensor:
    """What each column adds to x, (C,)."""
    n, x, far = rule.digits, torch.zeros(columns.total), shift(rule)

    def counts(slot: str, factor: float) -> None:
        x[[columns[slot][CHARS.index(digit)] for digit in DIGITS]] = factor * torch.arange(10.0)

    def moves(slot: str, chars: str, by: int) -> None:
        x[[columns[slot][CHARS.index(char)] for char in chars]] = by * far

    x[columns["place"][: 2 * n]] = 4 * far
    x[columns["place"][n - 1]] = 3 * far
    if rule.order == "reversed":
        x[columns["place"][n]] = 0  # `+` stands here, or the first number ends here
        for slot, factor in {"a": 10, "b": 10, "lower_a": 1, "lower_b": 1, "tok": -1}.items():
            counts(slot, factor)
        moves("tok", "\n+", 4)
        moves("lower_b", "=", 1)
        moves("b", "+", 2)
        moves("b", "\n", 3)
    else:
        x[columns["place"][2 * n]], x[columns["place"][-1]] = 2 * far, far
        for lower in range(n + 1):
            counts(f"a{lower}", 10 ** (n - lower))
            counts(f"b{lower}", 10 ** (n - lower))
    return x


def steps(rule: Addition) -> list[Step]:
    """All steps, in the order of x."""
    one, far = scale(rule), shift(rule)
    found = []
    for v in range(1, 20):
        below = (v - 1) * one if rule.order == "reversed" else v * one - 1
        found.append(Step(f"sum {v}", str(v % 10), below, below + room(rule)))
    for times, (name, char) in enumerate(FORM.items(), start=1):
        found.append(Step(name, char, times * far - 5 * one, times * far - one))
    return found


def units_of(rule: Addition) -> list[str]:
    """Names of the units, two for each step."""
    return [f"{step.name}: {what}" for step in steps(rule) for what in ("rises", "ends")]


def structure(rule: Addition) -> GPTConfig:
    """That of the model, one layer. Raises ValueError when it is too large."""
    config = GPTConfig(
        vocab_size=V,
        block_size=rule.block_size,
        n_layer=1,
        n_head=len(asked(rule)),
        n_embd=columns_of(rule).total,
        head_size=max(rule.block_size, V),
        ffn_size=len(units_of(rule)),
        bias=True,
        position="learned",
        activation=ACTIVATION,
    )
    check_size(config)
    return config


def compile_rule(rule: Addition) -> Handmade:
    """The model that answers as `rule` does, in all its lines: (GPTConfig, chars, state_dict).

    Raises ValueError when it would be too large.
    """
    config, columns, slots = structure(rule), columns_of(rule), asked(rule)
    weights = blank(config)
    embed(weights, columns)
    for head, (slot, places) in enumerate(slots.items()):
        look_at(weights, 0, head, columns, to=slot, asked=places)
    norms = {"blocks.0.ln_1": 2, "blocks.0.ln_2": 2 + len(slots), "ln_f": 3 + len(slots)}
    for name, ones in norms.items():
        neutral_for(weights, name, ones=ones)
    out, on, ffwd = columns["out"], ON[ACTIVATION], "blocks.0.ffwd"
    gain = GAIN[rule.order]
    weights[f"{ffwd}.up.weight"][:] = gain * number_line(rule, columns)
    up, down = weights[f"{ffwd}.up.bias"], weights[f"{ffwd}.down.weight"]
    before = out[CHARS.index("0")]
    weights[f"{ffwd}.down.bias"][before] = 1
    for number, step in enumerate(steps(rule)):
        rises, ends, after = 2 * number, 2 * number + 1, out[CHARS.index(step.char)]
        middle = gain * (step.below + step.above) / 2
        up[rises], up[ends] = on / 2 - middle, -on / 2 - middle
        for unit, sign in ((rises, 1), (ends, -1)):
            down[after, unit] += sign / on
            down[before, unit] -= sign / on
        before = after
    weights["lm_head.weight"][range(V), out] = SHARP
    return config, CHARS, weights


COMPILER = Compiler(compile_rule, columns_of, units_of)
