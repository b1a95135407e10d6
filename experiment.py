"""Does training find what the hand can set? Train twins of a hand-set model, and count.

    python experiment.py --handmade aab                        every arm, five seeds
    python experiment.py --handmade my.yaml --seeds 2          a rule of your own
    python experiment.py --handmade copy --layers 1            twins of one layer
    python experiment.py --handmade parity --window 8 --arms same roomier
    python experiment.py --handmade abc --data own restarts every

Three things are counted, which differ: a loss at its floor, a proof that every context is right,
and attention that looks where the hand's does. An experiment that was stopped goes on where it was.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import handmade
from data import rules
from data.addition import Addition
from data.laws import Law
from experiments import table
from experiments.arms import ARMS, BLURS, NOISES, Run, shape, starts
from experiments.lab import Lab, carry_all, foretell, one_thread, open_lab, processors
from experiments.store import Store
from experiments.twin import Recipe
from experiments.windows import DATA
from system.bar import bar
from system.checkpoint import RUNS
from system.commandline import Parser, bounded, run
from system.errors import UserError, show
from system.files import alone_in
from system.output import forgive_output

PICTURE = "experiment.png"


def parser() -> Parser:
    """The command line of experiment.py."""
    p, recipe = Parser(prog="experiment.py", about=__doc__), Recipe()
    add = p.add_argument_group("what is asked").add_argument
    names = f"rule file: {', '.join(rules.examples())}, or a path"
    add("--handmade", metavar="NAME", required=True, help=names)
    add("--window", type=bounded(int, 2, 4096), metavar="N", help="places, in place of the file's")
    arms = f"default: all; {', '.join(ARMS)}"
    add("--arms", nargs="+", choices=ARMS, default=[*ARMS], metavar="ARM", help=arms)
    seeds = "of each arm and text; default: 5"
    add("--seeds", type=bounded(int, 1, 1000), default=5, metavar="N", help=seeds)
    texts = "own, restarts (random beginnings), every (all contexts alike); default: every"
    add("--data", nargs="+", choices=DATA, default=["every"], metavar="TEXT", help=texts)
    blurs = bounded(float, 1, 1e9)
    add("--blur", nargs="+", type=blurs, default=[*BLURS], metavar="S", help="of the arm blurred")
    noise = bounded(float, 0, 1e3)
    add("--noise", nargs="+", type=noise, default=[*NOISES], metavar="s", help="of the arm noisy")
    layers = "of the arms same and roomier; default: the hand-set model's, and 2 at least"
    add("--layers", type=bounded(int, 1, 64), metavar="N", help=layers)
    add_recipe(p, recipe)
    add = p.add_argument_group("what comes out").add_argument
    folder = f"folder of results and weights; default: {RUNS}/experiment-NAME"
    add("--out", type=Path, metavar="DIR", help=folder)
    add("--json", action="store_true", help="print the results as JSON in place of the table")
    return p


def add_recipe(p: Parser, recipe: Recipe) -> None:
    """The options that say how twins are trained."""
    add = p.add_argument_group("how twins are trained").add_argument
    most = f"at most; a run ends once it is proved; default: {recipe.steps}"
    add("--steps", type=bounded(int, 10), default=recipe.steps, metavar="N", help=most)
    size = f"windows in a step; default: {recipe.batch_size}"
    add("--batch-size", type=bounded(int, 1), default=recipe.batch_size, metavar="N", help=size)
    rate = f"of AdamW; default: {recipe.learning_rate}"
    above = bounded(float, 1e-9, 1e3)
    add("--learning-rate", type=above, default=recipe.learning_rate, metavar="N", help=rate)
    carries = "share of sums with two or more carries in a row; default: as they come"
    share = bounded(float, 0, 1)
    add("--long-carries", type=share, default=0.0, metavar="SHARE", help=carries)
    jobs = "runs side by side, of one thread each; default: as many as there are cores"
    add("--jobs", type=bounded(int, 1, 1024), metavar="N", help=jobs)


def named(args: argparse.Namespace) -> str:
    """The folder of an experiment, where none is given."""
    asked = ("window", "layers", "long_carries")
    given = {name.replace("_", "-"): value for name in asked if (value := vars(args)[name])}
    parts = [f"{name}-{value:g}" for name, value in given.items()]
    return "-".join(["experiment", Path(args.handmade).stem, *parts])


def law_of(args: argparse.Namespace) -> Law:
    """The rule that is asked for. Raises UserError."""
    law = handmade.rule_of(args.handmade, args.window)
    if law is None:
        raise UserError(
            f"{args.handmade} is a published model without a rule file; name one of "
            f"{', '.join(rules.examples())}, or a rule file"
        )
    if args.long_carries and not isinstance(law, Addition):
        raise UserError(f"--long-carries is about sums, and {args.handmade} is none; leave it out")
    return law


def runs_of(args: argparse.Namespace) -> list[Run]:
    """The runs that `args` ask for, those of a seed together."""
    first = starts(args.arms, args.blur, args.noise)
    each = dict.fromkeys(args.data)
    if not first:
        raise UserError("--arms between draws lines to the twins of other arms; name one, as same")
    return [
        Run(start, data, seed)
        for data in each
        for start in first
        for seed in range(1, args.seeds + 1)
    ]


def in_words(seconds: float) -> str:
    """A time that was estimated."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def missing(args: argparse.Namespace, store: Store, lab: Lab, runs: list[Run]) -> list[Run]:
    """The runs that are still to be made, or of which the line to the hand's weights is."""

    def lacks(each: Run) -> bool:
        result = store.found.get(str(each))
        if result is None:
            return True
        same = shape(each.start, lab.hand.model, lab.recipe.layers) == lab.hand.model
        return "between" in args.arms and result.between is None and same

    return [each for each in runs if lacks(each)]


