"""The counts beside a run's model: what they know of its text, and how far they are trusted."""

import torch
from torch import Tensor, nn

from data.counts import pack
from data.ngrams import Ngrams
from data.windows import eval_windows
from mixture import Mixture, fit_shares, mix
from model import GPT
from system.settings import MemoryConfig
from training.counting import Counting

AT_ONCE = 1 << 23  # probabilities that are looked up at a time
ENOUGH = 1 << 15  # characters on which the shares are estimated, of a longer text


class Memory:
    """Counts of the training split, and the shares that they have in the mixture.

    counts: of all that is counted; earlier: without what is set apart for calibration
    shares: (order,) as in Mixture. They are no part of training: the trained weights are the same
    without them.
    """

    def __init__(
        self, counting: Counting, vocab_size: int, config: MemoryConfig, device: torch.device
    ) -> None:
        levels = counting.all()
        self.packed = pack(levels, vocab_size)
        self.counts = self.earlier = Ngrams(levels, vocab_size=vocab_size).to(device)
        del levels  # of a long text they are large
        self.auto = config.share == "auto"
        share = 0.5 if self.auto else config.share
        if self.auto and counting.apart:
            self.earlier = Ngrams(counting.earlier(), vocab_size=vocab_size).to(device)
        self.shares = torch.full((self.counts.order,), share, device=device)

    def mixed(self, model: GPT) -> Mixture:
        """`model` and the counts as one."""
        return Mixture(model, self.counts, self.shares)

    def loss(self, logits: Tensor, idx: Tensor, targets: Tensor) -> float:
        """Mean loss of the mixture, nats per character; logits (B, T, V), idx, targets (B, T)."""
        net, counted, known = judged(logits, self.counts, idx, targets)
        return -mix(net, counted, self.shares[known]).log().mean().item()

    @torch.inference_mode()
    def calibrate(self, model: nn.Module, ids: Tensor) -> None:
        """Estimate the shares anew on ids (N,) that neither `model` nor the counts have seen.

        Where those are many, ENOUGH of them from all over do: the shares are few numbers.
        """
        if not self.auto:
            return
        found, window = [], model.config.block_size
        rows = max(1, AT_ONCE // (window * self.counts.vocab_size))
        model.eval()
        for idx, targets in eval_windows(ids, window, rows, ENOUGH):
            idx, targets = idx.to(self.shares.device), targets.to(self.shares.device)
            found.append(judged(model(idx), self.earlier, idx, targets))
        model.train()
        net, counted, known = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
        self.shares = fit_shares(net, counted, known, self.counts.order).to(self.shares.device)


def judged(logits: Tensor, counts: Ngrams, idx: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """What net and counts expected of what came: logits (B, T, V), idx and targets (B, T).

    Returns (N,) each: its probability by the net, by the counts, and how long a context those knew.
    """
    net = logits.float().softmax(dim=-1).gather(-1, targets[..., None])
    counted, known = counts.likelihood(idx, targets)
    return net.flatten(), counted.flatten(), known.flatten()
