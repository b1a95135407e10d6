"""What a dry run foretells, against what a run does: sizes by count, time by a false clock."""

import dataclasses
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from data import corpus
from model import GPT
from system import checkpoint, config
from system.errors import Fault
from tests.helpers.runs import TEXT, contents, exact
from training import estimate
from training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture
def make(home: Path) -> Callable[..., Trainer]:
    """A function that makes the Trainer of tiny.yaml with some changes."""

    def make(*overrides: str) -> Trainer:
        settings = config.load(Path("tiny.yaml"), list(overrides), use_gpu=False)
        text = corpus.load(settings.data, 8, CPU, chars=None, scratch=Path("ids"))
        settings.model = dataclasses.replace(settings.model, vocab_size=9)
        return Trainer(GPT(settings.model), text, settings, CPU)

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time as few steps as may be."""
    monkeypatch.setattr(estimate, "SECONDS", 0)


def told(lines: str, label: str) -> str:
    """What the lines say under `label`, the lines without a label that follow it included."""
    return re.search(rf"^{label} +(.*(?:\n +.*)*)", lines, re.MULTILINE)[1]


def in_bytes(count: str, unit: str) -> float:
    return float(count.replace(",", "")) * {"kB": 1e3, "MB": 1e6}[unit]


LARGE = ("model.n_embd=48", "model.n_layer=3", "model.n_head=4", "model.ffn_size=100")
PARAMETERS = 2 * 9 * 48 + 3 * (4 * 48 * 48 + 2 * 48 * 100 + 2 * 48) + 48  # LayerNorms have no bias
MATRICES = 3 * (4 * 48 * 48 + 2 * 48 * 100)


@pytest.mark.parametrize(
    ("optimizer", "remembered"),
    [
        ("adamw", 2 * 4 * PARAMETERS + 4 * (2 + 1 + 3 * (3 * 4 + 1 + 2 + 2))),  # a count for each
        ("muon", 4 * MATRICES + 2 * 4 * (PARAMETERS - MATRICES) + 4 * (2 + 1 + 3 * 2)),
    ],
)
def test_sizes(make: Callable, quick: None, optimizer: str, remembered: int) -> None:
    trainer = make(*LARGE, f"optim.optimizer={optimizer}")
    lines = estimate.estimate(trainer)
    weights = f"{4e-3 * PARAMETERS:.1f} kB of weights"
    assert told(lines, "model") == f"{PARAMETERS:,} parameters, {weights}"
    state = [s for part in trainer.optimizer.state() for s in part.values()]
    there = sum(t.numel() * t.element_size() for s in state for t in s.values())
    assert there == remembered
    [counted] = re.findall(r"(\S+) (\S+) weights, (\S+) (\S+) gradients, (\S+) (\S+) opt", lines)
    sizes = [in_bytes(*counted[i : i + 2]) for i in (0, 2, 4)]
    assert sizes == pytest.approx([4 * PARAMETERS, 4 * PARAMETERS, remembered], abs=51)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("changes", [(), LARGE, ("model.n_embd=192", "model.tie_weights=true")])
def test_room_on_the_disk(
    make: Callable, quick: None, tmp_path: Path, optimizer: str, changes: tuple[str, ...]
) -> None:
    trainer = make(f"optim.optimizer={optimizer}", *changes)
    lines = estimate.estimate(trainer)
    checkpoint.save(tmp_path / "last.pt", trainer.checkpoint())
    [sizes] = re.findall(r"^disk +(\S+) (.B), two checkpoints of (\S+) (.B) each$", lines, re.M)
    size = (tmp_path / "last.pt").stat().st_size
    assert in_bytes(*sizes[2:]) == pytest.approx(size, rel=0.2)
    assert in_bytes(*sizes[:2]) == pytest.approx(2 * in_bytes(*sizes[2:]), rel=0.1)


def test_the_text_and_its_epochs(make: Callable, quick: None) -> None:
    lines = estimate.estimate(make("train.batch_size=6", "train.max_steps=300"))
    assert told(lines, "text") == "300 characters to train on, 100 to validate, 9 distinct"
    assert told(lines, "step") == "48 characters, of 288 in an epoch"  # 36 windows of 8
    assert told(lines, "run") == "300 steps, 50.0 epochs of 6.0 steps"
    assert len(TEXT) == 400


class FalseClock:
    """A time of its own: each act of a Trainer takes it forward, and nothing else does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step: float, character: float) -> None:
        self.now, self.updates, self.validated = 50.0, 0, []
        update = Trainer.update

        def updated(trainer: Trainer) -> None:
            update(trainer)
            self.now += step * (9 if self.updates < 2 else 1)  # the first ones are slower
            self.now += step * 30 * (self.updates == 3)  # and another was held up
            self.updates += 1

        def evaluated(trainer: Trainer) -> float:
            self.now += character * (len(trainer.corpus.val) - 1) + 0.5 * (not self.validated)
            self.validated.append(len(trainer.corpus.val))
            return 1.0

        monkeypatch.setattr(Trainer, "update", updated)
        monkeypatch.setattr(Trainer, "evaluate", evaluated)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def test_time(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "PART", 33)
    clock = FalseClock(monkeypatch, step=0.25, character=0.125)
    trainer = make("train.max_steps=1001", "train.eval_every=300")
    each, whole = told(estimate.estimate(trainer), "time").split("\n        ")
    assert clock.validated == [34, 34]
    assert clock.updates == 2 + 3  # the second took 2.25 s of 4, so that one more would do
    assert (
        each == "250.0 ms a step (median of 3), 12.4 s an evaluation (timed on 33% of it)"
    )  # 99/8
    assert whole == "about 5 min 00 s for 1,001 steps and 4 evaluations, saves left out"


