"""What comes out: texts for people and pipes, or a line of JSON each, for programs."""

import itertools
import json
import sys
from collections.abc import Iterable, Iterator

from system.output import harmless
from writing.samples import Sample

BETWEEN = "\n---\n"  # samples, unless --separator says otherwise


def show(pieces: Iterable[str]) -> None:
    """Print a text as it is made."""
    for piece in harmless(pieces):
        print(piece, end="", flush=True)


def as_text(
    samples: Iterator[Sample], total: int, *, separator: str | None, with_prompt: bool
) -> None:
    """Print `total` samples as they are made, parted by `separator`, and a line end.

    Standard error has a line before each of several. Where both are a terminal that line is enough.
    """
    if separator is None:
        separator = "\n" if sys.stdout.isatty() and sys.stderr.isatty() else BETWEEN
    for number, sample in enumerate(samples, 1):
        if number > 1:
            print(separator, end="", flush=True)
        if total > 1:
            print(f"--- sample {number} of {total}", file=sys.stderr, flush=True)
        show(itertools.chain([sample.prompt] if with_prompt else [], sample.text))
    print()


def as_json(samples: Iterator[Sample], model: str, *, with_prompt: bool) -> None:
    """Print each sample as an object in a line of its own, in ASCII, once it is written."""
    for sample in samples:
        written = {"prompt": sample.prompt} if with_prompt else {}
        written |= {"text": "".join(sample.text), "ended": sample.ended}
        print(json.dumps(written | {"seed": sample.seed, "model": model}), flush=True)
