"""Counts that teach: a small part of each target is what follows by text that is elsewhere.

The trained model stays a plain GPT. The counts must not have seen the passage they are asked about,
or they would look better than they are: the text is cut into folds, and a window is taught by the
counts of all folds but its own. More folds than a handful let the rest of the same chapter in.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from data.counts import count
from data.ngrams import Ngrams
from system.settings import MemoryConfig

LONGEST = 7  # characters in the grams that teach; of longer ones a net learns less
WORKERS = 2  # sorting does not hold the interpreter


class Teacher:
    """What each window of a text is taught, beside what really follows.

    share: of the counts in the target
    """

    def __init__(
        self, ids: Tensor, vocab_size: int, config: MemoryConfig, device: torch.device
    ) -> None:
        self.share, text = config.teach, ids.cpu().numpy()
        there = len(text) // (2 * config.folds)  # grams so long the rest of each fold surely has
        order = max(1, min(config.order, LONGEST, there))
        edges = np.linspace(0, len(text), config.folds + 1).astype(int)
        self.edges = torch.from_numpy(edges)
        with ThreadPoolExecutor(WORKERS) as pool:
            others = [
                pool.submit(count, [text[:start], text[end:]], vocab_size, order)
                for start, end in itertools.pairwise(edges)
            ]
        texts = [other.result() for other in others]
        self.counts = Ngrams(*texts, vocab_size=vocab_size).to(device)

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
