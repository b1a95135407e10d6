"""Suffix rules, followed part by part: heads that look back, and a unit for each pattern."""

import math

import torch
from torch import Tensor

from data.laws import Suffixes
from handmade import suffixes
from model import GPT, Block
from proof.attention import astray_back, attended
from proof.bounds import UNIT, Followed, Stream, embedded, largest, rounding, sure


def thresholds(block: Block, stream: Stream, rule: Suffixes) -> tuple[Tensor, Tensor, Tensor]:
    """What the unit of each telling pattern gets, (R,) each: the least where its pattern fits and
    should turn it on, the most there, and the most where it does not fit."""
    up, bias, columns, chars = block.ffwd.up.weight, block.ffwd.up.bias, stream.columns, rule.chars
    least, most, off = [], [], []
    for unit, pattern in enumerate(suffixes.units_of(rule)):
        slots = ["tok", *(f"back{j}" for j in range(1, len(pattern)))]
        fits = {s: [columns[s][chars.index(c)]] for s, c in zip(slots, pattern[::-1], strict=True)}
        fits["place"] = list(columns["place"][len(pattern) - 1 :])
        row = {slot: up[unit, list(columns[slot])] for slot in stream.slots}
        right = [up[unit, fits[slot]] if slot in fits else row[slot] for slot in stream.slots]
        least.append((bias[unit] + sum(values.min() for values in right)).item())
        most.append((bias[unit] + sum(values.max() for values in right)).item())
        total, misses = bias[unit] + sum(values.max() for values in row.values()), []
        for slot, asked in fits.items():  # one of them holds something else, all others anything
            if wrong := [column for column in columns[slot] if column not in asked]:
                misses.append((total - row[slot].max() + up[unit, wrong].max()).item())
        off.append(max(misses, default=-math.inf))
    return tuple(torch.tensor(values, dtype=torch.float64) for values in (least, most, off))


def answered(block: Block, stream: Stream, rule: Suffixes) -> tuple[Stream, float]:
    """The stream behind the units, which should write the answer, and how far the columns in front
    of them might be off before a unit is on that should be off, or the other way round."""
    ffwd, normed, chars = block.ffwd, stream.normed(block.ln_2), rule.chars
    down, patterns = ffwd.down.weight, suffixes.units_of(rule)
    answers, out = {"": rule.default, **rule.rules}, stream.columns["out"]
    least, most, off = thresholds(block, stream, rule)
    error = normed.error(ffwd.up.weight)[: len(patterns)] + UNIT * (1 + least.abs())
    on_low, on_high = sure(ffwd, least - error, most + error)
    off_low, off_high = sure(ffwd, torch.full_like(off, -torch.inf), off + error)
    middle, radius = (on_low + on_high) / 2, (on_high - on_low) / 2
    stray = torch.maximum(off_low.abs(), off_high.abs())
    worst = torch.zeros_like(ffwd.down.bias)
    for longest, answer in answers.items():
        on = torch.tensor([longest.endswith(pattern) for pattern in patterns], dtype=torch.bool)
        written = ffwd.down.bias + down[:, : len(patterns)] @ torch.where(on, middle, 0.0)
        written[out[chars.index(answer)]] -= 1
        spread = down[:, : len(patterns)].abs() @ torch.where(on, radius, stray)
        worst = worst.maximum(written.abs() + spread)
    idle = down[:, len(patterns) :].abs() @ largest(ffwd, normed)[len(patterns) :]
    size = down.abs().sum(dim=1) * (1 + on_high.max() if len(patterns) else 1.0)
    new = stream.off + worst + idle + rounding(down.shape[1] + 2) * (1 + size)
    slack = torch.minimum(least, -off) / ffwd.up.weight[: len(patterns)].abs().sum(dim=1)
    allowed = slack.min().item() if len(patterns) else 0.5
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
