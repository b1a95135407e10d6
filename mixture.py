"""A trained GPT and counts of the same text, mixed: (1 - share) p_GPT + share p_counts.

The share depends on how long a context the counts know. Training does not know of any of this.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from data.counts import unpack
from data.ngrams import Ngrams
from model import GPT, GPTConfig, Past
from system.checkpoint import Checkpoint
from system.errors import UserError

ROUNDS = 50  # of expectation maximisation
PRIOR = 4.0  # places that each length is given beside its own, of the share that all have together


class Mixture(nn.Module):
    """Has GPT's interface; the scores are logarithms of probabilities.

    shares: (order,) share of the counts where they know a context of 0, 1, ... characters
    """

    def __init__(self, gpt: GPT, counts: Ngrams, shares: Tensor) -> None:
        super().__init__()
        self.gpt, self.counts = gpt, counts
        self.register_buffer("shares", shares.float(), persistent=False)

    @property
    def config(self) -> GPTConfig:
        """The structure of the trained part, whose window is the window of both."""
        return self.gpt.config

    @property
    def blocks(self) -> nn.Sequential:
        """Those of the trained part."""
        return self.gpt.blocks

    def parameter_count(self) -> int:
        """Number of trained weights."""
        return self.gpt.parameter_count()

    def forward(self, idx: Tensor, pasts: Sequence[Past] | None = None, last: int = 0) -> Tensor:
        """idx (B, T) of ids -> log-probabilities (B, t, V), as GPT.forward."""
        net = self.gpt(idx, pasts, last).float().softmax(dim=-1)  # (B, t, V)
        if pasts:
            nodes = pasts[0].follow(idx, self.counts)  # (B, T, L)
            counted, known = self.counts.after(nodes[:, -last:])  # (B, t, V), (B, t)
        else:
            counted, known = self.counts.probs(idx, last)
        return mix(net, counted, self.shares[known][..., None]).log()


def mix(net: Tensor, counted: Tensor, share: Tensor) -> Tensor:
    """(1 - share) net + share counted, probabilities of any shape."""
    return torch.lerp(net, counted, share)


def fit_shares(net: Tensor, counted: Tensor, known: Tensor, order: int) -> Tensor:
    """The shares under which a text is likeliest, by expectation maximisation, (order,).

    net, counted: (N,) the probabilities that each gave to what came; known: (N,) how long a context
    the counts knew there. Where a length is rare, its share is drawn to that of all places.
    """
    net, counted = net.double(), counted.double()
    shares = torch.full((order,), 0.5, dtype=torch.float64, device=net.device)
    places = torch.bincount(known, minlength=order)
    for _ in range(ROUNDS):
        share = shares[known]
        responsibility = share * counted / mix(net, counted, share)  # of the counts, (N,)
        sums = torch.bincount(known, weights=responsibility, minlength=order)
        shares = (sums + PRIOR * responsibility.mean()) / (places + PRIOR)
    return shares.float()


def load(saved: Checkpoint) -> GPT | Mixture:
    """What `saved` writes with, in evaluation mode: the GPT, with its counts if it has any.

    Raises UserError where the counts are not what `data.counts.pack` makes.
    """
    gpt, vocab_size = saved.build(), saved.model.vocab_size
    if not saved.counts:
        return gpt
    try:
        counts = Ngrams(unpack(saved.counts, vocab_size), vocab_size=vocab_size)
    except Exception as error:  # whatever someone put together
        raise UserError(
            f"the checkpoint's counts are damaged ({error}); name another checkpoint"
        ) from error
    return Mixture(gpt, counts, torch.tensor(saved.shares)).eval()
