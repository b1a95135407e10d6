"""Compare trained models with one set by hand, on the task of the latter.

    python compare.py                                         checkpoints/aab against one-head
    python compare.py --ckpt checkpoints/aab checkpoints/my   several columns
    python compare.py --json                                  the same numbers for scripts

Prints a table, names the contexts that the trained models get wrong, and draws compare.png.
"""

from system.interrupt import quiet

if __name__ == "__main__":
    quiet()  # while all of this is imported

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import handmade
from analysis.measure import ENDINGS, STEPS, Column, HeadEffect, Measured, measure
from data.aab import LETTERS, Task
from model import GPT
from system import checkpoint
from system.checkpoint import RUNS
from system.errors import Parser, UserError, forgive_output, run

DEFAULT = RUNS / "aab"
PICTURE = "compare.png"
NAMED = 60  # wrong contexts that are named for each reason; --json names all
REMEDY = "train one with: python train.py --config aab.yaml"


def parser() -> Parser:
    """The command line of compare.py."""
    p = Parser(prog="compare.py", description=__doc__)
    add = p.add_argument
    add("--ckpt", nargs="+", type=Path, metavar="PATH", help=f"runs or files; default: {DEFAULT}")
    by_hand = "model set by hand, and with it the task; default: one-head"
    add("--handmade", choices=handmade.MODELS, default="one-head", help=by_hand)
    add("--out", type=Path, metavar="DIR", help=f"folder of {PICTURE}; default: the first run's")
    add("--json", action="store_true", help="print the numbers as JSON in place of the table")
    return p


def trained(path: Path) -> Column:
    """The model of the run or file `path`. Raises UserError where it knows other letters."""
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}; {REMEDY}")
    saved = checkpoint.load(checkpoint.locate(path))
    if sorted(saved.chars) != sorted(LETTERS):
        raise UserError(
            f"{path} is a model of {len(saved.chars)} characters, and a comparison takes models "
            f"of a and b; {REMEDY}"
        )
    return Column(str(path), "trained", saved.build(), saved.chars)


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


def rows(task: Task, heads: int) -> list[tuple[str, Callable[[Measured], str]]]:
    """The rows of the table: a name, and what stands there for a column."""
    steps = len(STEPS)
    table = [
        ("parameters", lambda m: f"{m.parameters:,}"),
        ("parameters that are not zero", lambda m: f"{m.nonzero_parameters:,}"),
        ("loss on the task, nats per character", lambda m: f"{m.loss:.4f}"),
        ("  its floor, the entropy of the text", lambda m: f"{m.entropy_floor:.4f}"),
        ("  after two characters or more", lambda m: f"{m.loss_after_two:.4f}"),
        (f"right in {task.word} repeated, {steps} steps", lambda m: f"{m.steps_right}/{steps}"),
        ("contexts right, of those in the text", lambda m: f"{m.task.right:,}/{m.task.total:,}"),
        ("  worst margin", lambda m: f"{m.task.worst_margin:+.4f}"),
        ("contexts right, of all", lambda m: f"{m.all.right:,}/{m.all.total:,}"),
        ("  worst margin", lambda m: f"{m.all.worst_margin:+.4f}"),
        ("attention distance to the hand-set head", lambda m: f"{m.attention_distance:.3f}"),
    ]
    for place in range(heads):
        name = of_head(place, lambda head: f"layer {head.layer} head {head.head}")
        table.append((f"what head {place + 1} adds to the logit of b", name))
        for ending in ENDINGS:
            value = of_head(place, lambda head, ending=ending: f"{head.to_b[ending]:+.2f}")
            table.append((f"  after {ending}", value))
    return table


def of_head(place: int, cell: Callable[[HeadEffect], str]) -> Callable[[Measured], str]:
    """The cell of a model's head at `place`; empty where it has none."""

    def of(measured: Measured) -> str:
        head = measured.heads[place] if place < len(measured.heads) else None
        return cell(head) if head else ""

    return of


def tabulate(numbers: list[Measured], task: Task) -> str:
    """All numbers as lines of text, a column for each model."""
    cells = [["", *(m.label for m in numbers)]]
    for name, cell in rows(task, max(len(m.heads) for m in numbers)):
        cells.append([name, *(cell(m) for m in numbers)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in cells
    )


def name_wrong(measured: Measured, task: Task) -> str:
    """The contexts that a model gets wrong, by what in them never occurs in the text."""
    wrong = measured.all.wrong
    if not wrong:
        return f"{measured.label} is right in all {measured.all.total:,} contexts"
    lines = [f"{measured.label} is wrong in {len(wrong):,} of {measured.all.total:,} contexts"]
    never, groups = task.never(), {}
    for context in wrong:
        strange = next((part for part in never if part in context), None)
        group = f"with {strange}, which never occurs in the text" if strange else "of the text"
        groups.setdefault(group, []).append(context)
    for group, contexts in groups.items():
        more = f" and {len(contexts) - NAMED:,} more" if len(contexts) > NAMED else ""
        lines.append(f"  {len(contexts):,} {group}: {' '.join(contexts[:NAMED])}{more}")
    return "\n".join(lines)


def command(args: argparse.Namespace) -> int:
    """Compare as `args` say."""
    forgive_output()
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is no folder; name one, or a path where none is yet")
    _, task = handmade.MODELS[args.handmade]
    paths = args.ckpt or [DEFAULT]
    by_hand = handmade.load(args.handmade)
    first = Column(args.handmade, "handmade", by_hand.build(), by_hand.chars)
    columns = [first, *map(trained, paths), untrained(first)]
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
