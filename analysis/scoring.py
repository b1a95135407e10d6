"""How well a model knows a text: what it expected of each character, in windows as in training."""

from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data.tokenizer import CharTokenizer
from data.windows import overlapping, rows_at_once
from mixture import Mixture, mix
from model import GPT
from system.bar import bar
from system.device import autocast

GPT_ALONE, COUNTS, BOTH = "gpt", "counts", "both"  # who judges


@dataclass
class Opinion:
    """What was expected, by one of those that judge.

    loss: nats per character, the mean of all
    nats: (N,) of each character
    ranks: (N,) how many were as likely or likelier, 1 where it was the first guess
    """

    loss: float
    nats: np.ndarray
    ranks: np.ndarray

    @property
    def right(self) -> float:
        """The share of the characters that were the first guess."""
        return float((self.ranks == 1).mean())


@dataclass
class Score:
    """A text, judged by a model.

    places: (N,) which characters of the text were judged: those that the model knows but the first
    opinions: by who judges; the first is what writes
    guesses: (N,) ids that it would have written
    """

    places: np.ndarray
    opinions: dict[str, Opinion]
    guesses: np.ndarray

    @property
    def writer(self) -> Opinion:
        """That of what writes: of both, where there are counts beside the GPT."""
        return next(iter(self.opinions.values()))

    def better(self) -> list[str]:
        """Who expected each character more, the GPT or the counts."""
        if COUNTS not in self.opinions:
            return [GPT_ALONE] * len(self.places)
        gpt, counts = (self.opinions[who].nats for who in (GPT_ALONE, COUNTS))
        return np.where(counts < gpt, COUNTS, GPT_ALONE).tolist()


@dataclass
class Judge:
    """A model that judges texts, and in which precision it computes its products."""

    label: str
    model: GPT | Mixture
    tokenizer: CharTokenizer
    device: torch.device
    dtype: torch.dtype

    def known(self, text: str) -> np.ndarray:
        """The places of the characters of `text` that the model knows, (N,)."""
        return np.flatnonzero(self.tokenizer.known(text))

    @torch.inference_mode()
    def score(self, text: str, stride: int | None = None) -> Score:
        """Judge the characters of `text` that the model knows, two or more, without the first.

        They are cut into windows of block_size, side by side, or each `stride` after the last. A
        character is judged by what stands before it in its window.
        """
        window, vocab_size = self.model.config.block_size, self.model.config.vocab_size
        ids = self.tokenizer.encode(text, "skip")
        found: dict[str, Tally] = {}
        guesses = []
        with bar("scoring", len(ids) - 1, "char") as progress:
            for idx, targets, new in overlapping(
                ids, window, stride or window, rows_at_once(window, vocab_size)
            ):
                idx, targets = idx.to(self.device), targets.to(self.device)
                opinions = self.expected(idx, targets)
                for who, (nats, scores) in opinions.items():
                    tally = found.setdefault(who, Tally())
                    tally.add(nats[:, -new:].flatten(), ranks(scores, targets)[:, -new:].flatten())
                _, scores = next(iter(opinions.values()))
                guesses.append(scores[:, -new:].argmax(dim=-1).flatten().cpu())
                progress.update(len(idx) * new)
        opinions = {who: tally.opinion() for who, tally in found.items()}
        return Score(self.known(text)[1:], opinions, torch.cat(guesses).numpy())

    def expected(self, idx: Tensor, targets: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Who judges: the nats of the targets (B, T), and what orders all characters (B, T, V)."""
        model = self.model
        gpt = model.gpt if isinstance(model, Mixture) else model
        with autocast(self.device, self.dtype):
            logits = gpt(idx)
            alone = nats_of(logits, targets).view(targets.shape), logits.float()
        if not isinstance(model, Mixture):
            return {GPT_ALONE: alone}
        net = logits.float().softmax(dim=-1)
        counted, known = model.counts.probs(idx)
        both = mix(net, counted, model.shares[known][..., None])
        of_targets = [p.gather(-1, targets[..., None])[..., 0] for p in (net, counted)]
        mixed = mix(*of_targets, model.shares[known])  # as in training, to the last bit
        return {
            BOTH: (-mixed.log(), both),
            GPT_ALONE: alone,
            COUNTS: (-of_targets[1].log(), counted),
        }


@dataclass
class Tally:
    """An opinion that is being collected."""

    nats: list[Tensor] = field(default_factory=list)
    ranks: list[Tensor] = field(default_factory=list)
    total: float = 0.0

    def add(self, nats: Tensor, ranks: Tensor) -> None:
        """Some more characters, both (n,)."""
        self.total += nats.mean().item() * len(nats)  # as in training, to the last bit
        self.nats.append(nats.cpu())
        self.ranks.append(ranks.to(torch.int32).cpu())

    def opinion(self) -> Opinion:
        """That on all of them."""
        nats, ranks = torch.cat(self.nats).numpy(), torch.cat(self.ranks).numpy()
        return Opinion(self.total / len(nats), nats, ranks)


def nats_of(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of each character: logits (B, T, V), targets (B, T) -> (B * T,)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")


def ranks(scores: Tensor, targets: Tensor) -> Tensor:
    """Which guess each target was, the first is 1: scores (B, T, V), targets (B, T) -> (B, T).

    Of characters that are equally likely, the one with the lower id is guessed first.
    """
    own, ids = scores.gather(-1, targets[..., None]), torch.arange(scores.shape[-1])
    before = (scores == own) & (ids.to(scores.device) < targets[..., None])
    return 1 + (before | (scores > own)).sum(dim=-1)
