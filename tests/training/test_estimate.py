"""What a dry run foretells, against what a run does: sizes by count, time by a false clock."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from data.length import SMALL_STEPS
from system import checkpoint, config
from tests.helpers.clock import FalseClock
from tests.helpers.runs import RUN, TEXT, contents, records
from training import estimate, timing
from training.trainer import Trainer


def estimated(trainer: Trainer) -> str:
    """What a dry run in this moment says."""
    return estimate.estimate(trainer, time.perf_counter())


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
    lines = estimated(trainer)
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
    lines = estimated(trainer)
    checkpoint.save(tmp_path / "last.pt", trainer.checkpoint())
    [sizes] = re.findall(r"^disk +(\S+) (.B), two checkpoints of (\S+) (.B) each$", lines, re.M)
    size = (tmp_path / "last.pt").stat().st_size
    assert in_bytes(*sizes[2:]) == pytest.approx(size, rel=0.2)
    assert in_bytes(*sizes[:2]) == pytest.approx(2 * in_bytes(*sizes[2:]), rel=0.1)


def test_the_text_and_its_epochs(make: Callable, quick: None) -> None:
    lines = estimated(make("train.batch_size=6", "train.max_steps=300"))
    assert told(lines, "text") == "300 characters to train on, 100 to validate, 9 distinct"
    assert told(lines, "step") == "48 characters, of 288 in an epoch"  # 36 windows of 8
    assert told(lines, "run") == "300 steps, 50.0 epochs of 6.0 steps"
    assert len(TEXT) == 400


def test_time(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"evaluation": 2.0, "character": 0.125, "save": 0.5}
    FalseClock(monkeypatch, step=lambda count: 0.25, **costs)
    trainer = make("train.max_steps=1001", "train.eval_every=300")
    lines = estimate.estimate(trainer, time.perf_counter() - 7)
    each, whole, around, *_ = told(lines, "time").split("\n        ")
    assert (
        each == "250.0 ms a step (timed on 8), 14.4 s an evaluation (timed on 100% of it)"
    )  # 99/8
    rest = "for 1,001 steps and 4 evaluations, waiting for the disk left out"
    assert whole == f"about 5 min 21 s {rest}"  # 250.25 + 4 * (14.375 + 2 * 0.5) + 9
    assert around == "9.0 s of it before the first step and after the last"  # 7 + 0.5 + 1.5


COUNTS = ("memory.order=3", "memory.calibration_fraction=0.2")


@pytest.mark.parametrize("bound", [99, 50, 9])
@pytest.mark.parametrize("settings", [COUNTS, ("train.minutes=1",), ("train.max_steps=11",)])
def test_a_run_takes_as_long(
    settings: tuple[str, ...], bound: int, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start of the process to its end, whatever part of the split is read."""
    parts = {"start": 20.0, "save": 0.25, "sample": 0.75, "picture": 1.25}
    clock = FalseClock(
        monkeypatch, step=lambda count: 0.5, evaluation=2.0, character=0.125, **parts
    )
    settings = (*settings, "train.eval_every=5", f"train.eval_characters={bound}")
    said = re.search(r"about (.*?) for", tiny(*settings, "--dry-run").out)[1]
    minutes, seconds = re.fullmatch(r"(?:(\d+) min )?([\d.]+) s", said).groups(default="0")
    began, clock.updates = clock.now, 0
    assert tiny(*settings).status == 0
    assert 60 * int(minutes) + float(seconds) == pytest.approx(clock.now - began, rel=0.05)


@pytest.mark.parametrize("memory", [(), COUNTS])
def test_evaluations_are_those_of_a_run(
    memory: tuple[str, ...], make: Callable, quick: None, tiny: Callable
) -> None:
    foretold = int(re.search(r"(\d+) evaluations", estimated(make(*memory)))[1])
    assert tiny(*memory).status == 0
    assert len(records(RUN)) == foretold == 3 + bool(memory)


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
    lines = estimated(trainer)
    assert f"for {left}, waiting for the disk left out" in lines
    assert told(lines, "run").startswith(f"{max_steps - standing} steps, ")


