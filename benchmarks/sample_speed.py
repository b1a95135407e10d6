"""How fast text is written: characters a second, ours and nanoGPT's in turn, same weights.

    python -m benchmarks.sample_speed --nanogpt ~/nanoGPT

Both sides get the same random weights, of the structure that nanoGPT has: learned positions, the
exact GELU, tied head. Two shapes: small, whose context is 64 characters, and baby, of 256.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import math
import statistics
import sys
import textwrap
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks import nanogpt
from benchmarks.bench import (
    Side,
    count,
    machine,
    median_ratio,
    new_parser,
    peak_memory,
    publish,
    table,
    wait,
)
from benchmarks.train_speed import SHAPES
from generate import generate
from model import GPT, GPTConfig
from system import device
from system.commandline import Parser, run

THEIRS, SLIDE, HALF = "nanoGPT", "ours", "ours, --window half"
TEMPERATURE = 0.8
VOCABULARY = 65
FILLING = "while the context fills"
# texts and characters of each; what fills the context is as long as the context
JOBS = {
    FILLING: (1, None),
    "10, while they fill": (10, None),
    "1 x 500": (1, 500),
    "1 x 2000": (1, 2000),
    "10 x 500": (10, 500),
}


def model(shape_name: str) -> GPT:
    """Random weights, the same in every process, of a size that makes no text certain."""
    shape = {**SHAPES[shape_name], "dropout": 0.0}
    gpt = GPT(GPTConfig(vocab_size=VOCABULARY, **shape, **nanogpt.STRUCTURE))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in gpt.parameters():
            if p.ndim > 1:
                p.normal_(std=1.5 / math.sqrt(p.shape[1]), generator=generator)
    return gpt.eval()


def timed(write: Callable[[int, int, float], Tensor], place: torch.device, *job: Any) -> dict:
    """What a job took and gave: seconds, ids (texts, characters), peak memory."""
    start = time.perf_counter()
    ids = write(*job)
    wait(place)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "ids": ids.tolist(), "memory_mb": peak_memory(place)}


def our_side(shape_name: str, name: str, window: str) -> Callable[..., dict]:
    """In a child: our writing, as a function of texts, characters and seed."""
    place = device.pick(name)
    device.keep_memory()
    dtype = device.set_precision("auto", place)
    gpt = model(shape_name).to(place)

    def write(texts: int, length: int, seed: int) -> Tensor:
        generator = torch.Generator(place).manual_seed(seed)
        idx = torch.zeros(texts, 1, dtype=torch.long, device=place)
        options = {"temperature": TEMPERATURE, "window": window, "dtype": dtype}
        return torch.stack(list(generate(gpt, idx, length, generator, **options)), dim=1)

    return partial(timed, write, place)


def their_side(shape_name: str, name: str, path: Path) -> Callable[..., dict]:
    """In a child: nanoGPT's writing; as in its sample.py, one text after the other."""
    place = device.pick(name)
    shape = {**SHAPES[shape_name], "dropout": 0.0, "vocab_size": VOCABULARY}
    gpt = nanogpt.build(path, shape)
    gpt.load_state_dict(nanogpt.weights(model(shape_name)))
    gpt.eval().to(place)

    def write(texts: int, length: int, seed: int) -> Tensor:
        torch.manual_seed(seed)
        idx = torch.zeros(1, 1, dtype=torch.long, device=place)
        with torch.autocast(place.type, torch.bfloat16, place.type == "cuda"):
            rows = [gpt.generate(idx, length, TEMPERATURE) for _ in range(texts)]
        return torch.cat(rows)[:, 1:]

    return partial(timed, write, place)


def compare(args: argparse.Namespace, shape_name: str) -> dict[str, Any]:
    """The sides at one shape, asked in turn: seconds of every job in each round."""
    sides = {
        SLIDE: Side(our_side, shape_name, args.device, "slide"),
        HALF: Side(our_side, shape_name, args.device, "half"),
    }
    if args.nanogpt:
        sides[THEIRS] = Side(their_side, shape_name, args.device, args.nanogpt)
    block_size = SHAPES[shape_name]["block_size"]
    jobs = {name: (JOBS[name][0], JOBS[name][1] or block_size) for name in args.jobs}
    seconds = {job: {name: [] for name in sides} for job in jobs}
    same = {}
    for side in sides.values():
        side.ask(1, block_size, 0)
    rounds = args.rounds if shape_name == "small" else max(1, args.rounds // 3)
    for seed in range(rounds):
        for job, (texts, length) in jobs.items():
            found = {name: side.ask(texts, length, seed) for name, side in sides.items()}
            for name, each in found.items():
                seconds[job][name].append(each["seconds"])
            if THEIRS in found and texts == 1:
                ids, other = found[SLIDE]["ids"][0], found[THEIRS]["ids"][0]
                length_alike = next((i for i, x in enumerate(ids) if x != other[i]), length)
                same.setdefault(job, []).append(length_alike)
    for side in sides.values():
        side.close()
    return {"jobs": jobs, "seconds": seconds, "same_characters": same}


def summary(found: dict[str, Any]) -> list[list[str]]:
    """A row for each job: characters/s of each side, ratios, characters alike."""
    rows = []
    for job, (texts, length) in found["jobs"].items():
        seconds = found["seconds"][job]
        row = [job]
        for name in (SLIDE, HALF, THEIRS):
            if name in seconds:
                row.append(f"{texts * length / statistics.median(seconds[name]):,.0f}")
        if THEIRS in seconds:
            row += [f"{median_ratio(seconds[name], seconds[THEIRS]):.1f}" for name in (SLIDE, HALF)]
            alike = found["same_characters"].get(job)
            row.append(f"{min(alike)} of {length}" if alike else "-")
        rows.append(row)
    return rows


def describe(name: str, found: dict[str, Any]) -> str:
    """The table of one shape."""
    sides = [
        side for side in (SLIDE, HALF, THEIRS) if side in next(iter(found["seconds"].values()))
    ]
    header = [f"{name}, characters/s", *sides]
    if THEIRS in sides:
        header += ["ratio", "ratio, half", "same text as nanoGPT"]
    return table(header, summary(found))


def draw(found: dict[str, dict[str, Any]]) -> Figure:
    """Characters/s of every job and side, a panel for each shape."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (name, shape) in zip(axes, found.items(), strict=True):
        for i, side in enumerate(next(iter(shape["seconds"].values()))):
            speeds = [
                texts * length / statistics.median(shape["seconds"][job][side])
                for job, (texts, length) in shape["jobs"].items()
            ]
            ax.bar([x + 0.27 * i for x in range(len(speeds))], speeds, width=0.25, label=side)
        labels = [textwrap.fill(job, 12) for job in shape["jobs"]]
        ax.set_xticks([x + 0.27 for x in range(len(labels))], labels)
        ax.set_yscale("log")
        ax.set_title(name)
        ax.grid(alpha=0.3, axis="y")
    axes[0].set_ylabel("characters/s")
    axes[-1].legend()
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("sample_speed", __doc__)
    p.add_argument("--rounds", type=count, default=3, help="times each side is asked; default: 3")
    p.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    p.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    return p


def command(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    nanogpt.check(args.nanogpt)
    place = device.pick(args.device)
    found = {name: compare(args, name) for name in args.shapes}
    publish(
        args.out,
        "sample_speed",
        result={"machine": machine(place), **found},
        tables=[describe(name, each) for name, each in found.items()],
        figure=draw(found),
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
