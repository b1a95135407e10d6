"""What a run would take, found out before it begins: memory, time and room on the disk."""

import dataclasses
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from training.trainer import EVAL_CHARACTERS, Trainer

try:
    import resource
except ImportError:  # Windows has none
    resource = None

WARM_UP, FEWEST, MOST = 2, 3, 100  # steps
SECONDS = 4.0  # for the steps that are timed, unless they are the fewest
PART = 2 * EVAL_CHARACTERS  # characters in an evaluation that is timed, for each process
ENTRY = 300  # bytes in a checkpoint for each tensor beside its values; measured, 275 to 331


@dataclass
class Measured:
    """What was measured: seconds of a step and of an evaluation, and how; memory in bytes.

    step, steps: the median, and over how many
    evaluation, share: of the whole validation split, and what share of it was timed
    peak, grown: the most memory that was ever in use, and how much of it came with the steps
    """

    step: float
    steps: int
    evaluation: float
    share: float
    peak: int
    grown: int


def estimate(trainer: Trainer) -> str:
    """Lines that say what the run of `trainer` takes, from where it stands to its last step.

    Makes some updates and evaluations to find out, which spends `trainer`; nothing is written.
    Raises Fault when a loss is not finite.
    """
    standing = trainer.progress.step
    measured = measure(trainer)
    parts = (
        sizes(trainer, standing),
        memory(trainer, measured),
        duration(trainer, standing, measured),
    )
    return "\n".join([*parts, disk(trainer)])


def sizes(trainer: Trainer, standing: int) -> str:
    """The model, the text, and how often the steps after step `standing` go through it."""
    model, text, batches = trainer.model, trainer.corpus, trainer.batches
    return (
        f"model   {model.parameter_count():,} parameters, {megabytes(size(model.parameters()))} "
        f"of weights\ntext    {len(text.train):,} characters to train on, {len(text.val):,} to "
        f"validate, {len(text.tokenizer.chars)} distinct\n"
        f"step    {batches.batch_size * batches.block_size:,} characters, of "
        f"{batches.windows * batches.block_size:,} in an epoch\n"
        f"run     {steps_after(trainer, standing)}"
    )


def steps_after(trainer: Trainer, standing: int) -> str:
    """How many steps come after step `standing`, and how many epochs they make."""
    steps = max(0, trainer.config.train.max_steps - standing)
    epoch = trainer.batches.windows / trainer.batches.batch_size  # in steps
    return f"{steps:,} steps, {steps / epoch:,.1f} epochs of {epoch:,.1f} steps"


def memory(trainer: Trainer, measured: Measured) -> str:
    """What has to be in memory, counted, and what was, measured."""
    weights = megabytes(size(trainer.model.parameters()))
    remembered = megabytes(size(remembered_by(trainer)))
    counted = f"{weights} weights, {weights} gradients, {remembered} optimizer (counted)"
    if not measured.peak:
        return f"memory  {counted}"
    place = "GPU" if trainer.device.type == "cuda" else "process"
    return (
        f"memory  {megabytes(measured.peak)} at the peak of the {place}, "
        f"{megabytes(measured.grown)} of it since the first step (measured)\n        {counted}"
    )


def duration(trainer: Trainer, standing: int, measured: Measured) -> str:
    """How long the steps and evaluations after step `standing` take."""
    train = trainer.config.train
    last = max(standing, train.max_steps)
    steps = last - standing
    evaluations = last // train.eval_every - standing // train.eval_every
    evaluations += steps > 0 and last % train.eval_every > 0  # there is one at the end
    total = steps * measured.step + evaluations * measured.evaluation
    return (
        f"time    {clock(measured.step)} a step (median of {measured.steps}), "
        f"{clock(measured.evaluation)} an evaluation (timed on {measured.share:.0%} of it)\n"
        f"        about {clock(total)} for {steps:,} steps and {evaluations:,} evaluations, "
        "saves left out"
    )


def disk(trainer: Trainer) -> str:
    """What the checkpoints will take, counted."""
    tensors = [*trainer.model.parameters(), *remembered_by(trainer)]
    if trainer.memory:
        tensors += [tensor for level in trainer.memory.packed for tensor in level.values()]
    checkpoint = size(tensors) + ENTRY * len(tensors)
    return f"disk    {megabytes(2 * checkpoint)}, two checkpoints of {megabytes(checkpoint)} each"


def measure(trainer: Trainer) -> Measured:
    """Make some updates, and evaluate on a part of the validation split."""
    device, world, whole = trainer.device, trainer.world, trainer.corpus

    def step() -> None:
        trainer.update()
        trainer.pause()  # waits for a GPU

    before = peak_memory(device)
    warm = [timed(step) for _ in range(WARM_UP)]
    steps = min(max(FEWEST, int(SECONDS / max(warm[-1], 1e-9))), MOST)
    steps = int(world.largest(steps, device))  # all processes have to take the same number
    seconds = statistics.median(timed(step) for _ in range(steps))
    part = whole.val[: 1 + PART * world.size]
    trainer.corpus = dataclasses.replace(whole, val=part)
    share = (len(part) - 1) / (len(whole.val) - 1)
    evaluation = min(timed(trainer.evaluate) for _ in range(2)) / share
    trainer.corpus = whole
    peak = peak_memory(device)
    return Measured(seconds, steps, evaluation, share, peak, peak - before)


def timed(act: Callable[[], object]) -> float:
    """The seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def peak_memory(device: torch.device) -> int:
    """The most bytes that the GPU, or this process, has had in use; 0 where no one knows."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def remembered_by(trainer: Trainer) -> list[Tensor]:
    """The tensors of the optimizer's state, which is there after the first update."""
    states = [state for part in trainer.optimizer.state() for state in part.values()]
    return [tensor for state in states for tensor in state.values()]


def size(tensors: Iterable[Tensor]) -> int:
    """The bytes of their values."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def megabytes(count: float) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def clock(seconds: float) -> str:
    """Seconds as a person reads them: 7.5 ms, 2.5 s, 4 min 07 s, 3 h 20 min."""
    if seconds < 1:
        return f"{1e3 * seconds:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60:,} h {minutes % 60:02} min"
