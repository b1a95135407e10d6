"""How far a residual stream may be from the one-hots that it should hold, part by part.

What is carried along is a `Stream`: what the columns should hold, and how far off they may be. The
bounds are worked out in float64, and contain what float32 may round: a sum of n products is off by
at most n 2^-24 / (1 - n 2^-24) of the sum of their absolute values (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handmade.parts import Columns
from model import GPT, Block, FeedForward

UNIT = 2.0**-24  # of rounding in float32
LEAST = -0.1701  # below what gelu_tanh ever is


class Unproved(ValueError):
    """A part of the model does not do what it should, or not surely; the message says which."""


def rounding(n: int) -> float:
    """How far a sum of n products may be off in float32, for each of their absolute values."""
    return n * UNIT / (1 - n * UNIT)


def terms(matrix: Tensor) -> int:
    """The most products that a row of matrix (N, n) makes: zeros are added without rounding."""
    return (matrix != 0).sum(dim=1).max().item()


@dataclass
class Stream:
    """What the columns of every row hold: a one-hot for each name in `slots`, and zeros.

    off: (2, C) the largest distance of each column from that, where it holds 0 and where it holds 1
    """

    columns: Columns
    slots: list[str]
    off: Tensor

    def normed(self, norm: nn.LayerNorm) -> "Stream":
        """The stream behind `norm`."""
        C = self.off.shape[1]
        mean = len(self.slots) / C
        drift = self.weigh(torch.ones_like(self.off[:1])).item() / C  # of the mean
        drift += rounding(C) * (mean + drift)
        apart = Stream(self.columns, self.slots, self.off + drift + 4 * UNIT)  # from the mean
        ones = torch.tensor([mean, 1 - mean], dtype=torch.float64)[:, None]
        change = Stream(self.columns, self.slots, 2 * ones * apart.off + apart.off.square())
        variance = mean - mean**2
        moved = change.weigh(torch.ones_like(self.off[:1])).item() / C
        moved += rounding(2 * C) * (variance + moved)
        if moved >= variance:
            raise Unproved("the columns are too far from one-hots for a LayerNorm to be neutral")
        rows = torch.tensor([[0.0], [1.0]], dtype=torch.float64)  # what a column should hold
        worst = torch.zeros_like(self.off)
        for spread in (variance - moved, variance + moved):
            scale = (spread + norm.eps) ** -0.5 * norm.weight
            for side in (-1, 1):
                out = (rows - mean + side * apart.off) * scale + norm.bias  # (2, C)
                worst = worst.maximum((out - rows).abs())
        return Stream(self.columns, self.slots, worst + 8 * UNIT * (rows + norm.bias.abs()))

    def most(self, matrix: Tensor) -> Tensor:
        """The largest of matrix (N, C) times a row, were there no `off`: (N,)."""
        return sum(matrix[:, self.columns[slot]].amax(dim=1) for slot in self.slots)

    def least(self, matrix: Tensor) -> Tensor:
        """The smallest of matrix (N, C) times a row, were there no `off`: (N,)."""
        return -self.most(-matrix)

    def weigh(self, size: Tensor) -> Tensor:
        """The most that `off` makes of size (N, C), which is not negative: (N,)."""
        zero, one = self.off
        return size @ zero + self.most(size * (one - zero).clamp(min=0))

    def error(self, matrix: Tensor, bias: Tensor) -> Tensor:
        """How far matrix (N, C) times a row, plus bias (N,), may be off, (N,)."""
        size = matrix.abs()
        made = self.weigh(size)
        return made + rounding(terms(size) + 1) * (self.most(size) + made + bias.abs())


def embedded(
    model: GPT, columns: Columns, reads: Tensor | None = None, slots: Sequence[str] = ("tok",)
) -> Stream:
    """The stream in front of the first block: every character at every place.

    What the characters should write into `slots` is reads (V, C), or without these a one-hot of
    their own. The model may have more columns than are named, which should hold zeros.
    """
    V, T, C = model.config.vocab_size, model.config.block_size, model.config.n_embd
    off = torch.zeros(C, dtype=torch.float64)
    reads = one_hots(V, columns.total, columns[slots[0]]) if reads is None else reads
    for table, wanted in (
        (model.wte.weight, reads),
        (model.wpe.weight, one_hots(T, columns.total, columns["place"])),
    ):
        wider = nn.functional.pad(wanted, (0, C - columns.total))
        off += (table - wider).abs().amax(dim=0)
    return Stream(columns, [*slots, "place"], (off + 2 * UNIT * (off > 0)).expand(2, -1))


def one_hots(rows: int, size: int, columns: range) -> Tensor:
    """For each of so many rows of that size a one in a column of its own."""
    found = torch.zeros(rows, size, dtype=torch.float64)
    found[range(rows), columns] = 1
    return found


def sure(ffwd: FeedForward, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most of the activation between `low` and `high`, as float32 has it.

    gelu_tanh(z) is z/2 (1 + tanh(y)), whose second factor float32 knows to 4 units at best: so it
    is off by up to 2 |z| units. Beyond 9, where |y| > 33, tanh is exactly 1 or -1 to any float32.
    """
    floor, slip = (LEAST, 18 * UNIT) if isinstance(ffwd.act, nn.GELU) else (0.0, 0.0)
    slip = torch.where((low < 9) & (high > -9), slip, 0.0) + 1e-30
    least = torch.where(low >= 0, ffwd.act(low), floor)
    most = torch.where(high <= -1, 0.0, ffwd.act(high).clamp(min=0))
    least = torch.where(high <= -1, ffwd.act(high).clamp(max=0), least)  # falling to there
    return least - 8 * UNIT * least.abs() - slip, most + 8 * UNIT * most.abs() + slip


def largest(ffwd: FeedForward, normed: Stream, units: slice | Tensor = slice(None)) -> Tensor:
    """The most that each of N units can be, whatever the rows in front of them hold, (N,)."""
    up, bias = ffwd.up.weight[units], ffwd.up.bias[units]
    error = normed.error(up, bias)
    least, most = sure(ffwd, normed.least(up) + bias - error, normed.most(up) + bias + error)
    return torch.maximum(least.abs(), most.abs())


def silent(block: Block, stream: Stream) -> Stream:
    """The stream behind a feed-forward that should add nothing."""
    ffwd = block.ffwd
    added = ffwd.down.weight.abs() @ largest(ffwd, stream.normed(block.ln_2))
    off = stream.off + (added + ffwd.down.bias.abs()) * (1 + rounding(len(added) + 8))
    return Stream(stream.columns, stream.slots, off)


@dataclass
class Followed:
    """How far a model was followed: up to the stream behind its last block.

    attention: the largest share of a head that goes elsewhere than it should
    columns: how far a column is at most from its one-hot, in front of units
    allowed: how far it may be, before a unit is on that should be off, or the other way round
    """

    stream: Stream
    attention: float
    columns: float = 0.0
    allowed: float = 0.5
