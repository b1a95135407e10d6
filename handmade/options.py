"""The options with which every command asks for n-grams: which text is counted, and how far."""

import argparse
from collections.abc import Callable

from handmade import NGRAM
from system.commandline import bounded
from system.errors import UserError

TEXT, ORDER = "tiny_shakespeare", 4  # where nothing is said


def add_counted(add: Callable[..., object], order: int = ORDER) -> None:
    """Add the options to a parser or a group of one, by its add_argument."""
    add("--data", metavar="NAME", help=f"text that {NGRAM} counts; default: {TEXT}")
    longest = f"longest stretch of characters that {NGRAM} counts; default: {order}"
    add("--order", type=bounded(int, 2, 20), metavar="N", help=longest)


def counted(args: argparse.Namespace, *names: str | None, order: int = ORDER) -> tuple[str, int]:
    """The text and the order that `args` ask for.

    names: of the hand-set models that were named. Raises UserError where none of them counts, but
    one of the options was given.
    """
    given = [f"--{name}" for name in ("data", "order") if vars(args)[name] is not None]
    if given and NGRAM not in names:
        raise UserError(f"{' and '.join(given)} go with --handmade {NGRAM}; add it")
    return args.data or TEXT, args.order or order
