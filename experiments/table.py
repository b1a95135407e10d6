"""The table of an experiment: a row for each arm and text, over all seeds."""

from collections.abc import Sequence

from analysis.table import align
from experiments.arms import Run
from experiments.rates import median, rate
from experiments.twin import Result
from system.output import in_one_line

Groups = dict[tuple[str, str], list[Result]]  # by arm and text

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
        rate(results, lambda result: result.hands_way),
        "-" if first is None else in_one_line(repr(first)),
    ]


def grouped(runs: Sequence[Run], found: dict[str, Result]) -> Groups:
    """The results by arm and text, those of the seeds side by side, in the order of the runs."""
    groups: Groups = {}
    for run in runs:
        if result := found.get(str(run)):
            groups.setdefault((str(run.start), run.data), []).append(result)
    return groups


def summary(groups: Groups) -> list[list[str]]:
    """The table of what was found, its head first."""
    return [[*HEAD], *(cells(*of, results) for of, results in groups.items())]


def games(groups: Groups) -> list[list[str]]:
    """The table of all games that can be played, the median of each end over the seeds; empty where
    the rule plays none."""
    rows = []
    for of, results in groups.items():
        if played := [result.games for result in results if result.games]:
            rows.append([*of, *(f"{median(n):,}" for n in zip(*played, strict=True))])
    return [["games", "text", "won", "drawn", "lost", "forbidden"], *rows] if rows else []


def between(groups: Groups) -> list[list[str]]:
    """The table of the lines from the hand's weights to the twins': at each point the median loss,
    and that of the share of contexts right; empty where there are none."""
    rows = []
    for of, results in groups.items():
        if lines := [result.between for result in results if result.between]:
            points = list(zip(*lines, strict=True))  # of each the seeds' (loss, share)
            losses = [f"{median([loss for loss, _ in point]):.2f}" for point in points]
            shares = [f"{median([share for _, share in point]):.0%}" for point in points]
            rows += [[*of, "loss", *losses], ["", "", "right", *shares]]
    if not rows:
        return []
    return [["between", "text", "", *(f"{i / 10:g}" for i in range(len(rows[0]) - 3))], *rows]


def tabulate(groups: Groups) -> str:
    """All tables as lines of text."""
    tables = (summary(groups), 2), (games(groups), 2), (between(groups), 3)
    return "\n\n".join(align(rows, left=left) for rows, left in tables if rows)


def sentence(results: Sequence[Result]) -> str:
    """What the numbers say, of all runs that were not set by hand at first."""
    low = [result for result in results if result.at_floor]
    proved = [result for result in low if result.proved]
    same = [result for result in low if result.hands_way]
    return (
        f"Of {len(results)} runs, {len(low)} reached the floor of the loss. Of these, "
        f"{len(proved)} were proved right in every context, and {len(same)} had the hand's "
        "algorithm."
    )
