"""Compare trained models with one set by hand, on the task of the latter.

    python compare.py                                         checkpoints/aab against one-head
    python compare.py --ckpt checkpoints/aab checkpoints/my   several columns
    python compare.py --json                                  the same numbers for scripts

Prints a table, names the contexts that the trained models get wrong, and draws compare.png.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import torch

import handmade
import mixture
from analysis.measure import Column, Measured, measure
from analysis.table import name_wrong, tabulate
from data.aab import LETTERS, Task
from model import GPT
from system import checkpoint
from system.checkpoint import RUNS
from system.commandline import Parser, forgive_output, run
from system.errors import UserError

DEFAULT = RUNS / "aab"
PICTURE = "compare.png"
REMEDY = "train one with: python train.py --config aab.yaml"


def parser() -> Parser:
    """The command line of compare.py."""
    p = Parser(prog="compare.py", about=__doc__)
    add = p.add_argument
    add("--ckpt", nargs="+", type=Path, metavar="PATH", help=f"runs or files; default: {DEFAULT}")
    by_hand = "model set by hand, and with it the task; default: one-head"
    add("--handmade", choices=handmade.MODELS, default="one-head", help=by_hand)
    add("--out", type=Path, metavar="DIR", help=f"folder of {PICTURE}; default: the first run's")
    add("--json", action="store_true", help="print the numbers as JSON in place of the table")
    return p


def trained(path: Path) -> list[Column]:
    """The model of the run or file `path`, and again with its counts if it has any.

    Raises UserError where it knows other letters.
    """
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}; {REMEDY}")
    saved = checkpoint.load(checkpoint.locate(path))
    if sorted(saved.chars) != sorted(LETTERS):
        raise UserError(
            f"{path} is a model of {len(saved.chars)} characters, and a comparison takes models "
            f"of a and b; {REMEDY}"
        )
    columns = [Column(str(path), "trained", saved.build(), saved.chars)]
    if saved.counts:
        columns.append(Column(f"{path} and counts", "trained", mixture.load(saved), saved.chars))
    return columns


def untrained(like: Column) -> Column:
    """A model of the same shape as it is before its first step."""
    torch.manual_seed(1)
    return Column("untrained", "untrained", GPT(like.model.config).eval(), like.chars)


def measure_all(columns: list[Column], task: Task) -> list[Measured]:
    """The numbers of every column; the first is the hand-set model. Raises UserError."""
    numbers = []
    for column in columns:
        try:
            numbers.append(measure(column, columns[0], task))
        except ValueError as error:
            raise UserError(f"{column.label}: {error}") from None
        if not math.isfinite(numbers[-1].loss):
            raise UserError(f"{column.label} has weights too large to compute with; {REMEDY}")
    return numbers


def command(args: argparse.Namespace) -> int:
    """Compare as `args` say."""
    forgive_output()
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is no folder; name one, or a path where none is yet")
    _, task = handmade.MODELS[args.handmade]
    paths = args.ckpt or [DEFAULT]
    by_hand = handmade.load(args.handmade)
    first = Column(args.handmade, "handmade", by_hand.build(), by_hand.chars)
    found = itertools.chain.from_iterable(map(trained, paths))
    columns = [first, *found, untrained(first)]
    numbers = measure_all(columns, task)
    from analysis.picture import draw  # here, because importing matplotlib takes a second

    folder = args.out or checkpoint.locate(paths[0]).parent
    path = draw(folder / PICTURE, columns, numbers, task=task)
    if args.json:
        content = {"task": task.word, "picture": str(path)}
        content["models"] = [dataclasses.asdict(m) for m in numbers]
        print(json.dumps(content, indent=2))
        return 0
    print(tabulate(numbers, task))
    for measured in numbers:
        if measured.kind == "trained":
            print(f"\n{name_wrong(measured, task)}")
    print(f"\nsee {path}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
