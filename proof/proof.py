"""Proof, not examples: what a model answers to every context that it can be given."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product

import torch
from torch import Tensor

from data import aab
from data.tictactoe import Games, play_all
from data.tokenizer import CharTokenizer
from model import GPT

MOST = 1_000_000  # contexts that a proof goes through
BATCH = 8192  # contexts in one pass through the model


@dataclass
class Score:
    """How a model did on some contexts.

    total, right: contexts in all, and those with the right character likelier than any other
    worst_margin: least probability of the right character minus that of the likeliest wrong one
    wrong: the contexts that are not right
    """

    total: int
    right: int
    worst_margin: float
    wrong: list[str]


@dataclass
class Proof:
    """The scores on the contexts that occur in the text of a task, and on all there are."""

    task: Score
    all: Score


def score(margins: dict[str, float]) -> Score:
    """Sum up the margins of some contexts; of none, the worst is 1, which is the best there is."""
    wrong = [context for context, margin in margins.items() if not margin > 0]
    worst = min(margins.values(), default=1.0)
    return Score(len(margins), len(margins) - len(wrong), worst, wrong)


def count_contexts(chars: str, block_size: int, shortest: int = 2) -> float:
    """How many contexts of length `shortest` to `block_size` there are; infinite from 10^15 on."""
    if block_size * math.log10(len(chars)) >= 15:
        return math.inf
    return sum(len(chars) ** n for n in range(shortest, block_size + 1))


def every_context(chars: str, block_size: int, shortest: int = 2) -> list[str]:
    """Every context of length `shortest` to `block_size`, the short ones first.

    The text aabaabaab... leaves open what follows a single character, so two are where it starts.
    Raises ValueError, with their number, when there are none or more than a million.
    """
    total = count_contexts(chars, block_size, shortest)
    if not 1 <= total <= MOST:
        digits = block_size * math.log10(len(chars))
        number = f"{total:,}" if total < math.inf else f"about 10^{digits:.0f}"
        raise ValueError(
            f"{len(chars)} characters make {number} contexts of length {shortest} to {block_size}, "
            f"but a proof goes through 1 to {MOST:,} of them; take a model of another block_size"
        )
    lengths = range(shortest, block_size + 1)
    return ["".join(context) for n in lengths for context in product(chars, repeat=n)]


def batches(chars: str, contexts: Sequence[str]) -> Iterator[Tensor]:
    """The ids of the contexts in their order, (B, T): as many at a time as have one length."""
    tokenizer = CharTokenizer(chars)
    for length, same in groupby(contexts, key=len):
        yield from tokenizer.encode("".join(same)).long().view(-1, length).split(BATCH)


@torch.inference_mode()
def probabilities(model: GPT, chars: str, contexts: Sequence[str]) -> Tensor:
    """What the model, on the CPU, expects after each of N contexts: (N, V), float64."""
    training = model.training
    model.eval()
    try:
        logits = torch.cat([model(idx)[:, -1] for idx in batches(chars, contexts)])  # (N, V)
    finally:
        model.train(training)
    return logits.double().softmax(dim=-1)


def likeliest(model: GPT, chars: str, contexts: Sequence[str]) -> list[str]:
    """What the model, on the CPU, takes for the likeliest after each of N contexts."""
    return [chars[i] for i in probabilities(model, chars, contexts).argmax(dim=-1).tolist()]


def played(model: GPT, chars: str) -> Games:
    """What becomes of the model, on the CPU, in every game that can be played against it."""
    return play_all(partial(likeliest, model, chars))


def margins(
    model: GPT, chars: str, contexts: Sequence[str], *, answers: Sequence[str]
) -> list[float]:
    """Probability of the right character minus that of the likeliest other one, N of N contexts.

    answers are the right characters. A margin goes from 1, certain and right, to -1, certain and
    wrong, which is also what NaN counts as.
    """
    probs = probabilities(model, chars, contexts)  # (N, V)
    right = torch.tensor([[chars.index(answer)] for answer in answers])  # (N, 1)
    others = probs.scatter(1, right, 0.0).max(dim=1).values
    return (probs.gather(1, right)[:, 0] - others).nan_to_num(-1.0).tolist()


def prove(
    model: GPT,
    chars: str,
    rule: aab.Rule,
    *,
    text: str | None = None,
    shortest: int = 2,
    contexts: Sequence[str] | None = None,
) -> Proof:
    """Try `model` on every context of length `shortest` to its block_size against `rule`.

    chars is the vocabulary, rule a total function from a context to what follows it, text the text
    of the task, which is aabaabaab... when it is not given. Where other contexts are given, of
    growing length, it is tried on these, of which it sees its block_size. Raises ValueError, with
    the number of contexts, when there are none or more than a million.
    """
    T = model.config.block_size
    contexts = every_context(chars, T, shortest) if contexts is None else contexts
    answers, seen = [rule(context) for context in contexts], [c[-T:] for c in contexts]
    found = dict(zip(contexts, margins(model, chars, seen, answers=answers), strict=True))
    text = aab.text() if text is None else text
    ends = range(len(text) + 1)
    said = {text[max(0, end - n) : end] for n in {*map(len, contexts)} for end in ends}
    in_text = {context: margin for context, margin in found.items() if context in said}
    return Proof(task=score(in_text), all=score(found))
