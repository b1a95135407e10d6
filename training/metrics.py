"""What a run measured: one line of JSON per evaluation, and a picture of them."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

from system.errors import UserError
from system.files import append_line, write_whole

METRICS, PICTURE = "metrics.jsonl", "loss.png"


def read(folder: Path) -> list[dict[str, Any]]:
    """The evaluations so far; a last line that a crash cut off is left out. Raises UserError."""
    path = folder / METRICS
    if not path.exists():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        records = [json.loads(line) for line in lines[:-1]]  # what follows the last \n is cut off
        return [{**record, "step": int(record["step"])} for record in records]
    except (ValueError, TypeError, KeyError):
        raise UserError(f"{path} is damaged; move it away to go on without it") from None


def append(folder: Path, record: dict[str, Any]) -> None:
    """Add one evaluation. Raises Fault where there is no room."""
    append_line(folder / METRICS, json.dumps(record))


def rewind(folder: Path, step: int) -> None:
    """Forget what came after `step`, which a resumed run is about to repeat."""
    kept = [json.dumps(record) + "\n" for record in read(folder) if record["step"] <= step]
    write_whole(folder / METRICS, "".join(kept).encode())


def plot(folder: Path) -> Path | None:
    """Draw train_loss and val_loss against steps and seconds; None when nothing was measured.

    Where a generation ends there is a dotted line, and a gap in the curves.
    """
    records = read(folder)
    if not records:
        return None
    from matplotlib.figure import Figure  # here, because importing it takes a second

    figure = Figure(figsize=(10, 4), layout="constrained")
    best = min(records, key=lambda record: record["val_loss"])
    each = itertools.groupby(records, key=lambda record: record.get("generation", 1))
    generations = [list(records) for _, records in each]
    rows = [row for records in generations for row in (*records, {})][:-1]  # {} makes a gap
    axes = figure.subplots(1, 2, sharey=True)
    for ax, key in zip(axes, ("step", "seconds"), strict=True):
        for finished in generations[:-1]:
            ax.axvline(finished[-1][key], color="gray", linestyle=":")
        x = [row.get(key) for row in rows]
        ax.plot(x, [row.get("train_loss") for row in rows], label="train_loss")
        ax.plot(x, [row.get("val_loss") for row in rows], label="val_loss")
        alone = [row for row in rows if not row or ("val_loss_trained" in row and row["step"])]
        if any(alone):  # that of an untrained model would flatten all else
            y = [row.get("val_loss_trained") for row in alone]
            ax.plot([row.get(key) for row in alone], y, "--", color="C1", label="trained alone")
        ax.plot(best[key], best["val_loss"], "o", color="C1", label=f"best {best['val_loss']:.4f}")
        ax.set_xlabel(key)
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("loss, nats per character")
    axes[1].legend()
    return write_whole(folder / PICTURE, lambda file: figure.savefig(file, format="png", dpi=120))


def bpc(nats: float) -> float:
    """Bits per character from nats per character."""
    return nats / math.log(2)
