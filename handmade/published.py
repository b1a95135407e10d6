"""Weights set by hand: GPTs that nobody trained, every weight stated by a rule.

The columns of the residual stream, for a context of n places:

    P0 P1 ... Pn-1 | a b | v | + -

    Pt    position one-hot: 1 at place t of the context
    a b   token one-hot at first; in the end the logits of what comes next
    v     scratch: stays 0, and is the zero that the logits are read against
    + -   the two anchors: 0 at first, then +ANCHOR and -ANCHOR

How these columns become a prediction, part by part:

wte, wpe    write one position one-hot and one token one-hot.
ln_1        Every row therefore has the same mean and the same variance. LayerNorm takes the mean
            off and divides by sqrt(variance + eps); a weight of sqrt(variance + eps) and a bias of
            the mean put both back, so that the rows come out as they went in.
query, key  Place t asks for some places, such as its own and the one before: a large number for
            each. Every place offers its own position one-hot. A place that is asked for scores that
            number, any other 0, and softmax turns this into equal shares for the places asked for
            and next to nothing for the rest. Attention divides the scores by sqrt(D), so the query
            is made sqrt(D) times as large.
value       a hands over +1 and b hands over -1. The mean of two places is then +1 for aa, -1 for
            bb, and 0 for one of each, which cancel.
proj        writes `write * mean` on b and minus that on a, and its bias adds to a: so b wins where
            the mean is +1, a where it is 0 or less. The columns still hold the token one-hot, but
            a 1 does not matter beside a 1024. The bias raises the anchors as well.
ln_2, ffwd  The feed-forward adds nothing, because `down` is zero.
ln_f        Now the rows differ, but the anchors outweigh all else in them: every row has the same
            mean, and the same spread up to (1024 / ANCHOR)^2 = 2^-24, which is as fine as float32
            gets. Weight and bias undo LayerNorm as in ln_1.
lm_head     The logit of a is the column a less the column v, that of b likewise. Beside anchors so
            large the mean is rounded, but by the same amount in every column: a difference is free
            of it.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from data import aab
from handmade.parts import Handmade, Weights, blank, neutral
from model import GPTConfig

ANCHOR = 2.0**22
HEAD_SIZE = 8  # or more, where there are more places to ask for


@dataclass
class Plan:
    """What one head is to do.

    asks: for each place of the context, the places it asks for; for none, it takes all alike
    sharpness: score of a place that is asked for; others get exp(-sharpness) of its share
    write: what the head adds to the logit of b, and takes from that of a, when its mean is +1
    """

    asks: list[list[int]]
    sharpness: float
    write: float


def own_and_back(distance: int, block_size: int) -> list[list[int]]:
    """Each place asks for itself and the one `distance` before it, if there is one."""
    return [[t - distance, t] if t >= distance else [] for t in range(block_size)]


def one_head(block_size: int = 5) -> Handmade:
    """Continues aab: the last two places are asked for, and b follows where both are a.

    Returns (GPTConfig, chars, state_dict). After theia vogel, "I made a transformer by hand (no
    training!)", https://vgel.me/posts/handmade-transformer/, with its values and logits. The query
    there is 1024, of which float32 would make unequal shares if a LayerNorm before it rounded two
    rows differently; exp(-24) is small enough.
    """
    plan = Plan(own_and_back(1, block_size), sharpness=24, write=1024)
    return assemble(block_size, [plan], bias=1024)


def new_head(block_size: int = 6) -> Handmade:
    """b follows where the current character and the one three places back are a.

    Returns (GPTConfig, chars, state_dict). After
    https://github.com/wjessup/handmade-transformer, new-head.py, where no score is divided by
    sqrt(D). The first three places have no third before them; they ask for nothing and take all.
    """
    return assemble(block_size, [Plan(own_and_back(3, block_size), sharpness=8, write=8)], bias=8)


def two_head(block_size: int = 6) -> Handmade:
    """Both rules at once, each in a head of its own: what the heads write is added up.

    Returns (GPTConfig, chars, state_dict). Two heads of 8 make attention 16 wide, which is not the
    width of the stream. After 2heads-handmade-transformer.py of the same repository, which adds the
    bias of 8 once per head. The second head writes 9 and so decides where the heads disagree.
    """
    heads = [
        Plan(own_and_back(1, block_size), sharpness=8, write=8),
        Plan(own_and_back(3, block_size), sharpness=8, write=9),
    ]
    return assemble(block_size, heads, bias=16)


def assemble(block_size: int, heads: list[Plan], bias: float) -> Handmade:
    """The model whose heads do as planned, and which adds `bias` to the logit of a."""
    places = range(block_size)  # the columns P0 P1 ...
    a, b, v, plus, minus = range(block_size, block_size + 5)
    config = GPTConfig(
        vocab_size=len(aab.LETTERS),
        block_size=block_size,
        n_layer=1,
        n_head=len(heads),
        n_embd=block_size + 5,
        head_size=max(HEAD_SIZE, block_size),
        bias=True,
        position="learned",
        activation="gelu_tanh",
    )
    weights = blank(config)
    weights["wte.weight"][[0, 1], [a, b]] = 1
    weights["wpe.weight"][places, places] = 1
    row = torch.zeros(config.n_embd)
    row[[0, a]] = 1  # the row of an a at place 0: as good as any other
    neutral_like(weights, "blocks.0.ln_1", row)

    proj, proj_bias = (weights[f"blocks.0.attn.proj.{part}"] for part in ("weight", "bias"))
    for h, plan in enumerate(heads):
        set_head(weights, f"blocks.0.attn.heads.{h}", plan, a=a, b=b)
        value = (h + 1) * config.head_size - 1  # where proj finds the head's last channel
        proj[a, value], proj[b, value] = -plan.write, plan.write
    proj_bias[a], proj_bias[plus], proj_bias[minus] = bias, ANCHOR, -ANCHOR

    weights["blocks.0.ln_2.weight"].fill_(1)
    neutral_like(weights, "ln_f", row + proj_bias)
    weights["lm_head.weight"][[0, 1], [a, b]] = 1
    weights["lm_head.weight"][:, v] = -1
    return config, aab.LETTERS, weights


def set_head(weights: Weights, name: str, plan: Plan, *, a: int, b: int) -> None:
    """Query and key as `plan` asks; +1 for a and -1 for b in the last channel of the value."""
    query = weights[f"{name}.query.weight"]
    for t, asked in enumerate(plan.asks):
        query[asked, t] = plan.sharpness * math.sqrt(len(query))
        weights[f"{name}.key.weight"][t, t] = 1
    weights[f"{name}.value.weight"][-1, [a, b]] = torch.tensor([1.0, -1.0])


def neutral_like(weights: Weights, name: str, row: Tensor) -> None:
    """Make the LayerNorm the identity for rows that have the mean and the variance of `row`."""
    row = row.double()
    mean, variance = row.mean().item(), row.var(correction=0).item()
    neutral(weights, name, mean=mean, variance=variance)
