"""What compiled models are made of: columns, heads that look back, units, neutral LayerNorms.

Every variable in the residual stream is a one-hot, and always holds exactly one 1. So each row that
enters a LayerNorm has a known number of ones: its mean and variance are known, too, and the weight
and bias of the LayerNorm put back what it takes off. See `neutral`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model import GPT, Activation, GPTConfig
from system.checkpoint import ShapesOnly

Weights = dict[str, Tensor]
Handmade = tuple[GPTConfig, str, Weights]

MOST_WEIGHTS = 100_000_000  # 400 MB
EPS = 1e-5  # of LayerNorm
SHARP = 32.0  # score of a place that is asked for; each other place gets exp(-32) = 1e-14 of it
# A unit is on where all it asks for is there, and then half a GAIN above zero; otherwise half a
# GAIN below or more. What it is worth when it is on: (GAIN / 2)^2 and GAIN / 2. gelu_tanh is the
# identity above 5.2 and zero below -5.2, to the last bit of float32.
GAIN = {"relu2": 2.0, "gelu_tanh": 32.0}
ON = {"relu2": 1.0, "gelu_tanh": 16.0}


class Columns:
    """The columns of a residual stream by name, side by side: `columns["tok"]` is a range."""

    def __init__(self, **sizes: int) -> None:
        self.ranges: dict[str, range] = {}
        self.joined: dict[str, Sequence[str]] = {}  # names that stand for several side by side
        self.whats: dict[str, Sequence[Any]] = {}  # what columns stand for, if not for characters
        self.total = 0
        for name, size in sizes.items():
            self.ranges[name] = range(self.total, self.total + size)
            self.total += size
        if "place" in sizes:
            self.whats["place"] = range(sizes["place"])

    def __getitem__(self, name: str) -> range:
        parts = self.parts(name)
        return range(self.ranges[parts[0]].start, self.ranges[parts[-1]].stop)

    def parts(self, name: str) -> Sequence[str]:
        """The one-hots that `name` stands for, which is itself one where it was not joined."""
        return self.joined.get(name, (name,))

    def names(self, chars: str) -> list[str]:
        """What each column stands for: `tok a`, `place 0`, or the name alone where it has one."""
        found = []
        for name, columns in self.ranges.items():
            whats = self.whats.get(name, chars)
            found += [name] if len(columns) == 1 else [f"{name} {what}" for what in whats]
        return found

    def legend(self) -> str:
        """One line: each name and the columns it has."""
        return " | ".join(f"{name} {r.start}-{r.stop - 1}" for name, r in self.ranges.items())


@dataclass(frozen=True)
class Compiler:
    """What turns rules of one kind into weights.

    weights: the model of a rule; raises ValueError when it would be too large
    columns: its residual stream
    units: names of its feed-forward's units; none where they add nothing
    """

    weights: Callable[[Any], Handmade]
    columns: Callable[[Any], Columns]
    units: Callable[[Any], list[str]]


def blank(config: GPTConfig) -> Weights:
    """The weights of a model that is all zeros."""
    with torch.device("meta"), ShapesOnly():  # no first weights are drawn
        names = GPT(config).state_dict()
    return {name: torch.zeros(weight.shape) for name, weight in names.items()}


def check_size(config: GPTConfig) -> None:
    """Raise ValueError, before it is built, when a model would be too large."""
    with torch.device("meta"), ShapesOnly():
        size = GPT(config).parameter_count()
    if size > MOST_WEIGHTS:
        raise ValueError(
            f"the model would have {size:,} weights, more than {MOST_WEIGHTS:,}; take shorter "
            "patterns, fewer characters or a smaller block_size"
        )


def last_characters(V: int, T: int, longest: int, **more: int) -> Columns:
    """The stream of a layer that knows the last `longest` characters, and what comes next."""
    back = {f"back{j}": V for j in range(1, max(2, longest))}
    return Columns(tok=V, place=T, **back, out=V, **more)


def one_layer(columns: Columns, units: int, activation: Activation = "relu2") -> GPTConfig:
    """The structure of a model of one layer with a look-back head for each `back`."""
    V, T = len(columns["tok"]), len(columns["place"])
    return GPTConfig(
        vocab_size=V,
        block_size=T,
        n_layer=1,
        n_head=sum(name.startswith("back") for name in columns.ranges),
        n_embd=columns.total,
        head_size=max(T, V),
        ffn_size=units,
        bias=True,
        position="learned",
        activation=activation,
    )


def reading(config: GPTConfig, columns: Columns) -> Weights:
    """The weights of `one_layer` up to its units, which are blank."""
    weights = blank(config)
    embed(weights, columns)
    neutral_for(weights, "blocks.0.ln_1", ones=2)
    for j in range(1, config.n_head + 1):
        look_back(weights, 0, j - 1, columns, to=f"back{j}", by=j)
    neutral_for(weights, "blocks.0.ln_2", ones=2 + config.n_head)
    return weights


def embed(weights: Weights, columns: Columns) -> None:
    """Write the one-hot of the character in `tok`, and that of its place in `place`."""
    for table, name in (("wte.weight", "tok"), ("wpe.weight", "place")):
        weights[table][range(len(columns[name])), columns[name]] = 1


def neutral(weights: Weights, name: str, *, mean: float, variance: float) -> None:
    """Make the LayerNorm `name` the identity for rows of that mean and variance.

    It takes the mean off and divides by sqrt(variance + eps).
    """
    weights[f"{name}.weight"].fill_(math.sqrt(variance + EPS))
    weights[f"{name}.bias"].fill_(mean)


def neutral_for(weights: Weights, name: str, *, ones: int) -> None:
    """Make the LayerNorm `name` the identity for rows of zeros and `ones` ones."""
    mean = ones / len(weights[f"{name}.weight"])
    neutral(weights, name, mean=mean, variance=mean - mean**2)


def look_back(
    weights: Weights,
    layer: int,
    head: int,
    columns: Columns,
    *,
    to: str,
    by: int,
    source: str = "tok",
) -> None:
    """Let a head copy what the columns `source` hold `by` places back into the columns `to`.

    Places that have no such place look at themselves.
    """
    places = range(len(columns["place"]))
    asked = [t - by if t >= by else t for t in places]
    look_at(weights, layer, head, columns, to=to, asked=asked, source=source)


def look_at(
    weights: Weights,
    layer: int,
    head: int,
    columns: Columns,
    *,
    to: str,
    asked: Sequence[int],
    source: str = "tok",
) -> None:
    """Let a head copy what the columns `source` hold at the place asked[t], from each place t, into
    the columns `to`.

    Place t asks for one place with a score of SHARP, which attention divides by sqrt(D); each place
    offers its own number.
    """
    name = f"blocks.{layer}.attn.heads.{head}"
    query, key, value = (weights[f"{name}.{part}.weight"] for part in ("query", "key", "value"))
    D, place, read = len(query), columns["place"], columns[source]
    query[asked, place] = SHARP * math.sqrt(D)
    key[range(len(place)), place] = 1
    value[range(len(read)), read] = 1
    channels = range(head * D, head * D + len(read))  # of this head, in what proj reads
    weights[f"blocks.{layer}.attn.proj.weight"][columns[to], channels] = 1


def recognize(
    weights: Weights,
    layer: int,
    unit: int,
    *,
    asks: Sequence[int],
    never: Sequence[int],
    adds: Tensor,
    activation: str,
) -> None:
    """Let a unit of the feed-forward add `adds` (C,) where all columns `asks` hold a 1.

    It is off where a column of `never` holds one. The threshold lies half a one below the number of
    columns that are asked for.
    """
    up, gain = weights[f"blocks.{layer}.ffwd.up.weight"], GAIN[activation]
    up[unit, asks] = gain
    up[unit, never] = -gain
    weights[f"blocks.{layer}.ffwd.up.bias"][unit] = -gain * (len(asks) - 0.5)
    weights[f"blocks.{layer}.ffwd.down.weight"][:, unit] = adds / ON[activation]
