"""How often: rates over seeds, with intervals."""

import math
import statistics
from collections.abc import Callable, Sequence

from experiments.twin import Result

Z = 1.96  # of an interval that covers 95 %


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a rate of which k of n were seen. Wilson 1927; n is at least 1."""
    middle, spread = k + Z**2 / 2, Z * math.sqrt(k * (n - k) / n + Z**2 / 4)
    low, high = (middle - spread) / (n + Z**2), (middle + spread) / (n + Z**2)
    return max(0.0, low), min(1.0, high)


def rate(results: Sequence[Result], holds: Callable[[Result], bool]) -> str:
    """`3/5 (.23-.88)`: how many of the results it holds for, and the interval of the rate."""
    k, n = sum(map(holds, results)), len(results)
    low, high = (f"{bound:.2f}".removeprefix("0") for bound in wilson(k, n))
    return f"{k}/{n} ({low}-{high})"


def median(values: Sequence[float]) -> float:
    """The middle one; the lower of two."""
    return statistics.median_low(values)
