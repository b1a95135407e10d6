"""What a run would take, found out before it begins: memory, time and room on the disk."""

import dataclasses
import math
import time
from collections.abc import Iterable

from torch import Tensor

from data.length import SMALL, SMALL_STEPS
from data.reading import BUILT_IN, RULES
from training import budget
from training.evaluation import read_at_the_end, read_each_time, whole
from training.timing import Measured, clock, measure
from training.trainer import Trainer

BUDGETS = (1, 4, 15)  # minutes
MANY, FEW = 50, 10  # epochs of a small text: learned by heart, and about as good as it gets
ENTRY = 300  # bytes in a checkpoint for each tensor beside its values; measured, 275 to 331


def estimate(trainer: Trainer, begun: float) -> str:
    """Lines that say what the run of `trainer` takes, from where it stands to its last step.

    Makes some updates and evaluations to find out, which spends `trainer`; nothing is written.
    begun: when the process began, by time.perf_counter. Raises Fault as `measure` does.
    """
    standing = dataclasses.replace(trainer.progress)
    before = time.perf_counter() - begun
    measured = measure(trainer)
    trainer.progress = standing
    spent = time.perf_counter() - begun
    start = before if trainer.config.train.minutes is None else spent  # a run with them measures
    said = budget.settle(trainer, measured, begun)
    said = [f"        {line}" for line in (said, by_heart(trainer)) if line]
    lines = [sizes(trainer), *said]
    lines += [memory(trainer, measured), duration(trainer, measured, start)]
    return "\n".join([*lines, *budgets(trainer, measured, spent), disk(trainer)])


def sizes(trainer: Trainer) -> str:
    """The model, the text, and how often the steps that are left go through it."""
    model, text, batches = trainer.model, trainer.corpus, trainer.batches
    notes = "".join(f"        {note}\n" for note in text.notes)
    return (
        f"model   {model.parameter_count():,} parameters, {megabytes(size(model.parameters()))} "
        f"of weights\ntext    {len(text.train):,} characters to train on, {len(text.val):,} to "
        f"validate, {len(text.tokenizer.chars)} distinct\n{notes}"
        f"step    {batches.batch_size * batches.block_size:,} characters, of "
        f"{batches.windows * batches.block_size:,} in an epoch\n"
        f"run     {steps_left(trainer)}"
    )


def steps_left(trainer: Trainer) -> str:
    """How many steps are left, and how many epochs they make."""
    steps, epoch = left(trainer), epoch_of(trainer)
    return f"{steps:,} steps, {steps / epoch:,.1f} epochs of {epoch:,.1f} steps"


def by_heart(trainer: Trainer) -> str:
    """What to do about steps that go through a small text too often; nothing where none do."""
    dataset, steps = trainer.config.data.dataset, left(trainer)
    made = dataset in BUILT_IN or str(dataset).startswith(RULES)  # to be learned by heart
    small = len(trainer.corpus.train) < SMALL and steps > MANY * epoch_of(trainer)
    if made or not small or trainer.progress.step:
        return ""
    fewer = f"train.max_steps={math.ceil(FEW * epoch_of(trainer))} makes {FEW}"
    sooner = ", and --config small.yaml ends sooner" if steps > SMALL_STEPS else ""
    return f"more than {MANY} epochs learn a small text by heart; {fewer}{sooner}"


def left(trainer: Trainer) -> int:
    """Steps from where the run stands to its last one."""
    return max(0, trainer.config.train.max_steps - trainer.progress.step)


def epoch_of(trainer: Trainer) -> float:
    """Steps in which every character comes once."""
    return trainer.batches.windows / trainer.batches.batch_size


def memory(trainer: Trainer, measured: Measured) -> str:
    """What has to be in memory, counted, and what was, measured."""
    weights = megabytes(size(trainer.model.parameters()))
    remembered = megabytes(size(remembered_by(trainer)))
    teachers = taught_by(trainer)
    taught = f", {megabytes(size(teachers))} teachers" if teachers else ""
    counted = f"{weights} weights, {weights} gradients, {remembered} optimizer{taught} (counted)"
    if not measured.peak:
        return f"memory  {counted}"
    place = "GPU" if trainer.device.type == "cuda" else "process"
    return (
        f"memory  {megabytes(measured.peak)} at the peak of the {place}, "
        f"{megabytes(measured.grown)} of it since the first step (measured)\n        {counted}"
    )


def duration(trainer: Trainer, measured: Measured, start: float) -> str:
    """How long the run takes from its `start`, which took so many seconds, to its end."""
    steps = left(trainer)
    evaluations = budget.evaluations(trainer, steps)
    around = start + budget.finish(measured)
    total = around + budget.duration(trainer, measured, steps)
    later = f", {clock(measured.later)} in the next generation" if measured.later else ""
    each, last = read_each_time(trainer), read_at_the_end(trainer, trainer.progress.step + steps)
    bound = "" if each == whole(trainer) else f" of {each:,} characters"
    wider = f", the last of {last:,} characters more" if steps and last else ""
    return (
        f"time    {clock(measured.step)} a step (timed on {measured.steps}){later}, "
        f"{clock(measured.evaluation)} an evaluation{bound} (timed on {measured.share:.0%} of it)\n"
        f"        about {clock(total)} for {steps:,} steps and {evaluations:,} evaluations{wider}, "
        "waiting for the disk left out\n"
        f"        {clock(around)} of it before the first step and after the last"
    )


def budgets(trainer: Trainer, measured: Measured, spent: float) -> list[str]:
    """What some budgets would give, if `spent` seconds are over before the first step."""
    fits = [budget.fitting(trainer, measured, 60 * minutes - spent) for minutes in BUDGETS]
    steps = [f"{fit:,} steps, " for fit in fits]
    epochs = [f"{fit / epoch_of(trainer):,.1f} epochs" for fit in fits]
    wide = [max(map(len, column)) for column in (steps, epochs)]
    return [
        f"        train.minutes={minutes:<3}{step:>{wide[0]}}{epoch:>{wide[1]}}"
        for minutes, step, epoch in zip(BUDGETS, steps, epochs, strict=True)
    ]


def disk(trainer: Trainer) -> str:
    """What the checkpoints will take, counted."""
    tensors = [*trainer.model.parameters(), *remembered_by(trainer), *taught_by(trainer)]
    if trainer.memory:
        tensors += [tensor for level in trainer.memory.packed for tensor in level.values()]
    checkpoint, every = size(tensors) + ENTRY * len(tensors), trainer.config.train.keep_every
    kept = budget.kept_in(trainer, left(trainer))
    more = f", and {kept:,} that train.keep_every={every} keeps" if kept else ""
    return (
        f"disk    {megabytes((2 + kept) * checkpoint)}, two checkpoints of "
        f"{megabytes(checkpoint)} each{more}"
    )


def remembered_by(trainer: Trainer) -> list[Tensor]:
    """The tensors of the optimizer's state, which is there after the first update."""
    states = [state for part in trainer.optimizer.state() for state in part.values()]
    return [tensor for state in states for tensor in state.values()]


def taught_by(trainer: Trainer) -> list[Tensor]:
    """The weights of the GPTs that teach, now or in a later generation, whichever are more."""
    now = [weight for model in trainer.teachers for weight in model.parameters()]
    to_come = trainer.progress.generation < trainer.config.train.generations
    return max(now, list(trainer.model.parameters()) if to_come else [], key=size)


def size(tensors: Iterable[Tensor]) -> int:
    """The bytes of their values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def megabytes(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"
