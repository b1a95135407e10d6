"""What `generate` yields as text: of each row its pieces, as they are made, up to a stop."""

import itertools
import operator
from collections.abc import Generator, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from data.tokenizer import CharTokenizer
from exchange.bytepairs import BytePairs


class Text:
    """The pieces of the text of `ids`, as they come, up to the first of `stops`, which is left out.

    ids: those that were read for it so far, those of the stop, too
    stop: what ended it; empty until then, and where nothing did
    """

    def __init__(
        self, ids: Iterable[int], tokenizer: CharTokenizer | BytePairs, stops: Sequence[str] = ()
    ) -> None:
        self.ids: list[int] = []
        self.stop = ""
        self.pieces = self.made(tokenizer.stream(self.noted(ids)), stops)

    def noted(self, ids: Iterable[int]) -> Iterator[int]:
        """The ids, each noted as it is read."""
        for i in ids:
            self.ids.append(i)
            yield i

    def made(self, chars: Iterable[str], stops: Sequence[str]) -> Iterator[str]:
        """The pieces; at their end it is known what ended them."""
        self.stop = yield from until(chars, stops)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        return next(self.pieces)

    def finish(self) -> None:
        """Make all pieces now; they are read later."""
        self.pieces = iter(list(self.pieces))


def texts(
    steps: Iterator[Tensor],
    tokenizer: CharTokenizer | BytePairs,
    rows: int,
    *,
    stops: Sequence[str] = (),
    every: int = 1,
) -> list[Text]:
    """The text of each row of what `generate` yields, made as the first of them is read.

    The ids of `every` places are fetched at a time: a GPU has to be waited for.
    """
    places = itertools.tee(fetch(steps, every), rows)
    ids = (map(operator.itemgetter(row), places[row]) for row in range(rows))
    return [Text(each, tokenizer, stops) for each in ids]


def fetch(steps: Iterator[Tensor], every: int) -> Iterator[list[int]]:
    """The ids of each place in turn as numbers, `every` places at a time."""
    while places := list(itertools.islice(steps, every)):
        yield from torch.stack(places).tolist()


def until(chars: Iterable[str], stops: Sequence[str]) -> Generator[str, None, str]:
    """Pass `chars` on up to the first of `stops`, and return that; what may begin one waits.

    The first is the one that is whole first; of those that end together, the longest.
    """
    held = ""
    for char in chars:
        held += char
        if stop := max(filter(held.endswith, stops), key=len, default=""):
            yield held.removesuffix(stop)
            return stop
        sure = 0
        while sure < len(held) and not any(stop.startswith(held[sure:]) for stop in stops):
            sure += 1
        yield held[:sure]
        held = held[sure:]
    yield held
    return ""
