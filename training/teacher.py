"""Counts that teach: a small part of each target is what follows by text that is elsewhere.

The trained model stays a plain GPT. The counts must not have seen the passage they are asked about,
or they would look better than they are: the text is cut into folds, and a window is taught by the
counts of all folds but its own. More folds than a handful let the rest of the same chapter in.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from data.ngrams import Ngrams
from system.settings import MemoryConfig
from training.counting import Counting


@dataclass
class Soft:
    """A part of the target at each of N places that is more than one character.

    share: (N, 1) how large that part is
    probs: takes a slice of the places, returns (n, V), what is likely there
    """

    share: Tensor
    probs: Callable[[slice], Tensor]


class Teacher:
    """What each window of a text is taught, beside what really follows.

    share: of the counts in the target
    """

    def __init__(
        self, counting: Counting, vocab_size: int, config: MemoryConfig, device: torch.device
    ) -> None:
        self.share, self.edges = config.teach, torch.from_numpy(counting.edges)
        self.counts = Ngrams(*counting.others(), vocab_size=vocab_size).to(device)

    def shares(self, starts: Tensor, T: int) -> tuple[Tensor, Tensor]:
        """Of windows that start there, (B,) each: which fold each lies in, and the share of the
        counts, which is 0 where it lies in two."""
        fold = torch.bucketize(starts, self.edges, right=True) - 1  # on the CPU
        end = torch.bucketize(starts + T, self.edges, right=True) - 1
        return fold, self.share * (fold == end).float()

    def soft(self, idx: Tensor, starts: Tensor) -> Soft:
        """What is taught beside the text: idx (B, T), starts (B,) of windows, on the CPU."""
        (B, T), counts = idx.shape, self.counts
        fold, share = self.shares(starts, T)
        nodes = counts.contexts(idx, counts.begin(B, T, fold)).flatten(0, 1)  # (B * T, L)
        return Soft(
            share.repeat_interleave(T)[:, None],
            lambda places: counts.after(nodes[places, None])[0].flatten(0, 1),
        )

    def pull(self, logits: Tensor, targets: Tensor, *, idx: Tensor, starts: Tensor) -> Tensor:
        """What to add to the mean loss, so that its targets are partly counted; a scalar, in nats.

        logits (B, T, V), targets and idx (B, T), starts (B,): where in the text the windows begin.
        A window that lies in two folds is not taught.
        """
        fold, share = self.shares(starts, idx.shape[1])
        counted, _ = self.counts.probs(idx, text=fold.to(idx.device))  # (B, T, V)
        return pull_towards(counted, share.to(logits.device)[:, None], logits, targets)


def pull_towards(probs: Tensor, share: Tensor | float, logits: Tensor, targets: Tensor) -> Tensor:
    """What to add to the mean loss, so that a share of the target is `probs`; a scalar, in nats.

    probs (B, T, V), logits (B, T, V), targets (B, T), share a number or (B, 1). Against
    (1 - share) one-hot + share probs the loss is that against the one-hot plus share times what
    this differs by.
    """
    more = probs.scatter_add(-1, targets[..., None], -torch.ones_like(probs[..., :1]))
    scores = logits.float().log_softmax(dim=-1)
    return -(share * (more * scores).sum(dim=-1)).mean()
