"""Draw docs/weights.png: the weights of a model that was made from rules, and what each column is.

python -m docs.weights
"""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import handmade
from data import rules
from handmade import suffixes

RULE = "abc"


def draw(ax: Axes, weight: Tensor, title: str, *, rows: list[str], columns: list[str]) -> None:
    """One matrix: blue is above zero, red below, each number as it is."""
    top = weight.abs().max().item()
    ax.imshow(weight.numpy(), cmap="RdBu", vmin=-1.4 * top, vmax=1.4 * top, aspect="auto")
    for y, x in weight.nonzero().tolist():
        ax.text(x, y, f"{weight[y, x].item():.3g}", ha="center", va="center", size=6)
    ax.set_title(title, size=9)
    ax.set_yticks(range(len(rows)), rows, size=7, family="monospace")
    ax.set_xticks(range(len(columns)), columns, size=7, family="monospace", rotation=90)
    ax.set_xticks([x - 0.5 for x in range(len(columns))], minor=True)
    ax.grid(which="minor", axis="x", color="0.9", linewidth=0.5)
    ax.tick_params(length=0, which="both")


def main() -> None:
    """Five panels: a head's query, what it copies where, the units, what they write, the output."""
    rule, saved = rules.read(RULE), handmade.load(RULE)
    weights, chars = saved.weights, saved.chars
    stream = suffixes.columns_of(rule).names(chars)
    units = suffixes.units_of(rule)
    figure = Figure(figsize=(13, 13), layout="constrained")
    axes = figure.subplots(5, 1, height_ratios=(8, 3, 2, 2, 3))
    head = "blocks.0.attn.heads.0"
    asks = [f"asks for {place}" for place in range(rule.block_size)]
    draw(
        axes[0],
        weights[f"{head}.query.weight"],
        "head 1, query: each place asks for the one before it, place 0 for itself "
        "(32 times the root of the head size)",
        rows=asks,
        columns=stream,
    )
    copied = weights["blocks.0.attn.proj.weight"][:, :3] @ weights[f"{head}.value.weight"][:3]
    written = [f"to {name}" for name in stream[11:14]]
    title = "head 1, value and projection: what stands in tok there is copied into back1"
    draw(axes[1], copied[11:14], title, rows=written, columns=stream)
    bias = weights["blocks.0.ffwd.up.bias"].tolist()
    rows = [f"{unit} {b:+g}" for unit, b in zip(units, bias, strict=True)]
    title = "feed-forward, up: a unit for each pattern, with its bias; off where it cannot fit"
    draw(axes[2], weights["blocks.0.ffwd.up.weight"], title, rows=rows, columns=stream)
    title = (
        "feed-forward, down: a unit takes off the answer of the shorter pattern, and adds its own"
    )
    draw(axes[3], weights["blocks.0.ffwd.down.weight"].T, title, rows=units, columns=stream)
    title = "output: the logit of a character is 32 times its column of out"
    draw(axes[4], weights["lm_head.weight"], title, rows=list(chars), columns=stream)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=80)


if __name__ == "__main__":
    main()
