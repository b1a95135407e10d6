"""Jais2, part by part: the class of transformers that computes what our GPT does by default.

A Hugging Face `Jais2ForCausalLM` has rotary positions, relu2, heads of any size and no gate, as
`GPT` has them without token shift. Its weights differ in two ways only:

    theirs                                          ours
    model.embed_tokens  model.norm  lm_head         wte  ln_f  lm_head
    model.layers.0.input_layernorm                  blocks.0.ln_1
    model.layers.0.self_attn.q_proj k_proj v_proj   blocks.0.attn.heads.0.query ... heads.5.value
    model.layers.0.self_attn.o_proj                 blocks.0.attn.proj
    model.layers.0.post_attention_layernorm         blocks.0.ln_2
    model.layers.0.mlp.up_proj down_proj            blocks.0.ffwd.up down

The names differ, and the queries of all heads are one matrix, as are keys and values. Its
LayerNorms always have a bias, which is zero where ours have none.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from exchange import fitting
from exchange.fitting import kinds
from model import GPTConfig
from system.config import coerce
from system.errors import UserError

SINCE = "5.0"  # the oldest transformers that has the class
HEAD = "lm_head.weight"
ENDS = {"wte": "model.embed_tokens", "lm_head": "lm_head"}
PARTS = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
NORMS = {"ln_1": "input_layernorm", "ln_2": "post_attention_layernorm"}
LINEARS = {
    "attn.proj": "self_attn.o_proj",
    "ffwd.up": "mlp.up_proj",
    "ffwd.down": "mlp.down_proj",
}
EPS, THETA = 1e-5, 10_000.0  # of LayerNorm, and of the rotary angles

STRUCTURE = {"position": "rotary", "activation": "relu2", "shift": 0.0}
FIXED = {"hidden_act": "relu2", "layer_norm_eps": EPS}  # also where a config.json lacks them
BIASES = ("attention_bias", "mlp_bias")
ROPE = {"rope_type": "default", "rope_theta": THETA}
SIZES = {  # by our names: theirs, and what it is where a config.json says nothing
    "vocab_size": ("vocab_size", 150_272),
    "block_size": ("max_position_embeddings", 8192),
    "n_layer": ("num_hidden_layers", 32),
    "n_head": ("num_attention_heads", 26),
    "n_embd": ("hidden_size", 3328),
    "ffn_size": ("intermediate_size", 26_624),
}


def config_from_jais2(settings: Mapping[str, Any]) -> GPTConfig:
    """The structure that `settings`, the content of a config.json, describes.

    Its dropout is that of the attention. Raises UserError, also where our GPT lacks a part.
    """
    for name, ours in FIXED.items():
        if settings.get(name, ours) != ours:
            raise UserError(f"{name} is {settings[name]!r}; name a model with {ours!r}, as ours is")
    rope = settings.get("rope_parameters") or settings.get("rope_scaling") or {}
    theta = settings.get("rope_theta", THETA)  # of older files
    if not isinstance(rope, dict) or {**ROPE, "rope_theta": theta, **rope} != ROPE:
        raise UserError(
            f"rope_parameters is {rope or theta!r}; name a model with {ROPE!r}, as ours is"
        )
    sizes = {
        our: coerce(settings.get(their, size), int, their) for our, (their, size) in SIZES.items()
    }
    queried = coerce(settings.get("num_key_value_heads"), int | None, "num_key_value_heads")
    if queried not in (None, sizes["n_head"]):
        raise UserError(
            f"num_key_value_heads is {queried}; name a model with as many as num_attention_heads, "
            f"{sizes['n_head']}, as ours has"
        )
    biases = [coerce(settings.get(name, True), bool, name) for name in BIASES]
    if len({*biases}) > 1:
        raise UserError(
            f"attention_bias is {biases[0]} and mlp_bias {biases[1]}; name a model in which both "
            "are the same"
        )
    head_size = coerce(settings.get("head_dim"), int | None, "head_dim")
    dropout = coerce(settings.get("attention_dropout", 0.0), float, "attention_dropout")
    tied = coerce(settings.get("tie_word_embeddings", False), bool, "tie_word_embeddings")
    more = {"head_size": head_size, "dropout": dropout, "bias": biases[0], "tie_weights": tied}
    try:
        return GPTConfig(**sizes, **STRUCTURE, **more)
    except ValueError as error:
        raise UserError(str(error)) from None


def config_to_jais2(config: GPTConfig) -> dict[str, Any]:
    """The content of the config.json of such a model. Raises UserError where there is none."""
    if config.shift and config.position == "rotary":
        raise UserError(
            "no class of transformers has token shift; train a model without it, with "
            "model.shift=0 (val_loss 1.399 and, trained alone, 1.424 at the shipped settings, in "
            "place of 1.383 and 1.401), or export this one as it is with --as onnx"
        )
    wrong = [name for name, value in STRUCTURE.items() if getattr(config, name) != value]
    if wrong:
        needed = " ".join(f"model.{name}={STRUCTURE[name]}" for name in wrong)
        raise UserError(
            f"no class of transformers is built as this model is; train one with {needed}, or "
            "export this one as it is with --as onnx"
        )
    if config.n_embd % config.n_head:
        raise UserError(
            f"Jais2 takes an n_embd that n_head divides, which {config.n_embd} and "
            f"{config.n_head} are not; train one with others, or export this one as it is with "
            "--as onnx"
        )
    return {
        "model_type": "jais2",
        "architectures": ["Jais2ForCausalLM"],
        **{their: getattr(config, our) for our, (their, _) in SIZES.items()},
        "num_key_value_heads": config.n_head,
        "head_dim": config.head_size,
        **FIXED,
        "rope_parameters": ROPE,
        **dict.fromkeys(BIASES, config.bias),
        "attention_dropout": config.dropout,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": None,  # left out, they would be Jais2's own, which are no characters
        "eos_token_id": None,
    }


def names(config: GPTConfig) -> dict[str, str]:
    """Our name, without .weight or .bias, of each of Jais2's modules but the heads."""
    found = {"model.norm": "ln_f", **{their: our for our, their in ENDS.items()}}
    for i in range(config.n_layer):
        for our, their in {**NORMS, **LINEARS}.items():
            found[f"model.layers.{i}.{their}"] = f"blocks.{i}.{our}"
    return found


def shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each of Jais2's weights by its name; a tied head is not among them."""
    V, C, F = config.vocab_size, config.n_embd, config.ffn_size
    HD = config.n_head * config.head_size
    found = {"model.embed_tokens.weight": (V, C)}
    found |= {} if config.tie_weights else {HEAD: (V, C)}
    norms, matrices = ["model.norm"], {}
    for layer in (f"model.layers.{i}" for i in range(config.n_layer)):
        norms += [f"{layer}.{their}" for their in NORMS.values()]
        matrices |= {f"{layer}.self_attn.{their}": (HD, C) for their in PARTS.values()}
        matrices |= {f"{layer}.self_attn.o_proj": (C, HD)}
        matrices |= {f"{layer}.mlp.up_proj": (F, C), f"{layer}.mlp.down_proj": (C, F)}
    found |= {f"{norm}.{kind}": (C,) for norm in norms for kind in ("weight", "bias")}
    for name, shape in matrices.items():
        found[f"{name}.weight"] = shape
        if config.bias:
            found[f"{name}.bias"] = shape[:1]
    return found


def from_jais2(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The state dict of our GPT from that of Jais2, with or without a head that is tied.

    Raises UserError where weights are missing or unexpected, or do not fit `config`.
    """
    fitting.check_layers(config.n_layer, weights)
    head = weights.get(HEAD) if config.tie_weights else None
    theirs = {name: w for name, w in weights.items() if name != HEAD or not config.tie_weights}
    fitting.check(theirs, shapes(config))
    embedding = theirs["model.embed_tokens.weight"]
    if head is not None and not torch.equal(head, embedding):
        raise UserError(f"{HEAD} is not the embedding; set tie_word_embeddings to false")
    theirs[HEAD] = theirs.get(HEAD, embedding)
    ours = {}
    for their, our in names(config).items():
        for kind in ("weight", "bias"):
            weight = theirs.get(f"{their}.{kind}")
            if kind in kinds(config) and weight is not None:
                ours[f"{our}.{kind}"] = weight
            elif weight is not None and weight.any():
                raise UserError(
                    f"{their}.{kind} is not zero, though attention_bias and mlp_bias are false; "
                    "name a model that has all biases or none"
                )
    for i, (part, their), kind in itertools.product(
        range(config.n_layer), PARTS.items(), kinds(config)
    ):
        together = theirs[f"model.layers.{i}.self_attn.{their}.{kind}"]  # (H * D, C), or (H * D)
        for h, weight in enumerate(together.chunk(config.n_head)):
            ours[f"blocks.{i}.attn.heads.{h}.{part}.{kind}"] = weight
    return ours


def to_jais2(weights: Mapping[str, Tensor], config: GPTConfig) -> dict[str, Tensor]:
    """The state dict of Jais2 from that of our GPT. Raises UserError unless it is built so."""
    config_to_jais2(config)
    theirs = {}
    for their, our in names(config).items():
        theirs[f"{their}.weight"] = weights[f"{our}.weight"]
        if f"{our}.bias" in weights:
            theirs[f"{their}.bias"] = weights[f"{our}.bias"]
        elif their.endswith("norm"):
            theirs[f"{their}.bias"] = torch.zeros_like(weights[f"{our}.weight"])
    for i, (part, their), kind in itertools.product(
        range(config.n_layer), PARTS.items(), kinds(config)
    ):
        heads = (f"blocks.{i}.attn.heads.{h}.{part}.{kind}" for h in range(config.n_head))
        theirs[f"model.layers.{i}.self_attn.{their}.{kind}"] = torch.cat([*map(weights.get, heads)])
    return theirs
