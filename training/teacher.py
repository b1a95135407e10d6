"""Counts that teach: a small part of each target is what follows by text that is elsewhere.

The trained model stays a plain GPT. The counts must not have seen the passage they are asked about,
or they would look better than they are: the text is cut into folds, and a window is taught by the
counts of all folds but its own. More folds than a handful let the rest of the same chapter in.
"""

import torch
from torch import Tensor

from data.ngrams import Ngrams
from system.settings import MemoryConfig
from training.counting import Counting


class Teacher:
    """What each window of a text is taught, beside what really follows.

    share: of the counts in the target
    """

    def __init__(
        self, counting: Counting, vocab_size: int, config: MemoryConfig, device: torch.device
    ) -> None:
        self.share, self.edges = config.teach, torch.from_numpy(counting.edges)
        self.counts = Ngrams(*counting.others(), vocab_size=vocab_size).to(device)

    def pull(self, logits: Tensor, targets: Tensor, *, idx: Tensor, starts: Tensor) -> Tensor:
        """What to add to the mean loss, so that its targets are partly counted; a scalar, in nats.

        logits (B, T, V), targets and idx (B, T), starts (B,): where in the text the windows begin.
        A window that lies in two folds is not taught.
        """
        fold = torch.bucketize(starts, self.edges, right=True) - 1  # (B,), on the CPU
        end = torch.bucketize(starts + idx.shape[1], self.edges, right=True) - 1
        share = self.share * (fold == end).to(logits.device, torch.float32)[:, None]  # (B, 1)
        counted, _ = self.counts.probs(idx, text=fold.to(idx.device))  # (B, T, V)
        return pull_towards(counted, share, logits, targets)


def pull_towards(probs: Tensor, share: Tensor | float, logits: Tensor, targets: Tensor) -> Tensor:
    """What to add to the mean loss, so that a share of the target is `probs`; a scalar, in nats.

    probs (B, T, V), logits (B, T, V), targets (B, T), share a number or (B, 1). Against
    (1 - share) one-hot + share probs the loss is that against the one-hot plus share times what
    this differs by.
    """
    more = probs.scatter_add(-1, targets[..., None], -torch.ones_like(probs[..., :1]))
    scores = logits.float().log_softmax(dim=-1)
    return -(share * (more * scores).sum(dim=-1)).mean()
