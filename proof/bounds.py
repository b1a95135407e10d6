"""How far a residual stream may be from the one-hots that it should hold, part by part.

What is carried along is a `Stream`: what the columns should hold, and how far off they may be. The
bounds are worked out in float64, and contain what float32 may round: a sum of n products is off by
at most n 2^-24 / (1 - n 2^-24) of the sum of their absolute values (Higham 2002, Accuracy and
Stability of Numerical Algorithms, section 3.1).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from handmade.parts import Columns
from model import GPT, Block, FeedForward, Head

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

    def error(self, matrix: Tensor) -> Tensor:
        """How far matrix (N, C) times a row may be off, (N,)."""
        size = matrix.abs()
        made = self.weigh(size)
        return made + rounding(terms(size) + 1) * (self.most(size) + made)


def embedded(model: GPT, columns: Columns) -> Stream:
    """The stream in front of the first block: every character at every place.

    The model may have more columns than are named, which should hold zeros.
    """
    off = torch.zeros(model.config.n_embd, dtype=torch.float64)
    for table, slot in ((model.wte.weight, "tok"), (model.wpe.weight, "place")):
        wanted = torch.zeros_like(table)
        wanted[range(len(table)), columns[slot]] = 1
        off += (table - wanted).abs().amax(dim=0)
    return Stream(columns, ["tok", "place"], (off + 2 * UNIT * (off > 0)).expand(2, -1))


class Scores:
    """The attention scores of a head, as sums over pairs of one-hots.

    of: (C + 1, C + 1) what a column of the place that asks and one of the place that is asked give
        together; the last row and column stand for the biases
    off: how far a score may be from that
    """

    def __init__(self, head: Head, stream: Stream) -> None:
        query, key = (
            torch.cat((part.weight, part.bias[:, None]), dim=1) for part in (head.query, head.key)
        )  # each (D, C + 1)
        scale = len(query) ** -0.5
        self.stream, self.of = stream, query.T @ key * scale
        size = query.abs().T @ key.abs() * scale
        largest = self.widest(self.widest(size)[None])
        most = stream.off.amax(dim=0)
        of_asked = self.widest(stream.weigh(size[:, :-1])[None])  # what its `off` makes of a score
        of_asking = self.widest(stream.weigh(size.T[:, :-1])[None])
        total = of_asked + of_asking + most @ size[:-1, :-1] @ most
        channels = ((query != 0).any(dim=1) & (key != 0).any(dim=1)).sum().item()
        n = terms(query) + terms(key) + channels + 8
        self.off = (total + rounding(n) * (largest + total)).item()

    def widest(self, size: Tensor) -> Tensor:
        """The most that a row of `size` (N, C + 1) gives with any one-hots, (N,)."""
        return self.stream.most(size[:, :-1]) + size[:, -1]

    def block(self, asks: str | None, asked: str | None) -> Tensor:
        """The scores of two one-hots, or of biases, which None stands for."""
        rows, columns = (
            [self.stream.off.shape[1]] if slot is None else list(self.stream.columns[slot])
            for slot in (asks, asked)
        )
        return self.of[rows][:, columns]

    def spread(self, *pairs: tuple[str | None, str | None]) -> tuple[float, float]:
        """The least and the most that pairs of one-hots give together, whatever they are."""
        blocks = [self.block(*pair) for pair in pairs]
        return sum(b.min().item() for b in blocks), sum(b.max().item() for b in blocks)


def attended(block: Block, stream: Stream, targets: list[str], astray: list[float]) -> Stream:
    """The stream behind attention, whose heads copy tok into `targets`, but for a share `astray`.

    What is copied is the value of one place, and of others in proportion to that share.
    """
    normed, proj = stream.normed(block.ln_1), block.attn.proj
    off = stream.off + proj.bias.abs()
    parts = zip(block.attn.heads, targets, astray, strict=True)
    for weight, (head, target, share) in zip(
        proj.weight.chunk(len(targets), 1), parts, strict=True
    ):
        copied = weight @ head.value.weight  # (C, C): from the row that is read to what is written
        bias = weight @ head.value.bias
        to, tok = list(stream.columns[target]), list(stream.columns["tok"])
        wanted = torch.zeros_like(copied)
        wanted[to, tok] = 1
        apart = copied - wanted
        wrong = torch.maximum(normed.most(apart) + bias, -(normed.least(apart) + bias))
        size = weight.abs() @ head.value.weight.abs()
        largest = normed.most(size) + normed.weigh(size) + weight.abs() @ head.value.bias.abs()
        rounded = rounding(terms(head.value.weight) + terms(proj.weight) + 4) * largest
        itself = size[to, tok] * normed.off[:, tok]  # (2, V): a column that is copied from one
        size[to, tok] = 0
        off = off + wrong + normed.weigh(size) + rounded + 2 * share * largest
        off[:, to] += itself
    return Stream(
        stream.columns, [*stream.slots, *targets], off * (1 + 2 * UNIT) + 2 * UNIT * (off > 0)
    )


def sure(ffwd: FeedForward, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the most of the activation between `low` and `high`."""
    floor = LEAST if isinstance(ffwd.act, nn.GELU) else 0.0
    least = torch.where(low >= 0, ffwd.act(low), floor)
    most = torch.where(high <= -1, 0.0, ffwd.act(high).clamp(min=0))
    least = torch.where(high <= -1, ffwd.act(high).clamp(max=0), least)  # falling to there
    return least * (1 - 8 * UNIT) - 1e-30, most * (1 + 8 * UNIT)


def largest(ffwd: FeedForward, normed: Stream) -> Tensor:
    """The most that each unit can be, whatever the rows in front of it hold, (F,)."""
    up, bias = ffwd.up.weight, ffwd.up.bias
    error = normed.error(up) + UNIT
    least, most = sure(ffwd, normed.least(up) + bias - error, normed.most(up) + bias + error)
    return torch.maximum(least.abs(), most.abs())


def silent(block: Block, stream: Stream) -> Stream:
    """The stream behind a feed-forward that should add nothing."""
    ffwd = block.ffwd
    added = ffwd.down.weight.abs() @ largest(ffwd, stream.normed(block.ln_2))
    off = stream.off + (added + ffwd.down.bias.abs()) * (1 + rounding(len(added) + 8))
    return Stream(stream.columns, stream.slots, off)
