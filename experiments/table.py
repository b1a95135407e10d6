"""The table of an experiment: a row for each arm and text, over all seeds."""

from collections.abc import Sequence

from analysis.table import align
from experiments.arms import Run
from experiments.judge import ALIKE
from experiments.rates import median, rate
from experiments.twin import Result
from system.output import in_one_line

HEAD = (
    "arm",
    "text",
    "of all contexts",
    "weights",
    "loss above floor",
    "at the floor",
    "right at first",
    "in the end",
    "proved",
    "after steps",
    "attention",
    "the hand's way",
    "first wrong",
)


def has_hands_way(result: Result) -> bool:
    """Whether its heads look where the hand's do."""
    return result.distance < ALIKE


def cells(start: str, data: str, results: Sequence[Result]) -> list[str]:
    """One row: medians over the seeds, and rates with intervals."""
    since = [result.proved_at for result in results if result.proved_at is not None]
    first = next((result.first_wrong for result in results if result.first_wrong is not None), None)
    some = results[0]
    right = median([result.right for result in results])
    return [
        start,
        data,
        f"{some.coverage:.1%}" if some.coverage < 1 else "all",
        f"{some.parameters:,}",
        f"{median([result.above for result in results]):.4f}",
        rate(results, lambda result: result.at_floor),
        f"{median([result.right_at_first for result in results]):,}",
        f"{right:,}/{some.total:,}" + ("" if some.whole else " drawn"),
        rate(results, lambda result: result.proved),
        f"{median(since):,}" if since else "-",
        f"{median([result.distance for result in results]):.3f}",
        rate(results, has_hands_way),
        "-" if first is None else in_one_line(repr(first)),
    ]


def grouped(runs: Sequence[Run], found: dict[str, Result]) -> dict[tuple[str, str], list[Result]]:
    """The results by arm and text, those of the seeds side by side."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for run in runs:
        if result := found.get(str(run)):
            groups.setdefault((str(run.start), run.data), []).append(result)
    return groups


def tabulate(runs: Sequence[Run], found: dict[str, Result]) -> str:
    """The table of what was found, in the order of the runs."""
    groups = grouped(runs, found).items()
    rows = [cells(start, data, results) for (start, data), results in groups]
    return align([list(HEAD), *rows], left=2)


def games(runs: Sequence[Run], found: dict[str, Result]) -> str:
    """What became of all games that can be played, the median of each over the seeds; empty where
    the rule plays none."""
    rows = []
    for (start, data), results in grouped(runs, found).items():
        if played := [result.games for result in results if result.games]:
            rows.append([start, data, *(f"{median(n):,}" for n in zip(*played, strict=True))])
    head = ["games", "text", "won", "drawn", "lost", "forbidden"]
    return align([head, *rows], left=2) if rows else ""


def between(runs: Sequence[Run], found: dict[str, Result]) -> str:
    """The lines between the hand's weights and the twins': at each point the median loss, and of
    the share of contexts right; empty where there are none."""
    rows = []
    for (start, data), results in grouped(runs, found).items():
        if lines := [result.between for result in results if result.between]:
            points = list(zip(*lines, strict=True))  # of each the seeds' (loss, share)
            losses = [f"{median([loss for loss, _ in point]):.2f}" for point in points]
            shares = [f"{median([share for _, share in point]):.0%}" for point in points]
            rows += [[start, data, "loss", *losses], ["", "", "right", *shares]]
    if not rows:
        return ""
    head = ["between", "text", "", *(f"{i / 10:g}" for i in range(len(rows[0]) - 3))]
    return align([head, *rows], left=3)


def sentence(results: Sequence[Result]) -> str:
    """What the numbers say, of all runs that were not set by hand at first."""
    low = [result for result in results if result.at_floor]
    proved = [result for result in low if result.proved]
    same = [result for result in low if has_hands_way(result)]
    return (
        f"Of {len(results)} runs, {len(low)} reached the floor of the loss. Of these, "
        f"{len(proved)} were proved right in every context, and {len(same)} had the hand's "
        "algorithm."
    )
