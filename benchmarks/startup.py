"""How long whole commands take that have next to nothing to do: ours and nanoGPT's in turn.

python -m benchmarks.startup --nanogpt ~/nanoGPT
python -m benchmarks.startup --before ~/older     beside an older checkout of this repository
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks import nanogpt
from benchmarks.bench import count, machine, median_ratio, new_parser, publish, table
from benchmarks.sample_speed import VOCABULARY, model
from system import checkpoint, device
from system.checkpoint import Checkpoint
from system.commandline import Parser, run
from system.errors import Fault, UserError
from system.settings import Config

OURS, BEFORE, THEIRS = "ours", "before", "nanoGPT"
HERE = Path(__file__).parent.parent
SAMPLE, COMPARE = "sample.py, one character", "compare.py"

Seconds = dict[str, dict[str, list[float]]]  # job -> side -> one process after the other


def jobs(folder: Path, place: str) -> dict[str, list[str]]:
    """What is run for each job on the device `place`, with what it needs or makes in `folder`."""
    gpt = model("small")
    chars = "".join(map(chr, range(48, 48 + VOCABULARY)))
    weights = dict(gpt.state_dict())
    saved = Checkpoint(gpt.config, chars, weights, Config().to_dict(), "", [], {"step": 0})
    checkpoint.save(folder / "small" / checkpoint.LAST, saved)
    aab = f"train.out_dir={folder / 'aab'}"
    small, on, one = f"--ckpt={folder / 'small'}", f"--device={place}", "--max-new-tokens=1"
    train = ["train.py", "--config=aab.yaml", "--overwrite", on, aab]
    lines = {
        "import torch": ["-c", "import torch"],
        SAMPLE: ["sample.py", small, one, "--prompt=A", on],
        "sample.py --handmade, one character": ["sample.py", "--handmade", one, on],
        "train.py --config aab.yaml, one step": [*train, "train.max_steps=1"],
        "train.py --config aab.yaml, all steps": train,
        COMPARE: ["compare.py", "--ckpt", str(folder / "aab"), "--out", str(folder)],
    }
    return {name: [sys.executable, *line] for name, line in lines.items()}


def timed(line: list[str], path: Path) -> float:
    """The seconds that a process in `path` takes from start to end. Raises Fault when it fails."""
    start = time.perf_counter()
    done = subprocess.run(line, cwd=path, capture_output=True, errors="replace")
    seconds = time.perf_counter() - start
    if done.returncode:
        raise Fault(f"{' '.join(line)} failed: {done.stderr[-500:]}")
    return seconds


def measure(args: argparse.Namespace, place: str) -> Seconds:
    """Each job by each side on the device `place`, in turn, `args.rounds` times."""
    checkouts = {OURS: HERE} | ({BEFORE: args.before} if args.before else {})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = {
            job: {side: (line, path) for side, path in checkouts.items()}
            for job, line in jobs(folder, place).items()
        }
        if args.nanogpt:
            peer = nanogpt.sample_command(args.nanogpt, folder / "peer", model("small"))
            every[SAMPLE][THEIRS] = peer
        seconds: Seconds = {job: {side: [] for side in sides} for job, sides in every.items()}
        for _ in range(args.rounds):
            for job, sides in every.items():
                for side, (line, path) in sides.items():
                    seconds[job][side].append(timed(line, path))
    return seconds


def describe(seconds: Seconds) -> str:
    """The table: medians, and how many times longer the others take."""
    others = [side for side in (BEFORE, THEIRS) if any(side in job for job in seconds.values())]
    header = ["seconds of a whole process", OURS]
    header += [cell for side in others for cell in (side, "ratio")]
    rows = []
    for job, sides in seconds.items():
        row = [job, f"{statistics.median(sides[OURS]):.2f}"]
        for side in others:
            there = side in sides
            row.append(f"{statistics.median(sides[side]):.2f}" if there else "-")
            row.append(f"{median_ratio(sides[OURS], sides[side]):.2f}" if there else "-")
        rows.append(row)
    return table(header, rows)


def draw(seconds: Seconds) -> Figure:
    """The medians as bars."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    ax = figure.subplots()
    for i, side in enumerate((OURS, BEFORE, THEIRS)):
        places = [place for place, sides in enumerate(seconds.values()) if side in sides]
        medians = [statistics.median(sides[side]) for sides in seconds.values() if side in sides]
        if places:
            ax.barh([place + 0.27 * i for place in places], medians, height=0.25, label=side)
    ax.set_yticks([place + 0.27 for place in range(len(seconds))], seconds)
    ax.invert_yaxis()
    ax.set_xlabel("seconds of a whole process")
    ax.grid(alpha=0.3, axis="x")
    ax.legend()
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("startup", __doc__)
    p.add_argument("--before", type=Path, metavar="PATH", help="an older checkout of this project")
    p.add_argument("--rounds", type=count, default=9, help="times each is run; default: 9")
    return p


def command(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    nanogpt.check(args.nanogpt)
    if args.before and not (args.before / "sample.py").is_file():
        raise UserError(f"--before {args.before} has no sample.py; name a checkout of this project")
    place = device.pick(args.device)
    seconds = measure(args, place.type)
    result = {"machine": machine(place), "seconds": seconds}
    publish(args.out, "startup", result=result, tables=[describe(seconds)], figure=draw(seconds))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
