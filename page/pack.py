"""A model as the page carries it: its structure as plain values, weights and counts as base64."""

import base64
import dataclasses
import zlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from data import counts
from model import GPT, Shift

MOST_WEIGHTS = 30_000_000  # 80 MB of base64 in float16: more, and browsers take many seconds
MOST_GRAMS = 30_000_000  # about 40 MB of base64
MOST_FLOAT32 = 2_000_000  # beyond that, half the bytes are worth the rounding
COUNTED = ("last", "followers", "counts")  # of each order, as counts.js reads them


def ordered(model: GPT) -> Iterator[tuple[str, Tensor]]:
    """The weights by name, shared ones once, with those that the engine reads as one side by side.

    Of each block the queries of all heads, then their keys, then their values, as
    MultiHeadAttention.gathered has them.
    """
    weights, config = model.state_dict(), model.config
    if config.tie_weights:
        del weights["lm_head.weight"]
    for name, weight in weights.items():
        if ".attn.heads." not in name:
            yield name, weight
        elif name.endswith(".heads.0.query.weight"):
            heads = name.removesuffix("0.query.weight")
            for kind in ("weight", "bias") if config.bias else ("weight",):
                for part in ("query", "key", "value"):
                    for head in range(config.n_head):
                        one = f"{heads}{head}.{part}.{kind}"
                        yield one, weights[one]


def rounded(model: GPT) -> torch.dtype:
    """The type in which the page carries the weights: float16 where they are many, and fit."""
    if model.parameter_count() <= MOST_FLOAT32:
        return torch.float32
    fits = all(weight.half().isfinite().all() for weight in model.parameters())
    return torch.float16 if fits else torch.float32


def pack(model: GPT, chars: str, dtype: torch.dtype) -> dict[str, Any]:
    """What engine.js makes a Model from: {config, chars, shifted, dtype, tensors, weights}.

    Raises ValueError, one sentence, when the model is too large for a page.
    """
    if model.parameter_count() > MOST_WEIGHTS:
        raise ValueError(
            f"it has {model.parameter_count():,} weights, and a page carries {MOST_WEIGHTS:,} at "
            "most; take a smaller model"
        )
    named = [(name, weight.detach().cpu().contiguous()) for name, weight in ordered(model)]
    raw = torch.cat([weight.to(dtype).view(-1) for _, weight in named])
    shift = model.blocks[0].shift
    return {
        "config": dataclasses.asdict(model.config),
        "chars": chars,
        "shifted": shift.n if isinstance(shift, Shift) else 0,
        "dtype": str(dtype).removeprefix("torch."),
        "tensors": [[name, list(weight.shape)] for name, weight in named],
        "weights": base64.b64encode(
            raw.numpy().astype(raw.numpy().dtype.newbyteorder("<"))
        ).decode(),
    }


def pack_counts(levels: list[dict[str, Tensor]], shares: list[float], vocab_size: int) -> dict:
    """What counts.js makes Counts from, of what `data.counts.pack` packed: {vocab_size, shares,
    orders, bytes}, where bytes is what zlib makes of all values, as base64.

    Raises ValueError, one sentence, when they are too many for a page.
    """
    if (grams := gram_count(levels)) > MOST_GRAMS:
        raise ValueError(
            f"it has {grams:,} counts, and a page carries {MOST_GRAMS:,} at most; --trained-alone "
            "leaves them out"
        )
    orders, raw = [], []
    for level in levels:
        named = {name: counts.smallest(level[name].numpy()) for name in COUNTED}
        orders.append({name: [str(v.dtype)[6:], len(v)] for name, v in named.items()})
        raw += [
            v.numpy().astype(v.numpy().dtype.newbyteorder("<")).tobytes() for v in named.values()
        ]
    packed = base64.b64encode(zlib.compress(b"".join(raw), 9)).decode()
    return {"vocab_size": vocab_size, "shares": shares, "orders": orders, "bytes": packed}


def gram_count(levels: list[dict[str, Tensor]]) -> int:
    """How many grams of all lengths have a count."""
    return sum(len(level["last"]) for level in levels)
