"""What twins are trained on, and what they are judged on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from data.addition import Addition
from data.laws import Law
from experiments.lines import every_sum, games, long_carries
from experiments.windows import (
    AGAIN,
    LENGTH,
    OPEN,
    Data,
    Domain,
    Windows,
    all_windows,
    coverage,
    drawn,
    few,
    of_contexts,
    own,
    restarts,
)
from proof.proof import count_contexts

SAMPLED, SEED = 200_000, 1  # contexts that are judged where there are more than a proof tries
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


def domain(law: Law) -> Domain:
    """What a model of `law` is judged on: every context, or a sample of them."""
    if isinstance(law, Addition):
        windows = every_sum(law)
        return Domain(windows, whole=True, total=windows.asked())
    if contexts := law.domain():
        return Domain(of_contexts(law, list(contexts)), whole=True, total=len(contexts))
    total = count_contexts(law.chars, law.block_size, shortest=1)
    if not few(law):
        return Domain(drawn(law, SAMPLED // law.block_size, SEED), whole=False, total=total)
    windows, (V, T) = all_windows(law), (len(law.chars), law.block_size)
    rows = torch.arange(len(windows))[:, None]
    once = rows % V ** (T - 1 - torch.arange(T)) == 0  # the first window that begins like this
    targets = windows.targets.where(once, OPEN)
    return Domain(Windows(windows.idx, targets), whole=True, total=total)


def windows_of(law: Law, data: Data, domain: Domain) -> Windows:
    """What twins are trained on.

    own: the text that the rule writes by itself, 600 characters; restarts: one with random
    beginnings, 60,000; every: every context alike, or as many characters of random windows where
    there are too many. Games need moves of another, which are random. Sums are of any numbers.
    """
    if isinstance(law, Addition) or (law.domain() and data == "every"):
        return domain.windows
    if law.domain():
        return games(law, AGAIN if data == "own" else LENGTH, SEED)
    if data == "own":
        return own(law)
    if data == "restarts":
        return restarts(law, SEED)
    return all_windows(law) if few(law) else drawn(law, LENGTH // law.block_size, SEED + 1)


def read_text(law: Law, data: Data, domain: Domain, long: float = 0.0) -> Text:
    """The text of kind `data` that is made of the rule; long: the share of sums that are drawn
    among those with long carries."""
    windows = windows_of(law, data, domain)
    whole = windows is domain.windows or (data == "every" and domain.whole)
    return Text(
        windows,
        floor=windows.entropy() if data == "own" and not law.domain() else 0.0,
        coverage=1.0 if whole else coverage(windows, domain),
        favoured=long_carries(law) if long and isinstance(law, Addition) else None,
        share=long,
    )
