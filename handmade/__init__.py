"""The models whose weights are set by hand, by their names."""

from collections.abc import Callable

from data import aab
from handmade.published import Handmade, new_head, one_head, two_head
from system.checkpoint import Checkpoint
from system.errors import UserError

PREFIX = "handmade:"  # of a hand-set model's name, where a path could stand too

MODELS: dict[str, tuple[Callable[[], Handmade], aab.Task]] = {
    "one-head": (one_head, aab.AAB),
    "new-head": (new_head, aab.Task("aabab", aab.third_back)),
    "two-head": (two_head, aab.Task("aabab", aab.both)),
}


def load(name: str) -> Checkpoint:
    """The hand-set model called `name`, as what a checkpoint gives. Raises UserError."""
    if name not in MODELS:
        raise UserError(f"there is no hand-set model {name!r}; there are {', '.join(MODELS)}")
    make, _ = MODELS[name]
    model, chars, weights = make()
    settings = {"train": {"dtype": "float32"}}  # such large logits are exact in no other
    return Checkpoint(model, chars, weights, settings, "", optimizer=[], progress={"step": 0})
