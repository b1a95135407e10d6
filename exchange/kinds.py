"""The classes of transformers that compute what our GPT does, and which one a model is."""

from collections.abc import Callable
from importlib import metadata
from typing import Any, NamedTuple

from torch import Tensor

from exchange.gpt2 import config_from_gpt2, config_to_gpt2, from_gpt2, to_gpt2
from exchange.jais2 import SINCE, config_from_jais2, config_to_jais2, from_jais2, to_jais2
from model import GPTConfig


class Kind(NamedTuple):
    """A class of transformers, and how its settings and weights become ours and ours its."""

    name: str
    config_from: Callable[..., GPTConfig]
    config_to: Callable[[GPTConfig], dict[str, Any]]
    weights_from: Callable[..., dict[str, Tensor]]
    weights_to: Callable[..., dict[str, Tensor]]


GPT2, JAIS2 = "gpt2", "jais2"  # as model_type
KINDS = {
    GPT2: Kind("GPT-2", config_from_gpt2, config_to_gpt2, from_gpt2, to_gpt2),
    JAIS2: Kind("Jais2", config_from_jais2, config_to_jais2, from_jais2, to_jais2),
}


def kind_of(config: GPTConfig) -> Kind:
    """What a model of this structure is in transformers, if it is anything."""
    return KINDS[GPT2 if config.position == "learned" else JAIS2]


def needs(config: GPTConfig) -> str | None:
    """What loading an exported model of this structure takes, if it is not any transformers."""
    if kind_of(config) is not KINDS[JAIS2]:
        return None
    said = f"it takes transformers {SINCE} or newer, which have Jais2ForCausalLM"
    try:
        here = metadata.version("transformers")
    except metadata.PackageNotFoundError:
        return said
    if int(here.partition(".")[0]) >= int(SINCE.partition(".")[0]):
        return said
    return f"{said}; {here} is installed here: pip install 'transformers>={SINCE}'"
