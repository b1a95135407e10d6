"""The windows in which a text is evaluated: side by side, or some of these from all over it."""

from collections.abc import Iterator

import torch
from torch import Tensor


def eval_windows(
    ids: Tensor, block_size: int, rows: int, most: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """All of `ids` but the first as targets, once each, in windows side by side.

    Where those are more than `most`, some of the whole windows, spread evenly, of about that many
    characters; they are the same ones each time. Yields idx and targets, both (up to `rows`, T),
    and last the rest, (1, less than T), where all are wanted.
    """
    if most is not None and len(ids) - 1 > max(most, block_size):
        yield from spread(ids, block_size, rows, max(1, most // block_size))
        return
    windows = (len(ids) - 1) // block_size
    for first in range(0, windows, rows):
        last = min(first + rows, windows)
        piece = ids[first * block_size : last * block_size + 1].long()
        yield piece[:-1].view(-1, block_size), piece[1:].view(-1, block_size)
    rest = ids[windows * block_size :].long()
    if len(rest) > 1:
        yield rest[None, :-1], rest[None, 1:]


def spread(ids: Tensor, block_size: int, rows: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`count` of the windows side by side: the middle ones of as many equal parts of the text."""
    windows = ids.unfold(0, block_size + 1, block_size)  # (N, T + 1), which copies nothing
    middle = (2 * torch.arange(count) + 1) * len(windows) // (2 * count)
    for chosen in middle.to(ids.device).split(rows):
        piece = windows[chosen].long()  # (up to rows, T + 1)
        yield piece[:, :-1].contiguous(), piece[:, 1:].contiguous()
