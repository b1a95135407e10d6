"""Say how well models know texts, where a text surprises them, and how much of it is copied.

    python score.py my.txt                             by the newest run; - reads a pipe
    python score.py --ckpt A --ckpt B my.txt you.txt   models and texts in one table, lowest first
    python score.py --handmade ngram --order 4 my.txt  by counts as weights, set by hand
    python score.py my.txt --shade                     the text, with marks where it surprises
    python score.py --copied-from data.txt my.txt      what my.txt and data.txt share, word for word

A loss is in nats per character, as train.py's val_loss.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import itertools
import shutil
import sys
from pathlib import Path

import handmade
import mixture
from analysis import sheet
from analysis.copied import LONG, copied
from analysis.scoring import Judge
from analysis.shading import coloured
from analysis.sheet import Scored
from data import given
from data.tokenizer import CharTokenizer, UnknownCharacters
from exchange import models
from handmade.options import add_counted, counted
from system import config, device
from system.checkpoint import Checkpoint
from system.commandline import Parser, bounded, run
from system.errors import UserError
from system.output import forgive_output

PLACES = 10  # that are named where one text is judged by one model


def parser() -> Parser:
    """The command line of score.py."""
    p = Parser(prog="score.py", about=__doc__)
    texts = "UTF-8 texts, or folders of .txt files; - reads a pipe. One that ends in .pt is a model"
    p.add_argument("texts", nargs="*", metavar="TEXT", help=texts)
    add = p.add_argument_group("who judges").add_argument
    newest = "a run or file, as for sample.py; several are set side by side; default: newest"
    add("--ckpt", action="append", type=Path, metavar="PATH", help=newest)
    by_hand = f"weights set by hand, as for sample.py, such as {handmade.NGRAM}"
    add("--handmade", metavar="NAME", help=by_hand)
    add_counted(add)
    add("--trained-alone", action="store_true", help="leave out the counts, if there are any")
    add("--device", choices=device.CHOICES, default="auto", help="where to compute; default: auto")

    add = p.add_argument_group("how").add_argument
    overlap = "let windows overlap: each begins N after the one before; default: side by side"
    add("--stride", type=bounded(int, 1), metavar="N", help=overlap)
    unknown = "what becomes of characters the model has never seen; default: error"
    add("--unknown", choices=("error", "skip"), default="error", help=unknown)

    add = p.add_argument_group("what is shown").add_argument
    most = f"how many of the most surprising; default: {PLACES}, or 0 with several models or texts"
    add("--places", type=bounded(int, 0), metavar="N", help=most)
    add("--shade", action="store_true", help="show each text, its surprising characters marked")
    add("--json", action="store_true", help="one line of JSON for each character, in place of all")
    copies = f"show what a text shares with this one, in stretches of {LONG} characters or more"
    add("--copied-from", metavar="DATA", help=copies)
    return p


def check_options(args: argparse.Namespace, names: list[str]) -> None:
    """Raise UserError unless what `args` ask of the texts called `names` can be done."""
    if not names:
        raise UserError("there is no text to score; name one after the models, or - for a pipe")
    if args.copied_from == given.PIPE and given.PIPE in names:
        raise UserError("a pipe can be read once; give --copied-from or the text as a file")
    asked = [f"--{name}" for name in ("shade", "places") if vars(args)[name]]
    if asked and args.json:
        raise UserError(f"--json and {asked[0]} exclude each other; give one")
    asked += ["--stride"] * bool(args.stride) + ["--trained-alone"] * args.trained_alone
    if asked and args.copied_from and not (args.ckpt or args.handmade):
        raise UserError(f"{asked[0]} takes a model, which --copied-from does not; add --ckpt PATH")


def is_model(word: str) -> bool:
    """Whether a word among the texts is a model: a shell makes several of `step_*.pt`."""
    return word.endswith(".pt")


def loaded(args: argparse.Namespace) -> dict[str, Checkpoint]:
    """The models that judge, by what to call them. Raises UserError."""
    dataset, order = counted(args, args.handmade)
    found = {}
    for path in args.ckpt or ([] if args.handmade or args.copied_from else [None]):
        file = models.locate(path)
        found[str(path or file)] = models.load(file)
    if args.handmade == handmade.NGRAM:
        found[f"{handmade.NGRAM} of order {order}"] = handmade.load_ngrams(dataset, order)
    elif args.handmade:
        found[args.handmade] = handmade.load(args.handmade)
    return found


def judges(args: argparse.Namespace) -> list[Judge]:
    """What judges, on its device, in the precision that it was trained in. Raises UserError."""
    found, place = [], device.pick(args.device)
    for label, saved in loaded(args).items():
        model = saved.build() if args.trained_alone else mixture.load(saved)
        window = model.config.block_size
        if args.stride and args.stride > window:
            raise UserError(
                f"--stride {args.stride} is longer than the window of {label}; "
                f"give {window} at most"
            )
        dtype = device.set_precision(config.build(saved.settings).train.dtype, place)
        found.append(Judge(label, model.to(place), CharTokenizer(saved.chars), place, dtype))
    return found


def check(judge: Judge, name: str, text: str, unknown: str) -> None:
    """Raise UserError unless `judge` can judge the text; say how many characters are left out."""
    try:
        kept = len(judge.tokenizer.encode(text, unknown))
    except UnknownCharacters as error:
        raise UserError(f"{name} has {error} to {judge.label}; use --unknown skip") from None
    if kept < 2:
        raise UserError(
            f"{name} has {kept} character{'s' * (kept != 1)} that {judge.label} knows, and the "
            "first is never judged; give a text of two or more"
        )
    if kept < len(text):
        print(
            f"{name}: {len(text) - kept:,} of {len(text):,} characters skipped, which "
            f"{judge.label} does not know",
            file=sys.stderr,
        )


def command(args: argparse.Namespace) -> int:
    """Score as `args` say."""
    forgive_output()
    device.keep_memory()
    args.ckpt = [*(args.ckpt or []), *(Path(word) for word in args.texts if is_model(word))]
    names = [word for word in args.texts if not is_model(word)]
    check_options(args, names)
    by = judges(args)
    keep = any("\r" in judge.tokenizer.chars for judge in by)
    texts = given.read(names, keep_returns=keep)
    for judge, (name, text) in itertools.product(by, texts.items()):
        check(judge, name, text, args.unknown)
    if args.copied_from:
        source = given.read([args.copied_from], keep_returns=keep).values()
        tell_copies(args, texts, "\uffff".join(source))  # no character: no stretch goes across
    scored = [
        Scored(judge, name, text, judge.score(text, args.stride))
        for judge, (name, text) in itertools.product(by, texts.items())
    ]
    tell(args, scored)
    return 0


def tell_copies(args: argparse.Namespace, texts: dict[str, str], source: str) -> None:
    """Print what each text shares with `source`."""
    for name, text in texts.items():
        found = copied(text, source)
        if args.json:
            print(sheet.copies_as_json(name, text, args.copied_from, found))
        else:
            print(*sheet.copies(name, text, args.copied_from, found), sep="\n")


def tell(args: argparse.Namespace, scored: list[Scored]) -> None:
    """Print the table, and what else `args` ask for."""
    if args.json:
        for each in scored:
            for line in sheet.as_json(each):
                print(line)
        return
    colour, columns = coloured(sys.stdout), shutil.get_terminal_size().columns
    for each in scored if args.shade else ():
        for line in sheet.shade(each, columns=columns, colour=colour):
            print(line)
    if scored:
        print(sheet.tabulate(scored))
    most = PLACES * (len(scored) == 1) if args.places is None else args.places
    for each in scored if most else ():
        print(f"\n{sheet.surprises(each, most)}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
