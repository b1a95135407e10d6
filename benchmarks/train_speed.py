"""How fast training is: characters a second, ours and nanoGPT's in turn, on the same text.

    python -m benchmarks.train_speed --nanogpt ~/nanoGPT

Two shapes: small, that of nanoGPT's recipe for a CPU, and baby, that of its baby GPT with dropout.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from benchmarks import nanogpt, ours
from benchmarks.bench import (
    count,
    machine,
    median_ratio,
    new_parser,
    peak_memory,
    publish,
    start_sides,
    table,
    wait,
)
from system import device
from system.commandline import Parser, run
from system.errors import Fault

SHAPES = {
    "small": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 64, "dropout": 0.0},
    "baby": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "dropout": 0.2},
}
BATCH_SIZE = {"small": 12, "baby": 64}
# what is changed in the settings to train as nanoGPT does: no counts, one optimizer at every shape
PLAIN = ("memory.order=0", "memory.teach=0")
ADAMW = (*PLAIN, "optim.optimizer=adamw")
STRUCTURE = (*ADAMW, *(f"model.{name}={value}" for name, value in nanogpt.STRUCTURE.items()))
MUON, COMPILED = (*PLAIN, "optim.optimizer=muon"), "train.compile=true"
VARIANTS = {
    "ours": ADAMW,
    "ours, compiled": (*ADAMW, COMPILED),
    "ours, nanoGPT's structure": STRUCTURE,
    "ours, Muon": MUON,
    "ours, Muon, compiled": (*MUON, COMPILED),
}
THEIRS = "nanoGPT"
PEAK_SIZE, GPU_PEAK_SIZE = 1536, 8192  # rows and columns of the matrices whose product is the peak


def flops(weights: int, shape: dict[str, int | float]) -> int:
    """Floating-point operations per character in training: 6 N + 12 L C T.

    N counts the weights that multiply. Chowdhery et al. 2022 (PaLM), arXiv:2204.02311, appendix B.
    """
    return 6 * weights + 12 * shape["n_layer"] * shape["n_embd"] * shape["block_size"]


def timed(step: Callable[[], object], place: torch.device, steps: int) -> list[float]:
    """Seconds of each of `steps` calls; on a GPU of all together, shared out.

    There a step is asked for while the one before is computed, as in a run.
    """
    seconds, at_once = [], 1 if place.type == "cpu" else steps
    for _ in range(steps // at_once):
        wait(place)
        start = time.perf_counter()
        for _ in range(at_once):
            step()
        wait(place)
        seconds += [(time.perf_counter() - start) / at_once] * at_once
    return seconds


def answer(
    step: Callable[[], object], place: torch.device, weights: int, steps: int
) -> dict[str, Any]:
    """The seconds of `steps` steps, the peak memory so far, and the weights that multiply."""
    seconds = timed(step, place, steps)
    return {"seconds": seconds, "memory_mb": peak_memory(place), "weights": weights}


def our_side(
    shape_name: str, name: str, overrides: Sequence[str]
) -> Callable[[int], dict[str, Any]]:
    """In a child: our trainer at a shape, as a function of the number of steps to make.

    Raises Fault where it should be compiled and cannot.
    """
    asked = [f"model.{field}={value}" for field, value in SHAPES[shape_name].items()]
    asked += [f"train.batch_size={BATCH_SIZE[shape_name]}", *overrides]
    trainer = ours.trainer(asked, name)
    model = trainer.model
    if trainer.config.train.compile and trainer.forward is model:
        raise Fault("torch.compile failed")
    looked_up = model.wpe if model.config.tie_weights else model.wte  # does not multiply
    weights = model.parameter_count() - looked_up.weight.numel()
    return partial(answer, trainer.update, trainer.device, weights)


def their_side(
    shape_name: str, name: str, path: Path, compiled: bool
) -> Callable[[int], dict[str, Any]]:
    """In a child: nanoGPT's training at a shape, as a function of the number of steps to make."""
    place, shape = device.pick(name), SHAPES[shape_name]
    text = ours.text(place, shape["block_size"])
    full = {**shape, "vocab_size": len(text.tokenizer.chars)}
    size = BATCH_SIZE[shape_name]
    model, step = nanogpt.training(path, full, text, size, place, compiled=compiled)
    return partial(answer, step, place, model.get_num_params())  # positions left out, head tied


def peak(place: torch.device) -> dict[str, float]:
    """The most floating-point operations a second in matrix products, by precision."""
    best, fast = {}, device.has_bfloat16(place)  # where it is emulated this would take minutes
    size = PEAK_SIZE if place.type == "cpu" else GPU_PEAK_SIZE
    for dtype in (torch.float32, torch.bfloat16) if fast else (torch.float32,):
        a = torch.randn(size, size, device=place).to(dtype)
        seconds = timed(lambda a=a: a @ a, place, 8)
        best[str(dtype).removeprefix("torch.")] = 2 * size**3 / min(seconds)
    return best


