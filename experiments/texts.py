"""The texts that twins are trained on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.laws import Law
from experiments.windows import Data, Domain, Windows, coverage, training

SHOWN = 2048  # windows on which a loss is taken, drawn where there are more


@dataclass(frozen=True)
class Text:
    """What a twin is trained on.

    windows: what is drawn from; floor: the least loss on them, nats a character
    coverage: the share of all contexts that occur in them
    favoured: rows that are drawn with the probability `share`, beside what chance draws
    """

    windows: Windows
    floor: float
    coverage: float
    favoured: Tensor | None = None
    share: float = 0.0

    def batch(self, size: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
        """idx and targets (B, T) of a step, which depend on the seed and the step alone."""
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.randint(len(self.windows), (size,), generator=generator)
        if self.favoured is not None:
            others = torch.randint(len(self.favoured), (size,), generator=generator)
            chosen = torch.rand(size, generator=generator) < self.share
            rows = torch.where(chosen, self.favoured[others], rows)
        return next(self.windows.some(rows).batches(size))

    def shown(self) -> Windows:
        """Some windows, on which a loss is taken."""
        generator = torch.Generator().manual_seed(1)
        return self.windows.some(torch.randperm(len(self.windows), generator=generator)[:SHOWN])


def read_text(law: Law, data: Data, domain: Domain) -> Text:
    """The text of kind `data` that is made of the rule."""
    windows = training(law, data)
    whole = data == "every" and domain.whole
    return Text(
        windows,
        floor=windows.entropy() if data == "own" else 0.0,  # elsewhere the rule decides it all
        coverage=1.0 if whole else coverage(windows, domain),
    )
