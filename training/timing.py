"""What the parts of a run take, found out on some of them: seconds, and memory."""

import io
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from data.windows import AT_ONCE
from system import checkpoint
from training.evaluation import calibrate, read, read_each_time
from training.loop import write, write_line
from training.start import TRIAL
from training.trainer import Trainer

try:
    import resource
except ImportError:  # Windows has none
    resource = None

WARM_UP, FEWEST, MOST, GROUPS = 2, 3, 100, 5  # steps, and the groups in which they are timed
SECONDS = 2.0  # for the steps that are timed, unless they are the fewest
PART = 2 * AT_ONCE  # characters in an evaluation that is timed, for each process


@dataclass
class Measured:
    """What was measured: seconds of each part of a run, and how; memory in bytes.

    step, steps: of a step, and how many were timed
    later: of a step in the generations to come, which the model teaches; 0 where there are none
    evaluation, share: of one on train.eval_characters, and what share of it was timed
    character: of each character that the last evaluation reads beside these
    save, sample, line: of a checkpoint, of the text at the end, and of the line of text with each
        evaluation; 0 where another process makes them
    peak, grown: the most memory that was ever in use, and how much of it came with the steps
    """

    step: float
    steps: int
    later: float
    evaluation: float
    share: float
    character: float
    save: float
    sample: float
    line: float
    peak: int
    grown: int


def measure(trainer: Trainer, folder: Path | None = None) -> Measured:
    """Make some updates and evaluations, a save and a sample, which spends `trainer`.

    The learning rates are 0 meanwhile, so that no loss can grow. The save goes to `folder`, and is
    removed there, or to memory alone. Raises Fault where it cannot be written, or where a loss is
    not finite from the start.
    """
    before = peak_memory(trainer.device)
    rates = [(group, group["lr"]) for part in trainer.optimizer.parts for group in part.groups]
    for group, _ in rates:
        group["lr"] = 0.0
    step, steps = time_steps(trainer)
    later = time_later_steps(trainer)
    for group, rate in rates:
        group["lr"] = rate
    evaluation, share, character = time_evaluation(trainer)
    save = sample = line = 0.0
    if trainer.world.leads:
        save = time_save(trainer, folder)
        sample = timed(lambda: write(trainer, trainer.writer()))
        if trainer.config.train.sample_characters:
            line = timed(lambda: write_line(trainer))
    peak = peak_memory(trainer.device)
    grown = peak - before
    beside = (save, sample, line)
    return Measured(step, steps, later, evaluation, share, character, *beside, peak, grown)


def time_steps(trainer: Trainer) -> tuple[float, int]:
    """The seconds of a step, and how many were timed.

    They are timed in groups, which a GPU is waited for after, and the median counts: so one step
    that is held up for long does not, but what holds up every other step does.
    """

    def steps(count: int) -> None:
        for _ in range(count):
            trainer.update()
        trainer.pause()  # waits for a GPU

    warm = [timed(lambda: steps(1)) for _ in range(WARM_UP)]
    wanted = min(max(FEWEST, int(SECONDS / max(warm[-1], 1e-9))), MOST)
    wanted = int(trainer.world.largest(wanted, trainer.device))  # all processes take the same
    size = max(1, wanted // GROUPS)
    groups = [timed(lambda: steps(size)) for _ in range(wanted // size)]
    return statistics.median(groups) / size, len(groups) * size


def time_later_steps(trainer: Trainer) -> float:
    """The seconds of a step in the generations to come; 0 where there are none."""
    if trainer.progress.generation >= trainer.config.train.generations:
        return 0.0
    teacher, trainer.teacher = trainer.teacher, trainer.as_teacher()
    seconds, _ = time_steps(trainer)
    trainer.teacher = teacher
    return seconds


def time_evaluation(trainer: Trainer) -> tuple[float, float, float]:
    """The seconds of an evaluation, what share of it was timed, and the seconds of a character.

    The time for the shares of the counts is taken apart: it does not grow with what is read.
    """
    each = read_each_time(trainer)
    most = min(PART * trainer.world.size, each)

    def part() -> int:
        return read(trainer, most)[-1]

    calibrate(trainer)
    count = part()  # both are slower the first time
    once = timed(lambda: calibrate(trainer))
    character = timed(part) / count
    return once + character * each, min(1.0, count / each), character


def time_save(trainer: Trainer, folder: Path | None) -> float:
    """The seconds of a save, in `folder` or else in memory."""
    if folder is None:
        return timed(lambda: checkpoint.write(io.BytesIO(), trainer.checkpoint()))
    try:
        return timed(lambda: checkpoint.save(folder / TRIAL, trainer.checkpoint()))
    finally:
        (folder / TRIAL).unlink(missing_ok=True)


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
