"""Which part of a text is validated on, and whether that part is like the others."""

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

BLOCKS = 50  # of validation text, at most
WINDOWS = 4  # that a block, and what is between two, has at least
UNLIKE = 0.015  # nats, see `drift`


def blocks(length: int, val_size: int, count: int) -> list[tuple[int, int]]:
    """Where validation is, as (start, stop): at the ends of `count` equal parts of the text.

    One block is the end of the text. Together they have `val_size` of `length` characters.
    """
    found = []
    for i in range(count):
        stop = (i + 1) * length // count
        found.append((stop - ((i + 1) * val_size // count - i * val_size // count), stop))
    return found


def count_of(length: int, val_size: int, block_size: int) -> int:
    """How many blocks a text is spread over, so that few windows of training pass a seam."""
    return max(1, min(BLOCKS, min(val_size, length - val_size) // (WINDOWS * block_size)))


def inside(pieces: Iterable[Tensor], places: list[tuple[int, int]]) -> Iterator[Tensor]:
    """What of `pieces` of ids, one after the other, stands at `places`, which are in order."""
    done = 0
    for piece in pieces:
        for start, stop in places:
            if start < done + len(piece) and stop > done:
                yield piece[max(0, start - done) : stop - done]
        done += len(piece)


def outside(length: int, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """What `places` leave of a text, as (start, stop)."""
    starts = [0, *(stop for _, stop in places)]
    return list(zip(starts, [*(start for start, _ in places), length], strict=True))


def drift(before: np.ndarray, end: np.ndarray) -> float:
    """How differently the characters of two parts are distributed: nats, less what chance gives.

    The Jensen-Shannon divergence of their frequencies, from the counts (V,) of either, less 1.5
    times its expectation for two samples of one distribution, (V - 1) / 8 * (1 / N + 1 / M).
    Sorted names have 0.02, another language 0.02 to 0.1. The last tenth of parts of Tiny
    Shakespeare of 30,000 characters or more has up to 0.009; of shorter ones, one in twenty more
    than UNLIKE.
    """
    seen = (before + end) > 0
    p, q = before[seen] / before.sum(), end[seen] / end.sum()
    mean = (p + q) / 2
    divergence = sum((x[x > 0] * np.log(x[x > 0] / mean[x > 0])).sum() for x in (p, q)) / 2
    chance = (seen.sum() - 1) / 8 * (1 / before.sum() + 1 / end.sum())
    return float(divergence - 1.5 * chance)