def test_what_some_budgets_give(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 1.5 s end a run, and an evaluation every 40 steps is 2 s."""
    clock = FalseClock(monkeypatch, step=lambda count: 0.25, evaluation=2.0)
    lines = estimate.estimate(make("train.eval_every=40"), clock.now - 3.5).split("\n")
    spent = 3.5 + 2 * 0.25 + 8 * 0.25 + 2 * 2  # before, and what was timed: 10 s
    for minutes, line in zip((1, 4, 15), lines[9:12], strict=True):
        steps, epochs = re.fullmatch(
            rf"        train\.minutes={minutes} +([\d,]+) steps, +([\d.]+) epochs", line
        ).groups()
        n = int(steps.replace(",", ""))
        assert n * 0.25 + 2 * -(-n // 40) <= 60 * minutes - spent - 1.5
        assert (n + 1) * 0.25 + 2 * -(-(n + 1) // 40) > 60 * minutes - spent - 1.5
        assert float(epochs) == pytest.approx(n / 9, abs=0.05)
    assert len({len(line) for line in lines[9:12]}) == 1


def test_the_run_is_the_one_that_the_minutes_give(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FalseClock(monkeypatch, step=lambda count: 0.25)
    trainer = make("train.minutes=0.5")
    lines = estimate.estimate(trainer, clock.now - 6)
    n = 4 * (30 - 6 - 10 * 0.25 - 1.5)
    assert told(lines, "run") == (
        f"80 steps, 8.9 epochs of 9.0 steps\n        0.5 minutes here: {n:.0f} steps "
        "(train.max_steps=80)"
    )
    assert "for 80 steps and 20 evaluations" in lines


def test_the_whole_split_when_it_is_short(make: Callable, quick: None) -> None:
    assert "(timed on 100% of it)" in estimated(make())


def test_measured_memory(make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = iter([70_000_000, 912_000_000])
    monkeypatch.setattr(timing, "peak_memory", lambda device: next(peaks))
    memory = told(estimated(make()), "memory")
    assert memory.startswith("912.0 MB at the peak of the process, 842.0 MB of it since the first")


def test_without_a_measure_of_memory(
    make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "resource", None)  # as on Windows
    lines = estimated(make())
    assert told(lines, "memory").endswith("optimizer (counted)") and "measured" not in lines


def test_nothing_is_written(make: Callable, quick: None, home: Path) -> None:
    trainer = make()
    before = contents(home)
    estimated(trainer)
    assert contents(home) == before


@pytest.mark.parametrize(
    ("text", "changes", "said"),
    [
        ("text.txt", ("train.max_steps=3",), ""),
        ("text.txt", ("train.max_steps=450",), ""),  # 50 epochs of 9 steps
        ("text.txt", ("train.max_steps=451",), "train.max_steps=90 makes 10, and --config small"),
        ("text.txt", ("train.batch_size=36", "train.max_steps=52"), "train.max_steps=10 makes 10"),
        ("aab", ("train.max_steps=9000",), ""),
    ],
)
def test_a_small_text_learned_by_heart(
    make: Callable, quick: None, text: str, changes: tuple[str, ...], said: str
) -> None:
    trainer = make(f"data.dataset={text}", "train.eval_every=9000", *changes)
    line = estimate.by_heart(trainer)
    assert line.startswith("more than 50 epochs learn a small text by heart; " + said) == bool(said)
    assert ("small.yaml" in line) == ("small" in said)
    assert ("        " + line in estimated(trainer).splitlines()) == bool(said)


def test_a_long_text_may_have_many_epochs(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SMALL", 300)
    assert estimate.by_heart(make("train.max_steps=451")) == ""
    monkeypatch.setattr(estimate, "SMALL", 301)
    assert estimate.by_heart(make("train.max_steps=451"))


def test_what_is_known_of_the_small_settings() -> None:
    small = config.load(config.find("small"), [], use_gpu=False)
    assert small.train.max_steps == SMALL_STEPS
