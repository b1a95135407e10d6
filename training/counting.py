"""How much of a text is counted, in which pieces, and the counts, which follow from one sorting."""

import bisect
import itertools
import math
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import numpy as np
import torch
from torch import Tensor

from data.corpus import Corpus
from data.counts import Counts, count_without
from data.grams import Grams
from system.bar import bar
from system.errors import UserError
from system.settings import MemoryConfig

MOST = 20_000_000  # characters, unless other ones are asked for
PIECES = 100  # of a longer text that are counted
LONGEST = 7  # characters in the grams that teach; of longer ones a net learns less
WORKERS = 2  # NumPy does not hold the interpreter
SAMPLE, PART = 500_000, 5  # characters counted to foresee the grams, and how many times fewer
SHARE = 0.75  # of the memory that is free
STEP = 100_000  # characters
FIXED, CHARACTER, GRAM = 5e7, 20, 22  # bytes, measured: see docs/training.md
SORTING, ALL, OTHERS = 4, 2, 1  # of the bar: parts of the time that each takes


class Counting:
    """The grams of a training split, from which the counts of all of it and of its parts are made.

    A text of more than `config.characters` is counted in pieces from all over it, and what is set
    apart for calibration is then left out.

    apart: how many characters of what is set apart are counted: all, or none
    edges: (folds + 1,) where in `train` the folds begin, which are taught, and the end
    """

    def __init__(
        self, calibration: Tensor, train: Tensor, vocab_size: int, config: MemoryConfig
    ) -> None:
        both = len(calibration) + len(train)
        whole = both <= (config.characters or both)
        self.apart, self.length = len(calibration) * whole, len(train)
        self.folds, self.order = config.folds, config.order
        self.edges = np.linspace(0, len(train), config.folds + 1).astype(int)
        steps = (
            SORTING
            + ALL * (1 + (config.share == "auto" and whole))
            + OTHERS * config.folds * bool(config.teach)
        )
        self.bar = bar("counting", steps, "part")
        if whole:
            ids, spans = torch.cat((calibration, train)), [(0, both)]
        else:
            ids, spans = train, stretches(len(train), config.characters)
        pieces = [ids[start:stop].cpu().numpy() for start, stop in spans]
        parts = [self.parts(start, stop) for start, stop in spans]
        self.grams = Grams(pieces, parts, vocab_size, config.order)
        self.bar.update(SORTING)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()

    def parts(self, start: int, stop: int) -> np.ndarray:
        """Which part each place is in: 0 what is set apart, then the folds from 1 on."""
        part = np.zeros(stop - start, np.uint8)
        for fold, (begin, end) in enumerate(itertools.pairwise(self.edges + self.apart), start=1):
            part[max(0, begin - start) : max(0, end - start)] = fold
        return part

    def all(self) -> list[Counts]:
        """The counts of all that is counted."""
        return self.without(frozenset(), self.order, ALL)

    def earlier(self) -> list[Counts]:
        """The same without what is set apart for calibration."""
        return self.without(frozenset([0]), self.order, ALL)

    def others(self) -> list[list[Counts]]:
        """For each fold: the counts of all others."""
        there = self.length // (2 * self.folds)  # grams so long the rest of each fold surely has
        order = max(1, min(self.order, LONGEST, there))
        with ThreadPoolExecutor(WORKERS) as pool:
            found = [
                pool.submit(self.without, frozenset([0, fold]), order, OTHERS)
                for fold in range(1, self.folds + 1)
            ]
        return [each.result() for each in found]

    def without(self, parts: frozenset[int], order: int, steps: int) -> list[Counts]:
        """Counts without some parts; the bar goes on by so many steps."""
        counts = count_without(parts, self.grams, order)
        self.bar.update(steps)
        return counts


def stretches(length: int, counted: int) -> list[tuple[int, int]]:
    """Where PIECES pieces of one length, `counted` in all, lie in a text, evenly from its start to
    its end; (start, stop) each."""
    if counted >= length:
        return [(0, length)]
    size = counted // PIECES
    starts = (i * (length - size) // (PIECES - 1) for i in range(PIECES))
    return [(start, start + size) for start in starts]


def settle(config: MemoryConfig, text: Corpus, free: float, *, settled: bool) -> None:
    """Set memory.characters to what is counted at most, and note it where that is not all.

    free: bytes of memory; settled: whether the setting is that of a run which goes on. Raises
    UserError where the characters that were asked for do not fit, or none.
    """
    length, asked = len(text.calibration) + len(text.train), config.characters
    config.characters = asked or MOST
    counted, room = min(length, config.characters), SHARE * free
    most = counted * config.order, counted * min(config.order, LONGEST)  # where no gram comes twice
    if in_bytes(config, counted, *most) > room:
        need = bytes_for(config, text)
        if need(counted) > room:
            fits = STEP * bisect.bisect_right(range(STEP, counted, STEP), room, key=need)
            said = (
                f"counting {counted:,} characters takes about {need(counted) / 1e9:.1f} GB of "
                f"memory, and {free / 1e9:.1f} GB are free"
            )
            config.characters = lessened(said, fits, config.characters, asked, settled=settled)
    if length > config.characters:
        counted = min(config.characters, len(text.train))
        text.notes.append(
            f"{counted:,} of {len(text.train):,} characters are counted, in {PIECES} pieces "
            f"(memory.characters={config.characters})"
        )


def lessened(said: str, fits: int, now: int, asked: int | None, *, settled: bool) -> int:
    """What memory.characters becomes where memory lacks, as `said`. Raises UserError."""
    if settled:
        print(f"{said}; close other programs if the system ends the run", file=sys.stderr)
        return now
    if asked or not fits:
        remedy = f"memory.characters={fits}" if fits else "memory.order=0 memory.teach=0"
        raise UserError(f"{said}; set {remedy}")
    return fits


def bytes_for(config: MemoryConfig, text: Corpus) -> Callable[[int], float]:
    """What counting so many characters takes, from how the grams become more in a sample."""
    V, ids = len(text.tokenizer.chars), text.train
    orders = (config.order, min(config.order, LONGEST))
    pieces = [ids[a:b].cpu().numpy() for a, b in stretches(len(ids), min(SAMPLE, len(ids)))]
    found = []
    for some in (pieces[::PART], pieces):
        none = [np.zeros(len(piece), np.uint8) for piece in some]
        grams = Grams(some, none, V, config.order)
        levels = [count_without(frozenset(), grams, order) for order in orders]
        found.append([sum(len(level.codes) for level in each) for each in levels])
    size = sum(map(len, pieces))
    power = [math.log(many / few) / math.log(PART) for few, many in zip(*found, strict=True)]

    def grams_of(counted: int, which: int) -> float:
        return found[1][which] * (counted / size) ** power[which]

    return lambda counted: in_bytes(config, counted, grams_of(counted, 0), grams_of(counted, 1))


def in_bytes(config: MemoryConfig, counted: int, grams: float, taught: float) -> float:
    """What counting takes at its peak, with so many grams to write with, and to teach."""
    folds = config.folds if config.teach else 0
    return FIXED + CHARACTER * counted + GRAM * (2 * grams + folds * taught)
