"""GPT-2, part by part: our GPT with another's names and settings.

A Hugging Face `GPT2LMHeadModel` computes what `GPT` does with learned positions, gelu_tanh and
biases; the head may be tied or not. Its weights differ in three ways only:

    theirs                                ours
    wte wpe ln_f                          wte wpe ln_f
    h.0.ln_1 h.0.ln_2                     blocks.0.ln_1 blocks.0.ln_2
    h.0.attn.c_attn                       blocks.0.attn.heads.0.query ... heads.11.value
    h.0.attn.c_proj                       blocks.0.attn.proj
    h.0.mlp.c_fc h.0.mlp.c_proj           blocks.0.ffwd.up blocks.0.ffwd.down

The names differ; the matrices of the blocks are stored transposed, (in, out); and one matrix,
c_attn, holds the queries of all heads, then all keys, then all values.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
"""

import itertools
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from model import GPTConfig
from system.config import coerce
from system.errors import UserError

PREFIX, HEAD = "transformer.", "lm_head.weight"
MASK = re.compile(r"h\.\d+\.attn\.(masked_)?bias")  # buffers that old files hold, no weights
ENDS = ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")
LAYERS = {
    "ln_1": "ln_1",
    "attn.c_proj": "attn.proj",
    "ln_2": "ln_2",
    "mlp.c_fc": "ffwd.up",
    "mlp.c_proj": "ffwd.down",
}
EPS = 1e-5  # of LayerNorm
PARTS, KINDS = ("query", "key", "value"), ("weight", "bias")

STRUCTURE = {
    "position": "learned",
    "activation": "gelu_tanh",
    "bias": True,
    "shift": 0.0,
}
FIXED = {  # what such a GPT computes; a config.json that lacks one of these means the same
    "activation_function": "gelu_new",
    "layer_norm_epsilon": EPS,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
TIED = "tie_word_embeddings"  # True where a config.json lacks it
SIZES = {"vocab_size": 50257, "n_layer": 12, "n_head": 12, "n_embd": 768}  # where it says nothing
NAMED = 5  # weights that are missing or unexpected, in a message


def config_from_gpt2(settings: Mapping[str, Any]) -> GPTConfig:
    """The structure that `settings`, the content of a config.json, describes.

    Of its three shares of dropout the one in the residual stream is taken. Raises UserError, also
    where GPT-2 was given a part that our GPT lacks.
    """
    if settings.get("model_type") != "gpt2":
        raise UserError(f"model_type is {settings.get('model_type')!r}; name a model that is gpt2")
    for name, ours in FIXED.items():
        if settings.get(name, ours) != ours:
            raise UserError(f"{name} is {settings[name]!r}; name a model with {ours!r}, as ours is")
    sizes = {name: settings.get(name, size) for name, size in SIZES.items()}
    sizes["block_size"] = settings.get("n_positions", settings.get("n_ctx", 1024))
    sizes = {name: coerce(size, int, name) for name, size in sizes.items()}
    ffn_size = coerce(settings.get("n_inner"), int | None, "n_inner")
    dropout = coerce(settings.get("resid_pdrop", 0.1), float, "resid_pdrop")
    tied = coerce(settings.get(TIED, True), bool, TIED)
    more = {"ffn_size": ffn_size, "dropout": dropout, "tie_weights": tied}
    try:
        return GPTConfig(**sizes, **STRUCTURE, **more)
    except ValueError as error:
        raise UserError(str(error)) from None


def config_to_gpt2(config: GPTConfig) -> dict[str, Any]:
    """The content of the config.json of such a model. Raises UserError where there is none."""
    wrong = [name for name, value in STRUCTURE.items() if getattr(config, name) != value]
    needed = [f"model.{name}={str(STRUCTURE[name]).lower()}" for name in wrong]
    if config.n_head * config.head_size != config.n_embd:
        needed.append("model.head_size=null")
    if needed:
        raise UserError(
            f"this model is not built as GPT-2 is; train one with {' '.join(needed)}, or with "
            "--config tiny_shakespeare_gpt2.yaml"
        )
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **{name: getattr(config, name) for name in SIZES},
        "n_positions": config.block_size,
        "n_inner": config.ffn_size,
        **{f"{place}_pdrop": config.dropout for place in ("embd", "attn", "resid")},
        **FIXED,
        TIED: config.tie_weights,
        "bos_token_id": None,  # left out, they would be GPT-2's own
        "eos_token_id": None,
    }


def shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Of each of GPT-2's weights the name, without PREFIX, and the shape."""
    C, F = config.n_embd, config.ffn_size
    found = {"wte.weight": (config.vocab_size, C), "wpe.weight": (config.block_size, C)}
    norms, matrices = ["ln_f"], {}
    for h in (f"h.{i}" for i in range(config.n_layer)):
        norms += [f"{h}.ln_1", f"{h}.ln_2"]
        matrices |= {f"{h}.attn.c_attn": (C, 3 * C), f"{h}.attn.c_proj": (C, C)}
        matrices |= {f"{h}.mlp.c_fc": (C, F), f"{h}.mlp.c_proj": (F, C)}
    for norm in norms:
        found |= {f"{norm}.{kind}": (C,) for kind in KINDS}
    for name, shape in matrices.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[1:]}
    return found if config.tie_weights else {**found, HEAD: (config.vocab_size, C)}


def check(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """GPT-2's `weights` without PREFIX, masks and a head that is tied.

    Raises UserError unless they are all there, no others are, and they fit `config`.
    """
    if config.n_layer > len(weights):  # said here, before their names are made up
        raise UserError(f"n_layer is {config.n_layer}, but there are only {len(weights)} weights")
    theirs = {name.removeprefix(PREFIX): weight for name, weight in weights.items()}
    theirs = {name: weight for name, weight in theirs.items() if not MASK.fullmatch(name)}
    head = theirs.pop(HEAD, None) if config.tie_weights else None
    expected = shapes(config)
    for names, what in (
        (expected.keys() - theirs.keys(), "missing"),
        (theirs.keys() - expected.keys(), "unexpected"),
    ):
        if names:
            first = ", ".join(sorted(names)[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise UserError(f"the weights {first}{more} are {what}; name a whole GPT2LMHeadModel")
    for name, shape in expected.items():
        if theirs[name].shape != shape:
            raise UserError(
                f"{name} is of shape {tuple(theirs[name].shape)}, but by config.json it is {shape}"
            )
        if not (theirs[name].is_floating_point() and theirs[name].isfinite().all()):
            raise UserError(f"{name} has values that are no finite numbers; fetch it anew")
    if head is not None and not torch.equal(head, theirs["wte.weight"]):
        raise UserError(f"{HEAD} is not wte.weight; say {TIED}: false in config.json")
    return theirs


def from_gpt2(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The state dict of our GPT from that of GPT-2: with or without PREFIX, masks and a tied head.

    Raises UserError where weights are missing or unexpected, or do not fit `config`.
    """
    theirs = check(weights, config)
    head = theirs["wte.weight" if config.tie_weights else HEAD]
    ours = {**{name: theirs[name] for name in ENDS}, HEAD: head}
    for i, kind in itertools.product(range(config.n_layer), KINDS):
        for their, our in LAYERS.items():
            ours[f"blocks.{i}.{our}.{kind}"] = theirs[f"h.{i}.{their}.{kind}"].t()
        together = theirs[f"h.{i}.attn.c_attn.{kind}"].t()  # (3 * H * D, C), of biases (3 * H * D)
        parts = together.unflatten(0, (3, config.n_head, config.head_size))  # (3, H, D, C)
        for (p, part), h in itertools.product(enumerate(PARTS), range(config.n_head)):
            ours[f"blocks.{i}.attn.heads.{h}.{part}.{kind}"] = parts[p, h]
    return ours


def to_gpt2(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The state dict of GPT-2 from that of our GPT. Raises UserError unless it is built so."""
    config_to_gpt2(config)
    theirs = {f"{PREFIX}{name}": weights[name] for name in ENDS}
    for i, kind in itertools.product(range(config.n_layer), KINDS):
        for their, our in LAYERS.items():
            weight = weights[f"blocks.{i}.{our}.{kind}"]
            theirs[f"{PREFIX}h.{i}.{their}.{kind}"] = weight.t().contiguous()
        heads = [f"blocks.{i}.attn.heads.{h}" for h in range(config.n_head)]
        parts = [weights[f"{head}.{part}.{kind}"] for part in PARTS for head in heads]
        theirs[f"{PREFIX}h.{i}.attn.c_attn.{kind}"] = torch.cat(parts).t().contiguous()
    return {**theirs, HEAD: weights[HEAD]}
