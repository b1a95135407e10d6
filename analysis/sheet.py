"""Texts, judged and searched for copies, as score.py prints them: for people, and for programs."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis import shading
from analysis.copied import LONG, Copied
from analysis.scoring import BOTH, COUNTS, GPT_ALONE, Judge, Opinion, Score
from analysis.table import align

NAMES = {BOTH: "both", GPT_ALONE: "GPT", COUNTS: "counts"}
HEAD = ["model", "text", "by", "characters", "nats", "bits", "perplexity", "first guess"]
STRETCHES = 5  # of what is copied that are named
MOST = 60  # characters of a stretch that are shown


@dataclass
class Scored:
    """A text with its name, judged by a model."""

    judge: Judge
    name: str
    text: str
    score: Score

    @property
    def bits(self) -> np.ndarray:
        """What each character takes, by what writes, (N,)."""
        return bits_of(self.score.writer)

    @property
    def guesses(self) -> list[str]:
        """What would have been written in place of each character, (N,)."""
        return [self.judge.tokenizer.chars[i] for i in self.score.guesses.tolist()]


def bits_of(opinion: Opinion) -> np.ndarray:
    """Bits of each character, (N,)."""
    return opinion.nats / math.log(2)


def tabulate(scored: Sequence[Scored]) -> str:
    """Lines of text: what knows a text best comes first, a row for each that judges."""
    cells = [HEAD]
    for each in sorted(scored, key=lambda each: each.score.writer.loss):
        names = each.judge.label, each.name
        for who, opinion in each.score.opinions.items():
            cells.append([*names, NAMES[who], *numbers(opinion)])
            names = "", ""  # once for all who judge
    return align(cells, 3)


def numbers(opinion: Opinion) -> list[str]:
    """Cells of a row."""
    loss = opinion.loss
    perplexity = math.exp(loss) if loss < 700 else math.inf
    return [
        f"{len(opinion.nats):,}",
        f"{loss:.4f}",
        f"{loss / math.log(2):.3f}",
        f"{perplexity:,.3f}",
        f"{opinion.right:.1%}",
    ]


def shade(scored: Scored, *, columns: int, colour: bool) -> Iterator[str]:
    """Lines that show the text, its surprises marked."""
    yield f"{scored.name} by {scored.judge.label}; {shading.LEGEND}"
    yield from shading.shaded(
        scored.text, scored.score.places, scored.bits, columns=columns, colour=colour
    )


def surprises(scored: Scored, most: int) -> str:
    """Lines that name the most surprising places."""
    rows = shading.surprises(scored.text, scored.score.places, scored.bits, scored.guesses, most)
    title = f"most surprising in {scored.name}, to {scored.judge.label}"
    return f"{title}\n{align(list(rows))}"


def as_json(scored: Scored) -> Iterator[str]:
    """A line for each character: where in the text it is, the first at 0, and what it takes.

    `bits` and `rank` are those of what writes, `by` is who of the two expected it more.
    """
    score, about = scored.score, {"model": scored.judge.label, "text": scored.name}
    columns: dict[str, Sequence[Any]] = {
        "place": score.places.tolist(),
        "character": [scored.text[place] for place in score.places.tolist()],
        "bits": finite(scored.bits),
        "rank": score.writer.ranks.tolist(),
        "by": score.better(),
    }
    if BOTH in score.opinions:
        for who in (GPT_ALONE, COUNTS):
            columns[f"bits_{who}"] = finite(bits_of(score.opinions[who]))
    for row in zip(*columns.values(), strict=True):
        yield json.dumps({**about, **dict(zip(columns, row, strict=True))})


def finite(values: np.ndarray) -> list[float | None]:
    """Numbers for JSON, which has no infinity."""
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]


def copies(name: str, text: str, source: str, found: Copied) -> Iterator[str]:
    """Lines that say what of a text is in the one called `source`, too."""
    yield (
        f"{name} and {source} share {found.longest:,} characters at most; {found.share:.1%} of "
        f"{name} is in stretches of {LONG} or more"
    )
    for place, length in found.stretches[:STRETCHES]:
        shown = "".join(map(shading.visible, text[place : place + min(length, MOST)]))
        yield f"{length:8,}  at character {place + 1:,}: {shown}{'...' * (length > MOST)}"


def copies_as_json(name: str, text: str, source: str, found: Copied) -> str:
    """The same in a line; places count from 0."""
    stretches = [
        {"place": place, "length": length, "characters": text[place : place + length]}
        for place, length in found.stretches
    ]
    about = {"text": name, "copied_from": source, "longest": found.longest, "share": found.share}
    return json.dumps({**about, "stretches": stretches})
