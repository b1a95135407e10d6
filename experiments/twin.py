"""One run: a twin is trained, and judged on the way and in the end."""

import copy
import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.arms import Run, begin
from experiments.judge import ALIKE, AT_THE_FLOOR, Judge, loss
from experiments.texts import Text
from experiments.windows import OPEN
from model import GPT
from system.checkpoint import Checkpoint
from system.settings import OptimConfig
from training.optim import AdamW, schedule

JUDGED = 50  # times that a run looks whether its model is proved


@dataclass(frozen=True)
class Recipe:
    """How every twin of an experiment is trained: AdamW, the rate falling to a tenth.

    steps: at most; a run ends when its model has been proved for a while, its loss at the floor
    batch_size: windows in a step
    layers: of the arms from random weights, where not those of the hand-set model
    long_carries: the share of sums that are drawn among those with long carries
    """

    steps: int = 4000
    batch_size: int = 64
    learning_rate: float = 2e-3
    layers: int | None = None
    long_carries: float = 0.0


@dataclass
class Result:
    """What became of a run.

    parameters: of the model; steps: made
    coverage: the share of all contexts that occur in what it was trained on
    floor: the least loss that there is, nats a character; above: how far the loss is above it
    right, total: contexts right in the end, of those it was judged on; whole: whether these are all
    right_at_first: before the first step
    proved_at: since which step it has been right in every context; None where it is not
    first_wrong: the first context that is wrong
    distance: of attention to the hand's heads, 0 where they look alike
    losses: of a batch, at first and after each fiftieth of the steps, nats a character
    games: where the rule plays, how many are won, drawn, lost, and ended by a forbidden move
    between: at 11 points from the hand's weights to these, the loss and the share of contexts right
    """

    parameters: int
    steps: int
    coverage: float
    floor: float
    above: float
    right_at_first: int
    right: int
    total: int
    whole: bool
    proved_at: int | None
    first_wrong: str | None
    distance: float
    losses: list[float]
    games: list[int] | None = None
    between: list[tuple[float, float]] | None = None

    @property
    def proved(self) -> bool:
        """Whether it is right in every context."""
        return self.proved_at is not None

    @property
    def at_floor(self) -> bool:
        """Whether its loss is as low as it can be, or nearly so."""
        return self.above < AT_THE_FLOOR

    @property
    def hands_way(self) -> bool:
        """Whether its heads look where the hand's do."""
        return self.distance < ALIKE

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return dataclasses.asdict(self)


def optimizer_of(model: GPT, recipe: Recipe) -> AdamW:
    """AdamW over what is trained, without weight decay."""
    params = [p for p in model.parameters() if p.requires_grad]
    group = {"params": params, "lr": recipe.learning_rate, "weight_decay": 0.0}
    return AdamW([group], betas=(0.9, 0.99))


def take_step(model: GPT, optimizer: AdamW, idx: Tensor, targets: Tensor, share: float) -> float:
    """One update from idx and targets (B, T), at `share` of the learning rate; the loss before."""
    logits = model(idx).flatten(0, 1)
    nats = F.cross_entropy(logits, targets.flatten(), ignore_index=OPEN)
    nats.backward()
    with torch.no_grad():
        optimizer.step(share)
    for p in optimizer.params:
        p.grad = None
    return nats.item()


def still_proved(judge: Judge, model: GPT, step: int, since: int | None) -> int | None:
    """Since which step the model has been proved, as far as some windows show once it is."""
    if since is None:
        return step if judge.proved(model) else None
    return since if judge.seems_right(model) else None


@dataclass
class Course:
    """How a training went.

    steps: made; proved_at: since which one the model has been proved, if it is in the end
    losses: of the first batch, and of each after a fiftieth of all steps, nats a character
    """

    steps: int = 0
    proved_at: int | None = None
    losses: list[float] = field(default_factory=list)


def train(model: GPT, run: Run, text: Text, judge: Judge, recipe: Recipe) -> Course:
    """Train `model`.

    It ends when the model has been proved for a tenth of all steps and its loss is at the floor.
    """
    optimizer, shown = optimizer_of(model, recipe), text.shown()
    rates = OptimConfig(warmup_steps=min(100, recipe.steps // 10), final_share=0.1, decay="linear")
    every, course = max(1, recipe.steps // JUDGED), Course()
    while True:
        step, since = course.steps, course.proved_at
        judged = step % every == 0
        if judged or step == recipe.steps:
            since = still_proved(judge, model.eval(), step, since)
            lasting = since is not None and step - since >= recipe.steps // 10
            at_floor = lasting and loss(model, shown) - text.floor < AT_THE_FLOOR
            if at_floor or step == recipe.steps:
                since = since if since is None or judge.proved(model) else None
            course.proved_at = since
            if (at_floor and since is not None) or step == recipe.steps:
                return course
        share = schedule(step, recipe.steps, rates)
        idx, targets = text.batch(recipe.batch_size, run.seed, step)
        nats = take_step(model.train(), optimizer, idx, targets, share)
        course.losses += [round(nats, 4)] if judged else []
        course.steps += 1


def result_of(model: GPT, text: Text, judge: Judge, *, at_first: int, course: Course) -> Result:
    """What became of the run that has trained `model`."""
    right, total, first_wrong = judge.right(model.eval())
    return Result(
        parameters=model.parameter_count(),
        steps=course.steps,
        coverage=text.coverage,
        floor=text.floor,
        above=loss(model, text.shown()) - text.floor,
        right_at_first=at_first,
        right=right,
        total=total,
        whole=judge.whole,
        proved_at=course.proved_at,
        first_wrong=first_wrong,
        distance=judge.attention_distance(model),
        games=judge.games(model),
        losses=course.losses,
    )


def carry_out(
    run: Run, hand: Checkpoint, text: Text, judge: Judge, recipe: Recipe
) -> tuple[GPT, Result]:
    """Train the twin that `run` describes, and say what became of it."""
    judge = copy.copy(judge)  # what shows this twin wrong is tried first on no other
    model = begin(run, hand, recipe.layers)
    at_first = judge.right(model.eval())[0]
    course = train(model, run, text, judge, recipe)
    return model, result_of(model, text, judge, at_first=at_first, course=course)
