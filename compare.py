"""Compare trained models with one set by hand, on the task of the latter.

    python compare.py                                         checkpoints/aab against one-head
    python compare.py --ckpt checkpoints/aab checkpoints/my   several columns
    python compare.py --ckpt checkpoints/aab/step_*.pt        what train.keep_every kept of a run
    python compare.py --handmade abc --ckpt checkpoints/abc   on the rules of configs/rules/abc.yaml
    python compare.py --handmade parity --radix 2 4 16        one machine, deep or wide

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
from data.aab import Task
from data.corpus import Corpus
from data.rules import RuleTask
from exchange import models
from handmade.options import add_counted, counted
from model import GPT
from system.checkpoint import RUNS, Checkpoint
from system.commandline import Parser, bounded, only_one, run
from system.errors import UserError, looked_in
from system.output import forgive_output
from system.settings import DataConfig

DEFAULT = RUNS / "aab"
PICTURE = "compare.png"
SPLIT = ("val_fraction", "val_from", "val_dataset")  # the settings of data that say how
TRAIN = "python train.py --config aab.yaml"


def parser() -> Parser:
    """The command line of compare.py."""
    p = Parser(prog="compare.py", about=__doc__)
    add = p.add_argument
    add("--ckpt", nargs="+", type=Path, metavar="PATH", help=f"runs or files; default: {DEFAULT}")
    by_hand = "model set by hand, or a rule file, and with it the task; default: one-head"
    add("--handmade", default="one-head", metavar="NAME", help=by_hand)
    add_counted(add)
    deep_or_wide = "no checkpoints, but the machine of --handmade, built with each of these radices"
    add("--radix", nargs="+", type=bounded(int, 2), metavar="N", help=deep_or_wide)
    add("--out", type=Path, metavar="DIR", help=f"folder of {PICTURE}; default: the first run's")
    add("--json", action="store_true", help="print the numbers as JSON in place of the table")
    return p


def remedy(name: str) -> str:
    """The end of a message: how to train a model of the task of the hand-set model `name`."""
    if rule := handmade.rule_of(name):
        return (
            f"train one with: {TRAIN} data.dataset=rules:{name} model.block_size={rule.block_size}"
        )
    return f"train one with: {TRAIN}"


def find(path: Path, letters: str, remedy: str, text: Corpus | None = None) -> Checkpoint:
    """The model of the run or file `path`.

    Warns where it may have learned from what of `text` is validated on. Raises UserError, with the
    `remedy`, where it knows other letters.
    """
    if not path.exists():
        raise UserError(f"there is no checkpoint {path}{looked_in(path)}; {remedy}")
    saved = models.load(models.locate(path))
    if sorted(saved.chars) != sorted(letters):
        wanted = f"the {len(letters)} of the text" if len(letters) > 9 else " and ".join(letters)
        raise UserError(
            f"{path} is a model of {len(saved.chars)} characters, and the comparison takes models "
            f"of {wanted}; {remedy}"
        )
    if text and split_otherwise(saved, text):
        print(
            f"{path} validated on another part of this text, and may have learned from the part "
            "that it is judged on here",
            file=sys.stderr,
        )
    return saved


def labels(paths: list[Path]) -> list[str]:
    """What the models are called: by their paths, or by their names where all are in one run."""
    run = len(paths) > 1 and len({path.parent for path in paths}) == 1
    alone = run and all(path.suffix == ".pt" for path in paths)
    return [path.name if alone else str(path) for path in paths]


def trained(label: str, saved: Checkpoint) -> list[Column]:
    """The columns of a model: as it was trained, and again with its counts if it has any."""
    learned = saved.settings.get("data", {}).get("dataset", "")
    columns = [Column(label, "trained", saved.build(), saved.chars, learned)]
    if saved.counts:
        both = mixture.load(saved)
        columns.append(Column(f"{label} and counts", "trained", both, saved.chars, learned))
    return columns


def split_otherwise(saved: Checkpoint, text: Corpus) -> bool:
    """Whether `saved` comes from the text of `text`, but kept another part of it for validation."""
    if saved.fingerprint.split()[:1] != text.fingerprint.split()[:1]:
        return False
    ours, theirs = dataclasses.asdict(DataConfig()), saved.settings.get("data", {})
    return any(theirs.get(name, ours[name]) != ours[name] for name in SPLIT)


def untrained(like: Column) -> Column:
    """A model of the same shape as it is before its first step."""
    torch.manual_seed(1)
    return Column("untrained", "untrained", GPT(like.model.config).eval(), like.chars)


def measure_all(columns: list[Column], task: Task | RuleTask) -> list[Measured]:
    """The numbers of every column; the first is the hand-set model. Raises UserError."""
    numbers = []
    for column in columns:
        try:
            numbers.append(measure(column, columns[0], task))
        except ValueError as error:
            raise UserError(f"{column.label}: {error}") from None
        if not math.isfinite(numbers[-1].loss):
            raise UserError(
                f"{column.label} has weights too large to compute with; {remedy(columns[0].label)}"
            )
    return numbers


def compare_text(args: argparse.Namespace, dataset: str, order: int) -> int:
    """Compare counts of `dataset` as weights with trained models, on its validation text."""
    from analysis import text as on_text  # here, because importing matplotlib takes a second

    text, paths = handmade.read_text(dataset), args.ckpt or [RUNS / "tiny_shakespeare"]
    by_hand, chars = handmade.load_ngrams(dataset, order), text.tokenizer.chars
    train = f"train one with: python train.py --config tiny_shakespeare.yaml data.dataset={dataset}"
    label = f"{args.handmade} of order {order}"
    first = Column(label, "handmade", by_hand.build(), chars, dataset)
    saves = [find(path, chars, train, text) for path in paths]
    window = min(saved.model.block_size for saved in (by_hand, *saves))
    found = []  # of one model after the other, as counts take much memory
    each = itertools.chain.from_iterable(map(trained, labels(paths), saves))
    for column in itertools.chain([first], each):
        # each has an order of the characters of its own
        ids = torch.tensor([column.chars.index(char) for char in chars])
        found.append(on_text.lose(column, ids[text.val.long()], window))
    named = on_text.telling(found[0], found[1], on_text.frequency(text.val, chars))
    path = (args.out or models.home(paths[0])) / PICTURE
    if args.json:
        content = {"task": dataset, "picture": str(path)}
        print(json.dumps({**content, "models": [dataclasses.asdict(m) for m in found]}, indent=2))
    else:
        print(on_text.tabulate(found, named))
    on_text.draw(path, found, named)  # last: what was measured is out, whatever happens to it
    if not args.json:
        print(f"\nsee {path}")
    return 0


def compare_radices(args: argparse.Namespace) -> int:
    """Compare one machine with itself, built with each of the radices."""
    from analysis import radix  # here, because importing matplotlib takes a second

    only_one(args, "ckpt", "radix")
    found, path = radix.build_all(args.handmade, args.radix), (args.out or Path()) / PICTURE
    if args.json:
        content = {"task": args.handmade, "picture": str(path)}
        print(json.dumps({**content, "radices": [dataclasses.asdict(b) for b in found]}, indent=2))
    else:
        print(radix.tabulate(found))
    radix.draw(path, args.handmade, found)
    if not args.json:
        print(f"\nsee {path}")
    return 0


def command(args: argparse.Namespace) -> int:
    """Compare as `args` say."""
    forgive_output()
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UserError(f"--out {args.out} is no folder; name one, or a path where none is yet")
    dataset, order = counted(args, args.handmade)
    if args.radix:
        return compare_radices(args)
    if args.handmade == handmade.NGRAM:
        return compare_text(args, dataset, order)
    task = handmade.task_of(args.handmade)
    paths = args.ckpt or [DEFAULT]
    by_hand = handmade.load(args.handmade)
    first = Column(args.handmade, "handmade", by_hand.build(), by_hand.chars)
    saves = [find(path, task.letters, remedy(args.handmade)) for path in paths]
    found = map(trained, labels(paths), saves)
    columns = [first, *itertools.chain.from_iterable(found), untrained(first)]
    numbers = measure_all(columns, task)
    path = (args.out or models.home(paths[0])) / PICTURE
    if args.json:
        content = {"task": task.word or args.handmade, "picture": str(path)}
        content["models"] = [dataclasses.asdict(m) for m in numbers]
        print(json.dumps(content, indent=2))
    else:
        learned = [measured for measured in numbers if measured.kind == "trained"]
        print(tabulate(numbers, task))
        print(*(f"\n{name_wrong(measured, task)}" for measured in learned), sep="\n")
    from analysis.picture import draw  # here, because importing matplotlib takes a second

    draw(path, columns, numbers, task=task)  # last: what was measured is out, whatever happens
    if not args.json:
        print(f"\nsee {path}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
