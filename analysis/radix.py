"""Depth against size: one machine of states, built with several radices."""

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import handmade
from analysis.table import align
from data.machines import Machine
from model import GPT
from proof.certificate import certify
from system.errors import UserError
from system.files import write_whole

TIMED = 0.3  # seconds that a model computes for its time per context, at least
BLUE, ORANGE = "tab:blue", "tab:orange"


@dataclass
class Built:
    """A machine as a model of so many layers.

    heads, units: of each layer
    margin: the least logit of the right character minus that of any other, in every context
    proof_seconds: what the proof of that took
    context_seconds: what the model takes for a context as long as its window
    """

    radix: int
    layers: int
    heads: int
    units: int
    parameters: int
    nonzero_parameters: int
    margin: float
    proof_seconds: float
    context_seconds: float


def machine(name: str) -> Machine:
    """The machine in the rule file `name`. Raises UserError where it is none."""
    rule = None if name == handmade.NGRAM else handmade.rule_of(name)
    if not isinstance(rule, Machine):
        raise UserError(
            f"{name} is no machine of states, which is what --radix builds; name one, such as "
            "--handmade parity"
        )
    return rule


def build(rule: Machine, radix: int) -> Built:
    """Build and prove the machine with this radix. Raises ValueError where that cannot be."""
    rule = dataclasses.replace(rule, radix=radix)
    config, _, weights = handmade.compiled(rule)
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    begun = time.perf_counter()
    found = certify(model.eval(), rule)
    proof_seconds = time.perf_counter() - begun
    return Built(
        radix=radix,
        layers=config.n_layer,
        heads=config.n_head,
        units=config.ffn_size,
        parameters=model.parameter_count(),
        nonzero_parameters=sum(int(p.count_nonzero()) for p in model.parameters()),
        margin=found.margin,
        proof_seconds=proof_seconds,
        context_seconds=seconds(model),
    )


@torch.inference_mode()
def seconds(model: GPT) -> float:
    """What the model takes for one context, the shortest of several times."""
    idx, taken = torch.zeros(1, model.config.block_size, dtype=torch.long), []
    while sum(taken) < TIMED or len(taken) < 10:
        begun = time.perf_counter()
        model(idx)
        taken.append(time.perf_counter() - begun)
    return min(taken)


def build_all(name: str, radices: Sequence[int]) -> list[Built]:
    """The machine in the rule file `name` with each of the radices. Raises UserError."""
    rule = machine(name)
    if twice := next((r for i, r in enumerate(radices) if r in radices[:i]), None):
        raise UserError(f"--radix has {twice} twice; keep one")
    try:
        for radix in radices:  # before the first is built, which may take a while
            handmade.COMPILERS[Machine].columns(dataclasses.replace(rule, radix=radix))
        return [build(rule, radix) for radix in radices]
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def tabulate(found: Sequence[Built]) -> str:
    """All numbers as lines of text, a row for each radix."""
    names = "radix, layers, heads, units, parameters, not zero, worst margin, proof s, context ms"
    cells = [names.split(", ")]
    for each in found:
        counts = (each.layers, each.heads, each.units, each.parameters, each.nonzero_parameters)
        times = [f"{each.proof_seconds:.2f}", f"{each.context_seconds * 1e3:.2f}"]
        cells.append(
            [str(each.radix), *(f"{count:,}" for count in counts), f"{each.margin:+.2f}", *times]
        )
    return align(cells, left=0)


def draw_sizes(ax: Axes, found: Sequence[Built]) -> None:
    """Layers to the right, parameters and units upwards."""
    found = sorted(found, key=lambda each: (each.layers, -each.radix))
    layers = [each.layers for each in found]
    for name, label, color, mark, y in (
        ("parameters", "parameters", BLUE, "o", 5),
        ("units", "units a layer", ORANGE, "s", -14),
    ):
        sizes = [getattr(each, name) for each in found]
        ax.plot(layers, sizes, mark, color=color, label=label, linestyle="-", linewidth=1)
        for each, size in zip(found, sizes, strict=True):
            text = f"radix {each.radix}: {size:,}"
            place = {"xytext": (8, y), "textcoords": "offset points", "size": 9}
            behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
            ax.annotate(text, (each.layers, size), color=color, bbox=behind, **place)
    ax.set_yscale("log")
    ax.margins(y=0.15)
    ax.set_xlim(layers[0] - 0.3, layers[-1] + 0.25 * (layers[-1] - layers[0] + 2))  # for the texts
    ax.set_xticks(sorted({*layers}))
    ax.set_xlabel("layers")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False)


def draw(path: Path, name: str, found: Sequence[Built]) -> Path:
    """Write the picture of depth against size to `path`. Raises Fault."""
    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    ax = figure.subplots()
    draw_sizes(ax, found)
    ax.set_title(f"{name}: the same machine, right in every context, deep or wide")
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
