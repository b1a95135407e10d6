"""Draw docs/front.png: one task set by hand and trained, and a training run beside nanoGPT's.

    python train.py --config aab.yaml
    python -m docs.front

The losses are those in benchmarks/results/time_to_loss.json.
"""

import json
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import handmade
from analysis.measure import Column
from analysis.picture import draw_pattern, patterns
from benchmarks.bench import RESULTS
from data.aab import AAB
from proof.proof import prove
from system import checkpoint
from system.checkpoint import RUNS, Checkpoint

CONTEXT = "aabaa"
SIDES = {"nanoGPT": ("C0", -3), "trained alone": ("C1", 1), "counted and trained": ("C2", -8)}
TOP = 2.6  # loss where the picture begins


def draw_head(ax: Axes, saved: Checkpoint, title: str) -> None:
    """Where the head of a one-head model looks, and in how many contexts it is right."""
    column = Column(title, title, saved.build(), saved.chars)
    draw_pattern(ax, patterns(column, CONTEXT)[0, 0], CONTEXT)
    score = prove(column.model, column.chars, AAB.rule, text=AAB.text()).all
    ax.set_title(f"{title}\nright in {score.right} of {score.total} contexts")


def draw_losses(ax: Axes) -> None:
    """The loss of every run of each side against the seconds since its process began."""
    runs = json.loads((RESULTS / "time_to_loss.json").read_bytes())["runs"]
    for side, (color, lift) in SIDES.items():
        for i, run in enumerate(runs[side if side in runs else f"as shipped: {side}"]):
            points = [(p["total_seconds"], p["val_loss"]) for p in run["points"]]
            points = [point for point in points if point[1] < TOP]
            ax.plot(*zip(*points, strict=True), color=color, label=None if i else side)
        seconds, loss = points[-1]
        ax.annotate(f"{loss:.2f}", (seconds, loss), (4, lift), textcoords="offset points")
    ax.set(xlabel="seconds since the start, on two CPU cores", ylabel="val_loss", xlim=(0, 400))
    ax.set_title("Tiny Shakespeare\none run of each")
    ax.grid(alpha=0.3)
    ax.legend()


def main() -> None:
    """Three panels: the head that was set, the head that was trained, the loss over time."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    by_hand, trained, losses = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
    draw_head(by_hand, handmade.load("one-head"), "weights set by hand")
    draw_head(trained, checkpoint.load(checkpoint.locate(RUNS / "aab")), "trained, 1,000 steps")
    by_hand.set_ylabel("each position ...")
    by_hand.set_xlabel("... looks at")
    draw_losses(losses)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()
