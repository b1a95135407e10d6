"""How much of a text stands in another one, word for word: the longest stretches they share.

Each place of both texts gets a number that says what the next 1, 2, 4, ... characters are, and the
numbers are in the order of these characters (prefix doubling: Karp, Miller & Rosenberg 1972, Manber
& Myers 1993), up to a length that no place of one text shares with one of the other. What begins
like a place then stands beside it in that order.
"""

from dataclasses import dataclass

import numpy as np

from data.tokenizer import code_points

LONG = 20  # characters from which on a stretch counts as copied
LARGEST = np.iinfo(np.int64).max


@dataclass
class Copied:
    """What of a text stands in another one, too.

    share: of its characters, those that are in stretches of LONG or more
    stretches: where each begins and how long it is, the longest first; none is part of another, and
        none is there twice
    """

    share: float
    stretches: list[tuple[int, int]]

    @property
    def longest(self) -> int:
        """Characters of the longest stretch; 0 where the texts have no character in common."""
        return self.stretches[0][1] if self.stretches else 0


def copied(text: str, source: str) -> Copied:
    """What of `text` stands in `source`, too."""
    lengths = shared(code_points(text), code_points(source))
    places = np.arange(len(lengths))
    long = lengths >= LONG
    edges = np.zeros(len(lengths) + 1, np.int64)
    np.add.at(edges, places[long], 1)
    np.add.at(edges, places[long] + lengths[long], -1)
    share = float((edges[:-1].cumsum() > 0).mean()) if len(lengths) else 0.0
    starts = np.flatnonzero((lengths > 0) & (np.append(0, lengths[:-1]) <= lengths))
    starts = starts[np.argsort(-lengths[starts], kind="stable")]
    seen, stretches = set(), []
    for start, length in zip(starts.tolist(), lengths[starts].tolist(), strict=True):
        if length < LONG and stretches:
            break
        stretch = text[start : start + length]
        if stretch not in seen:
            seen.add(stretch)
            stretches.append((start, length))
    return Copied(share, stretches)


def shared(text: np.ndarray, source: np.ndarray) -> np.ndarray:
    """How long a stretch from each place of `text` on stands in `source`, too, (len(text),).

    Both are code points.
    """
    n, levels = len(text), numbers(text, source)
    lengths = np.zeros(n, np.int64)
    if not levels:
        return lengths
    last = levels[-1]
    places = n + 1 + np.argsort(last[n + 1 : -1])  # of the source, in order
    found = np.searchsorted(last[places], last[:n])
    for nearest in (found - 1, found):
        other = places[np.clip(nearest, 0, len(places) - 1)]
        np.maximum(lengths, alike(levels, np.arange(n), other), out=lengths)
    return lengths


def numbers(text: np.ndarray, source: np.ndarray) -> list[np.ndarray]:
    """What the next 1, 2, 4, ... characters are at each place of both texts, as ordered numbers.

    The texts stand one after the other, each with an end that nothing equals. The last level is one
    on which they share none, or the one that is longer than either.
    """
    n, m = len(text), len(source)
    _, codes = np.unique(np.concatenate((text, source)), return_inverse=True)
    codes = codes.astype(np.int64) + 2
    ends = np.array([0]), np.array([1])
    levels = [np.concatenate((codes[:n], ends[0], codes[n:], ends[1]))]
    bound, length = int(levels[0].max()) + 1, 1
    while in_common(levels[-1][:n], levels[-1][n + 1 : -1]):
        codes = levels[-1]
        if bound > LARGEST // bound:
            there, codes = np.unique(codes, return_inverse=True)
            levels[-1], bound = codes.astype(np.int32), len(there)
        after = np.zeros_like(codes)
        after[: max(0, n + m + 2 - length)] = codes[length:]
        levels.append(codes.astype(np.int64) * bound + after)
        bound, length = bound * bound, 2 * length
    return levels if min(n, m) else []


def in_common(few: np.ndarray, many: np.ndarray) -> bool:
    """Whether any of `few` is among `many`; faster than np.isin, which would sort both."""
    there = np.unique(few)
    found = np.searchsorted(there, many)
    return bool(len(there)) and bool((there[np.minimum(found, len(there) - 1)] == many).any())


def alike(levels: list[np.ndarray], one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """How many characters are the same from places `one` and `other` on, each (N,)."""
    one, other = one.copy(), other.copy()
    begun = one.copy()
    for level, codes in zip(range(len(levels))[::-1], levels[::-1], strict=True):
        same = codes[one] == codes[other]
        one[same] += 1 << level
        other[same] += 1 << level
    return one - begun
