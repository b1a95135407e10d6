"""How fast a loss is reached, and how low it gets: ours and nanoGPT's runs in turn.

    python -m benchmarks.time_to_loss --nanogpt ~/nanoGPT

Losses are a full pass over the same validation characters. Training seconds leave out evaluations
and saves; total seconds add all that comes before the first step: start of the process, reading and
encoding the text, counting, compiling. A run of ours that has counts is two lines: what it writes
with, counted and trained, and its GPT alone.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks import nanogpt, ours
from benchmarks.bench import count, machine, new_parser, publish, table
from benchmarks.curve import RESULT, WINDOW, WINDOWS
from data import tiny_shakespeare
from system import device
from system.commandline import Parser, run
from system.errors import Fault

LEVELS = (1.9, 1.8, 1.6, 1.5, 1.47, 1.451, 1.42, 1.4, 1.391, 1.38)
THEIRS, COUNTS = "nanoGPT", "counts alone"
PURE = ("memory.order=0", "memory.teach=0")
# our runs: the settings as they are shipped, and the same with less time
PLANS = {
    "cpu": {
        "as shipped": (),
        "1,400 steps": ("train.max_steps=1400",),
        "no counts": PURE,
        "no counts, 230 steps": (
            *PURE,
            *("model.n_layer=2", "model.block_size=64", "train.batch_size=24"),
            *("optim.momentum=0.85", "train.max_steps=230"),
        ),
    },
    "gpu": {"as shipped": (), "no counts": PURE},
}
THEIR_EVERY = 100  # steps between evaluations of nanoGPT
POINTS = 20  # evaluations in one of our runs


def curve(folder: Path, side: str, every: int, *options: str) -> dict[str, Any]:
    """One run in a new process, which finds and leaves files in `folder`. Raises Fault when it
    failed."""
    command = [sys.executable, "-m", "benchmarks.curve", repr(time.time()), str(folder.resolve())]
    root = Path(__file__).parent.parent
    command += [str(every), side, *options]
    done = subprocess.run(command, cwd=root, capture_output=True, errors="replace")
    if done.returncode:
        raise Fault(f"the run of {side} failed: {' '.join(done.stderr.split())[-500:]}")
    return json.loads((folder / RESULT).read_bytes())


def our_curve(
    folder: Path, place: torch.device, overrides: Sequence[str], seed: int
) -> dict[str, Any]:
    """One of our runs; one that was cut off in `folder` goes on."""
    max_steps = ours.settings(overrides, place.type).train.max_steps
    options = (place.type, *overrides, f"train.seed={seed}")
    return curve(folder, "ours", max(1, max_steps // POINTS), *options)


def their_curve(folder: Path, place: torch.device, path: Path) -> dict[str, Any]:
    """One run of nanoGPT in `folder`; its seed is fixed inside its train.py."""
    nanogpt.copy(path, folder)
    text = (folder / nanogpt.PREPARE).with_name("input.txt")
    shutil.copyfile(tiny_shakespeare.fetch(), text)
    np.save(folder / "val.npy", ours.text(torch.device("cpu"), WINDOW).val.numpy())
    options = nanogpt.CPU_RECIPE if place.type == "cpu" else [f"--device={place.type}"]
    return curve(folder, "nanogpt", THEIR_EVERY, *options)


def lines(name: str, run: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """One run as what is compared: counts alone, counted and trained, the trained part alone."""
    first = run["points"][0]
    if "val_loss_trained" not in first:
        return {name: run}
    trained = {
        **run,
        "points": [{**p, "val_loss": p["val_loss_trained"]} for p in run["points"]],
        **{f"val_loss_{n}": run[key] for n in WINDOWS if (key := f"val_loss_trained_{n}") in run},
    }
    return {
        COUNTS: {"startup_seconds": run["startup_seconds"], "points": [first]},
        f"{name}: counted and trained": run,
        f"{name}: trained alone": trained,
    }


def seconds_to(level: float, found: dict[str, Any], key: str) -> float:
    """Seconds of the first evaluation at `level` or below; infinite when there is none."""
    return min((p[key] for p in found["points"] if p["val_loss"] <= level), default=math.inf)


def loss_at(seconds: float, found: dict[str, Any], key: str) -> float:
    """The lowest loss up to a time; infinite when nothing was measured by then."""
    points = [p for p in found["points"] if p["total_seconds"] <= seconds]
    return min((p[key] for p in points), default=math.inf)


def show(value: float, digits: int) -> str:
    """A number, or a dash for what was never reached."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"


def middle(values: Sequence[float]) -> float:
    """The median of several runs."""
    return statistics.median(values)


