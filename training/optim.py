"""The optimizers and the learning-rate schedule.

torch.optim.AdamW and torch.optim.Muon compute the same, and the tests hold these against them. But
to make one of their classes imports torch's compiler, which takes as long as torch itself.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from model import GPT
from system.device import has_bfloat16
from system.settings import OptimConfig

EPS = 1e-8  # of AdamW, as torch has it

State = dict[int, dict[str, Tensor]]


def schedule(step: int, max_steps: int, config: OptimConfig) -> float:
    """Share of the peak learning rate at `step` (0 is the first): warm up, then decay.

    Rises linearly over `warmup_steps`, then falls towards `final_share`, which it would reach one
    step after the last; `none` stays at the peak.
    """
    if step < config.warmup_steps:
        return (step + 1) / (config.warmup_steps + 1)
    if config.decay == "none":
        return 1.0
    done = (step - config.warmup_steps) / max(1, max_steps - config.warmup_steps)
    done = min(done, 1.0)
    left = 1 - done if config.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
    return config.final_share + (1 - config.final_share) * left


def parameter_groups(model: GPT, config: OptimConfig) -> dict[str, dict]:
    """The weights by the role they play, each group with its peak learning rate and its decay."""
    peaks = {
        "matrices": config.learning_rate,
        "embeddings": config.embedding_learning_rate,
        "head": config.head_learning_rate,
        "vectors": config.vector_learning_rate,
    }
    groups = {
        role: {
            "params": [],
            "lr": config.learning_rate if peak is None else peak,
            "weight_decay": 0.0 if role == "vectors" else config.weight_decay,
        }
        for role, peak in peaks.items()
    }
    for name, p in model.named_parameters():  # a tied head counts as the embedding
        matrix = "matrices" if name.startswith("blocks.") else "embeddings"
        role = "vectors" if p.ndim < 2 else "head" if name.startswith("lm_head.") else matrix
        groups[role]["params"].append(p)
    return groups


class Optimizer:
    """AdamW, or Muon for the matrices inside the blocks and AdamW for the rest, run as one."""

    def __init__(self, model: GPT, config: OptimConfig) -> None:
        groups = parameter_groups(model, config)
        self.parts: list[Part] = []
        if config.optimizer == "muon":
            self.parts.append(Muon([groups.pop("matrices")], momentum=config.momentum))
        self.parts.append(AdamW(list(groups.values()), betas=(config.beta1, config.beta2)))

    @torch.no_grad()
    def step(self, share: float) -> None:
        """Update the weights at `share` of the peak learning rates, and clear the gradients."""
        for part in self.parts:
            part.step(share)
            for p in part.params:
                p.grad = None

    def state(self) -> list[State]:
        """What the optimizers remember of past gradients; the settings are not part of it."""
        return [part.state for part in self.parts]

    def load_state(self, state: list[State]) -> None:
        """Remember what `state` says. Raises ValueError when it is of other weights."""
        for part, remembered in zip(self.parts, state, strict=True):
            part.load_state(remembered)


class Part:
    """Weights in groups, as `parameter_groups` makes them, and what is remembered of their past.

    params: all of them, in order; `state` has its entries by their places in it
    state: tensors by name, such as exp_avg, of a weight or of several; empty before the first step
    """

    def __init__(self, groups: list[dict]) -> None:
        self.groups = groups
        self.params: list[nn.Parameter] = [p for group in groups for p in group["params"]]
        self.state: State = {}

    def fresh(self) -> State:
        """The state before the first gradient: all zero."""
        raise NotImplementedError

    def step(self, share: float) -> None:
        """Update the weights, which all have gradients, at `share` of the peak learning rates."""
        raise NotImplementedError

    @torch.no_grad()
    def load_state(self, state: State) -> None:
        """Remember what `state` says. Raises ValueError when it is of other weights."""
        fresh = self.fresh()
        if state and shapes(state) != shapes(fresh):
            raise ValueError("the optimizer's state is that of other weights")
        for i, tensors in state.items():  # into tensors of ours: torch's step trusts their layout
            for name, tensor in tensors.items():
                fresh[i][name].copy_(tensor)
        self.state = fresh if state else {}


def shapes(state: State) -> dict[int, dict[str, torch.Size]]:
    """The shape of everything in `state`."""
    return {i: {name: t.shape for name, t in tensors.items()} for i, tensors in state.items()}


class AdamW(Part):
    """AdamW, by torch's own fused step: Loshchilov & Hutter 2017, arXiv:1711.05101."""

    def __init__(self, groups: list[dict], *, betas: tuple[float, float]) -> None:
        super().__init__(groups)
        self.betas = betas

    def fresh(self) -> State:
        """For each weight the steps it has made, and the means of its gradient and its square."""
        return {
            i: {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
            for i, p in enumerate(self.params)
        }

    def step(self, share: float) -> None:
        """Update the weights, which all have gradients, at `share` of the peak learning rates."""
        self.state = self.state or self.fresh()
        remembered = iter(self.state.values())
        for group in self.groups:
            params = group["params"]
            states = list(itertools.islice(remembered, len(params)))
            adamw(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                [state["step"] for state in states],
                fused=True,
                amsgrad=False,
                beta1=self.betas[0],
                beta2=self.betas[1],
                lr=share * group["lr"],
                weight_decay=group["weight_decay"],
                eps=EPS,
                maximize=False,
            )


class Muon(Part):
    """Momentum whose update is orthogonalized, for matrices. Jordan et al. 2024.

    The same updates as `torch.optim.Muon`, but all matrices of a shape are one stack, so that a
    model of many small heads takes a handful of matrix products a step and not hundreds.
    Tall matrices are stacked transposed. The momentum of a stack is the state of its first matrix.
    Products are in bfloat16 where the hardware has it. Where it is emulated, as on a CPU with AVX2
    alone, that would take most of a step (benchmarks/README.md).
    """

    def __init__(self, groups: list[dict], *, momentum: float) -> None:
        super().__init__(groups)
        self.momentum = momentum
        self.dtype = torch.bfloat16 if has_bfloat16(self.params[0].device) else torch.float32
        self.stacks: list[tuple[int, list[nn.Parameter], dict]] = []  # place of the first, all
        start = 0
        for group in groups:
            alike = defaultdict(list)  # (rows, columns), rows <= columns -> places
            for i, p in enumerate(group["params"], start):
                alike[min(p.shape), max(p.shape)].append(i)
            start += len(group["params"])
            self.stacks += [(at[0], [self.params[i] for i in at], group) for at in alike.values()]

    def fresh(self) -> State:
        """The momentum of each stack, (n, rows, columns)."""
        return {
            first: {"momentum": torch.zeros_like(stack(params))} for first, params, _ in self.stacks
        }

    def step(self, share: float) -> None:
        """Update the weights, which all have gradients, at `share` of the peak learning rates."""
        self.state = self.state or self.fresh()
        for first, params, group in self.stacks:
            lr = share * group["lr"]
            grads = stack([p.grad for p in params])
            momentum = self.state[first]["momentum"].lerp_(grads, 1 - self.momentum)
            updates = newton_schulz(grads.lerp_(momentum, self.momentum), self.dtype)  # Nesterov's
            for p, update in zip(params, updates, strict=True):
                ratio = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
                p.mul_(1 - lr * group["weight_decay"])
                p.add_(update.mT if is_tall(p) else update, alpha=-lr * ratio)


def is_tall(matrix: Tensor) -> bool:
    """Whether it has more rows than columns."""
    return matrix.shape[0] > matrix.shape[1]


def stack(matrices: Sequence[Tensor]) -> Tensor:
    """Matrices that have one shape, once the tall ones are transposed: (n, rows, columns)."""
    return torch.stack([m.mT if is_tall(m) else m for m in matrices])


def newton_schulz(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Push all singular values of each matrix of a stack (n, rows, columns) towards 1.

    Five steps of a quintic iteration in `dtype`; eight bits are enough. The coefficients are Keller
    Jordan's, chosen for the steepest slope at zero: kellerjordan.github.io/posts/muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.to(dtype)
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT  # (..., m, m)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
