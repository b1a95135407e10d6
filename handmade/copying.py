"""Copying set by hand: what followed the current character the last time comes next.

    chars: abc
    block_size: 8
    copy: 1

A character that is new is repeated. This is an induction head (Olsson et al. 2022,
arXiv:2209.11895), which takes two layers. The columns of the residual stream, for V characters and
T places:

    tok V | place T | prev V | out V

    tok     one-hot of the character at this place
    place   one-hot of the place
    prev    zero at first; then one-hot of the character before; of this one at the first place
    out     zero at first; in the end one-hot of what comes next

layer 0     The head looks one place back and copies what stands in tok there into prev.
layer 1     Place t asks for places whose prev is its own tok, with a score that is more than
            SHARP * T, and each place j offers SHARP * j beside that. So the latest place after the
            same character wins; where there is none, the latest of all, t itself, wins. What
            stands in tok there is copied into out. The first place shows itself in prev, and so
            seems to come after its own character; but then the second really does, and is later.
ln_*        find 2, 3, 3, 4 and in the end 4 ones in each row, and are neutral.
ffwd        adds nothing, because `down` is zero.
lm_head     The logit of a character is SHARP times its column of out.
"""

import math

import torch

from data.laws import Copying
from handmade.parts import (
    SHARP,
    Columns,
    Compiler,
    Handmade,
    blank,
    check_size,
    embed,
    look_back,
    neutral_for,
)
from model import GPTConfig


def columns_of(rule: Copying) -> Columns:
    """The residual stream."""
    V = len(rule.chars)
    return Columns(tok=V, place=rule.block_size, prev=V, out=V)


def units_of(rule: Copying) -> list[str]:
    """The feed-forwards add nothing."""
    return []


def structure(rule: Copying) -> GPTConfig:
    """That of the model, two layers. Raises ValueError when it is too large."""
    V, T = len(rule.chars), rule.block_size
    config = GPTConfig(
        vocab_size=V,
        block_size=T,
        n_layer=2,
        n_head=1,
        n_embd=columns_of(rule).total,
        head_size=max(T, V + 1),
        ffn_size=1,
        bias=True,
        position="learned",
        activation="gelu_tanh",  # of units that add nothing: GPT-2's, so that it can be exported
    )
    check_size(config)
    return config


def compile_rule(rule: Copying) -> Handmade:
    """The model that answers as `rule` does, in every context: (GPTConfig, chars, state_dict).

    Raises ValueError when it would be too large.
    """
    config, columns = structure(rule), columns_of(rule)
    V, T, D = config.vocab_size, config.block_size, config.head_size
    weights = blank(config)
    embed(weights, columns)
    look_back(weights, 0, 0, columns, to="prev", by=1)

    head, asked = "blocks.1.attn.heads.0", range(V)
    match = 2.0 ** math.ceil(math.log2(SHARP * (T + 1)))
    weights[f"{head}.query.weight"][asked, columns["tok"]] = match * math.sqrt(D)
    weights[f"{head}.query.bias"][V] = SHARP * math.sqrt(D)
    weights[f"{head}.key.weight"][asked, columns["prev"]] = 1
    weights[f"{head}.key.weight"][V, columns["place"]] = torch.arange(float(T))
    weights[f"{head}.value.weight"][range(V), columns["tok"]] = 1
    weights["blocks.1.attn.proj.weight"][columns["out"], range(V)] = 1

    norms = ("blocks.0.ln_1", "blocks.0.ln_2", "blocks.1.ln_1", "blocks.1.ln_2", "ln_f")
    for name, ones in zip(norms, (2, 3, 3, 4, 4), strict=True):
        neutral_for(weights, name, ones=ones)
    weights["lm_head.weight"][range(V), columns["out"]] = SHARP
    return config, rule.chars, weights


COMPILER = Compiler(compile_rule, columns_of, units_of)
