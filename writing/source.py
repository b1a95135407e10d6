"""What writes: a checkpoint, weights set by hand, or a folder of Hugging Face's, as options say."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import handmade
import mixture
from data import rules
from data.laws import Law
from data.tokenizer import CharTokenizer
from exchange import folder, models
from exchange.bytepairs import BytePairs
from exchange.kinds import kind_of
from handmade.options import add_counted, counted
from mixture import Mixture
from model import GPT
from proof.certificate import assure
from system import checkpoint, config, device
from system.checkpoint import Checkpoint
from system.commandline import Parser, only_one
from system.errors import UserError


@dataclass
class Source:
    """What writes, what it is in a line, and how precisely and warmly it does so left alone; and
    the rule that it was made from, if it was."""

    what: str
    model: GPT | Mixture
    tokenizer: CharTokenizer | BytePairs
    dtype: str
    temperature: float = 0.8
    rule: Law | None = None


def add_options(p: Parser) -> None:
    """The options that `find` reads."""
    add = p.add_argument_group("what writes").add_argument
    newest = "a run or file, ours or nanoGPT's, or a folder of export.py; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    names = ", ".join((*handmade.MODELS, handmade.NGRAM, *rules.examples()))
    by_hand = f"weights set by hand: {names}, or a rule file; default: one-head"
    add("--handmade", nargs="?", const="one-head", metavar="NAME", help=by_hand)
    add("--save", type=Path, metavar="FILE", help="write the hand-set model to a checkpoint, too")
    add_counted(add)
    by_name = "GPT-2 or Jais2: a folder, or a name on the hub; takes requirements-gpt2.txt"
    add("--gpt2", metavar="NAME", help=by_name)
    add("--trained-alone", action="store_true", help="leave out the counts, if there are any")
    add("--device", choices=device.CHOICES, default="auto", help="where to compute; default: auto")


def find(args: argparse.Namespace) -> Source:
    """What `args` ask to write with. Raises UserError."""
    counted(args, args.handmade)
    only_one(args, "ckpt", "handmade", "gpt2")
    name = args.gpt2
    if args.ckpt and folder.is_one(args.ckpt):
        name = str(args.ckpt)
    if name is not None:
        model, tokenizer = folder.load(name, option="--ckpt" if args.ckpt else "--gpt2")
        kind = kind_of(model.config).name
        what = f"{name}, {kind} of {model.parameter_count():,} parameters"
        return Source(what, model, tokenizer, "auto")
    if args.save is not None and args.handmade is None:
        raise UserError(f"--save {args.save} keeps a hand-set model; name one with --handmade")
    rule = None
    if args.handmade is not None:
        saved, what, rule = by_hand(args)
        if args.save is not None:
            checkpoint.save(args.save, saved)
    else:
        path = models.locate(args.ckpt or None)  # False: --ckpt without a path
        saved = models.load(path)
        what = f"{path}, step {saved.progress['step']}"
    dtype = config.build(saved.settings).train.dtype
    temperature = 0.8 if args.handmade in (None, handmade.NGRAM) else 0
    model = saved.build() if args.trained_alone else mixture.load(saved)
    if isinstance(model, Mixture):
        what += ", counted and trained"
    return Source(what, model, CharTokenizer(saved.chars), dtype, temperature, rule)


def by_hand(args: argparse.Namespace) -> tuple[Checkpoint, str, Law | None]:
    """The hand-set model that `args` name, a line about it, and its rule, if there is one: then it
    is proved.

    Raises UserError.
    """
    name = args.handmade
    if name == handmade.NGRAM:
        dataset, order = counted(args, name)
        saved = handmade.load_ngrams(dataset, order)
        size = saved.build().parameter_count()
        return saved, f"{dataset}, counted to order {order}: {size:,} weights set by hand", None
    saved, what = handmade.load(name), f"{name}, set by hand"
    if rule := handmade.rule_of(name):
        what += f"; {assure(saved.build(), rule, name)}"
    return saved, what, rule
