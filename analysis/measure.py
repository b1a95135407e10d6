"""The numbers that models of one task are compared by."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from analysis.heads import attended, distance, match
from data.aab import Task
from data.rules import RuleTask
from data.tokenizer import CharTokenizer
from mixture import Mixture
from model import GPT
from proof.proof import Score, every_context, margins, prove

STEPS = range(2, 29)  # how much of the text is known before each step
MOST = 5_000  # contexts that are drawn, where a rule is about too many of its own


@dataclass
class Column:
    """A model in the comparison; kind is handmade, trained or untrained.

    learned: the text that it was trained on, if any
    """

    label: str
    kind: str
    model: GPT | Mixture
    chars: str
    learned: str = ""

    @property
    def net(self) -> GPT:
        """What has heads to look into: the model without the counts beside it."""
        return self.model.gpt if isinstance(self.model, Mixture) else self.model


@dataclass
class HeadEffect:
    """A head, counted from 1 within its layer, and what it adds to the logit of b.

    to_b: the mean over all contexts with each ending; empty where the letters are not a and b
    """

    layer: int
    head: int
    to_b: dict[str, float]


@dataclass
class Measured:
    """The numbers of one column.

    learned: the text that it was trained on, if any
    loss: nats per character over the windows of the text, at every place of the context
    entropy_floor: the least that any model of this block_size can have there, where that is known
    loss_after_two: the loss at the places where two or more characters are known
    steps_right: of the 27 characters from the third on, those that were the likeliest, where the
        text is a word repeated
    task, all: the contexts right among those of the text, and among all there are
    attention_distance: mean total variation between what the last position attends to here and in
        the hand-set model, heads matched
    heads: for each head of the hand-set model the one matched with it, if any; then the others
    """

    label: str
    kind: str
    learned: str
    parameters: int
    nonzero_parameters: int
    loss: float
    entropy_floor: float | None
    loss_after_two: float
    steps_right: int | None
    task: Score
    all: Score
    attention_distance: float
    heads: list[HeadEffect | None]


def losses(column: Column, task: Task | RuleTask) -> Tensor:
    """Loss at each place of the context, (T,): nats, the mean over the windows of the text."""
    tokenizer, block_size = CharTokenizer(column.chars), column.model.config.block_size
    windows = task.windows(block_size + 1)
    ids = torch.stack([tokenizer.encode(window).long() for window in windows])  # (B, T + 1)
    with torch.inference_mode():
        logits = column.model(ids[:, :-1]).double()  # (B, T, V)
    return F.cross_entropy(logits.mT, ids[:, 1:], reduction="none").mean(dim=0)


def steps_right(column: Column, task: Task) -> int:
    """How many characters of the text, from the third to the 29th, the model expects."""
    text, block_size = task.text(), column.model.config.block_size
    known = [text[:step][-block_size:] for step in STEPS]
    answers = [text[step] for step in STEPS]
    return sum(margin > 0 for margin in margins(column.model, column.chars, known, answers=answers))


def to_b(
    column: Column, effects: Tensor, contexts: list[str], endings: tuple[str, ...]
) -> list[HeadEffect]:
    """What each head adds to the logit of b, in the order of `look`: effects (N, H, V)."""
    means = {}
    for ending in endings:
        rows = [context.endswith(ending) for context in contexts]
        means[ending] = effects[rows][:, :, column.chars.index("b")].mean(dim=0).tolist()
    n_head = column.model.config.n_head
    return [
        HeadEffect(1 + h // n_head, 1 + h % n_head, {end: mean[h] for end, mean in means.items()})
        for h in range(effects.shape[1])
    ]


def measure(column: Column, reference: Column, task: Task | RuleTask) -> Measured:
    """All numbers of `column`; `reference` is the hand-set model. Raises ValueError as `prove`."""
    model, chars, block_size = column.model, column.chars, column.model.config.block_size
    some, least = task.contexts(MOST), min(block_size, reference.model.config.block_size)
    proof = prove(model, chars, task.rule, text=task.text(), contexts=some)
    if some is None:
        contexts = every_context(task.letters, block_size)
        shared = every_context(task.letters, least)
    else:
        contexts = shared = [context[-least:] for context in some]
    attention, effects = attended(column.net, chars, contexts)
    known, _ = attended(reference.net, reference.chars, shared)
    width = min(attention.shape[-1], known.shape[-1])
    apart = distance(known[..., :width], attention[: len(shared), :, :width])  # (H of it, H)
    pairs = match(apart)
    matched = dict(pairs)
    heads = dict(enumerate(to_b(column, effects, contexts, task.endings)))
    in_order = [heads.pop(matched.get(row), None) for row in range(len(apart))]
    loss = losses(column, task)  # (T,)
    return Measured(
        label=column.label,
        kind=column.kind,
        learned=column.learned,
        parameters=model.parameter_count(),
        nonzero_parameters=sum(int(p.count_nonzero()) for p in model.parameters()),
        loss=loss.mean().item(),
        entropy_floor=task.entropy_floor(block_size),
        loss_after_two=loss[1:].mean().item(),
        steps_right=steps_right(column, task) if task.word else None,
        task=proof.task,
        all=proof.all,
        attention_distance=sum(apart[pair].item() for pair in pairs) / len(pairs),
        heads=[*in_order, *heads.values()],
    )
