"""A time of its own for a run, so that what it takes is known exactly."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import train
from system import checkpoint
from training import evaluation as evaluating
from training import loop, metrics, timing
from training.trainer import Trainer


class FalseClock:
    """What time.perf_counter says: each act of a run takes it forward, in seconds, nothing else.

    step: of an update, as a function of how many came before it, in this process
    evaluation, character: of an evaluation, and for each character that it reads, of which
    `validated` has the numbers
    start, save, sample, picture: of all before the first step, of a checkpoint, of the last text,
    and of loss.png
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *,
        step: Callable[[int], float] = lambda count: 0.0,
        evaluation: float = 0.0,
        character: float = 0.0,
        **others: float,
    ) -> None:
        self.now, self.updates, self.validated = 50.0, 0, []
        update, generate, plot = Trainer.update, loop.generate, metrics.plot
        calibrate, read = evaluating.calibrate, evaluating.read

        def updated(trainer: Trainer) -> None:
            update(trainer)
            self.now += step(self.updates)
            self.updates += 1

        def calibrated(trainer: Trainer) -> None:
            self.now += evaluation
            calibrate(trainer)

        def evaluated(*args: Any) -> tuple[float, float, int]:
            found = read(*args)
            self.validated.append(found[-1])
            self.now += character * found[-1]
            return found

        def generated(*args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
            self.now += others.get("sample", 0)
            return generate(*args, **kwargs)

        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Trainer, "update", updated)
        for module in (evaluating, timing):
            monkeypatch.setattr(module, "calibrate", calibrated)
            monkeypatch.setattr(module, "read", evaluated)
        monkeypatch.setattr(loop, "generate", generated)
        monkeypatch.setattr(train, "prepare", self.slowed(train.prepare, others.get("start", 0)))
        monkeypatch.setattr(
            checkpoint, "write", self.slowed(checkpoint.write, others.get("save", 0))
        )
        monkeypatch.setattr(metrics, "plot", self.slowed(plot, others.get("picture", 0)))

    def slowed(self, act: Callable, seconds: float) -> Callable:
        """`act`, which takes so long."""

        def slow(*args: Any, **kwargs: Any) -> Any:
            self.now += seconds
            return act(*args, **kwargs)

        return slow
