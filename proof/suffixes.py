"""Suffix rules, followed part by part: heads that look back, and a unit for each pattern."""

import math

import torch
from torch import Tensor

from data.laws import Suffixes
from handmade import suffixes
from model import GPT, Block
from proof.attention import astray_back, attended
from proof.bounds import UNIT, Followed, Stream, embedded, largest, rounding, sure


def asked(stream: Stream, rule: Suffixes, patterns: list[str]) -> dict[str, Tensor]:
    """What the unit of each of R patterns should be on for: of each slot in turn the characters or
    places, (R, n); all of them where it asks for nothing."""
    masks = {
        slot: torch.zeros(len(patterns), len(stream.columns[slot]), dtype=torch.bool)
        for slot in stream.slots
    }
    slots = ["tok", *(f"back{j}" for j in range(1, rule.longest))]
    for unit, pattern in enumerate(patterns):
        masks["place"][unit, len(pattern) - 1 :] = True
        for slot, char in zip(slots, reversed(pattern), strict=False):
            masks[slot][unit, rule.chars.index(char)] = True
    return {slot: mask | ~mask.any(dim=1, keepdim=True) for slot, mask in masks.items()}


def thresholds(block: Block, stream: Stream, rule: Suffixes) -> tuple[Tensor, Tensor, Tensor]:
    """What the unit of each telling pattern gets, (R,) each: the least where its pattern fits and
    should turn it on, the most there, and the most where it does not fit."""
    patterns = suffixes.units_of(rule)
    R, up = len(patterns), block.ffwd.up.weight
    least = block.ffwd.up.bias[:R].clone()
    most, highest, missed = least.clone(), least.clone(), torch.full_like(least, -math.inf)
    for slot, fits in asked(stream, rule, patterns).items():
        got = up[:R, list(stream.columns[slot])]  # (R, n)
        row = got.amax(dim=1)
        least += got.masked_fill(~fits, math.inf).amin(dim=1)
        most += got.masked_fill(~fits, -math.inf).amax(dim=1)
        highest += row
        # This slot holds something else, all others anything; -inf where it asks for nothing.
        missed = missed.maximum(got.masked_fill(fits, -math.inf).amax(dim=1) - row)
    return least, most, highest + missed


def chains(rule: Suffixes) -> tuple[list[str], Tensor, Tensor]:
    """Which units are on, by the longest pattern that fits, which may be none: the answers to
    these (A of them), and pairs of numbers of an answer and of a unit that is on then, (P,) each.

    Those that fit are the ends of the longest.
    """
    number = {pattern: unit for unit, pattern in enumerate(suffixes.units_of(rule))}
    pairs = [
        (row, number[end])
        for row, longest in enumerate(rule.rules, start=1)
        for end in (longest[start:] for start in range(len(longest)))
        if end in number
    ]
    rows, units = torch.tensor(pairs, dtype=torch.long).view(-1, 2).T
    return [rule.default, *rule.rules.values()], rows, units


def written(block: Block, stray: Tensor, on: tuple[Tensor, Tensor], rule: Suffixes) -> Tensor:
    """How far what the units write may be from the one-hot of the answer in `out`, (C, A).

    stray: the most that each unit is when it should be off, (F,), not negative
    on: the least and the most that each is when it should be on, (R,) each

    The sum of n products goes up a tree of additions, in whatever order, or with fused ones.
    Adding an exact zero rounds nothing, and |fl(a + b) - (a + b)| <= min(|a|, |b|, u |a + b|). So
    let m of the products (of the units that are on, and the bias) be of any size, and the others
    together at most S. An addition in the tree adds two sums with products of the m in them, or
    not. At most m - 1 do; they round as a sum of m products does. Of the others, those of strays
    alone round S by u for each addition that a stray goes through, so by less than S in all, as
    n u < 1/2; and those of strays to a sum of the m by at most the strays' own sum, as rounded,
    so by less than 2 S in all. With S itself, which is no rounding, and each product rounded, it
    is less than 5 S.
    """
    ffwd, chars, (least, most) = block.ffwd, rule.chars, on
    down, bias, out = ffwd.down.weight, ffwd.down.bias, suffixes.columns_of(rule)["out"]
    answers, rows, units = chains(rule)
    middle, radius = (least + most) / 2, (most - least) / 2

    def added(values: Tensor) -> Tensor:
        """The sum of values (C, R) over the units that are on, (C, A)."""
        return values.new_zeros(len(bias), len(answers)).index_add_(1, rows, values[:, units])

    size = down[:, : len(middle)].abs()
    wrong = added(down[:, : len(middle)] * middle) + bias[:, None]
    wrong[[out[chars.index(answer)] for answer in answers], range(len(answers))] -= 1
    spread, total = added(size * radius), added(size * torch.maximum(least.abs(), most.abs()))
    together = 1 + rows.bincount(minlength=1).max().item()  # of the units on, and the bias
    strays = down.abs() @ stray  # (C,)
    return (
        wrong.abs()
        + spread
        + 5 * strays[:, None]
        + rounding(together + 2) * (total + bias.abs()[:, None])
    )


def answered(block: Block, stream: Stream, rule: Suffixes) -> tuple[Stream, float]:
    """The stream behind the units, which should write the answer, and how far the columns in front
    of them might be off before a unit is on that should be off, or the other way round."""
    ffwd, normed = block.ffwd, stream.normed(block.ln_2)
    least, most, off = thresholds(block, stream, rule)
    R = len(least)
    error = normed.error(ffwd.up.weight, ffwd.up.bias)[:R]
    off_low, off_high = sure(ffwd, torch.full_like(off, -torch.inf), off + error)
    stray = largest(ffwd, normed)
    stray[:R] = torch.maximum(off_low.abs(), off_high.abs())
    worst = written(block, stray, sure(ffwd, least - error, most + error), rule).amax(dim=1)
    new = stream.off + worst
    new = new + UNIT * (new + 1)  # of adding it to what stands there
    slack = torch.minimum(least, -off) / ffwd.up.weight[:R].abs().sum(dim=1)
    allowed = slack.min().item() if R else 0.5
    return Stream(stream.columns, [*stream.slots, "out"], new), allowed


def follow(model: GPT, rule: Suffixes) -> Followed:
    """Follow a model that was compiled from `rule`. Raises Unproved."""
    [block], stream = model.blocks, embedded(model, suffixes.columns_of(rule))
    normed, heads = stream.normed(block.ln_1), enumerate(block.attn.heads, start=1)
    astray = [astray_back(head, normed, by) for by, head in heads]
    stream = attended(block, stream, [f"back{j + 1}" for j in range(len(astray))], astray)
    columns = stream.normed(block.ln_2).off.max().item()
    stream, allowed = answered(block, stream, rule)
    return Followed(stream, max(astray), columns, allowed)
