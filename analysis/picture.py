"""compare.png: where the heads of several models look, and what they expect after each context."""

from itertools import compress
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from analysis.heads import look
from analysis.labels import label, visible
from analysis.measure import Column, Measured
from data.aab import LETTERS, Task
from data.rules import RuleTask
from data.tokenizer import CharTokenizer
from proof.proof import count_contexts, every_context, margins, probabilities
from system.files import write_whole

MOST = 84  # contexts in the lower half: of two letters up to five, of four up to three
DPI, WIDEST = 110, 30_000  # pixels in all: many models are drawn smaller, not refused


def patterns(column: Column, context: str) -> Tensor:
    """Attention weights of the model on `context`, (layers, heads, T, T)."""
    idx = CharTokenizer(column.chars).encode(context).long()[None]  # (1, T)
    return look(column.net, idx).pattern[0].unflatten(0, (-1, column.model.config.n_head))


def draw_pattern(ax: Axes, pattern: Tensor, context: str) -> None:
    """One head on one context: a row for each position, a column for where it looks."""
    ax.imshow(pattern.numpy(), cmap="Blues", vmin=0, vmax=1)
    for row in range(len(context)):
        for column in range(row + 1):
            weight = pattern[row, column].item()
            shade = "white" if weight > 0.6 else "black"
            ax.text(column, row, f"{weight:.2f}", ha="center", va="center", color=shade, size=8)
    names = list(map(visible, context))
    ax.set_xticks(range(len(context)), names, family="monospace")
    ax.set_yticks(range(len(context)), names, family="monospace")
    ax.tick_params(length=0)


def draw_answers(
    ax: Axes, columns: list[Column], *, task: Task | RuleTask, contexts: list[str]
) -> None:
    """A row for the rule and one for each model: the probability after each context of b, or of
    the right character where there are more than two."""
    two, text = task.letters == LETTERS, task.text()
    answers = [task.rule(context) for context in contexts]
    shown = ["b" if two else answer for answer in answers]
    same = [answer == char for answer, char in zip(answers, shown, strict=True)]
    rows = [torch.tensor(same).double()]
    wrong = [[False] * len(contexts)]  # the rule itself never is
    for column in columns:
        ids = torch.tensor([[column.chars.index(char)] for char in shown])
        seen = [context[-column.model.config.block_size :] for context in contexts]
        rows.append(probabilities(column.model, column.chars, seen).gather(1, ids)[:, 0])
        leads = margins(column.model, column.chars, seen, answers=answers)
        wrong.append([not lead > 0 for lead in leads])
    image = ax.imshow(torch.stack(rows).numpy(), cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(rows):
        for x in compress(range(len(contexts)), wrong[y]):
            shade = "white" if abs(row[x] - 0.5) > 0.25 else "black"
            ax.text(x, y, "x", ha="center", va="center", color=shade, weight="bold")
    ax.set_yticks(range(len(rows)), ["rule", *(label(column.label) for column in columns)])
    names = ["".join(map(visible, context)) for context in contexts]
    ticks = ax.set_xticks(range(len(contexts)), names, rotation=90, family="monospace", size=8)
    for tick, context in zip(ticks, contexts, strict=True):
        if context in text:
            tick.label1.set_fontweight("bold")
    for x in range(1, len(contexts)):
        if contexts[x][-2:] != contexts[x - 1][-2:] and two:
            ax.axvline(x - 0.5, color="black", linewidth=1)
    ax.tick_params(length=0)
    ax.figure.colorbar(
        image, ax=ax, label=f"probability of {'b' if two else 'the right one'}", pad=0.01
    )


def draw(
    path: Path, columns: list[Column], numbers: list[Measured], *, task: Task | RuleTask
) -> Path:
    """Write the picture of the models to `path`, the hand-set one first. Raises Fault."""
    size = min(column.model.config.block_size for column in columns)
    windows = task.windows(size)
    context = next((window for window in windows if task.rule(window) == "b"), windows[0])
    shown = "".join(visible(char, "sans-serif") for char in context)
    n_head = columns[0].model.config.n_layer * columns[0].model.config.n_head
    width = max(12.0, 3.2 * len(columns))
    height = 0.3 * len(columns) + 2.0
    figure = Figure(figsize=(width, 3.3 * n_head + height), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.3 * n_head, height))
    upper.suptitle(f"attention on {shown}: each row is a position, and what it looks at")
    axes = upper.subplots(n_head, len(columns), squeeze=False)
    for x, (column, measured) in enumerate(zip(columns, numbers, strict=True)):
        every = patterns(column, context)
        for ax, head in zip(axes[:, x], measured.heads, strict=False):
            if head is None:  # the model has fewer heads than the hand-set one
                ax.axis("off")
                continue
            draw_pattern(ax, every[head.layer - 1, head.head - 1], context)
            ax.set_title(f"{label(column.label)}\nlayer {head.layer} head {head.head}")
    contexts, text = task.contexts(MOST), task.text()
    if contexts is None:
        sizes = (n for n in range(size, 2, -1) if count_contexts(task.letters, n) <= MOST)
        contexts = every_context(task.letters, next(sizes, 2))[:MOST]
    contexts.sort(key=lambda c: (c[-2:], c not in text))
    lower.suptitle("what each context is followed by: bold ones occur in the text, x is wrong")
    draw_answers(lower.subplots(), columns, task=task, contexts=contexts)
    dpi = min(DPI, WIDEST / width)
    return write_whole(path, lambda file: figure.savefig(file, format="png", dpi=dpi))
