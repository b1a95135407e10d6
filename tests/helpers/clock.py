"""A time of its own for a run, so that what it takes is known exactly."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import train
from system import checkpoint
from training import loop, metrics
from training.trainer import Trainer


class FalseClock:
    """What time.perf_counter says: each act of a run takes it forward, in seconds, nothing else.

    step: of an update, as a function of how many came before it, in this process
    evaluation, character: of an evaluation, and for each character of the validation split
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
        update, losses, generate, plot = Trainer.update, Trainer.losses, loop.generate, metrics.plot

        def updated(trainer: Trainer) -> None:
            update(trainer)
            self.now += step(self.updates)
            self.updates += 1

        def evaluated(trainer: Trainer, window: int | None = None) -> tuple[float, float]:
            self.validated.append(len(trainer.corpus.val))
            self.now += evaluation + character * (len(trainer.corpus.val) - 1)
            return losses(trainer, window)

        def generated(*args: Any, **kwargs: Any) -> Iterator[torch.Tensor]:
            self.now += others.get("sample", 0)
            return generate(*args, **kwargs)

        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(Trainer, "update", updated)
        monkeypatch.setattr(Trainer, "losses", evaluated)
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
