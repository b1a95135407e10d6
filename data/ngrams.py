"""What follows what in a text, counted: interpolated Kneser-Ney, to any order.

The probability of a character after a context is a part that the context was counted with, and a
rest that goes to the context without its first character:

    p(w | h) = max(c(hw) - D, 0) / c(h) + rest(h) * p(w | h without its first character)

The longest contexts have plain counts; for a shorter gram c is the number of different characters
that were seen before it (Kneser & Ney 1995). D takes one of three values, for grams counted once,
twice and more often (Chen & Goodman 1998, modified Kneser-Ney).

A gram of k characters is known by its place in the sorted table of its order. The table holds
codes, `place of its first k - 1 characters * vocab_size + its last character`, so that the grams
that go on with one context lie side by side, and a gram is found by one search an order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

DENSE = 1 << 20  # entries in a table of whole distributions, for the shorter contexts


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


def discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off a gram that counts 0, 1, 2, and 3 or more; (4,).

    Chen & Goodman 1998, equation 17. Half of the count where there is nothing to estimate it from,
    or where the estimate would leave nothing to characters that were not seen.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)  # of 1, 2, 3, 4
    half = np.array([0.5, 1.0, 1.5])
    if not n.all():
        return np.array([0.0, *half])
    y = n[0] / (n[0] + 2 * n[1])
    found = np.array([c - (c + 1) * y * n[c] / n[c - 1] for c in (1, 2, 3)])
    return np.array([0.0, *np.where(found > 0, found, half)])


class Level(nn.Module):
    """One order, ready to be asked.

    codes: (n,) as in Counts
    first: (contexts + 1,) where the grams of each context begin among them
    kept: (n,) what each gram adds to the probability of its last character
    rest: (contexts,) what is left for the shorter context

    Several texts stand one after the other: `levels` has the Counts of each, `contexts` how many
    contexts it has.
    """

    def __init__(self, levels: Sequence[Counts], contexts: Sequence[int], vocab_size: int) -> None:
        super().__init__()
        parts = [smooth(*part, vocab_size) for part in zip(levels, contexts, strict=True)]
        kept, rest = map(np.concatenate, zip(*parts, strict=True))
        earlier = np.cumsum([0, *contexts[:-1]])
        codes = np.concatenate(
            [level.codes + n * vocab_size for level, n in zip(levels, earlier, strict=True)]
        )
        first = np.searchsorted(codes, np.arange(sum(contexts) + 1) * vocab_size)
        for name, values in (("codes", codes), ("first", first)):
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        for name, values in (("kept", kept), ("rest", rest)):
            self.register_buffer(name, torch.from_numpy(values).float(), persistent=False)

    def find(self, codes: Tensor) -> Tensor:
        """The places of the grams with these codes; -1 for one that was not seen."""
        places = torch.searchsorted(self.codes, codes).clamp_(max=len(self.codes) - 1)
        return torch.where(self.codes.take(places) == codes, places, -1)


def smooth(level: Counts, contexts: int, vocab_size: int) -> tuple[np.ndarray, np.ndarray]:
    """What each gram adds to the probability of its last character, (n,), and what each context
    leaves to the shorter one, (contexts,)."""
    counts, context = level.counts.astype(float), level.codes // vocab_size
    off = discounts(level.counts)[np.minimum(level.counts, 3)]
    total = np.bincount(context, weights=counts, minlength=contexts)
    taken = np.bincount(context, weights=off, minlength=contexts)
    kept = (counts - off) / np.maximum(total[context], 1)
    return kept, np.where(total > 0, taken / np.maximum(total, 1), 1.0)


class Ngrams(nn.Module):
    """Counts of a text as a model: what comes after the last `order` - 1 characters.

    Or of several texts, each a list of Counts: which one is asked is said for each window. Raises
    ValueError where they do not have the same orders, or not what `count` makes.
    """

    def __init__(self, *texts: Sequence[Counts], vocab_size: int) -> None:
        super().__init__()
        if len({*map(len, texts)}) != 1 or not texts[0]:
            raise ValueError("there are no counts, or not of the same orders")
        self.vocab_size, self.order = vocab_size, len(texts[0])
        contexts = [[1] * len(texts)]  # of each order, in each text
        levels = []
        for of_each in zip(*texts, strict=True):
            levels.append(Level(of_each, contexts[-1], vocab_size))
            contexts.append([len(level.codes) for level in of_each])
        self.levels = nn.ModuleList(levels)
        places = torch.arange(len(texts))
        uniform = torch.full((len(texts), vocab_size), 1 / vocab_size)
        whole, suffix = [self.extend(0, uniform, places)], places
        while len(whole) < self.order and sum(contexts[len(whole)]) * vocab_size <= DENSE:
            k = len(whole)
            codes = self.levels[k - 1].codes
            suffix = self.suffixes(k, suffix, codes)
            if (suffix < 0).any():
                raise ValueError("there are grams whose ends were not counted")
            whole.append(self.extend(k, whole[-1][suffix], torch.arange(len(codes))))
        for k, table in enumerate(whole):  # whole distributions after the shorter contexts
            self.register_buffer(f"whole_{k}", table, persistent=False)

    def suffixes(self, k: int, shorter: Tensor, codes: Tensor) -> Tensor:
        """The places of the grams of order k without their first character, in order k - 1.

        shorter: those of the grams of order k - 1, in order k - 2
        """
        prefix, last = codes // self.vocab_size, codes % self.vocab_size
        if k == 1:
            return prefix  # the empty gram of the same text
        return self.levels[k - 2].find(shorter[prefix] * self.vocab_size + last)

    def extend(self, k: int, p: Tensor, context: Tensor) -> Tensor:
        """From p (N, V) after shorter contexts to that after contexts of k characters, (N,)."""
        level = self.levels[k]
        p = p * level.rest.index_select(0, context)[:, None]
        start, end = level.first.index_select(0, context), level.first.index_select(0, context + 1)
        length = end - start
        row = torch.repeat_interleave(torch.arange(len(context), device=p.device), length)
        shift = start + length - length.cumsum(0)
        entry = shift.take(row) + torch.arange(len(row), device=p.device)
        last = level.codes.take(entry) - context.take(row) * self.vocab_size
        cell = row * self.vocab_size + last
        return p.flatten().index_add_(0, cell, level.kept.take(entry)).view_as(p)

    def probs(
        self, idx: Tensor, last: int = 0, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What comes after each place of idx (B, T), by what is in its own window only.

        Returns probabilities (B, t, V), and how long a context was known, (B, t). t is T, or
        `last` if that is not 0. text: (B,) which of the texts is asked; None means the first.
        """
        idx = idx[:, -(last + max(0, self.order - 2)) :] if last else idx
        (B, T), V = idx.shape, self.vocab_size
        root = idx.new_zeros(B, 1) if text is None else text[:, None]
        place = root.expand(B, T)  # of the k characters up to here, -1 where they were not seen
        p, known = self.whole_0.index_select(0, place.flatten()), torch.zeros_like(idx)
        for k in range(1, min(self.order, T + 1)):
            edge = root if k == 1 else root.new_full((B, 1), -1)  # before the window
            before = torch.cat((edge, place[:, :-1]), dim=1)
            place = torch.where(before >= 0, self.levels[k - 1].find(before * V + idx), -1)
            rows = (place >= 0).flatten().nonzero()[:, 0]
            context = place.flatten()[rows]
            table = getattr(self, f"whole_{k}", None)
            if table is None:
                new = self.extend(k, p.index_select(0, rows), context)
            else:
                new = table.index_select(0, context)
            p = p.index_copy(0, rows, new)
            known = torch.where(place >= 0, k, known)
        return p.view(B, T, -1)[:, -last:], known[:, -last:]

    def log_probs(self, idx: Tensor) -> Tensor:
        """The logarithm of `probs`, idx (B, T) -> (B, T, V)."""
        return self.probs(idx)[0].log()
