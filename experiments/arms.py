"""Where a run begins: the arms of the experiment.

same        the hand-set model's shape, from random weights
roomier     at least 2 layers, 4 heads, 64 wide, from random weights
blurred S   set by hand, with logits and attention scores divided by S
noisy s     set by hand, blurred until logits are of size 10 or less, with Gaussian noise of s times
            the root mean square of each matrix
frozen ...  one half set by hand and fixed, the other trained from random weights; and, as the
            control, the same with a random half fixed
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from experiments.windows import Data
from model import GPT, GPTConfig
from system.checkpoint import Checkpoint

ARMS = ("same", "roomier", "blurred", "noisy", "frozen", "between")
BLURS, NOISES = (1.0, 4.0, 16.0, 64.0, 256.0), (0.01, 0.03, 0.1, 0.3)
ATTENTION, FEED_FORWARD = "attention", "feed-forward"  # the halves
FROZEN = {  # which half is fixed, and how
    "attention by hand": (ATTENTION, "hand"),
    "attention at random": (ATTENTION, "random"),
    "feed-forward by hand": (FEED_FORWARD, "hand"),
    "feed-forward at random": (FEED_FORWARD, "random"),
}
LARGEST_LOGIT = 10.0  # of what noise is put on
ROOMIER = {"n_layer": 2, "n_head": 4, "n_embd": 64}

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Start:
    """How a run begins.

    kind: same, roomier, blurred, noisy, or one of FROZEN; strength: the S or s of those in between
    """

    kind: str
    strength: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} {self.strength:g}" if self.strength else self.kind

    @property
    def from_hand(self) -> bool:
        """Whether all weights are set by hand at first."""
        return self.kind in ("blurred", "noisy")


@dataclass(frozen=True)
class Run:
    """One twin: how it begins, what text it is shown, and the seed of its weights and batches."""

    start: Start
    data: Data
    seed: int

    def __str__(self) -> str:
        return f"{self.start}, {self.data}, seed {self.seed}"

    @property
    def file(self) -> str:
        """The name of the file with its weights."""
        return f"{self}.pt".replace(", ", "-").replace(" ", "_")


def starts(arms: list[str], blurs: list[float], noises: list[float]) -> list[Start]:
    """All that the `arms` ask for."""
    found = [Start(arm) for arm in ("same", "roomier") if arm in arms]
    found += [Start("blurred", blur) for blur in blurs if "blurred" in arms]
    found += [Start("noisy", noise) for noise in noises if "noisy" in arms]
    return found + [Start(kind) for kind in FROZEN if "frozen" in arms]


def half(name: str) -> str:
    """Which half of a model the weight `name` belongs to: what the heads read and do, or what the
    units do and the output."""
    reads = name.startswith(("wte.", "wpe."))
    return ATTENTION if reads or ".ln_1." in name or ".attn." in name else FEED_FORWARD


def shape(start: Start, hand: GPTConfig, layers: int | None = None) -> GPTConfig:
    """The structure of a run's model; layers: how many, where not those of the hand-set one."""
    if start.from_hand or start.kind in FROZEN:
        return hand
    wanted = hand if layers is None else dataclasses.replace(hand, n_layer=layers)
    if start.kind == "same":
        return wanted
    heads = max(ROOMIER["n_head"], hand.n_head)
    width = math.ceil(max(ROOMIER["n_embd"], hand.n_embd) / heads) * heads
    deep = layers or max(ROOMIER["n_layer"], hand.n_layer)
    return dataclasses.replace(
        hand, n_layer=deep, n_head=heads, n_embd=width, head_size=None, ffn_size=None
    )


def blurred(weights: Weights, by: float) -> Weights:
    """The same with logits and attention scores divided by `by`."""
    soft = ("query.weight", "query.bias", "lm_head.weight")
    return {
        name: weight / by if name.endswith(soft) else weight for name, weight in weights.items()
    }


def blur_for_noise(weights: Weights) -> float:
    """The least power of four that makes logits of one-hots LARGEST_LOGIT or less."""
    largest, by = weights["lm_head.weight"].abs().max().item(), 1.0
    while largest / by > LARGEST_LOGIT:
        by *= 4
    return by


def noisy(weights: Weights, sigma: float, generator: torch.Generator) -> Weights:
    """The same with noise of `sigma` times the root mean square of each matrix."""

    def noise(weight: Tensor) -> Tensor:
        drawn = torch.randn(weight.shape, generator=generator)
        return weight + sigma * weight.square().mean().sqrt() * drawn

    return {name: noise(w) if w.ndim == 2 else w for name, w in weights.items()}


def scattered(weights: Weights, generator: torch.Generator) -> Weights:
    """Random matrices that keep the size of what goes through them, for a half that is fixed: as
    first weights are, where branches begin at zero, it would do nothing."""

    def drawn(name: str, weight: Tensor) -> Tensor:
        if weight.ndim != 2:
            return weight
        size = 1.0 if name.startswith(("wte.", "wpe.")) else weight.shape[1] ** -0.5
        return size * torch.randn(weight.shape, generator=generator)

    return {name: drawn(name, weight) for name, weight in weights.items()}


def begin(run: Run, hand: Checkpoint, layers: int | None = None) -> GPT:
    """The model of `run` before its first step; what is fixed needs no gradient."""
    torch.manual_seed(run.seed)
    generator = torch.Generator().manual_seed(run.seed)
    kind, strength = run.start.kind, run.start.strength
    model = GPT(shape(run.start, hand.model, layers))
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    if kind == "blurred":
        weights = blurred(hand.weights, strength)
    if kind == "noisy":
        soft = blurred(hand.weights, blur_for_noise(hand.weights))
        weights = noisy(soft, strength, generator)
    if kind in FROZEN:
        fixed, how = FROZEN[kind]
        source = hand.weights if how == "hand" else scattered(weights, generator)
        weights |= {name: weight for name, weight in source.items() if half(name) == fixed}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(half(name) != fixed)
    model.load_state_dict(weights, strict=True)
    return model
