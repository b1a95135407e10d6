"""Windows of rules that are about lines: sums, and games. What the rule says nothing of is open."""

import random

import torch
from torch import Tensor

from data.addition import Addition
from data.laws import Law
from experiments.windows import OPEN, Windows

ROWS = 65_536  # lines that are made at a time
LONG = 2  # carries in a row from which on they are long


def every_sum(law: Addition) -> Windows:
    """The lines of all pairs of numbers."""
    lines = torch.cat([lines.short() for lines in law.every_line(ROWS)])  # (pairs, T + 1)
    targets = lines[:, 1:].clone()
    targets[:, : law.decided.start] = OPEN
    return Windows(lines[:, :-1], targets)


def long_carries(law: Addition) -> Tensor:
    """The rows of `every_sum` in which LONG or more digits in a row hand on a one."""
    carries = law.carries(*law.numbered(torch.arange(law.pairs)))
    return (carries >= LONG).nonzero()[:, 0]


def games(law: Law, length: int, seed: int) -> Windows:
    """So many characters of games against moves at random, each from the end of the line before:
    the moves of the first player are open."""
    draw, T, asked = random.Random(seed), law.block_size, set(law.domain() or ())
    ids = {char: i for i, char in enumerate(law.chars)}
    rows, targets = [], []
    while len(rows) * T < length:
        text = law.stretch(draw).ljust(T + 1, "\n")
        rows.append([ids[char] for char in text[:-1]])
        decided = [text[: t + 1] in asked for t in range(T)]
        targets.append([ids[text[t + 1]] if decided[t] else OPEN for t in range(T)])
    return Windows(torch.tensor(rows), torch.tensor(targets))
