"""The picture of an experiment: a column for each arm, a dot for each run."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.arms import Run
from experiments.judge import ALIKE
from experiments.table import Groups, grouped
from experiments.twin import Result
from system.files import write_whole

FROM_RANDOM = ("same", "roomier")
INK, PROVED, WRONG = "#333333", "#1b7837", "#b2182b"


def dots(ax: Axes, columns: list[list[Result]], value: Callable[[Result], float]) -> None:
    """A dot for each run: filled where it is proved, a cross where it is not."""
    for x, results in enumerate(columns):
        for i, result in enumerate(results):
            shift = (i - (len(results) - 1) / 2) * 0.12
            marker, colour = ("o", PROVED) if result.proved else ("x", WRONG)
            ax.plot(x + shift, value(result), marker, color=colour, markersize=5)


def courses(ax: Axes, groups: Groups, several: bool) -> None:
    """The losses of batches along the steps, of all runs that begin with random weights."""
    shown = [(of, results) for of, results in groups.items() if of[0] in FROM_RANDOM]
    for colour, ((start, data), results) in enumerate(shown or groups.items()):
        label = f"{start}, {data}" if several else start
        for i, result in enumerate(results):
            every = result.steps / max(1, len(result.losses))
            steps = [every * n for n in range(len(result.losses))]
            named = label if i == 0 else None
            ax.plot(steps, result.losses, color=f"C{colour}", linewidth=0.9, label=named)
    ax.set(xlabel="step", ylabel="loss of a batch,\nnats a character", ylim=(0, None))
    ax.legend(frameon=False, fontsize=8)


def draw(path: Path, name: str, runs: Sequence[Run], found: dict[str, Result]) -> None:
    """Write the picture of what was found to `path`. Raises Fault."""
    groups = grouped(runs, found)
    texts = {data for _, data in groups}
    labels = [start if len(texts) == 1 else f"{start}, {data}" for start, data in groups]
    columns = list(groups.values())
    figure = Figure(figsize=(max(6.0, 3 + 0.42 * len(columns)), 11.5), layout="constrained")
    axes = figure.subplots(4, 1)
    for ax in axes[:2]:
        ax.sharex(axes[2])
        ax.tick_params(labelbottom=False)
    dots(axes[0], columns, lambda result: max(result.above, 1e-5))
    axes[0].set(yscale="log", ylabel="loss above its floor,\nnats a character")
    none = 0.3 / max(result.total for results in columns for result in results)
    dots(axes[1], columns, lambda result: max(1 - result.right / result.total, none))
    axes[1].set(yscale="log", ylabel="share of contexts wrong", ylim=(none / 2, 1.5))
    powers = [10.0**-n for n in range(8) if 10.0**-n > 2 * none]
    axes[1].set_yticks([none, *powers], ["none", *(f"{power:g}" for power in powers)])
    axes[1].minorticks_off()
    dots(axes[2], columns, lambda result: result.distance)
    axes[2].axhline(ALIKE, color=INK, linewidth=0.8, linestyle="--")
    axes[2].set(ylim=(-0.03, 1.03), ylabel="attention distance\nto the hand's")
    axes[2].set_xticks(range(len(columns)), labels, rotation=45, ha="right")
    axes[0].set_title(f"{name}: circles are proved in every context, crosses are not", fontsize=10)
    courses(axes[3], groups, len(texts) > 1)
    for ax in axes:
        ax.grid(axis="y", alpha=0.3)
    write_whole(path, lambda file: figure.savefig(file, dpi=110, format="png"))
