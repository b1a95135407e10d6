"""How often each gram is in a text: counted, and packed for a checkpoint.

A gram of k characters is known by its place in the sorted table of its order. The table holds
codes, `place of its first k - 1 characters * vocab_size + its last character`, so that the grams
that go on with one context lie side by side.
"""

import itertools
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.grams import Grams, changes


@dataclass
class Counts:
    """The grams of one order: codes (n,) int64, sorted, and how often each counts, (n,) int32."""

    codes: np.ndarray
    counts: np.ndarray


def count(pieces: Sequence[np.ndarray], vocab_size: int, order: int) -> list[Counts]:
    """Count the grams of 1 to `order` characters within each of the `pieces` of ids, each (N,).

    No gram goes from one piece to the next. Orders that no piece is long enough for are left out.
    """
    parts = [np.zeros(len(piece), np.uint8) for piece in pieces]
    return count_without(frozenset(), Grams(pieces, parts, vocab_size, order), order)


def count_without(parts: Set[int], grams: Grams, order: int) -> list[Counts]:
    """Count the grams of 1 to `order` characters within what is left of each piece."""
    V, found, levels = grams.base - 1, [], []
    keys, times, length = grams.without(parts, order)
    for k in range(length, 0, -1):
        above, last = grams.split(keys, k)
        there, begins = last >= 0, changes(above)
        context = begins.cumsum(dtype=np.int32) - 1
        found.append((context[there], last[there].astype(np.int32), there))
        keys = above[begins]
    place = np.zeros(1, np.int64)  # of each context among those that are there
    del keys
    while found:
        context, last, there = found.pop()
        levels.append(Counts(place[context] * V + last, times))
        place = there.cumsum() - 1
    if levels:
        levels[-1].counts = times[there]
    suffix = np.zeros(V, np.int64)  # place of each gram without its first character
    for shorter, longer in itertools.pairwise(levels):  # a shorter one counts by what is before it
        context = longer.codes // V
        suffix = np.searchsorted(shorter.codes, suffix[context] * V + longer.codes - context * V)
        before = np.bincount(suffix, minlength=len(shorter.codes))
        shorter.counts = before.astype(np.int32)
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
        levels.append(Counts(codes.numpy(), counts.int().numpy()))
        contexts = len(codes)
    return levels
