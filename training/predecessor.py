"""GPTs that teach: a part of each target is what finished ones expect at the same places.

A model of the same shape ends lower than the one that teaches it (born-again networks, Furlanello
et al. 2018, arXiv:1805.04770), on small texts too (Timiryasov & Tastet 2023, arXiv:2308.02019). The
teachers have learned from the very text they teach, and go without the counts that may stand beside
them: those know it by heart.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model import GPT, GPTConfig
from system.checkpoint import Checkpoint
from system.device import autocast
from system.errors import UserError, name_all
from training.teacher import Soft, pull_towards

Packed = dict[str, Any]  # a GPT as plain containers, its `model` and its `weights`
MOST = 3  # characters that a message names


def pack(model: GPT) -> Packed:
    """`model` as a checkpoint carries it. Its weights are no copy."""
    return {"model": dataclasses.asdict(model.config), "weights": dict(model.state_dict())}


def take(source: Checkpoint, name: str, chars: str) -> Packed:
    """The GPT of `source`, called `name`, for a text whose vocabulary is `chars`.

    The order of the characters becomes that of `chars`. Raises UserError where they are others.
    """
    lacks = [char for char in chars if char not in source.chars]
    knows = [char for char in source.chars if char not in chars]
    if lacks or knows:
        said = [f"does not know {name_all(lacks, MOST)}"] if lacks else []
        said += [f"knows {name_all(knows, MOST)}, not in the text"] if knows else []
        raise UserError(
            f"train.teacher={name} {' and '.join(said)}; a teacher has the characters of the text, "
            "so name a model that was trained on it"
        )
    weights = dict(source.weights)
    if source.chars != chars:
        order = [source.chars.index(char) for char in chars]
        for table in ("wte.weight", "lm_head.weight"):
            weights[table] = weights[table][order]
    return {"model": dataclasses.asdict(source.model), "weights": weights}


class Predecessors:
    """Finished GPTs that teach one of the same vocabulary; of any other shape, each its own.

    share: of what they expect, in the mean, in the target
    """

    def __init__(
        self, teachers: Sequence[Packed], share: float, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.share, self.device, self.dtype = share, device, dtype
        self.models: list[GPT] = []
        for teacher in teachers:
            model = GPT(GPTConfig(**teacher["model"]))
            model.load_state_dict(teacher["weights"], strict=True)
            self.models.append(model.to(device).eval().requires_grad_(False))

    @torch.no_grad()
    def probs(self, idx: Tensor) -> Tensor:
        """What they expect after each place, in the mean: idx (B, T) -> (B, T, V).

        One whose window is shorter than T is asked in windows of its own side by side.
        """
        probs = torch.zeros((), device=self.device)
        for model in self.models:
            windows = idx.split(model.config.block_size, dim=1)
            with autocast(self.device, self.dtype):
                logits = torch.cat([model(window) for window in windows], dim=1)
            probs = probs + logits.float().softmax(dim=-1)
        return probs / len(self.models)

    def soft(self, idx: Tensor, starts: Tensor) -> Soft:
        """What they teach beside the text: idx (B, T), starts (B,), as in Teacher.soft."""
        probs = self.probs(idx).flatten(0, 1)  # (B * T, V)
        return Soft(torch.full_like(probs[:, :1], self.share), probs.__getitem__)

    def pull(self, logits: Tensor, targets: Tensor, *, idx: Tensor, starts: Tensor) -> Tensor:
        """What to add to the mean loss, so that its targets are partly theirs; a scalar, in nats.

        logits (B, T, V), targets and idx (B, T), starts (B,): as in Teacher.pull.
        """
        return pull_towards(self.probs(idx), self.share, logits, targets)
