"""What a run takes as its text grows: start, step, evaluation, memory, and what --dry-run foretold.

    python -m benchmarks.text_size --nanogpt ~/nanoGPT
    python -m benchmarks.text_size --sizes 0.03 1 1000 --counts no

Up to a megabyte the text is the beginning of Tiny Shakespeare, above that its lines in random
order. Each size is measured with the shipped settings and without counts, in processes of their
own: one that times the parts of a run, a whole `train.py` of a few steps, and one that resumes it.
nanoGPT's is its prepare.py, and its train.py up to the first step.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks import nanogpt, ours
from benchmarks.bench import Side, count, machine, new_parser, publish, table
from data import tiny_shakespeare
from system import device
from system.commandline import Parser, run
from system.errors import Fault
from training import budget, timing
from training.metrics import METRICS

SIZES = (0.03, 0.1, 1, 4, 20, 100, 1000)  # megabytes
KINDS = {"counts": (), "no counts": ("memory.order=0", "memory.teach=0")}
THEIRS = "nanoGPT"
PEER_MOST = 100  # megabytes; its prepare.py holds a Python list of all characters
EVERY = 0.05  # seconds between looks at the memory
COLUMNS = {  # of the table: its head, and the digits of a number
    "start": ("start, s", 1),
    "resume": ("start of a resumed run, s", 1),
    "step": ("step, ms", 0),
    "evaluation": ("evaluation, s", 1),
    "memory": ("peak of private memory, MB", 0),
    "foretold": ("foretold for all, s", 1),
    "took": ("took, s", 1),
    "first": ("val_loss before", 3),
    "last": ("after the steps", 3),
}
DRAWN = ("start", "step", "evaluation", "memory")
ROOT = Path(__file__).parent.parent

Found = dict[str, float]


def write_text(path: Path, megabytes: float) -> None:
    """A text of so many megabytes, the same each time."""
    whole, size = tiny_shakespeare.fetch().read_bytes(), int(megabytes * 1e6)
    lines, random = np.array(whole.splitlines(keepends=True)), np.random.default_rng(1)
    with path.open("wb") as file:
        if size <= len(whole):
            file.write(whole[:size])
        while (left := size - file.tell()) > 0:
            file.write(b"".join(random.permutation(lines))[:left])


def part_by_part(overrides: list[str], name: str, folder: Path) -> Callable[[int], Found]:
    """A run before its first step, or where it was left in `folder`; asked, what its parts take."""
    trainer = ours.trainer(overrides, name, folder)

    def answer(steps: int) -> Found:
        measured = timing.measure(trainer)
        foretold = budget.duration(trainer, measured, steps) + budget.finish(measured)
        step, evaluation = 1e3 * measured.step, measured.evaluation
        return {"step": step, "evaluation": evaluation, "foretold": foretold}

    return answer


def our_size(path: Path, kind: str, folder: Path, name: str, steps: int) -> Found:
    """All that is measured of ours on the text `path`, with a run in `folder`."""
    overrides = [f"data.dataset={path}", *KINDS[kind], f"train.max_steps={steps}"]
    overrides += [f"train.eval_every={max(1, steps // 2)}"]
    side = Side(part_by_part, overrides, name, folder)
    found = {"start": side.startup, **side.ask(steps)}
    side.close()
    found["foretold"] += side.startup
    line = [sys.executable, "train.py", "--config", ours.SETTINGS, "--device", name]
    line += [ours.STEPS_ALONE, f"train.out_dir={folder}", *overrides]
    found["took"], found["memory"] = watched(line, ROOT)
    records = (folder / METRICS).read_text("utf-8").splitlines()
    losses = [json.loads(record)["val_loss"] for record in records]
    found |= {"first": losses[0], "last": losses[-1]} if kind == "counts" else {"last": losses[-1]}
    side = Side(part_by_part, overrides, name, folder)
    side.close()
    return found | {"resume": side.startup}


def their_size(path: Path, checkout: Path, folder: Path) -> Found:
    """NanoGPT's prepare.py on the text `path`, and its train.py up to the first step."""
    nanogpt.copy(checkout, folder)
    prepare = folder / nanogpt.PREPARE
    prepare.with_name("input.txt").symlink_to(path)
    code = (
        "import runpy, sys, types; sys.modules.setdefault('requests', types.ModuleType('requests'))"
        f"; runpy.run_path({str(prepare)!r}, run_name='__main__')"
    )
    preparing, peak = watched([sys.executable, "-c", code], folder)
    options = [*nanogpt.CPU_RECIPE, "--max_iters=1", "--eval_iters=1", "--eval_interval=10"]
    line = [sys.executable, "train.py", nanogpt.RECIPE, *options]
    starting, then = watched(line, folder)
    return {"start": preparing + starting, "memory": max(peak, then)}