@pytest.mark.parametrize(
    ("standing", "max_steps", "left"),
    [
        (0, 12, "12 steps and 3 evaluations"),
        (0, 13, "13 steps and 4 evaluations"),
        (3, 13, "10 steps and 4 evaluations"),
        (4, 13, "9 steps and 3 evaluations"),
        (13, 13, "0 steps and 0 evaluations"),
        (12, 12, "0 steps and 0 evaluations"),
    ],
)
def test_what_is_left_of_a_resumed_run(
    make: Callable, quick: None, standing: int, max_steps: int, left: str
) -> None:
    trainer = make(f"train.max_steps={max_steps}", "train.eval_every=4")
    trainer.progress.step = standing
    lines = estimate.estimate(trainer)
    assert f"for {left}, saves left out" in lines
    assert told(lines, "run").startswith(f"{max_steps - standing} steps, ")


def test_enough_steps_are_timed(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    for seconds, steps in ((1e9, 100), (10.0, 4), (0.0, 3)):  # a warm-up step is 2.25 s
        monkeypatch.setattr(estimate, "SECONDS", seconds)
        with monkeypatch.context() as patch:
            FalseClock(patch, step=0.25, character=0)
            assert f"(median of {steps})" in estimate.estimate(make())


def test_the_whole_split_when_it_is_short(make: Callable, quick: None) -> None:
    assert "(timed on 100% of it)" in estimate.estimate(make())


def test_measured_memory(make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([70_000_000, 912_000_000])
    monkeypatch.setattr(estimate, "peak_memory", lambda device: next(peaks))
    memory = told(estimate.estimate(make()), "memory")
    assert memory.startswith("912.0 MB at the peak of the process, 842.0 MB of it since the first")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system is no Linux")
def test_measured_memory_of_this_process() -> None:
    high_water = int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1])
    assert estimate.peak_memory(CPU) == pytest.approx(1024 * high_water, rel=0.02)


def test_without_a_measure_of_memory(
    make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "resource", None)  # as on Windows
    lines = estimate.estimate(make())
    assert told(lines, "memory").endswith("optimizer (counted)") and "measured" not in lines


def test_nothing_is_written(make: Callable, quick: None, home: Path) -> None:
    trainer = make()
    before = contents(home)
    estimate.estimate(trainer)
    assert contents(home) == before


def test_a_loss_that_is_not_finite(make: Callable, quick: None) -> None:
    trainer = make("optim.learning_rate=1e30", "optim.warmup_steps=0")
    with pytest.raises(Fault, match="not finite"):
        estimate.estimate(trainer)


def test_the_text_is_whole_again(
    make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "PART", 33)
    trainer = make()
    whole = exact(trainer.corpus.val)
    assert "100 to validate" in estimate.estimate(trainer)
    assert exact(trainer.corpus.val) == whole


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
    assert estimate.clock(seconds) == words
