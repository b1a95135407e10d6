"""Where heads look, with bounds: how much of their attention goes elsewhere than it should."""

from collections.abc import Sequence
from itertools import product, zip_longest

import torch
from torch import Tensor

from model import Block, Head
from proof.bounds import UNIT, Stream, rounding, terms


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


def attended(
    block: Block, stream: Stream, targets: list[str], astray: list[float], source: str = "tok"
) -> Stream:
    """The stream behind attention, whose heads copy `source` into `targets`, but for a share
    `astray`. Heads that have no target should write nothing.

    What is copied is the value of one place, and of others in proportion to that share.
    """
    normed, proj, heads = stream.normed(block.ln_1), block.attn.proj, block.attn.heads
    off = stream.off + proj.bias.abs()
    parts = zip_longest(heads, proj.weight.chunk(len(heads), 1), targets, astray, fillvalue=None)
    for head, weight, target, share in parts:
        copied = weight @ head.value.weight  # (C, C): from the row that is read to what is written
        bias = weight @ head.value.bias
        to, read = (list(stream.columns[name]) if target else [] for name in (target, source))
        wanted = torch.zeros_like(copied)
        wanted[to, read] = 1
        apart = copied - wanted
        wrong = torch.maximum(normed.most(apart) + bias, -(normed.least(apart) + bias))
        size = weight.abs() @ head.value.weight.abs()
        largest = normed.most(size) + normed.weigh(size) + weight.abs() @ head.value.bias.abs()
        rounded = rounding(terms(head.value.weight) + terms(proj.weight) + 4) * largest
        itself = size[to, read] * normed.off[:, read]  # (2, V): a column that is copied from one
        size[to, read] = 0
        off = off + wrong + normed.weigh(size) + rounded + 2 * (share or 0.0) * largest
        off[:, to] += itself
    slots = [*stream.slots, *(slot for name in targets for slot in stream.columns.parts(name))]
    return Stream(stream.columns, slots, off * (1 + 2 * UNIT) + 2 * UNIT * (off > 0))


def astray_back(head: Head, stream: Stream, by: int) -> float:
    """The largest share of a look-back head that does not go to the place `by` before."""
    places = range(len(stream.columns["place"]))
    return astray_at(head, stream, [t - by if t >= by else t for t in places])


def astray_at(head: Head, stream: Stream, asked: Sequence[int]) -> float:
    """The largest share of a head that does not go to the place asked[t], from any place t."""
    scores, T = Scores(head, stream), len(stream.columns["place"])
    places = [scores.block(a, b) for a in ("place", None) for b in ("place", None)]
    by_place = sum(block.expand(T, T) for block in places)  # (T asks, T asked)
    pairs = product([*stream.slots, None], repeat=2)
    low, high = scores.spread(*(pair for pair in pairs if not {*pair} <= {"place", None}))
    t, wanted = torch.arange(T), torch.tensor(asked)
    least = by_place[t, wanted] + low - 2 * scores.off  # (T,)
    others = (by_place + high - least[:, None]).exp().tril()
    others[t, wanted] = 0
    return others.sum(dim=1).max().item() * (1 + 1e-6)
