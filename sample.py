"""Write text with a trained model, with one whose weights were set by hand, or with GPT-2.

    python sample.py --ckpt                                    the newest run
    python sample.py --ckpt checkpoints/mine --prompt "ROMEO:" --temperature 0.8
    python sample.py --handmade                                one-head: abaabaab...
    python sample.py --gpt2 gpt2 --prompt "Hello, I'm"         from a folder or Hugging Face's hub

Text goes to standard output as it is made, everything else to standard error.
"""

from system.interrupt import quiet

if __name__ == "__main__":
    quiet()  # while all of this is imported

import argparse
import itertools
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import handmade
from data.tokenizer import CharTokenizer, UnknownCharacters, name_all
from generate import generate
from gpt2 import hub
from gpt2.bytepairs import BytePairs
from model import GPT
from system import checkpoint, config, device
from system.errors import Parser, UserError, run

READ_EVERY = 32  # characters between looks at a GPU, which has to wait for them
MOST_SAMPLES = 10_000  # all are held in memory at once


def bounded(kind: type, low: float, high: float = math.inf) -> Callable[[str], int | float]:
    """A reader of command-line numbers which refuses those below `low` or above `high`."""

    def read(text: str) -> int | float:
        value = kind(text)
        if not low <= value <= high:  # NaN is refused too
            upper = "" if high == math.inf else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"must be at least {low:g}{upper}, not {text}")
        return value

    read.__name__ = "whole number" if kind is int else "number"  # argparse's messages say it
    return read


def parser() -> Parser:
    """The command line of sample.py."""
    p = Parser(prog="sample.py", description=__doc__)
    add = p.add_argument
    newest = "a run folder or file; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    names = {"choices": handmade.MODELS, "const": "one-head"}
    add("--handmade", nargs="?", **names, help="weights set by hand; default: one-head")
    by_name = "a folder, or a name on the hub; takes requirements-gpt2.txt"
    add("--gpt2", metavar="NAME", help=by_name)
    start = "text to continue; default: a newline, or where GPT-2's texts begin"
    add("--prompt", help=start)
    add("--prompt-file", metavar="PATH", help="file with the text to continue; - reads a pipe")
    count, seed = bounded(int, 0), bounded(int, 0, 2**63 - 1)
    most = "characters to write, or GPT-2's tokens; default: 500"
    add("--max-new-tokens", type=count, default=500, help=most)
    samples = bounded(int, 1, MOST_SAMPLES)
    add("--num-samples", type=samples, default=1, help="texts to write; default: 1")
    greedy = "0 is greedy; default: 0.8, or 0 with --handmade"
    add("--temperature", type=bounded(float, 0, 1e6), help=greedy)
    add("--top-k", type=bounded(int, 1), help="choose among the k likeliest characters")
    add("--top-p", type=bounded(float, 1e-9, 1), help="choose among the likeliest of this share")
    half = (
        "what a full context does: slide on, or keep its last half, which is faster and other text"
    )
    add("--window", choices=("slide", "half"), default="slide", help=f"{half}; default: slide")
    add("--stop", metavar="TEXT", help="end a sample before this text")
    add("--seed", type=seed, default=1, help="same seed, same text; default: 1")
    add("--unknown", choices=("error", "skip"), default="error", help="default: error")
    add("--device", choices=device.CHOICES, default="auto", help="default: auto")
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


def check_output(chars: str) -> None:
    """Raise UserError unless standard output can show each of `chars`."""
    if sys.stdout is None:
        raise UserError("standard output is closed; leave it open for the text")
    encoding = sys.stdout.encoding or "utf-8"  # a StringIO has none
    try:
        chars.encode(encoding, sys.stdout.errors or "strict")
    except UnicodeEncodeError as error:
        strange = name_all([chars[error.start]])
        raise UserError(
            f"standard output is {encoding} and cannot show {strange}, which this model may write; "
            "set PYTHONIOENCODING=utf-8"
        ) from None


def until(chars: Iterable[str], stop: str | None) -> Iterator[str]:
    """Pass `chars` on up to the first `stop`, which is left out; what may begin it waits."""
    held = ""
    for char in chars:
        held += char
        if held == stop:
            return
        sure = len(held) if stop is None else 0
        while sure < len(held) and not stop.startswith(held[sure:]):
            sure += 1
        yield held[:sure]
        held = held[sure:]
    yield held


def fetch(steps: Iterator[Tensor], every: int) -> Iterator[list[int]]:
    """The ids of each place in turn as numbers, `every` places at a time."""
    while places := list(itertools.islice(steps, every)):
        yield from torch.stack(places).tolist()


@dataclass
class Source:
    """What writes, what it is in a line, and how precisely and warmly it does so left alone."""

    what: str
    model: GPT
    tokenizer: CharTokenizer | BytePairs
    dtype: str
    temperature: float = 0.8


def source(args: argparse.Namespace) -> Source:
    """What `args` ask to write with. Raises UserError."""
    given = [f"--{name}" for name in ("ckpt", "handmade", "gpt2") if vars(args)[name] is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other; give one")
    if args.gpt2 is not None:
        model, tokenizer = hub.load(args.gpt2)
        what = f"{args.gpt2}, GPT-2 of {model.parameter_count():,} parameters"
        return Source(what, model, tokenizer, "auto")
    if args.handmade is not None:
        saved, what = handmade.load(args.handmade), f"{args.handmade}, set by hand"
    else:
        path = checkpoint.locate(args.ckpt or None)  # False: --ckpt without a path
        saved = checkpoint.load(path)
        what = f"{path}, step {saved.progress['step']}"
    dtype = config.build(saved.settings).train.dtype
    temperature = 0.8 if args.handmade is None else 0
    return Source(what, saved.build(), CharTokenizer(saved.chars), dtype, temperature)


def command(args: argparse.Namespace) -> int:
    """Write the samples that `args` ask for."""
    place = device.pick(args.device)
    device.keep_memory()
    writer = source(args)
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
    for row, new in enumerate(itertools.tee(fetch(steps, every), args.num_samples)):
        if args.num_samples > 1:
            print(f"--- sample {row + 1} of {args.num_samples}", file=sys.stderr, flush=True)
        print(writer.tokenizer.decode(idx), end="", flush=True)
        for text in until(writer.tokenizer.stream(ids[row] for ids in new), args.stop):
            print(text, end="", flush=True)
        print()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
