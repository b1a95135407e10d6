"""Sums, followed part by part: what units read is bounded column by column, as one adds on paper.

What a slot holds is what stands in the line at the place that its head looks at: a mark, or a digit
of a number or of the sum. The least and the most that these digits make of a unit go up the columns
of the sum with the carry, so that all pairs of numbers are in the bounds, and others are not.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from data.addition import CHARS, Addition
from handmade import addition
from model import GPT, Block, FeedForward
from proof.attention import astray_at, attended
from proof.bounds import UNIT, Followed, Stream, embedded, rounding, sure, terms

FIRST = CHARS.index("0")  # of the digits, which stand side by side
LINEAR = 9.0  # from there on gelu_tanh hands on what it gets; see `sure`


def standing(rule: Addition, index: int) -> tuple[str, int]:
    """What stands at a place of a line: a digit (of `a`, `b` or `sum`) and its column, the lowest
    of which is 0; or a mark, and its id."""
    n, reverse = rule.digits, rule.order == "reversed"
    for name, start, size in (("a", 0, n), ("b", n + 1, n), ("sum", 2 * n + 2, n + 1)):
        if start <= index < start + size:
            return name, index - start if reverse else start + size - 1 - index
    return "mark", CHARS.index({n: "+", 2 * n + 1: "="}.get(index, "\n"))


@dataclass
class Reading:
    """What units get at one place of all lines.

    fixed: of what is the same in all of them, (F,)
    digits: of each digit that they read, (F, 10), by number and column
    size: the most that all of it is, were nothing negative, (F,)
    """

    fixed: Tensor
    digits: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    size: Tensor | float = 0.0


def reading(up: Tensor, rule: Addition, columns: addition.Columns, place: int) -> Reading:
    """What units, whose weights are up (F, C), read at this place."""
    found = Reading(up[:, columns["place"][place]])
    found.size = found.fixed.abs()
    looks = {"tok": place, **{slot: asked[place] for slot, asked in addition.asked(rule).items()}}
    for slot, index in looks.items():
        start, (name, which) = columns[slot].start, standing(rule, index)
        if name == "mark":
            found.fixed = found.fixed + up[:, start + which]
            found.size = found.size + up[:, start + which].abs()
        else:
            got = up[:, start + FIRST : start + FIRST + 10]
            found.digits[name, which] = found.digits.get((name, which), 0) + got
            found.size = found.size + got.abs().amax(dim=1)
    return found


def added_up(read: Reading, rule: Addition, answer: int | None) -> dict[int | None, Tensor]:
    """The least and the most that units get where all digits of the two numbers go through their
    columns, (2, F), by what the column `answer` adds up to, or by None where that is None."""
    F = len(read.fixed)
    nothing = read.fixed.new_zeros(F, 10)
    sofar = {(None, 0): read.fixed.new_zeros(2, F)}  # by what the column adds up to, and the carry
    below = -1
    for column in sorted({column for _, column in read.digits} | ({answer} - {None})):
        if column > below + 1:  # what the columns between them hand on is not known
            sofar = gathered(((key[0], carry), b) for key, b in sofar.items() for carry in (0, 1))
        a, b, s = (read.digits.get((name, column), nothing) for name in ("a", "b", "sum"))
        count = 10 if column < rule.digits else 1  # there the sum has a digit, and the numbers none
        pairs = torch.arange(count)[:, None] + torch.arange(count)
        ends = []
        for (total, carry), bounds in sofar.items():
            sums = pairs + carry
            got = (a[:, :count, None] + b[:, None, :count] + s[:, sums % 10]).flatten(1)
            for which, span in spans(got, sums.flatten() // (1 if column == answer else 10)):
                key = (which, which // 10) if column == answer else (total, which)
                ends.append((key, bounds + span))
        sofar, below = gathered(ends), column
    return gathered((total, bounds) for (total, _), bounds in sofar.items())


def spans(got: Tensor, group: Tensor) -> list[tuple[int, Tensor]]:
    """The least and the most in each group of the columns of got (F, N), (2, F), by its number."""
    numbers, place = group.unique(return_inverse=True)
    start, place = got.new_zeros(len(got), len(numbers)), place.expand_as(got)
    found = [
        start.scatter_reduce(1, place, got, way, include_self=False) for way in ("amin", "amax")
    ]
    return list(zip(numbers.tolist(), torch.stack(found).unbind(2), strict=True))


def gathered(bounds: Iterable[tuple[Any, Tensor]]) -> dict[Any, Tensor]:
    """The least and the most, (2, F), of all bounds with the same key."""
    found = {}
    for key, (least, most) in bounds:
        if key in found:
            least, most = found[key][0].minimum(least), found[key][1].maximum(most)
        found[key] = torch.stack((least, most))
    return found


def written(
    ffwd: FeedForward, normed: Stream, got: tuple[Tensor, Tensor], rounded: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What units add to the stream that get between the two of `got`, (F,) each, and then lose up
    to `rounded`: M (C, C) times the row in front of them, plus a vector (C,), but for so much (C,).

    Units far above zero hand on what they get, to the last bit. As all read the same row, what that
    is off by goes through M, in which the two units of a step cancel.
    """
    down, (least, most) = ffwd.down.weight, got
    error = normed.weigh(ffwd.up.weight.abs()) + rounded
    low, high = sure(ffwd, least - error, most + error)
    on = least - error >= LINEAR
    handed, rest = down * on, torch.where(on, 0.0, (low + high) / 2)
    fixed = ffwd.down.bias + down @ rest + handed @ ffwd.up.bias
    largest = torch.maximum(low.abs(), high.abs())
    off = torch.where(on, rounded + 8 * UNIT * largest, (high - low) / 2)
    total = down.abs() @ largest + ffwd.down.bias.abs()
    return (
        handed @ ffwd.up.weight,
        fixed,
        down.abs() @ off + rounding(terms(down) + 2) * total,
    )


