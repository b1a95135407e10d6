"""Whether the weights of another's file are those that its settings promise."""

from collections.abc import Mapping

from torch import Tensor

from model import GPTConfig
from system.errors import UserError

NAMED = 5  # weights that are missing or unexpected, in a message


def kinds(config: GPTConfig) -> tuple[str, ...]:
    """What each of our linear layers and LayerNorms has."""
    return ("weight", "bias") if config.bias else ("weight",)


def check_layers(n_layer: int, weights: Mapping[str, Tensor]) -> None:
    """Raise UserError where so many layers cannot be there, before their names are made up."""
    if n_layer > len(weights):
        raise UserError(f"n_layer is {n_layer}, but there are only {len(weights)} weights")


def check(weights: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raise UserError unless `weights` have the names and shapes `expected`, and are finite."""
    for names, what in (
        (expected.keys() - weights.keys(), "missing"),
        (weights.keys() - expected.keys(), "unexpected"),
    ):
        if names:
            first = ", ".join(sorted(names)[:NAMED])
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            raise UserError(f"the weights {first}{more} are {what}; name a whole model")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise UserError(
                f"{name} is of shape {tuple(weights[name].shape)}, but by its settings it is "
                f"{shape}; fetch both anew"
            )
        if not (weights[name].is_floating_point() and weights[name].isfinite().all()):
            raise UserError(f"{name} has values that are no finite numbers; fetch it anew")
