"""The windows in which a text is evaluated: side by side, some of these, or overlapping."""

from collections.abc import Iterator

import torch
from torch import Tensor

AT_ONCE, LOGITS_AT_ONCE = 1 << 14, 1 << 24  # characters that are predicted at a time, at most


def rows_at_once(window: int, vocab_size: int) -> int:
    """How many windows are evaluated at a time: losses are the same to the last digit only so."""
    return max(1, min(AT_ONCE, LOGITS_AT_ONCE // vocab_size) // window)


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


def overlapping(
    ids: Tensor, block_size: int, stride: int, rows: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """All of `ids` but the first as targets, in windows that begin `stride` after each other.

    Yields idx and targets, both (up to `rows`, T), and how many of their last places are new: those
    before them were targets in an earlier window. With a stride of block_size, as `eval_windows`.
    """
    if stride == block_size:
        for idx, targets in eval_windows(ids, block_size, rows):
            yield idx, targets, idx.shape[1]
        return
    start = done = 0
    if len(ids) > block_size:
        windows = ids.unfold(0, block_size + 1, stride)  # (N, T + 1), which copies nothing
        for new, some in ((block_size, windows[:1]), (stride, windows[1:])):
            for piece in some.split(rows) if len(some) else ():
                yield piece[:, :-1].long(), piece[:, 1:].long(), new
        start, done = len(windows) * stride, block_size + (len(windows) - 1) * stride
    if done < len(ids) - 1:
        rest = ids[None, start:].long()
        yield rest[:, :-1], rest[:, 1:], len(ids) - 1 - done
