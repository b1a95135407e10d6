"""Draw docs/loss_curves.png from the four runs that docs/training.md describes.

python -m docs.loss_curves
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training import metrics

RUNS = Path("checkpoints")


def curve(ax: Axes, run: str, key: str, label: str, **style: object) -> None:
    """One loss of a run against its steps."""
    records = metrics.read(RUNS / run)
    ax.plot([r["step"] for r in records], [r[key] for r in records], label=label, **style)


def main() -> None:
    """Three panels: a text learned by heart, a run that ends too soon, steps that are too large."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    over, short, high = figure.subplots(1, 3)
    curve(over, "over", "train_loss", "train_loss")
    curve(over, "over", "val_loss", "val_loss")
    best = min(metrics.read(RUNS / "over"), key=lambda record: record["val_loss"])
    over.plot(best["step"], best["val_loss"], "o", color="C1", label="best.pt")
    over.set(title="overfitting: 30,000 characters", ylabel="loss, nats per character")
    curve(short, "short", "val_loss", "val_loss, max_steps=60", color="C3")
    curve(short, "right", "val_loss", "val_loss, max_steps=600", color="C1")
    curve(short, "right", "train_loss", "train_loss, max_steps=600", color="C0")
    end = metrics.read(RUNS / "short")[-1]
    short.plot(end["step"], end["val_loss"], "o", color="C3")
    short.set(title="too short: 200,000 characters")
    curve(high, "high", "val_loss", "val_loss, learning_rate=0.5", color="C3")
    curve(high, "right", "val_loss", "val_loss, learning_rate=0.03", color="C1")
    high.set(title="too high a learning rate", xlim=(0, 205))
    for ax in (over, short, high):
        ax.set_xlabel("step")
        ax.grid(alpha=0.3)
        ax.legend()
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()