def watched(line: list[str], folder: Path) -> tuple[float, float]:
    """The seconds that a process takes, and the most megabytes that were its own.

    These are what is mapped to no file; 0 where the system does not say. Raises Fault when it
    fails.
    """
    start, most = time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(line, cwd=folder, stdout=said, stderr=said)
        while child.poll() is None:
            most = max(most, private(child.pid))
            time.sleep(EVERY)
        seconds = time.perf_counter() - start
        said.seek(0)
        if child.returncode:
            reason = " ".join(said.read().decode(errors="replace").split())[-500:]
            raise Fault(f"{' '.join(line)} failed: {reason}")
    return seconds, most


def private(process: int) -> float:
    """The megabytes of a process that are mapped to no file; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon:"))


def describe(found: dict[str, dict[str, Found]]) -> str:
    """The table: a row for each size and kind."""
    rows = []
    for size, kinds in found.items():
        for kind, each in kinds.items():
            cells = [f"{each[k]:,.{d}f}" if k in each else "-" for k, (_, d) in COLUMNS.items()]
            rows.append([f"{float(size):g} MB, {kind}", *cells])
    return table(["text", *(head for head, _ in COLUMNS.values())], rows)


def draw(found: dict[str, dict[str, Found]]) -> Figure:
    """What grows with the text, each against its size, both logarithmic."""
    figure = Figure(figsize=(14, 3.6), layout="constrained")
    for ax, key in zip(figure.subplots(1, len(DRAWN)), DRAWN, strict=True):
        for color, kind in enumerate((*KINDS, THEIRS)):
            points = [(float(s), k[kind][key]) for s, k in found.items() if key in k.get(kind, {})]
            if points:
                x, y = zip(*points, strict=True)
                ax.plot(x, y, color=f"C{color}", marker="o", label=kind)
        ax.set(xscale="log", yscale="log", xlabel="megabytes of text", title=COLUMNS[key][0])
        ax.grid(alpha=0.3)
        ax.legend()
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("text_size", __doc__)
    about = f"megabytes; default: {' '.join(f'{size:g}' for size in SIZES)}"
    p.add_argument("--sizes", nargs="+", type=float, default=SIZES, metavar="MB", help=about)
    p.add_argument("--steps", type=count, default=60, help="of the whole run; default: 60")
    about = "with the shipped counts, without, or both; default: both"
    p.add_argument("--counts", choices=("yes", "no", "both"), default="both", help=about)
    return p


def command(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    nanogpt.check(args.nanogpt)
    place = device.pick(args.device)
    kinds = {"yes": ["counts"], "no": ["no counts"], "both": [*KINDS]}[args.counts]
    found: dict[str, dict[str, Found]] = {}
    with tempfile.TemporaryDirectory() as name:
        path, folder = Path(name, "text.txt"), Path(name)
        for size in args.sizes:
            write_text(path, size)
            here = found[str(size)] = {}
            for kind in kinds:
                here[kind] = our_size(path, kind, folder / f"{size} {kind}", place.type, args.steps)
            if args.nanogpt and size <= PEER_MOST:
                here[THEIRS] = their_size(path, args.nanogpt, folder / f"{size} peer")
            print(f"{size:g} MB: {here}", flush=True)
    result = {"machine": machine(torch.device(place)), "steps": args.steps, "sizes": found}
    publish(args.out, "text_size", result=result, tables=[describe(found)], figure=draw(found))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
