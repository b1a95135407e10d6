"""Any hand-set model in the widths that GPT-2 has: n_head * head_size == n_embd, and what it says
stays the same.

Heads of D channels that read a stream of C columns become heads of D', and the stream gets C'
columns, the smallest that fit both:

    D' = max(D, ceil(C / H))        C' = H D'

columns     The new ones stand at the end and hold zeros, so all others keep their places.
heads       Channels that are added hold zeros, too. Attention divides the scores by sqrt(D') now,
            so queries take a factor of sqrt(D' / D).
LayerNorm   One that is neutral for rows of some sum and some sum of squares has to be so in C'
            columns, where the mean is the sum / C', and the variance the squares / C' less the
            square of the mean. Its weight and bias say for which rows it was neutral: the bias is
            their mean, the weight sqrt(variance + eps). Zeros change neither sum. The formula of an
            anchor is that of any other column.
"""

import dataclasses
import math

import torch
from torch import Tensor

from handmade.parts import EPS, Handmade, Weights, blank, check_size, neutral
from model import GPTConfig


def widths(config: GPTConfig) -> GPTConfig:
    """The structure once it is widened."""
    head_size = max(config.head_size, -(-config.n_embd // config.n_head))
    return dataclasses.replace(config, head_size=head_size, n_embd=config.n_head * head_size)


def widen(made: Handmade) -> Handmade:
    """The same model with n_head * head_size == n_embd: (GPTConfig, chars, state_dict).

    Every LayerNorm of it has one weight and one bias for all columns, as neutral ones do. Raises
    ValueError when it would be too large.
    """
    config, chars, weights = made
    wide = widths(config)
    check_size(wide)
    widened = blank(wide)
    for name, weight in weights.items():
        if "ln_" in name:
            continue
        weight = into_heads(weight, config, wide) if name.endswith("attn.proj.weight") else weight
        if ".query." in name:
            weight = weight * math.sqrt(wide.head_size / config.head_size)
        widened[name][tuple(map(slice, weight.shape))] = weight
    for norm in {name.rpartition(".")[0] for name in weights if "ln_" in name}:
        keep_neutral(widened, norm, weights, config.n_embd)
    return wide, chars, widened


def into_heads(weight: Tensor, config: GPTConfig, wide: GPTConfig) -> Tensor:
    """The projection (C, H * D) for heads that are wider, (C, H * D')."""
    parts = weight.unflatten(1, (config.n_head, config.head_size))  # (C, H, D)
    room = (0, wide.head_size - config.head_size)
    return torch.nn.functional.pad(parts, room).flatten(1)


def keep_neutral(widened: Weights, name: str, weights: Weights, columns: int) -> None:
    """Make the LayerNorm `name` of `widened` neutral for the rows for which that of `weights`, in
    so many columns, is."""
    weight, mean = (weights[f"{name}.{kind}"][0].item() for kind in ("weight", "bias"))
    share = columns / len(widened[f"{name}.weight"])  # of the columns that may hold something
    squares = (weight**2 - EPS + mean**2) * share
    neutral(widened, name, mean=mean * share, variance=squares - (mean * share) ** 2)
