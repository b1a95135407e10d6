"""The straight line from the hand's weights to a twin's, once heads and units are matched."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from analysis.heads import distance, look, match
from experiments.arms import Weights
from experiments.judge import loss, margins
from experiments.windows import Windows
from model import GPT

POINTS = 11  # on the line, its ends included
UNITS = 1000  # the most in a layer that are matched; more stay in their order
LOOKED_AT = 64  # windows over which heads and units are compared


def moved(weights: Weights, name: str, order: Tensor, dim: int) -> None:
    """Put the rows or columns of a weight into `order`."""
    if name in weights:
        weights[name] = weights[name].index_select(dim, order)


def reorder_heads(weights: Weights, layer: int, order: list[int], size: int) -> None:
    """Let head i of a layer be the one that was head order[i]; the model computes the same."""
    stem, old = f"blocks.{layer}.attn", dict(weights)
    for new, which in enumerate(order):
        for part in ("query", "key", "value"):
            for kind in ("weight", "bias"):
                if (name := f"{stem}.heads.{which}.{part}.{kind}") in old:
                    weights[f"{stem}.heads.{new}.{part}.{kind}"] = old[name]
    channels = torch.cat([torch.arange(which * size, (which + 1) * size) for which in order])
    moved(weights, f"{stem}.proj.weight", channels, dim=1)


def reorder_units(weights: Weights, layer: int, order: Tensor) -> None:
    """Let unit i of a layer be the one that was unit order[i]; the model computes the same."""
    stem = f"blocks.{layer}.ffwd"
    for name, dim in (("up.weight", 0), ("up.bias", 0), ("down.weight", 1)):
        moved(weights, f"{stem}.{name}", order, dim)


@torch.inference_mode()
def units(model: GPT, idx: Tensor) -> list[Tensor]:
    """What the units of each layer are at every place of idx (B, T), each (B * T, F)."""
    found: list[Tensor] = []

    def keep(act: nn.Module, given: tuple, out: Tensor) -> None:
        found.append(out.flatten(0, 1))

    hooks = [block.ffwd.act.register_forward_hook(keep) for block in model.blocks]
    model(idx)
    for hook in hooks:
        hook.remove()
    return found


def alike(ours: Tensor, theirs: Tensor) -> Tensor:
    """Correlations of units, ours (N, F), theirs (N, G) -> (F, G); 0 for one that never moves."""
    ours, theirs = (F.normalize(each - each.mean(dim=0), dim=0) for each in (ours, theirs))
    return ours.T @ theirs


def matched(twin: GPT, hand: GPT, idx: Tensor) -> Weights:
    """The weights of `twin` with its heads and units in the order of those of `hand` that they are
    likest: heads by where they look, units by when they are on, in the windows idx (B, T)."""
    weights = {name: weight.clone() for name, weight in twin.state_dict().items()}
    H, size = hand.config.n_head, hand.config.head_size
    by_hand, trained = (look(model, idx).pattern.transpose(1, 2) for model in (hand, twin))
    both = zip(units(hand, idx), units(twin, idx), strict=True)
    for layer, (ours, theirs) in enumerate(both):
        heads = slice(layer * H, (layer + 1) * H)
        rows = [each[:, :, heads].flatten(0, 1) for each in (by_hand, trained)]  # (B * T, H, T)
        order = [column for _, column in match(distance(*rows))]
        reorder_heads(weights, layer, order, size)
        if ours.shape[1] <= UNITS:
            order = [column for _, column in match(-alike(ours, theirs))]
            reorder_units(weights, layer, torch.tensor(order))
    return weights


def line(twin: GPT, hand: GPT, windows: Windows) -> list[tuple[float, float]]:
    """At POINTS from the hand's weights to the twin's: loss, nats a character, and the share of
    contexts right, on `windows`."""
    ends = hand.state_dict(), matched(twin, hand, windows.idx[:LOOKED_AT].long())
    model, found = GPT(hand.config).eval(), []
    for point in range(POINTS):
        part = point / (POINTS - 1)
        model.load_state_dict({name: ends[0][name].lerp(ends[1][name], part) for name in ends[0]})
        lead = margins(model, windows)
        asked = lead < torch.inf
        right = ((lead > 0) & asked).sum().item() / asked.sum().item()
        found.append((round(loss(model, windows), 4), round(right, 4)))
    return found