def all_sides(args: argparse.Namespace, shape_name: str, place: torch.device) -> dict[str, tuple]:
    """What makes each side that is asked for."""
    made = {
        name: (our_side, shape_name, args.device, overrides)
        for name, overrides in VARIANTS.items()
        if args.compile or COMPILED not in overrides
    }
    if args.nanogpt:
        compiled = place.type == "cuda"  # as its train.py does, or its README without a GPU
        peer = (their_side, shape_name, args.device, args.nanogpt)
        made[THEIRS] = (*peer, compiled)
        if args.compile:
            made[f"{THEIRS}, {'not ' * compiled}compiled"] = (*peer, not compiled)
    return made


def compare(args: argparse.Namespace, shape_name: str) -> dict[str, Any]:
    """The sides at one shape, asked in turn: seconds a step in each round, memory, peak."""
    place = device.pick(args.device)
    slow = shape_name != "small" and place.type == "cpu"
    rounds, steps = (max(1, args.rounds // 3), 1) if slow else (args.rounds, 20)
    sides, left_out = start_sides(all_sides(args, shape_name, place), steps)
    seconds, peaks, last = {name: [] for name in sides}, [], {}
    for _ in range(rounds):
        peaks.append(peak(place))
        for name, side in sides.items():
            last[name] = side.ask(steps)
            seconds[name].append(statistics.median(last[name]["seconds"]))
    for side in sides.values():
        side.close()
    best = {dtype: max(each[dtype] for each in peaks) for dtype in peaks[0]}
    return {
        "shape": {**SHAPES[shape_name], "batch_size": BATCH_SIZE[shape_name]},
        "peak_flops": best,
        "sides": {
            name: {
                "seconds_a_step": seconds[name],
                "startup_seconds": side.startup,
                "memory_mb": last[name]["memory_mb"],
                "weights": last[name]["weights"],
            }
            for name, side in sides.items()
        },
        "left_out": left_out,
    }


def summary(found: dict[str, Any]) -> list[list[str]]:
    """A row for each side: characters/s, ratio, FLOP/s, share of the peak, memory, start."""
    shape, sides = found["shape"], found["sides"]
    chars = shape["batch_size"] * shape["block_size"]
    rows = []
    for name, side in sides.items():
        speed = chars / statistics.median(side["seconds_a_step"])
        achieved = speed * flops(side["weights"], shape)
        ratio = "-"
        if THEIRS in sides:
            ratio = f"{median_ratio(side['seconds_a_step'], sides[THEIRS]['seconds_a_step']):.2f}"
        rows.append(
            [
                name,
                f"{speed:,.0f}",
                ratio,
                f"{achieved / 1e9:,.0f}",
                f"{achieved / max(found['peak_flops'].values()):.0%}",
                f"{side['memory_mb']:,.0f}",
            ]
        )
    return rows


def describe(name: str, found: dict[str, Any]) -> str:
    """The table of one shape, with a title that gives the shape and the peak."""
    shape, peaks = found["shape"], found["peak_flops"]
    fields = ", ".join(f"{field} {value}" for field, value in shape.items())
    best = ", ".join(f"{dtype} {value / 1e9:,.0f}" for dtype, value in peaks.items())
    header = [name, "characters/s", "ratio", "GFLOP/s", "of peak", "peak memory, MB"]
    left_out = [f"\n\n{side} is left out: {why}" for side, why in found["left_out"].items()]
    return (
        f"**{name}**: {fields}\n\nPeak of matrix products, GFLOP/s: {best}\n\n"
        f"{table(header, summary(found))}{''.join(left_out)}"
    )


def draw(found: dict[str, dict[str, Any]]) -> Figure:
    """Characters/s of every side and round, a panel for each shape."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    axes = figure.subplots(1, len(found), squeeze=False)[0]
    for ax, (name, shape) in zip(axes, found.items(), strict=True):
        chars = shape["shape"]["batch_size"] * shape["shape"]["block_size"]
        for i, (label, side) in enumerate(shape["sides"].items()):
            speeds = [chars / seconds for seconds in side["seconds_a_step"]]
            ax.barh(i, statistics.median(speeds), color=f"C{i}", alpha=0.6)
            ax.plot(speeds, [i] * len(speeds), "k.", markersize=3)
            ax.text(0, i, f" {label}", va="center")
        ax.set_yticks([])
        ax.invert_yaxis()
        ax.set_title(name)
        ax.set_xlabel("characters/s in training (dots: rounds)")
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("train_speed", __doc__)
    p.add_argument("--rounds", type=count, default=9, help="times each side is asked; default: 9")
    p.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    p.add_argument("--compile", action="store_true", help="with and without torch.compile")
    return p


def command(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    nanogpt.check(args.nanogpt)
    found = {name: compare(args, name) for name in args.shapes}
    publish(
        args.out,
        "train_speed",
        result={"machine": machine(device.pick(args.device)), **found},
        tables=[describe(name, each) for name, each in found.items()],
        figure=draw(found),
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