def time_table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Total seconds to each level, medians over the runs, and how much faster that is than nanoGPT.

    Its time is its best one to 1.9, or that of a whole run where it never gets there.
    """
    peer = runs.get(THEIRS, [])
    best = min((seconds_to(1.9, each, "total_seconds") for each in peer), default=0)
    label = "  times faster than nanoGPT's best to 1.9"
    if best == math.inf:
        best = min(each["points"][-1]["total_seconds"] for each in peer)
        label = "  times faster than a whole run of nanoGPT, which ends above 1.9"
    header = ["total seconds to a val_loss of", *(f"{level:g}" for level in LEVELS)]
    rows = []
    for name, found in runs.items():
        times = [middle([seconds_to(x, each, "total_seconds") for each in found]) for x in LEVELS]
        rows.append([name, *(show(each, 1) for each in times)])
        if best and name != THEIRS:
            ratios = [show(best / each if math.isfinite(each) else each, 1) for each in times]
            rows.append([label, *ratios])
    return table(header, rows)


def loss_table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """How each side ends, and its loss at the time when nanoGPT ends."""
    end = middle([each["points"][-1]["total_seconds"] for each in runs.get(THEIRS, [])] or [0])
    header = ["at the end", "start-up, s", "training, s", "total, s", "val_loss of each run"]
    header += [f"in windows of {window}" for window in WINDOWS]
    header += [f"best by {end:.0f} s"] if end else []
    rows = []
    for name, found in runs.items():
        last = [each["points"][-1] for each in found]
        row = [
            name,
            show(middle([each["startup_seconds"] for each in found]), 1),
            show(middle([each["seconds"] for each in last]), 1),
            show(middle([each["total_seconds"] for each in last]), 1),
            " ".join(show(min(p["val_loss"] for p in each["points"]), 4) for each in found),
        ]
        for key in (f"val_loss_{window}" for window in WINDOWS):
            row.append(show(middle([each.get(key, math.inf) for each in found]), 4))
        if end:
            row.append(show(middle([loss_at(end, each, "val_loss") for each in found]), 4))
        rows.append(row)
    return table(header, rows)


def draw(runs: dict[str, list[dict[str, Any]]]) -> Figure:
    """Every run: loss against training seconds and against total seconds."""
    figure = Figure(figsize=(13, 4.5), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    first, top = 1.0, 2.6  # seconds, and a loss, where the picture begins
    for ax, key in zip(axes, ("seconds", "total_seconds"), strict=True):
        for i, (name, found) in enumerate(runs.items()):
            for j, each in enumerate(found):
                points = [p for p in each["points"] if p["val_loss"] < top]
                x, y = [max(p[key], first) for p in points], [p["val_loss"] for p in points]
                mark = "o" if len(x) == 1 else None
                label = None if j else name
                ax.plot(x, y, color=f"C{i}", label=label, linewidth=1.2, marker=mark, markersize=4)
        ax.set_xscale("log")
        ax.set_xlim(left=first)
        ax.set_ylim(1.35, top)
        ax.set_xlabel("training seconds" if key == "seconds" else "seconds in all")
        ax.grid(alpha=0.3, which="both")
    axes[0].set_ylabel("val_loss, nats per character")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("time_to_loss", __doc__)
    p.add_argument("--seeds", type=count, default=3, help="runs of each side; default: 3")
    names = dict.fromkeys(name for plans in PLANS.values() for name in plans)
    about = "only these of ours; default: all"
    p.add_argument("--plans", nargs="+", choices=names, metavar="NAME", help=about)
    return p


def command(args: argparse.Namespace) -> int:
    """Run, print and write."""
    nanogpt.check(args.nanogpt)
    place = device.pick(args.device)
    plans = PLANS["cpu" if place.type == "cpu" else "gpu"]
    plans = {name: plans[name] for name in plans if name in (args.plans or plans)}
    runs: dict[str, list[dict[str, Any]]] = {}
    for seed in range(1, args.seeds + 1):
        found = {}
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if args.nanogpt:
                found[THEIRS] = their_curve(folder / "peer", place, args.nanogpt)
            for name, overrides in plans.items():
                run = our_curve(folder / name, place, overrides, seed)
                for line, each in lines(name, run).items():
                    found.setdefault(line, each)
        for name, each in found.items():
            runs.setdefault(name, []).append(each)
            loss, seconds = (each["points"][-1][key] for key in ("val_loss", "total_seconds"))
            print(f"{name}, run {seed}: val_loss {loss:.4f} after {seconds:.0f} s", flush=True)
    publish(
        args.out,
        "time_to_loss",
        result={"machine": machine(place), "plans": plans, "runs": runs},
        tables=[time_table(runs), loss_table(runs)],
        figure=draw(runs),
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
