"""What only a GPU can tell, in parts of a few minutes that go on where the last one ended.

    python -m benchmarks.gpu --nanogpt ~/nanoGPT              all parts, one after the other
    python -m benchmarks.gpu --nanogpt ~/nanoGPT --part 3     one of them

What was measured is kept as soon as it is there, and not measured again; a training run that was
cut off goes on from its last evaluation. To measure anew, give another folder with --out.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import nanogpt, right, sample_speed, time_to_loss, train_speed
from benchmarks.bench import apart, machine, new_parser, publish, table
from benchmarks.time_to_loss import THEIRS, lines, loss_table, middle, seconds_to, show
from data import tiny_shakespeare
from system import device
from system.commandline import Parser, run
from system.errors import Fault, UserError
from system.files import write_whole

NAME = "gpu"  # of the files
LEVELS = (1.478, 1.421, 1.391)
CHECKS, BY_HAND, RUNS, PEER, TRAINING, WRITING = PARTS = (
    "tests that wait for a GPU, and runs made twice",
    "models set by hand",
    "runs with the shipped settings",
    "nanoGPT's run",
    "speed of training",
    "speed of writing",
)
Parts = Mapping[str, Mapping[str, Callable[[], Any]]]  # part -> measurement -> what makes it


@dataclass(frozen=True)
class Plan:
    """How much is measured; tests measure less.

    settings: what is changed in our runs
    seeds: of our runs
    steps: of the runs that are made twice
    orders: of the n-grams that become weights
    broad: rules that have too many contexts, and texts to try them on
    shape: of the models whose speed is measured
    rounds: times each of them is asked
    """

    settings: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (1, 2, 3)
    steps: int = 20
    orders: tuple[int, ...] = (2, 3, 4, 5)
    broad: Mapping[str, tuple] = field(default_factory=right.wide)
    shape: str = "baby"
    rounds: int = 9


def parts(plan: Plan, place: torch.device, peer: Path | None, folder: Path) -> Parts:
    """All that is measured. A measurement may keep files in the folder of its name in `folder`."""
    name, options = place.type, ["--device", place.type, "--rounds", str(plan.rounds)]
    options += ["--nanogpt", str(peer)] if peer else []
    beside = f"beside {THEIRS}" if peer else "ours alone"
    writing = partial(sample_speed.compare, sample_speed.parser().parse_args(options))
    options.append("--compile")
    training = partial(train_speed.compare, train_speed.parser().parse_args(options))
    by_hand = partial(right.by_hand, name, broad=plan.broad, orders=plan.orders)
    twice = partial(apart, right.repeated, name, plan.settings, plan.steps)
    ours, theirs = time_to_loss.our_curve, time_to_loss.their_curve
    runs = {f"seed {seed}": (place, plan.settings, seed) for seed in plan.seeds}
    return {
        CHECKS: {"tests": right.tested, "twice": twice},
        BY_HAND: {each: partial(apart, by_hand, each) for each in right.PRECISIONS},
        RUNS: {each: partial(ours, folder / each, *asked) for each, asked in runs.items()},
        PEER: {THEIRS: partial(theirs, folder / THEIRS, place, peer)} if peer else {},
        TRAINING: {beside: partial(training, plan.shape)},
        WRITING: {beside: partial(writing, plan.shape)},
    }


def done(name: str, found: Mapping[str, Any]) -> bool:
    """Whether a measurement is among those found of its part, with no side left out."""
    return name in found and not ("left_out" in found[name] and found[name]["left_out"])


def state(parts: Parts, found: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each part: what it measures, and how much of that is done."""
    rows = []
    for n, (part, measurements) in enumerate(parts.items(), start=1):
        ready = sum(done(name, found.get(part, {})) for name in measurements)
        said = f"{ready} of {len(measurements)} done" if measurements else "needs --nanogpt PATH"
        rows.append(f"part {n}  {part}: {said}")
    return "\n".join(rows)


