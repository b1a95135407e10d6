"""A budget of time: how many steps fit into minutes that begin and end with the process."""

import bisect
import contextlib
import copy
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from system.settings import LARGEST_INT
from training import kept
from training.evaluation import read_at_the_end
from training.loop import counts_are_first
from training.timing import Measured, clock, measure
from training.trainer import Trainer

END = 1.5  # seconds: the picture and what draws it, the best checkpoint, the end of the process
SAVES = 2  # with an evaluation: best.pt and last.pt


def plan(trainer: Trainer, folder: Path, begun: float) -> str:
    """Turn the minutes of the run, if it has any, into the steps that fit; a sentence about them.

    begun: when the process began, by time.perf_counter. What is timed leaves no trace in `trainer`
    or `folder`. Raises Fault as `measure` does.
    """
    if trainer.config.train.minutes is None or trainer.done():
        trainer.config.train.minutes = None
        return ""
    with unchanged(trainer):
        measured = measure(trainer, folder)
    return settle(trainer, measured, begun)


@contextlib.contextmanager
def unchanged(trainer: Trainer) -> Iterator[None]:
    """Put back what updates and evaluations change in this context, to the last bit."""
    now, grad_norm, memory = trainer.checkpoint(), trainer.grad_norm, trainer.memory
    shares = memory and memory.shares.clone()
    weights = copied(now.weights)
    optimizer = [{i: copied(state) for i, state in part.items()} for part in now.optimizer]
    yield
    if memory:
        memory.shares = shares
    for name, weight in now.weights.items():  # which are those of the model
        weight.copy_(weights[name])
    trainer.resume(dataclasses.replace(now, weights=weights, optimizer=optimizer))
    trainer.grad_norm = grad_norm


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same, on the CPU, where there is more room than on a GPU."""
    return {name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}


def settle(trainer: Trainer, measured: Measured, begun: float) -> str:
    """Set train.max_steps to what fits into the minutes, and say so; a run then has steps alone."""
    train, standing = trainer.config.train, trainer.progress.step
    minutes, train.minutes = train.minutes, None
    if minutes is None or trainer.done():
        return ""
    spent, most = time.perf_counter() - begun, train.max_steps - standing
    fit = fitting(trainer, measured, 60 * minutes - spent)
    train.max_steps = standing + max(fewest(trainer), min(fit, most))
    here, setting = in_words(minutes), f"(train.max_steps={train.max_steps})"
    if fit < fewest(trainer):
        steps = f"{fewest(trainer)} step{'s' * (fewest(trainer) > 1)}"
        rest = clock(finish(measured) + duration(trainer, measured, fewest(trainer)))
        over = f"{clock(spent)} are over, and {steps} and the end take {rest}"
        return f"{here}: too few; {over} {setting}"
    if fit > most:
        return f"{here}: {fit:,} steps, but at most {most:,} {setting}"
    return f"{here}: {fit:,} steps {setting}"


def fewest(trainer: Trainer) -> int:
    """Steps that a run makes at least: one for each generation to come, and one."""
    return 1 + max(0, trainer.config.train.generations - trainer.progress.generation)


def fitting(trainer: Trainer, measured: Measured, seconds: float) -> int:
    """How many steps fit into the `seconds` that are left; the same in all processes of a run."""
    left = seconds - finish(measured)
    numbers = range(1, LARGEST_INT + 1 - trainer.progress.step)
    fit = bisect.bisect_right(numbers, left, key=lambda n: duration(trainer, measured, n))
    return int(trainer.world.smallest(fit, trainer.device))


def duration(trainer: Trainer, measured: Measured, steps: int) -> float:
    """Seconds that the next `steps` steps, after which a run ends, take with all that they bring:
    evaluations, the last of which may read more, lines of text, and saves."""
    each = measured.evaluation + measured.line + SAVES * measured.save
    if trainer.config.train.tensorboard:
        each += measured.sample
    now = min(steps, max(0, ends(trainer, steps)[0] - trainer.progress.step))
    total = now * measured.step + (steps - now) * measured.later
    beside = read_at_the_end(trainer, trainer.progress.step + steps) if steps else 0
    total += evaluations(trainer, steps) * each + beside * measured.character
    return total + kept_in(trainer, steps) * measured.save


def ends(trainer: Trainer, steps: int) -> list[int]:
    """Where the generations end, if the run has the next `steps` steps."""
    train = copy.copy(trainer.config.train)  # as it is, however few they are
    train.max_steps = trainer.progress.step + steps
    return trainer.progress.ends(train)


def finish(measured: Measured) -> float:
    """Seconds of what comes once in a run: the save that opens its folder, and the end."""
    return measured.save + measured.sample + END


def evaluations(trainer: Trainer, steps: int) -> int:
    """How many evaluations come with the next `steps` steps."""
    standing, every = trainer.progress.step, trainer.config.train.eval_every
    last = standing + steps
    regular = last // every - standing // every
    at_ends = sum(standing < end <= last and end % every > 0 for end in ends(trainer, steps))
    return counts_are_first(trainer) + regular + at_ends


def kept_in(trainer: Trainer, steps: int) -> int:
    """How many of the checkpoints of the next `steps` steps stay."""
    train, standing = trainer.config.train, trainer.progress.step
    first = counts_are_first(trainer) and kept.is_kept(train, standing)
    return first + kept.count(train, standing, steps)


def in_words(minutes: float) -> str:
    """A budget as the sentence about it begins."""
    return f"{minutes:g} minute{'s' * (minutes != 1)} here"
