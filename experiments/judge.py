"""What became of a twin: its loss, the contexts that are right, a proof, where it looks."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.heads import attended, distance, match
from data.laws import Law
from data.tokenizer import CharTokenizer
from experiments.windows import OPEN, Domain, Windows
from model import GPT
from proof.bounds import Unproved
from proof.certificate import FOLLOW, certify
from proof.proof import MOST, played

AT_ONCE = 16_384  # characters in one pass through a model
COUNTED = 20_000  # windows in which right contexts are counted where there are more than MOST
QUICK = 256  # windows that are tried before all are
LOOKED_AT = 500  # contexts over which attention is compared, drawn where there are more
ALIKE = 0.1  # attention distance below which a twin has the hand's algorithm
AT_THE_FLOOR = 0.01  # nats a character that a loss may be above its floor
PART = 10_000  # windows after which a proof ends if some were wrong
WORST = 8  # windows with wrong contexts that are tried first the next time


@torch.inference_mode()
def margins(model: GPT, windows: Windows) -> Tensor:
    """Logit of the right character less the largest other one, (N, T); infinite where it is open,
    and below zero for what is no number."""
    parts = []
    for idx, targets in windows.batches(max(1, AT_ONCE // windows.idx.shape[1])):
        logits, asked = model(idx), targets != OPEN  # (B, T, V)
        right = targets.clamp(min=0)[..., None]  # (B, T, 1)
        others = logits.scatter(2, right, -torch.inf).amax(dim=2)
        lead = (logits.gather(2, right)[..., 0] - others).nan_to_num(nan=-1.0)
        parts.append(lead.masked_fill(~asked, torch.inf))
    return torch.cat(parts)


@torch.inference_mode()
def loss(model: GPT, windows: Windows) -> float:
    """Mean loss where the rule decides, nats a character."""
    total, places = 0.0, 0
    for idx, targets in windows.batches(max(1, AT_ONCE // windows.idx.shape[1])):
        logits = model(idx).double().flatten(0, 1)
        total += F.cross_entropy(logits, targets.flatten(), reduction="sum").item()
        places += (targets != OPEN).sum().item()
    return total / max(1, places)


@dataclass
class Judge:
    """Judges models of one rule.

    domain: what they are judged on; hand: the model that was set by hand
    counted: the windows in which right contexts are counted, whole: whether those are all
    """

    law: Law
    domain: Domain
    hand: GPT

    def __post_init__(self) -> None:
        n, draw = len(self.domain.windows), random.Random(1)
        rows = torch.tensor(sorted(draw.sample(range(n), min(QUICK, n))))
        self.quick = self.domain.windows.some(rows)
        self.counted, self.whole = self.domain.windows, self.domain.whole
        if self.whole and self.domain.total > MOST and n > COUNTED:
            rows, self.whole = torch.tensor(sorted(draw.sample(range(n), COUNTED))), False
            self.counted = self.domain.windows.some(rows)
        self.contexts = self.some_contexts(draw)
        self.known = attended(self.hand, self.law.chars, self.contexts)[0]  # (N, H, T)

    def some_contexts(self, draw: random.Random) -> list[str]:
        """Contexts of the domain, the short ones first."""
        windows, decode = self.counted, CharTokenizer(self.law.chars).decode
        ends = (windows.targets != OPEN).nonzero().tolist()
        some = draw.sample(ends, min(LOOKED_AT, len(ends)))
        texts = [decode(windows.idx[row, : place + 1]) for row, place in some]
        return sorted(texts, key=lambda text: (len(text), text))

    def right(self, model: GPT) -> tuple[int, int, str | None]:
        """How many contexts are right, of how many, and the first that is not, a short one."""
        windows = self.counted
        lead = margins(model, windows)
        wrong, asked = ~(lead > 0), int((windows.targets != OPEN).sum())
        if not wrong.any():
            return asked, asked, None
        place = int(wrong.any(dim=0).nonzero()[0])
        row = int(wrong[:, place].nonzero()[0])
        first = CharTokenizer(self.law.chars).decode(windows.idx[row, : place + 1])
        return asked - int(wrong.sum()), asked, first

    def seems_right(self, model: GPT) -> bool:
        """Whether it is right in those windows that are tried first."""
        return bool((margins(model, self.quick) > 0).all())

    def proved(self, model: GPT) -> bool:
        """Whether it is right in every context.

        Some windows are tried first, and those that showed the last models wrong. Where there are
        too many contexts to try, a certificate is what counts.
        """
        if not self.seems_right(model):
            return False
        for windows in self.domain.windows.parts(PART):
            wrong = ~(margins(model, windows) > 0).all(dim=1)
            if wrong.any():
                rows = wrong.nonzero()[:WORST, 0]
                self.quick = self.quick.with_others(windows.some(rows))
                return False
        return self.domain.whole or self.certified(model)

    def certified(self, model: GPT) -> bool:
        """Whether bounds prove it: only a model that is built as the hand's can be followed."""
        if type(self.law) not in FOLLOW or model.config != self.hand.config:
            return False
        try:
            certify(model, self.law)
        except Unproved:
            return False
        return True

    def games(self, model: GPT) -> list[int] | None:
        """Where the rule plays, how many of all games are won, drawn, lost, and ended by a move
        that is not allowed."""
        if not self.law.board:
            return None
        found = played(model, self.law.chars)
        return [found.won, found.drawn, found.lost, found.illegal]

    def attention_distance(self, model: GPT) -> float:
        """Mean total variation between where its heads look and where the hand's do, matched."""
        rows = attended(model, self.law.chars, self.contexts)[0]  # (N, heads, T)
        apart = distance(self.known, rows)
        pairs = match(apart)
        # a head of the hand's that has no partner has nothing in common with what is there
        return (sum(apart[pair].item() for pair in pairs) + len(apart) - len(pairs)) / len(apart)
