"""Look inside a model: write one HTML file that runs it, explains it, and lets one change it.

    python look.py --ckpt                                  the newest run
    python look.py --ckpt --trained-alone                  without the counts beside it
    python look.py --handmade                              weights set by hand, to break
    python look.py --handmade abc --prompt aab             made from the rules in configs/rules/
    python look.py --handmade --against checkpoints/aab    side by side on the same text

The file needs no network and nothing beside it: open it in a browser, or send it to someone.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import random
import sys
from pathlib import Path

import handmade
import mixture
from data import aab, rules
from data.laws import Law
from data.tictactoe import END
from data.tokenizer import CharTokenizer, UnknownCharacters
from exchange import models
from handmade.options import add_counted, counted
from mixture import Mixture
from model import GPT
from page.breaks import breaks
from page.html import page
from page.shown import MOST_TILES, Shown, described
from proof.certificate import assure
from proof.proof import MOST, count_contexts, prove
from system.commandline import Parser, run
from system.errors import UserError
from system.files import write_whole
from system.output import forgive_output, unbroken

ORDER = 3  # of n-grams: a page carries all that they add


def parser() -> Parser:
    """The command line of look.py."""
    p = Parser(prog="look.py", about=__doc__)
    add = p.add_argument
    newest = "a run or file, ours or nanoGPT's, or a folder of export.py; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    names = ", ".join((*handmade.MODELS, handmade.NGRAM, *rules.examples()))
    by_hand = f"weights set by hand: {names}, or a rule file; default: one-head"
    add("--handmade", nargs="?", const="one-head", metavar="NAME", help=by_hand)
    add_counted(add, ORDER)
    second = "a second model, a path or the name of a hand-set one, beside the first"
    add("--against", metavar="PATH", help=second)
    add(
        "--prompt",
        metavar="TEXT",
        help="text to begin with; default: a newline, or the first character",
    )
    add("--trained-alone", action="store_true", help="leave out the counts, if there are any")
    out = "the file to write; default: page.html"
    add("--out", type=Path, metavar="FILE", default=Path("page.html"), help=out)
    return p


def by_hand(name: str, args: argparse.Namespace) -> Shown:
    """The hand-set model called `name`, with what its weights mean. Raises UserError."""
    if name == handmade.NGRAM:
        dataset, order = counted(args, name, order=ORDER)
        saved = handmade.load_ngrams(dataset, order)
        about = f"Counts of {dataset} to order {order}, as weights that nobody trained."
        label = f"ngram of order {order}"
        return Shown(label, about, saved.build(), saved.chars, by_hand=True)
    saved, rule, task = handmade.load(name), handmade.rule_of(name), handmade.task_of(name)
    model = saved.build()
    proved = assure(model, rule, name) if rule else verdict(model, saved.chars, task.rule)
    columns, units = handmade.legend(name)
    return Shown(
        Path(name).name,
        "Its weights were set by hand: nobody trained it.",
        model,
        saved.chars,
        columns=columns,
        units=units,
        rule=task.rule,
        shortest=1 if rule else 2,
        some=task.contexts(MOST_TILES),
        of=len((rule and rule.domain()) or ()),
        proved=f"PyTorch: {proved}.",
        breaks=breaks(saved.model, saved.weights, rule),
        by_hand=True,
        law=rule,
    )


def verdict(
    model: GPT | Mixture,
    chars: str,
    rule: aab.Rule,
    shortest: int = 2,
    some: list[str] | None = None,
) -> str:
    """What Python finds out about a rule: in how many contexts the model is right, of `some` where
    these are given."""
    total = count_contexts(chars, model.config.block_size, shortest)
    if some is None and not 1 <= total <= MOST:
        return "too many contexts to try each"
    found = prove(model, chars, rule, text="", shortest=shortest, contexts=some).all
    worst = f"worst margin {found.worst_margin:+.4f}"
    return f"{found.right:,} of {found.total:,} contexts right, {worst}"


def trained(path: Path | None, *, alone: bool) -> Shown:
    """The model of a checkpoint, or of a folder, with its counts or alone. Raises UserError."""
    path = models.locate(path)
    saved = models.load(path)
    label, about = models.label(path), f"{path}, step {saved.progress['step']:,}."
    if path.is_dir():  # which does not say how long it was trained
        about = f"{path}, read as transformers reads it."
    shown = Shown(label, about, saved.build(), saved.chars, by_hand=not saved.fingerprint)
    if saved.counts and alone:
        shown.about += " The counts beside it are left out: this is the trained model alone."
    elif saved.counts:
        shown.mixture, shown.counts = mixture.load(saved), saved.counts
        shown.model = shown.mixture.gpt
    return shown


def sides(args: argparse.Namespace) -> list[Shown]:
    """The models that `args` name, one or two. Raises UserError."""
    if args.ckpt is not None and args.handmade is not None:
        raise UserError("--ckpt and --handmade exclude each other; name the second with --against")
    counted(args, args.handmade, args.against)
    first = (
        by_hand(args.handmade, args)
        if args.handmade is not None
        else trained(args.ckpt or None, alone=args.trained_alone)
    )
    if args.against is None:
        return [first]
    path = Path(args.against)
    second = (
        trained(path, alone=args.trained_alone) if path.exists() else by_hand(args.against, args)
    )
    if sorted(first.chars) != sorted(second.chars):
        raise UserError(
            f"--against {args.against} knows {len(second.chars)} characters, and not the same as "
            f"the {len(first.chars)} of {first.label}; two models are shown on one text, so train "
            "both on the same characters"
        )
    for one, other in ((first, second), (second, first)):
        fits = not other.some or len(other.some[-1]) <= one.model.config.block_size
        if one.rule is None and other.rule is not None and fits:
            one.rule, one.shortest = other.rule, other.shortest
            one.some, one.of = other.some, other.of
            found = verdict(one.writer, one.chars, one.rule, one.shortest, one.some)
            one.proved = f"PyTorch: {found}."
    return [first, second]


def game_of(shown: list[Shown]) -> Law | None:
    """The first rule whose text is a game on a board."""
    return next((each.law for each in shown if each.law and each.law.board), None)


def command(args: argparse.Namespace) -> int:
    """Write the page that `args` ask for."""
    forgive_output()
    shown = sides(args)
    tokenizer, game = CharTokenizer(shown[0].chars), game_of(shown)
    prompt = tokenizer.default_prompt if args.prompt is None else args.prompt
    if args.prompt is None and game:  # one that is over, to look at
        prompt = game.stretch(random.Random(1)) + END
    try:
        if not tokenizer.encode(prompt).numel():
            raise UserError("--prompt is empty; give at least one character")
    except UnknownCharacters as error:
        raise UserError(f"the prompt has {error} to this model; leave it out") from None
    temperature = 0 if shown[0].by_hand and shown[0].rule is not None else 0.8
    drawn, large = [], {}
    for i, each in enumerate(shown):
        idx = CharTokenizer(each.chars).encode(prompt).long()
        try:
            side, carried = described(each, idx, temperature)
        except ValueError as error:
            raise UserError(f"{each.label}: {error}") from None
        drawn.append(side)
        large |= {f"{name}-{i}": text for name, text in carried.items()}
    title = " and ".join(each.label for each in shown)
    about = [f"{side['label']}: {side['about']}" for side in drawn]
    given = {"sides": drawn, "prompt": prompt, "temperature": temperature}
    if game:
        given |= {"turn": game.turn or 1, "board": game.board}
    text = page(title, about, given, large)
    write_whole(args.out, text.encode())
    size = f"{len(text.encode()) / 1e6:.1f} MB"
    if counts := sum(len(text) for name, text in large.items() if name.startswith("counts")):
        size += f", {counts / 1e6:.1f} MB of it counts, which --trained-alone leaves out"
    with unbroken("stdout"):
        print(f"{args.out}: {size}; open it in a browser")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
