"""Write text with a trained model, with one whose weights were set by hand, or with GPT-2.

    python sample.py --ckpt --prompt "ROMEO:"              the newest run
    python sample.py --handmade                            weights set by hand: abaabaab...
    python sample.py --handmade rules.yaml                 weights made from rules that you write
    python sample.py --handmade ngram --order 4            weights made by counting, not by training
    python sample.py --gpt2 gpt2 --prompt "Hello, I'm"     from Hugging Face's hub, or a folder

Text goes to standard output as it is made, everything else to standard error.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import handmade
import mixture
from data import rules
from data.tokenizer import CharTokenizer, UnknownCharacters
from exchange import folder, models
from exchange.bytepairs import BytePairs
from exchange.kinds import kind_of
from generate import generate, texts
from mixture import Mixture
from model import GPT
from proof.certificate import assure
from system import checkpoint, config, device
from system.checkpoint import Checkpoint
from system.commandline import Parser, bounded, run
from system.errors import UserError
from system.output import check_output, harmless

READ_EVERY = 32  # characters between looks at a GPU, which has to wait for them
MOST_SAMPLES = 10_000  # all are held in memory at once


def parser() -> Parser:
    """The command line of sample.py."""
    p = Parser(prog="sample.py", about=__doc__)
    add = p.add_argument_group("what writes").add_argument
    newest = "a run or file, ours or nanoGPT's, or a folder of export.py; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    names = ", ".join((*handmade.MODELS, handmade.NGRAM, *rules.examples()))
    by_hand = f"weights set by hand: {names}, or a rule file; default: one-head"
    add("--handmade", nargs="?", const="one-head", metavar="NAME", help=by_hand)
    add("--save", type=Path, metavar="FILE", help="write the hand-set model to a checkpoint, too")
    counted = "text that --handmade ngram counts; default: tiny_shakespeare"
    add("--data", metavar="NAME", help=counted)
    longest = "longest stretch of characters that it counts; default: 4"
    add("--order", type=bounded(int, 2, 20), metavar="N", help=longest)
    by_name = "GPT-2 or Jais2: a folder, or a name on the hub; takes requirements-gpt2.txt"
    add("--gpt2", metavar="NAME", help=by_name)
    add("--trained-alone", action="store_true", help="leave out the counts, if there are any")
    add("--device", choices=device.CHOICES, default="auto", help="where to compute; default: auto")

    add = p.add_argument_group("what it continues").add_argument
    start = "text to continue; default: a newline, or where GPT-2's texts begin"
    add("--prompt", metavar="TEXT", help=start)
    add("--prompt-file", metavar="PATH", help="file with the text to continue; - reads a pipe")
    unknown = "what becomes of characters the model has never seen; default: error"
    add("--unknown", choices=("error", "skip"), default="error", help=unknown)

    add = p.add_argument_group("how much").add_argument
    most = "characters to write, or GPT-2's tokens; default: 500"
    add("--max-new-tokens", type=bounded(int, 0), default=500, metavar="N", help=most)
    samples = bounded(int, 1, MOST_SAMPLES)
    add("--num-samples", type=samples, default=1, metavar="N", help="texts to write; default: 1")
    add("--stop", metavar="TEXT", help="end a sample before this text")

    add = p.add_argument_group("how the next character is chosen").add_argument
    greedy = "0 always takes the likeliest; default: 0.8, or 0 with --handmade"
    add("--temperature", type=bounded(float, 0, 1e6), metavar="T", help=greedy)
    add("--top-k", type=bounded(int, 1), metavar="K", help="among the K likeliest characters only")
    share = "among the fewest characters only that have probability P together"
    add("--top-p", type=bounded(float, 1e-9, 1), metavar="P", help=share)
    seed = bounded(int, 0, 2**63 - 1)
    add("--seed", type=seed, default=1, metavar="N", help="same seed, same text; default: 1")
    full = (
        "when the context is full: slide on by one; keep its last half (faster); or roll on, each "
        "character computed once (as fast, rotary positions only). Losses are the same to 0.002, "
        "texts are not; default: slide"
    )
    add("--window", choices=("slide", "half", "roll"), default="slide", help=full)
    return p


def read_file(name: str) -> str:
    """The UTF-8 text of the file `name`, or of standard input for `-`. Raises UserError."""
    if name == "-" and sys.stdin is None:
        raise UserError("--prompt-file - has no standard input to read; pipe a text into it")
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode().removeprefix("\ufeff")  # utf-8-sig would count bytes from behind it
    except OSError as error:
        raise UserError(
            f"--prompt-file {name} cannot be read: {error.strerror}; name a UTF-8 text"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"--prompt-file {name} is not UTF-8 at byte offset {error.start}; save it as UTF-8"
        ) from None


def read_prompt(args: argparse.Namespace, tokenizer: CharTokenizer | BytePairs) -> Tensor:
    """The ids (T,) to continue, T >= 1. Raises UserError."""
    if args.prompt is not None and args.prompt_file is not None:
        raise UserError("--prompt and --prompt-file exclude each other; give one")
    prompt = args.prompt if args.prompt_file is None else read_file(args.prompt_file)
    if prompt is None:
        prompt = tokenizer.default_prompt
    try:
        idx = tokenizer.encode(prompt, args.unknown)
    except UnknownCharacters as error:
        raise UserError(f"the prompt has {error} to this model; use --unknown skip") from None
    if not len(idx):
        raise UserError(
            f"the prompt {prompt[:40]!r} has no character to start from; give at least one"
        )
    return idx.long()


@dataclass
class Source:
    """What writes, what it is in a line, and how precisely and warmly it does so left alone."""

    what: str
    model: GPT | Mixture
    tokenizer: CharTokenizer | BytePairs
    dtype: str
    temperature: float = 0.8


def by_hand(args: argparse.Namespace) -> tuple[Checkpoint, str]:
    """The hand-set model that `args` name, proved where there is a rule, and a line about it.

    Raises UserError.
    """
    name = args.handmade
    if name == handmade.NGRAM:
        dataset, order = args.data or "tiny_shakespeare", args.order or 4
        saved = handmade.load_ngrams(dataset, order)
        size = saved.build().parameter_count()
        return saved, f"{dataset}, counted to order {order}: {size:,} weights set by hand"
    saved, what = handmade.load(name), f"{name}, set by hand"
    if rule := handmade.rule_of(name):
        what += f"; {assure(saved.build(), rule, name)}"
    return saved, what


def source(args: argparse.Namespace) -> Source:
    """What `args` ask to write with. Raises UserError."""
    counted = [f"--{name}" for name in ("data", "order") if vars(args)[name] is not None]
    if counted and args.handmade != handmade.NGRAM:
        raise UserError(f"{' and '.join(counted)} go with --handmade {handmade.NGRAM}; add it")
    given = [f"--{name}" for name in ("ckpt", "handmade", "gpt2") if vars(args)[name] is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other; give one")
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
    if args.handmade is not None:
        saved, what = by_hand(args)
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
    return Source(what, model, CharTokenizer(saved.chars), dtype, temperature)


def command(args: argparse.Namespace) -> int:
    """Write the samples that `args` ask for."""
    place = device.pick(args.device)
    device.keep_memory()
    writer = source(args)
    if args.window == "roll" and writer.model.config.position != "rotary":
        raise UserError(
            "--window roll takes rotary positions, and this model has learned ones; use half"
        )
    idx = read_prompt(args, writer.tokenizer)
    check_output(writer.tokenizer.chars)
    print(writer.what, file=sys.stderr)
    steps = generate(
        writer.model.to(place),
        idx.expand(args.num_samples, -1).to(place),  # (B, T)
        args.max_new_tokens,
        torch.Generator(place).manual_seed(args.seed),
        temperature=writer.temperature if args.temperature is None else args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        window=args.window,
        dtype=device.set_precision(writer.dtype, place),
    )
    every = 1 if place.type == "cpu" else READ_EVERY
    written = texts(steps, writer.tokenizer, args.num_samples, stop=args.stop, every=every)
    for row, text in enumerate(written):
        if args.num_samples > 1:
            print(f"--- sample {row + 1} of {args.num_samples}", file=sys.stderr, flush=True)
        for piece in harmless(itertools.chain([writer.tokenizer.decode(idx)], text)):
            print(piece, end="", flush=True)
        print()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