def so_far(path: Path, place: torch.device) -> dict[str, Any]:
    """What was measured so far, as it stands at `path`: of each part and measurement the result,
    and the seconds it took. Raises UserError where that was on another GPU or with another torch.
    """
    here = machine(place)
    if not path.exists():
        return {"machine": here, "seconds": {}, "found": {}}
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        there = result["machine"]
        result["seconds"], result["found"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is none of this benchmark's files; move it away") from None
    for key in ("gpu", "torch"):
        if there.get(key) != here.get(key):
            raise UserError(
                f"{path} was measured with {key} {there.get(key)}, and here is {here.get(key)}; "
                "choose another folder with --out DIR"
            )
    return result


def work(parts: Parts, chosen: str, result: dict[str, Any], out: Path) -> bool:
    """Make the measurements of the part `chosen` that `result` lacks, and write each down as soon
    as it is made. Whether all could be made; what failed is said, and tried again next time."""
    fine = True
    found, took = (result[key].setdefault(chosen, {}) for key in ("found", "seconds"))
    for name, measure in parts[chosen].items():
        if done(name, found):
            continue
        print(f"{chosen}: {name}", flush=True)
        start = time.perf_counter()
        try:
            found[name] = measure()
        except Fault as error:
            print(f"{chosen}: {name} failed: {error}", file=sys.stderr)
            fine = False
            continue
        took[name] = time.perf_counter() - start
        write_whole(out / f"{NAME}.json", (json.dumps(result, indent=1) + "\n").encode())
        fine = fine and done(name, found)
        shutil.rmtree(out / NAME / name, ignore_errors=True)  # only now: it could not go on else
    with contextlib.suppress(OSError):  # it is not there, or another run is kept in it
        (out / NAME).rmdir()
    return fine


def level_table(runs: Mapping[str, list[dict[str, Any]]]) -> str:
    """Medians of the seconds to each of LEVELS and to the end, and the most memory."""
    header = ["seconds to a val_loss of", *(f"{level:g}" for level in LEVELS), "the end"]
    rows = []
    for name, found in runs.items():
        for label, key in ((name, "total_seconds"), ("  of these in training", "seconds")):
            times = [middle([seconds_to(level, each, key) for each in found]) for level in LEVELS]
            times.append(middle([each["points"][-1][key] for each in found]))
            memory = max(p.get("memory_mb", 0) for each in found for p in each["points"])
            cells = [show(each, 1) for each in times]
            rows.append([label, *cells, f"{memory:,.0f}" if memory else "-"])
    return table([*header, "peak GPU memory, MB"], rows)


def describe_runs(found: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """The tables of our runs and of nanoGPT's."""
    runs: dict[str, list[dict[str, Any]]] = {THEIRS: [*theirs.values()]} if theirs else {}
    for each in found.values():
        for line, one in lines("as shipped", each).items():
            runs.setdefault(line, []).append(one)
    return [level_table(runs), loss_table(runs)] if runs else []


def describe(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tables of all parts, each with a title; a part that is not measured yet says so."""
    checks, by_hand, runs, theirs, training, writing = (found.get(part, {}) for part in PARTS)
    shown = {
        CHECKS: [right.SHOWN[name](each) for name, each in checks.items()],
        BY_HAND: right.hand_tables(by_hand),
        f"{RUNS}, and {PEER}": describe_runs(runs, theirs),
        TRAINING: [train_speed.describe(name, each) for name, each in training.items()],
        WRITING: [sample_speed.describe(name, each) for name, each in writing.items()],
    }
    texts = {title: "\n\n".join(tables) or "not measured" for title, tables in shown.items()}
    return [f"### {title}\n\n{text}" for title, text in texts.items()]


def measure(plan: Plan, place: torch.device, peer: Path | None, out: Path, part: int | None) -> int:
    """Go on with one part, or with all of them; the exit status. Raises UserError."""
    path = out / f"{NAME}.json"
    result, planned = so_far(path, place), parts(plan, place, peer, out / NAME)
    chosen = PARTS if part is None else PARTS[part - 1 : part]
    if not any(planned[each] for each in chosen):
        raise UserError(f"part {part} is {PEER}; name a checkout with --nanogpt PATH")
    print(state(planned, result["found"]), flush=True)
    fine = [work(planned, each, result, out) for each in chosen]
    publish(out, NAME, result=result, tables=describe(result["found"]))
    return 0 if all(fine) else Fault.status


def parser() -> Parser:
    """The command line."""
    p = new_parser(NAME, __doc__)
    numbers = range(1, len(PARTS) + 1)
    p.add_argument("--part", type=int, choices=numbers, help="only this one; default: all of them")
    return p


def command(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    nanogpt.check(args.nanogpt)
    place = device.pick(args.device)
    if place.type == "cpu":
        raise UserError(
            "this measures a GPU, and the device is a CPU; measure that with python -m "
            "benchmarks.time_to_loss, benchmarks.train_speed and benchmarks.sample_speed"
        )
    tiny_shakespeare.fetch()  # what all parts need
    return measure(Plan(), place, args.nanogpt, args.out, args.part)


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