def answered(block: Block, stream: Stream, rule: Addition) -> tuple[Stream, float]:
    """The stream behind the units, which should write the answer, and how far the columns in front
    of them might be off before a unit is on that should be off, or the other way round."""
    ffwd, normed, columns = block.ffwd, stream.normed(block.ln_2), stream.columns
    up, bias, out = ffwd.up.weight, ffwd.up.bias, columns["out"]
    made, worst, slack = normed.weigh(up.abs()), torch.zeros_like(ffwd.down.bias), math.inf
    for place in range(rule.decided.start, rule.decided.stop):
        name, which = standing(rule, place + 1)
        column = which if name == "sum" else None
        read = reading(up, rule, columns, place)
        rounded = rounding(terms(up) + 1) * (read.size + made + bias.abs())
        reached, through = added_up(read, rule, column), []
        for total, bounds in reached.items():
            least, most = bounds + read.fixed + bias
            slack = min(slack, (torch.maximum(least, -most) / up.abs().sum(dim=1)).min().item())
            through.append(written(ffwd, normed, (least, most), rounded))
            through[-1][1][out[which if total is None else FIRST + total % 10]] -= 1
        M, fixed, off = (torch.cat(parts) for parts in zip(*through, strict=True))
        read = reading(M, rule, columns, place)
        got = added_up(read, rule, column)  # of the units of all that is reached
        span = torch.cat([got[total].chunk(len(got), 1)[i] for i, total in enumerate(reached)], 1)
        far = (span + read.fixed + fixed).abs().amax(dim=0) + normed.weigh(M.abs()) + off
        worst = worst.maximum(far.view(len(reached), -1).amax(dim=0))
    return Stream(columns, [*stream.slots, "out"], stream.off + worst * (1 + 1e-6)), slack


def follow(model: GPT, rule: Addition) -> Followed:
    """Follow a model that was compiled from `rule`. Raises Unproved."""
    [block], columns, slots = model.blocks, addition.columns_of(rule), addition.asked(rule)
    stream = embedded(model, columns)
    normed = stream.normed(block.ln_1)
    heads = zip(block.attn.heads, slots.values(), strict=True)
    astray = [astray_at(head, normed, asked) for head, asked in heads]
    stream = attended(block, stream, [*slots], astray)
    off = stream.normed(block.ln_2).off.max().item()
    stream, allowed = answered(block, stream, rule)
    return Followed(stream, max(astray), off, allowed)
