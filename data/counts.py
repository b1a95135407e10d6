"""How often each gram is in a text: counted, and packed for a checkpoint.

A gram of k characters is known by its place in the sorted table of its order. The table holds
codes, `place of its first k - 1 characters * vocab_size + its last character`, so that the grams
that go on with one context lie side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass
class Counts:
    """The grams of one order: codes (n,) int64, sorted, and how often each counts, (n,) int64."""

    codes: np.ndarray
    counts: np.ndarray


def count(pieces: Sequence[np.ndarray], vocab_size: int, order: int) -> list[Counts]:
    """Count the grams of 1 to `order` characters within each of the `pieces` of ids, each (N,).

    No gram goes from one piece to the next. Orders that no piece is long enough for are left out.
    """
    pieces = [piece.astype(np.int64) for piece in pieces]
    places = [np.zeros(len(piece) + 1, np.int64) for piece in pieces]  # of the empty gram
    levels: list[Counts] = []
    for k in range(1, order + 1):
        inside = [
            place[: max(0, len(piece) - k + 1)] * vocab_size + piece[k - 1 :]
            for piece, place in zip(pieces, places, strict=True)
        ]
        starts = np.cumsum([0, *map(len, inside)])  # of each piece, and the end
        if not starts[-1]:
            break
        codes, first, which, counts = np.unique(
            np.concatenate(inside), return_index=True, return_inverse=True, return_counts=True
        )
        if levels:  # a shorter gram counts by what was seen before it
            piece = np.searchsorted(starts, first, side="right") - 1
            shorter = np.cumsum([0, *map(len, places)])  # where each piece starts an order below
            suffix = np.concatenate(places)[first - starts[piece] + shorter[piece] + 1]
            levels[-1].counts = np.bincount(suffix, minlength=len(levels[-1].codes))
        levels.append(Counts(codes, counts))
        places = np.split(which, starts[1:-1])
    return levels


def pack(levels: Sequence[Counts], vocab_size: int) -> list[dict[str, Tensor]]:
    """The counts as small tensors, for a checkpoint.

    last: (n,) the last character of each gram; followers: (contexts,) how many grams each context
    has; counts: (n,)
    """
    packed, contexts = [], 1
    for level in levels:
        followers = np.bincount(level.codes // vocab_size, minlength=contexts)
        last = level.codes % vocab_size
        named = {"last": last, "followers": followers, "counts": level.counts}
        packed.append({name: smallest(values) for name, values in named.items()})
        contexts = len(level.codes)
    return packed


def smallest(values: np.ndarray) -> Tensor:
    """Whole numbers from 0 on, as the smallest type that holds them."""
    fits = (kind for kind in (torch.uint8, torch.int16) if values.max() <= torch.iinfo(kind).max)
    return torch.from_numpy(values).to(next(fits, torch.int32))


def unpack(packed: Sequence[dict[str, Tensor]], vocab_size: int) -> list[Counts]:
    """The counts that `pack` packed. Raises ValueError where they do not fit together."""
    levels, contexts = [], 1
    for level in packed:
        last, followers, counts = (level[name].long() for name in ("last", "followers", "counts"))
        fits = len(followers) == contexts and len(last) == len(counts) == int(followers.sum())
        if not fits or followers.min() < 0 or counts.min() < 0:
            raise ValueError("the counts do not fit together")
        codes = torch.repeat_interleave(torch.arange(contexts), followers) * vocab_size + last
        if last.min() < 0 or last.max() >= vocab_size or (codes.diff() <= 0).any():
            raise ValueError("the counts are not in order")
        levels.append(Counts(codes.numpy(), counts.numpy()))
        contexts = len(codes)
    return levels
