"""Sums tried on every pair of numbers there is, whoever set the weights."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from data.addition import CHARS, Addition
from data.tokenizer import CharTokenizer
from mixture import Mixture
from model import GPT
from system.bar import bar
from system.errors import UserError

ROWS = 2000  # lines in one pass through the model


@dataclass
class Pairs:
    """How a model did on pairs of numbers.

    total, right: pairs in all, and those of whose sum every digit and the end were the likeliest
    worst_margin: least probability of a right character minus that of the likeliest wrong one
    first: the first context that it got wrong, if any
    """

    total: int
    right: int
    worst_margin: float
    first: str | None

    def __str__(self) -> str:
        return f"{self.right:,} of {self.total:,} pairs, worst margin {self.worst_margin:+.4f}"


def leads(model: GPT | Mixture, rule: Addition, lines: Tensor, chars: str = CHARS) -> Tensor:
    """The margin of `proof.margins` at each decided place of lines (N, block_size + 1), whose ids
    are those of the rule: (N, digits + 2). chars is the model's vocabulary."""
    if chars != CHARS:
        lines = CharTokenizer(chars).encode(CHARS).long()[lines]
    right = lines[:, 1:][:, rule.decided, None]
    probs = model(lines[:, :-1])[:, rule.decided].double().softmax(dim=-1)  # (N, n + 2, V)
    others = probs.scatter(2, right, 0.0).amax(dim=2)
    return (probs.gather(2, right)[..., 0] - others).nan_to_num(-1.0)


@torch.inference_mode()
def try_lines(
    model: GPT | Mixture, rule: Addition, lines: Iterable[Tensor], chars: str = CHARS
) -> Pairs:
    """Try `model` on `lines`, each (N, block_size + 1) of the rule's ids, in one pass for each.

    It may be any model whose window holds a line and whose vocabulary, `chars`, has the rule's
    characters. Raises ValueError where its window is shorter.
    """
    if model.config.block_size < rule.block_size:
        raise ValueError(
            f"sums of {rule.digits} digits take a window of {rule.block_size}, more than the "
            f"model's {model.config.block_size}"
        )
    training, found = model.training, Pairs(0, 0, 1.0, None)
    model.eval()
    try:
        for part in lines:
            margins = leads(model, rule, part, chars)
            bad = ~(margins > 0)
            wrong = bad.any(dim=1)
            if found.first is None and wrong.any():
                row = int(wrong.int().argmax())
                end = rule.decided.start + int(bad[row].int().argmax()) + 1
                found.first = CharTokenizer(CHARS).decode(part[row, :end])
            found.total += len(part)
            found.right += len(part) - int(wrong.sum())
            found.worst_margin = min(found.worst_margin, margins.min().item())
    finally:
        model.train(training)
    return found


def prove_sums(model: GPT | Mixture, rule: Addition, chars: str = CHARS) -> Pairs:
    """Try `model` on all pairs; with three digits that takes a minute. Raises ValueError as
    `try_lines`."""
    with bar("pairs", rule.pairs, " pairs") as shown:

        def each() -> Iterator[Tensor]:
            for lines in rule.every_line(ROWS):
                yield lines
                shown.update(len(lines))

        return try_lines(model, rule, each(), chars)


def assure_sums(model: GPT, rule: Addition, name: str) -> str:
    """Try `model` on all pairs and say so. Raises UserError where one is wrong."""
    found = prove_sums(model, rule)
    if found.first is not None:
        raise UserError(f"{name} is wrong after {found.first!r}; take fewer digits")
    return f"proved for {rule.extent()}, tried one by one, worst margin {found.worst_margin:+.4f}"