def carry_out(args: argparse.Namespace, store: Store, runs: list[Run]) -> None:
    """Make the runs that are missing, and say before how long that takes."""
    texts = tuple(dict.fromkeys(args.data))
    try:
        with one_thread():
            lab = open_lab(store.rule, store.rule_file, store.recipe, texts)
    except ValueError as error:
        raise UserError(f"{args.handmade}: {error}") from None
    todo = missing(args, store, lab, runs)
    jobs = min(args.jobs or processors(), max(1, len(todo)))
    done = len(runs) - len(todo)
    there = f", {done} of them made before" if done else ""
    which = "all" if lab.judge.domain.whole else f"{lab.judge.counted.asked():,} drawn"
    print(
        f"{len(runs)} runs{there}; judged in {which} of {lab.judge.domain.total:,.0f} contexts",
        file=sys.stderr,
    )
    if todo:
        fresh = [each for each in todo if str(each) not in store.found]
        seconds = foretell(lab, fresh, jobs)
        print(
            f"at most {in_words(seconds)} here, {jobs} side by side; {store.folder} keeps each "
            "run, and the same command goes on from there",
            file=sys.stderr,
        )
    between = "between" in args.arms
    with bar("runs", len(todo), " runs") as shown:
        for _ in carry_all(store, todo, texts, between=between, jobs=jobs):
            shown.update()


def command(args: argparse.Namespace) -> int:
    """Run the experiment that `args` describe."""
    forgive_output()
    law, runs = law_of(args), runs_of(args)
    folder = args.out or RUNS / named(args)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {show(str(folder))} is no folder; name one, or a new path")
    recipe = Recipe(args.steps, args.batch_size, args.learning_rate, args.layers, args.long_carries)
    with alone_in(folder):
        store = Store(folder, rules.write(law), recipe)
        carry_out(args, store, runs)
    from experiments.picture import draw  # here, because importing matplotlib takes a second

    path = folder / PICTURE
    found = {str(each): store.found[str(each)] for each in runs}
    if args.json:
        plain = {name: result.plain() for name, result in found.items()}
        print(json.dumps({"recipe": dataclasses.asdict(recipe), "runs": plain}, indent=2))
    else:
        print(table.tabulate(table.grouped(runs, found)))
        print(f"\n{table.sentence(list(found.values()))}")
    draw(path, args.handmade, runs, found)  # last: what was found is out, whatever happens
    if not args.json:
        print(f"\nsee {path}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
