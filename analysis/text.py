"""Models on the same text: where in the window, and on which characters, each is better."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from analysis.labels import label, visible
from analysis.measure import Column
from analysis.table import align
from data.windows import eval_windows
from system.files import write_whole

AT_ONCE = 1 << 12  # characters
PLACES = (1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 256)  # in the window, that the table has
NAMED = 12  # characters in the table and the picture


@dataclass
class TextLoss:
    """How a model did on a text, nats per character.

    label, kind, parameters: of the model
    loss: of all characters
    by_place: what it lost on the characters after 1, 2, ... others of the window
    by_char: what it lost on each character of the vocabulary that the text has
    """

    label: str
    kind: str
    parameters: int
    loss: float
    by_place: list[float]
    by_char: dict[str, float]


@torch.inference_mode()
def lose(column: Column, ids: Tensor, window: int) -> TextLoss:
    """The losses of a model on all of ids (N,) but the first, in windows side by side.

    The last one, where it is short, is left out.
    """
    chars = column.chars
    by_place, by_char = torch.zeros(window).double(), torch.zeros(len(chars)).double()
    count, windows = torch.zeros(len(chars)).double(), 0
    for idx, targets in eval_windows(ids, window, max(1, AT_ONCE // window)):
        if idx.shape[1] == window:
            loss = F.cross_entropy(column.model(idx).double().mT, targets, reduction="none")
            by_place += loss.sum(dim=0)
            by_char.index_add_(0, targets.flatten(), loss.flatten())
            count += torch.bincount(targets.flatten(), minlength=len(chars))
            windows += len(idx)
    seen = count.nonzero()[:, 0].tolist()
    return TextLoss(
        label=column.label,
        kind=column.kind,
        parameters=column.model.parameter_count(),
        loss=(by_place.sum() / (windows * window)).item(),
        by_place=(by_place / windows).tolist(),
        by_char={chars[i]: (by_char[i] / count[i]).item() for i in seen},
    )


def frequency(ids: Tensor, chars: str) -> dict[str, float]:
    """How often each character comes in ids (N,), of all."""
    shares = torch.bincount(ids.long(), minlength=len(chars)).double() / len(ids)
    return dict(zip(chars, shares.tolist(), strict=True))


def telling(first: TextLoss, second: TextLoss, often: dict[str, float]) -> list[str]:
    """The characters that make the most of the difference between two models: those that the first
    predicts better, the most first, and then those that the second does, the most last."""
    gain = {c: often[c] * (second.by_char[c] - first.by_char[c]) for c in first.by_char}
    order = sorted(gain, key=gain.__getitem__, reverse=True)
    better = [c for c in order if gain[c] > 0][: NAMED // 2]
    worse = [c for c in order if gain[c] < 0][-(NAMED - len(better)) :]
    return [*better, *worse]


def tabulate(found: Sequence[TextLoss], named: Sequence[str]) -> str:
    """Lines of text, a column for each model."""
    places = [place for place in PLACES if place <= len(found[0].by_place)]
    cells = [["", *(each.label for each in found)]]
    cells.append(["parameters", *(f"{each.parameters:,}" for each in found)])
    cells.append(["loss, nats per character", *(f"{each.loss:.4f}" for each in found)])
    for place in places:
        row = [f"{each.by_place[place - 1]:.4f}" for each in found]
        cells.append([f"  after {place} character{'s' if place > 1 else ''} of the window", *row])
    for char in named:
        cells.append([f"  on {char!r}", *(f"{each.by_char[char]:.4f}" for each in found)])
    return align(cells)


def draw(path: Path, found: Sequence[TextLoss], named: Sequence[str]) -> Path:
    """Write the picture to `path`: the loss by place, and on the characters that tell."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    places, characters = figure.subplots(1, 2)
    for i, each in enumerate(found):
        places.plot(range(1, len(each.by_place) + 1), each.by_place, label=label(each.label))
        x = [n + 0.8 * i / len(found) for n in range(len(named))]
        values = [each.by_char[char] for char in named]
        characters.bar(x, values, 0.8 / len(found), align="edge", label=label(each.label))
    places.set(xscale="log", xlabel="characters of the window that are known")
    places.set(ylabel="loss, nats per character", title="by place in the window")
    ticks = [n + 0.4 for n in range(len(named))]
    characters.set_xticks(ticks, list(map(visible, named)), family="monospace")
    characters.set_title("on the characters that make the most of the difference")
    for ax in (places, characters):
        ax.grid(alpha=0.3)
        ax.legend()
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=110))
