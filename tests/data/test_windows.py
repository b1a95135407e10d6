"""The windows of an evaluation, against what can be counted: ids that are their own places."""

import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.windows import eval_windows, overlapping

often = settings(max_examples=200, deadline=None, derandomize=True)
sizes = {"length": st.integers(1, 70), "block_size": st.integers(1, 12), "rows": st.integers(1, 6)}


@often
@given(**sizes)
def test_evaluation_sees_every_target_once(length: int, block_size: int, rows: int) -> None:
    ids = torch.arange(length, dtype=torch.int32)
    for most in (None, max(1, length - 1), 99):
        seen = list(eval_windows(ids, block_size, rows, most))
        assert all(idx.dtype == targets.dtype == torch.int64 for idx, targets in seen)
        assert all(torch.equal(targets, idx + 1) for idx, targets in seen)
        targets = torch.cat([targets.flatten() for _, targets in seen] or [ids[1:]])
        assert torch.equal(targets, ids[1:])
        full, rest = divmod(length - 1, block_size)
        heights = [min(rows, full - first) for first in range(0, full, rows)]
        shapes = [(height, block_size) for height in heights] + [(1, rest)] * (rest > 0)
        assert [tuple(idx.shape) for idx, _ in seen] == shapes


@often
@given(most=st.integers(1, 68), **sizes)
def test_some_windows_are_spread_evenly(length: int, block_size: int, rows: int, most: int) -> None:
    """They are some of those side by side, in order, and no stretch of the text has more."""
    assume(length - 1 > max(most, block_size))
    ids = torch.arange(length, dtype=torch.uint8)
    seen = list(eval_windows(ids, block_size, rows, most))
    assert all(idx.dtype == targets.dtype == torch.int64 for idx, targets in seen)
    assert all(torch.equal(targets, idx + 1) for idx, targets in seen)
    assert all(len(idx) == rows for idx, _ in seen[:-1]) and len(seen[-1][0]) <= rows
    windows = torch.cat([idx for idx, _ in seen])
    count, there = max(1, most // block_size), (length - 1) // block_size
    assert windows.shape == (count, block_size)
    at = windows[:, 0].tolist()
    assert all(
        (row == torch.arange(start, start + block_size)).all()
        for start, row in zip(at, windows, strict=True)
    )
    assert all(start % block_size == 0 for start in at)
    places = [start // block_size for start in at]
    for i, place in enumerate(places):  # in the middle of its part of the text
        assert abs((place + 0.5) - (i + 0.5) * there / count) <= 0.5


@often
@given(stride=st.integers(1, 12), **sizes)
def test_windows_overlap(length: int, block_size: int, rows: int, stride: int) -> None:
    """Each target once, with the characters that a person would have cut it out with."""
    assume(stride <= block_size)
    ids, seen = torch.arange(length, dtype=torch.uint8), {}
    for idx, targets, new in overlapping(ids, block_size, stride, rows):
        assert idx.dtype == torch.int64 and torch.equal(targets, idx + 1)
        assert len(idx) <= rows and idx.shape[1] <= block_size
        for begin, last in zip(idx[:, 0].tolist(), targets[:, -new:].tolist(), strict=True):
            assert not seen.keys() & set(last)
            seen |= dict.fromkeys(last, begin)
    late = range(block_size + 1, length)  # a window begins after each `stride` of them
    begins = [0] * min(block_size, length - 1)
    begins += [(1 + (t - block_size - 1) // stride) * stride for t in late]
    assert [seen[t] for t in range(1, length)] == begins and len(seen) == length - 1
