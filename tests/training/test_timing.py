"""What is timed before a run, and how: by a clock of its own, by which each act takes its time."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers.clock import FalseClock
from tests.helpers.runs import contents, exact
from training import timing
from training.parallel import World

CPU = torch.device("cpu")


def slow_start(count: int) -> float:
    """A quarter of a second, but the first two steps take longer."""
    return 2.25 if count < 2 else 0.25


@pytest.mark.parametrize(
    ("seconds", "steps"), [(0.0, 3), (10.0, 4), (27.0, 12), (30.0, 12), (1e9, 100)]
)
def test_enough_steps_are_timed(
    make: Callable, monkeypatch: pytest.MonkeyPatch, seconds: float, steps: int
) -> None:
    monkeypatch.setattr(timing, "SECONDS", seconds)
    clock = FalseClock(monkeypatch, step=slow_start)
    assert timing.time_steps(make()) == (0.25, steps)
    assert clock.updates == 2 + steps


def test_what_holds_up_one_step_does_not_count(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 5)
    for held_up in (2, 6, 13, 21):
        with monkeypatch.context() as patch:
            FalseClock(patch, step=lambda count, held_up=held_up: 0.25 + 30 * (count == held_up))
            assert timing.time_steps(make()) == (0.25, 20)


def test_what_holds_up_every_other_step_does(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 5)
    FalseClock(monkeypatch, step=lambda count: 0.25 if count % 2 else 0.75)
    assert timing.time_steps(make()) == (0.5, 20)


@pytest.mark.parametrize("part", [33, 5, 1000])
@pytest.mark.parametrize(("bound", "each"), [(1000, 99), (70, 70), (17, 17)])
def test_an_evaluation(
    make: Callable, monkeypatch: pytest.MonkeyPatch, part: int, bound: int, each: int
) -> None:
    """Two seconds of it are for the shares of counts. The split is 99 characters, a window 8."""
    monkeypatch.setattr(timing, "PART", part)
    clock = FalseClock(monkeypatch, evaluation=2.0, character=0.125)
    trainer = make(f"train.eval_characters={bound}")
    seconds, share, character = timing.time_evaluation(trainer)
    timed = 99 if min(part, each) == 99 else max(8, min(part, each) // 8 * 8)  # whole windows
    assert clock.validated == [timed, timed]
    assert share == timed / each
    assert (seconds, character) == (2 + 0.125 * each, 0.125)


class Second(World):
    """A process that only helps with the steps."""

    leads = False


def test_a_save_and_a_sample(
    make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    FalseClock(monkeypatch, save=0.5, sample=0.75)
    before = contents(home)
    for folder in (None, home):
        measured = timing.measure(make(), folder)
        assert (measured.save, measured.sample, measured.line) == (0.5, 0.75, 0.75)
    assert contents(home) == before
    assert timing.measure(make("train.sample_characters=0")).line == 0
    trainer = make()
    trainer.world = Second()
    measured = timing.measure(trainer, home)
    assert (measured.save, measured.sample, measured.line) == (0, 0, 0)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_no_loss_can_grow(make: Callable, quick: None, optimizer: str) -> None:
    trainer = make("optim.learning_rate=1e30", f"optim.optimizer={optimizer}")
    before = exact(dict(trainer.model.state_dict()))
    timing.measure(trainer)
    assert exact(dict(trainer.model.state_dict())) == before
    with pytest.raises(Exception, match="not finite"):  # the rates are as they were
        for _ in range(9):
            trainer.update()
            trainer.pause()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system is no Linux")
def test_measured_memory_of_this_process() -> None:
    high_water = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    assert timing.peak_memory(CPU) == pytest.approx(1024 * high_water, rel=0.02)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0075, "7.5 ms"),
        (0.25, "250.0 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (247, "4 min 07 s"),
        (3599.6, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (7_200_000, "2,000 h 00 min"),
    ],
)
def test_clock(seconds: float, words: str) -> None:
    assert timing.clock(seconds) == words
