"""Units that recognize, many at a time: what each gets where it should be on, and elsewhere.

A unit, or a pair of them, asks for a 1 in some columns, at some places, and writes a 1 into a
column. In every row one of a group should be on, and all others off. Then what is written is off by
what one unit is off, and by next to nothing from the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handmade.tables import Units
from model import FeedForward
from proof.bounds import UNIT, Stream, rounding, sure, terms

LINEAR = 1.0  # above it, gelu_tanh(z) is below z by less and less


class Slots:
    """What rows of weights (N, C) make of the one-hots in a stream, slot by slot.

    places: those where the units of the rows may be on
    """

    def __init__(self, stream: Stream, asks: Tensor, places: list[int]) -> None:
        self.ranges = [stream.columns[slot] for slot in stream.slots]
        self.asks, self.where = asks, stream.slots.index("place")
        number = torch.full((stream.off.shape[1],), -1)
        for i, columns in enumerate(self.ranges):
            number[columns.start : columns.stop] = i
        self.asked = number[asks]  # (N, n): the slots
        columns = self.ranges[self.where]
        others = sorted({*range(len(columns))} - {*places})
        self.here = [columns.start + t for t in places]
        self.elsewhere = [columns.start + t for t in others]

    def most(self, weights: Tensor) -> Tensor:
        """The largest weight in each of S slots, (N, S)."""
        return torch.stack([weights[:, r.start : r.stop].amax(dim=1) for r in self.ranges], dim=1)

    def on(self, weights: Tensor) -> Tensor:
        """The most that a row makes of what it asks for, (N,)."""
        found = self.most(weights).scatter(1, self.asked, weights.gather(1, self.asks))
        found[:, self.where] = weights[:, self.here].amax(dim=1)
        return found.sum(dim=1)

    def off(self, weights: Tensor) -> Tensor:
        """The most where one thing that it asks for is not there, (N,)."""
        most, wrong = self.most(weights), self.most(weights.scatter(1, self.asks, -torch.inf))
        missing = (wrong - most).gather(1, self.asked).amax(dim=1)
        if self.elsewhere:
            away = weights[:, self.elsewhere].amax(dim=1) - most[:, self.where]
            missing = missing.maximum(away)
        return most.sum(dim=1) + missing


@dataclass
class Lit:
    """What N units are where they are on, and where they are off.

    rows: which of the feed-forward they are
    low, high: (N,) the least and the most that a unit gets where it is on
    rounded: (N,) how far rounding may take that, which the two of a pair do not share
    stray: (N,) the most that it is where it is off
    slack: how many times as far the columns may be off before it is on where it should be off, or
        the other way round
    """

    rows: Tensor
    low: Tensor
    high: Tensor
    rounded: Tensor
    stray: Tensor
    slack: float


def light(ffwd: FeedForward, normed: Stream, slots: Slots, rows: Tensor) -> Lit:
    """What the units in these rows get."""
    up, bias = ffwd.up.weight[rows], ffwd.up.bias[rows]
    size = up.abs()
    made = normed.weigh(size)
    rounded = rounding(terms(up) + 2) * (normed.most(size) + made + bias.abs())
    low, high, off = bias - slots.on(-up), bias + slots.on(up), bias + slots.off(up)
    apart = made + rounded
    stray = torch.stack(sure(ffwd, torch.full_like(off, -torch.inf), off + apart)).abs().amax(dim=0)
    slack = (torch.minimum(low, -off) / apart).min().item()
    return Lit(rows, low - apart, high + apart, rounded, stray, slack)


def summed(
    ffwd: FeedForward, normed: Stream, slots: Slots, lit: list[Lit], down: list[Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The least and the most that a unit, or a pair of units, writes with weights `down` (N,) each,
    and what that adds up to without signs, (N,) each."""
    parts = [(d, *sure(ffwd, each.low, each.high)) for d, each in zip(down, lit, strict=True)]
    size = sum(d.abs() * torch.maximum(low.abs(), high.abs()) for d, low, high in parts)
    low = sum(torch.minimum(d * low, d * high) for d, low, high in parts)
    high = sum(torch.maximum(d * low, d * high) for d, low, high in parts)
    if min(each.low.min().item() for each in lit) < LINEAR:
        return low, high, size
    # There gelu(z) is z but for what `short` says, so the two can be subtracted before they are
    # bounded: what the columns are off is in both.
    row = sum(d[:, None] * ffwd.up.weight[each.rows] for d, each in zip(down, lit, strict=True))
    bias = sum(d * ffwd.up.bias[each.rows] for d, each in zip(down, lit, strict=True))
    short = sum(
        d.abs() * (each.low - ffwd.act(each.low) + each.rounded + 8 * UNIT * each.high)
        for d, each in zip(down, lit, strict=True)
    )
    short = short + normed.weigh(row.abs())
    return (
        low.maximum(bias - slots.on(-row) - short),
        high.minimum(bias + slots.on(row) + short),
        size,
    )


class Written:
    """What the units of a layer write, gathered from some of them after the other.

    apart: (C,) how far a column that should get a one is from it
    size: (C,) what the terms of that one add up to without their signs
    spilled: (C,) what a unit that is on adds to other columns
    stray: (C,) what all units that are off add to a column
    slack: how many times as far the columns may be off that are read: `Lit`
    """

    def __init__(self, ffwd: FeedForward, normed: Stream) -> None:
        self.ffwd, self.normed, self.slack = ffwd, normed, torch.inf
        C = normed.off.shape[1]
        self.apart, self.size, self.spilled, self.stray = torch.zeros(4, C, dtype=torch.float64)

    def add(self, units: Units, shifts: Sequence[int]) -> None:
        """Look at some units, and at those so many rows further, which share their work."""
        slots, each = Slots(self.normed, units.asks, units.places), torch.arange(len(units.rows))
        lit = [light(self.ffwd, self.normed, slots, units.rows + shift) for shift in shifts]
        wanted = []
        for one in lit:
            down = self.ffwd.down.weight[:, one.rows]  # (C, N)
            self.stray += down.abs() @ one.stray
            wanted.append(down[units.adds, each])
            down[units.adds, each] = 0
            most = torch.stack(sure(self.ffwd, one.low, one.high)).abs().amax(dim=0)
            self.spilled = self.spilled.maximum((down.abs() * most).amax(dim=1) * len(shifts))
            self.slack = min(self.slack, one.slack)
        low, high, size = summed(self.ffwd, self.normed, slots, lit, wanted)
        self.apart.scatter_reduce_(0, units.adds, torch.maximum(1 - low, high - 1), "amax")
        self.size.scatter_reduce_(0, units.adds, size, "amax")
