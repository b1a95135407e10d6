"""The optimizers and the learning-rate schedule."""

import math
from collections import defaultdict

import torch
from torch import Tensor, nn

from model import GPT
from system.settings import OptimConfig


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
        self.parts: list[torch.optim.Optimizer] = []
        if config.optimizer == "muon":
            self.parts.append(Muon([groups.pop("matrices")], momentum=config.momentum))
        betas = (config.beta1, config.beta2)
        self.parts.append(torch.optim.AdamW(list(groups.values()), betas=betas, fused=True))
        self.peaks = [[group["lr"] for group in part.param_groups] for part in self.parts]

    def step(self, share: float) -> None:
        """Update the weights at `share` of the peak learning rates, and clear the gradients."""
        for part, peaks in zip(self.parts, self.peaks, strict=True):
            for group, peak in zip(part.param_groups, peaks, strict=True):
                group["lr"] = share * peak
            part.step()
            part.zero_grad()

    def state(self) -> list[dict[int, dict[str, Tensor]]]:
        """What the optimizers remember of past gradients; the settings are not part of it."""
        return [part.state_dict()["state"] for part in self.parts]

    def load_state(self, state: list[dict[int, dict[str, Tensor]]]) -> None:
        """Remember what `state` says. Raises ValueError when it is of other weights."""
        for part, remembered in zip(self.parts, state, strict=True):
            if isinstance(part, torch.optim.AdamW) and remembered:  # its kernel trusts the shapes
                params = [p for group in part.param_groups for p in group["params"]]
                if [p.shape for p in params] != [s["exp_avg"].shape for s in remembered.values()]:
                    raise ValueError("the optimizer's state is that of other weights")
            part.load_state_dict({**part.state_dict(), "state": remembered})


def newton_schulz(x: Tensor) -> Tensor:
    """Push all singular values of each matrix of a stack (n, rows, columns) towards 1.

    Five steps of a quintic iteration in bfloat16. The coefficients are Keller Jordan's, chosen
    for the steepest slope at zero: kellerjordan.github.io/posts/muon.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = x.bfloat16()
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        gram = x @ x.mT  # (..., m, m)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Momentum whose update is orthogonalized, for matrices. Jordan et al. 2024.

    The same updates as `torch.optim.Muon`, but all matrices of a shape are one stack, so that a
    model of many small heads takes a handful of matrix products a step and not hundreds.
    Tall matrices are stacked transposed. The momentum of a stack is the state of its first matrix,
    so the same matrices must have a gradient at every step.
    """

    def __init__(
        self,
        params: list[nn.Parameter] | list[dict],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            stacks = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    stacks[min(p.shape), max(p.shape)].append(p)
            for params in stacks.values():
                self.step_stack(params, group)

    def step_stack(self, params: list[nn.Parameter], group: dict) -> None:
        """Update matrices that have one shape once the tall ones are transposed."""
        tall = [p.shape[0] > p.shape[1] for p in params]
        grads = torch.stack([p.grad.mT if t else p.grad for p, t in zip(params, tall, strict=True)])
        state = self.state[params[0]]
        if not state:
            state["momentum"] = torch.zeros_like(grads)  # (n, rows, columns), rows <= columns
        momentum = state["momentum"].lerp_(grads, 1 - group["momentum"])
        updates = newton_schulz(grads.lerp_(momentum, group["momentum"]))  # Nesterov's
        for p, t, update in zip(params, tall, updates, strict=True):
            ratio = math.sqrt(max(1.0, p.shape[0] / p.shape[1]))
            p.mul_(1 - group["lr"] * group["weight_decay"])
            p.add_(update.mT if t else update, alpha=-group["lr"] * ratio)
