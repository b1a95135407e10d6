"""Where a text begins and ends: prompts and stops, as they were typed or as a file has them."""

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from torch import Tensor

from data.tokenizer import CharTokenizer, UnknownCharacters
from exchange.bytepairs import BytePairs
from system.errors import UserError, show

ESCAPES = {r"\n": "\n", r"\t": "\t", r"\r": "\r", r"\\": "\\", r"\0": "\0"}
NAMES = {r"\n": "line end", r"\t": "tab", r"\r": "carriage return"}


def unescaped(text: str, escapes: Iterable[str] = (*NAMES, r"\\")) -> str:
    """`text` with what each of `escapes` in it stands for."""
    pattern = "|".join(map(re.escape, escapes))
    return re.sub(pattern, lambda found: ESCAPES[found[0]], text)


def is_literal(tokenizer: CharTokenizer | BytePairs) -> bool:
    """Whether a backslash is one, because the model knows it."""
    return bool(len(tokenizer.encode("\\", "skip")))


def meant(text: str, tokenizer: CharTokenizer | BytePairs) -> str:
    """`text` as whoever typed it in a shell meant it: `\\n` is a line end, where it can be none."""
    return text if is_literal(tokenizer) else unescaped(text)


def tell_of_escapes(args: argparse.Namespace, tokenizer: CharTokenizer | BytePairs) -> None:
    """Say in a line on stderr that escapes are taken literally, if any are, and what to type."""
    if not is_literal(tokenizer):
        return
    for option, text in [("--prompt", args.prompt), *(("--stop", stop) for stop in args.stop)]:
        if found := re.search(r"\\[ntr]", text or ""):
            escape = found[0]
            print(
                f"{escape} in {option} is taken literally, because this model knows the backslash; "
                f"for a {NAMES[escape]} write $'{escape}'",
                file=sys.stderr,
            )
            return


def read_stops(args: argparse.Namespace, tokenizer: CharTokenizer | BytePairs) -> list[str]:
    """The texts before which a sample ends. Raises UserError where the model cannot write one."""
    stops = [meant(stop, tokenizer) for stop in args.stop]
    for stop in stops:
        try:
            tokenizer.encode(stop)
        except UnknownCharacters as error:
            raise UserError(
                f"--stop {show(stop)} has {error} to this model, so nothing would ever stop there; "
                "give a text that it can write"
            ) from None
    if "" in stops:
        raise UserError(
            "--stop is empty; give the text before which a sample ends, or leave it out"
        )
    return stops


def read_prompts(args: argparse.Namespace, tokenizer: CharTokenizer | BytePairs) -> list[Tensor]:
    """The ids to continue, each (T,) with T >= 1. Raises UserError."""
    if args.prompts is None:
        prompt = None if args.prompt is None else meant(args.prompt, tokenizer)
        if args.prompt_file is not None:
            prompt = read_file("--prompt-file", args.prompt_file)
        prompt = tokenizer.default_prompt if prompt is None else prompt
        return [encode(prompt, "the prompt", tokenizer, args.unknown)]
    name = "standard input" if args.prompts == "-" else args.prompts
    lines = read_file("--prompts", args.prompts).removesuffix("\n").split("\n")
    lines = [meant(line.removesuffix("\r"), tokenizer) for line in lines]
    if lines == [""]:
        raise UserError(f"--prompts {args.prompts} is empty; it takes one prompt a line")
    return [
        encode(line, f"line {number} of {name}", tokenizer, args.unknown)
        for number, line in enumerate(lines, 1)
    ]


def encode(
    text: str,
    what: str,
    tokenizer: CharTokenizer | BytePairs,
    unknown: Literal["error", "skip"],
    remedy: str = "use --unknown skip",
) -> Tensor:
    """The ids of a prompt, (T,), T >= 1, which messages call `what`. Raises UserError."""
    try:
        idx = tokenizer.encode(text, unknown)
    except UnknownCharacters as error:
        raise UserError(f"{what} has {error} to this model; {remedy}") from None
    if not len(idx):
        raise UserError(f"{what} {text[:40]!r} has no character to start from; give at least one")
    return idx.long()


def read_file(option: str, name: str) -> str:
    """The UTF-8 text of the file `name`, or of standard input for `-`. Raises UserError."""
    if name == "-" and sys.stdin is None:
        raise UserError(f"{option} - has no standard input to read; pipe a text into it")
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return raw.decode().removeprefix("\ufeff")  # utf-8-sig would count bytes from behind it
    except OSError as error:
        raise UserError(
            f"{option} {name} cannot be read: {error.strerror}; name a UTF-8 text"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{option} {name} is not UTF-8 at byte offset {error.start}; save it as UTF-8"
        ) from None
