"""Minutes become steps: what fits, what is said, and that what was timed leaves no trace.

The runs have a time of their own, so that they end where their minutes do, whatever the machine.
"""

import itertools
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

import train
from system import checkpoint
from system.checkpoint import LAST
from system.settings import LARGEST_INT
from tests.helpers.clock import FalseClock
from tests.helpers.runs import RUN, after, contents, exact, records, sha256, state
from training import budget, evaluation, timing
from training.evaluation import losses
from training.parallel import World
from training.timing import Measured
from training.trainer import Trainer

MEMORY = ("memory.order=3", "memory.calibration_fraction=0.2", "memory.teach=0.3")
COSTS = {"evaluation": 0.5, "character": 0.01, "start": 4.0, "save": 0.25}
COSTS |= {"sample": 0.75, "picture": 1.25}


@pytest.fixture
def clock(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> FalseClock:
    """The time of a run whose steps take half a second and whose other parts take COSTS."""
    return FalseClock(monkeypatch, step=lambda count: 0.5, **COSTS)


def said(out: str) -> str:
    """The line about the minutes of a run."""
    [line] = re.findall(r"^time   (.*)$", out, re.M)
    return line


def steps_of(out: str) -> int:
    """The steps that a run says it makes, as it says to set them."""
    return int(re.search(r"\(train\.max_steps=(\d+)\)$", said(out))[1])


def settings_of(folder: Path) -> str:
    """The settings of a run, but for where it is."""
    return re.sub("out_dir: .*", "", (folder / "config.yaml").read_text())


# What fits


def simulated(standing: int, steps: int, every: int, *, counts: bool, costs: Measured) -> float:
    """The seconds of a run's next steps, walked through one by one."""
    seconds, each = 0.0, costs.evaluation + costs.line + 2 * costs.save
    if counts:
        seconds += each
    for step in range(standing + 1, standing + steps + 1):
        seconds += costs.step
        if step % every == 0 or step == standing + steps:
            seconds += each
    return seconds


@pytest.mark.parametrize("counts", [False, True])
@pytest.mark.parametrize("standing", [0, 3, 8, 21])
def test_as_many_steps_as_fit(make: Callable, standing: int, counts: bool) -> None:
    trainer = make(*MEMORY if counts else ())
    trainer.progress.step = standing
    nothing = {"steps": 3, "later": 0.0, "share": 1.0, "character": 0.0, "peak": 0, "grown": 0}
    nothing |= {"save": 0.125, "sample": 2.0}
    costs = Measured(step=0.25, evaluation=1.0, line=0.375, **nothing)
    once = costs.save + costs.sample + budget.END
    for every in (1, 4, 1000):
        trainer.config.train.eval_every = every
        walk = partial(simulated, standing, every=every, counts=counts, costs=costs)
        for seconds in (-3.0, 0.0, 1.4, 1.5, 6.0, 33.3, 50.0):
            fit = budget.fitting(trainer, costs, seconds + once)
            assert fit == 0 or walk(fit) <= seconds
            assert walk(fit + 1) > seconds


@pytest.mark.parametrize("share", [None, 0.3])
def test_generations_have_costs_of_their_own(make: Callable, share: float | None) -> None:
    trainer = make("train.generations=2", f"train.first_share={share or 'null'}")
    costs = Measured(
        0.25, 3, 0.5, 1.0, 1.0, 0.0, save=0.125, sample=2.0, line=0.25, peak=0, grown=0
    )
    once = costs.save + costs.sample + budget.END

    def walk(steps: int) -> float:
        first = max(1, min(round((share or 0.5) * steps), steps - 1))
        measured = {*range(every, steps + 1, every), first, steps}
        return first * 0.25 + (steps - first) * 0.5 + len(measured) * 1.5

    for every, seconds in itertools.product((1, 7, 1000), (1.5, 6.0, 33.3, 50.0)):
        trainer.config.train.eval_every = every
        fit = budget.fitting(trainer, costs, seconds + once)
        assert fit < 2 or walk(fit) <= seconds
        assert walk(fit + 2 if every == 7 else fit + 1) > seconds  # 7: two may end at once


def test_each_generation_makes_a_step(clock: FalseClock, tiny: Callable) -> None:
    out = tiny("train.minutes=0.01", "train.generations=3", "train.eval_every=1000").out
    assert "too few" in said(out) and "3 steps and the end take" in said(out)
    assert [each["generation"] for each in records(RUN)] == [1, 2, 3]


@pytest.mark.parametrize(
    "settings",
    [
        ("train.eval_every=7",),
        ("train.eval_every=1000",),
        ("train.eval_every=20", *MEMORY),
        ("train.eval_every=20", "train.tensorboard=true"),
        ("train.eval_every=6", "train.keep_every=1", "train.sample_characters=0"),
        ("train.eval_every=5", "train.keep_every=2", *MEMORY),
        ("train.eval_every=20", "train.eval_characters=50"),  # the last one reads 99, and 50
        ("train.eval_every=1000", "train.generations=3", "train.first_share=0.2"),
    ],
)
def test_a_run_ends_with_its_minutes(
    settings: tuple[str, ...], clock: FalseClock, tiny: Callable
) -> None:
    """From the start of the process to its end, and one more step would not fit."""
    start = clock.now
    ended = tiny("train.minutes=1", *settings)
    assert ended.status == 0 and records(RUN)[-1]["step"] == steps_of(ended.out)
    spare = 60 - (clock.now - start)
    evaluation = 0.5 + 2 * 99 * 0.01 + 3 * 0.25 + 2 * 0.75  # kept, shown and written, too
    assert 0 <= spare < 0.5 + evaluation + budget.END


def test_the_clock_begins_with_the_process(clock: FalseClock, tiny: Callable) -> None:
    steps = []
    for begun in (clock.now, clock.now - 10):
        argv = ["--device=cpu", "--config=tiny.yaml", "--overwrite", "train.minutes=1"]
        clock.now, clock.updates = 50, 0
        assert train.main([*argv, "train.eval_every=1000"], begun) == 0
        steps.append(checkpoint.load(RUN / LAST).progress["step"])
    assert steps[0] - steps[1] == 20


def test_no_number_is_too_large(clock: FalseClock, tiny: Callable) -> None:
    ended = tiny("train.minutes=1e308", "train.max_steps=3")
    most = f"{LARGEST_INT:,} steps, but at most 3 (train.max_steps=3)"
    assert said(ended.out) == f"1e+308 minutes here: {most}"
    assert records(RUN)[-1]["step"] == 3
    ended = tiny("--resume", "train.minutes=1e308", "train.max_steps=5")
    assert f"{LARGEST_INT - 3:,} steps, but at most 2 (train.max_steps=5)" in said(ended.out)


# What is said


def test_the_line_of_a_run(clock: FalseClock, tiny: Callable) -> None:
    """By hand. 4 s come before, 7 are timed: 2 + 4 steps, 2 evaluations, a save, and two texts."""
    timed = 6 * 0.5 + 2 * (0.5 + 0.99) + 0.25 + 2 * 0.75
    end = 0.25 + 0.75 + budget.END  # with the save before the first step
    left = 60 - 4 - timed - end
    steps = int((left - (0.5 + 0.99 + 2 * 0.25 + 0.75)) / 0.5)
    told = tiny("train.minutes=1", "train.eval_every=1000").out
    assert said(told) == f"1 minute here: {steps} steps (train.max_steps={steps})"
    assert f"run    {RUN}, {steps} steps, {steps / 9:.1f} epochs" in told


def test_a_budget_that_is_over(clock: FalseClock, tiny: Callable) -> None:
    ended = tiny("train.minutes=0.05")
    line = "0.05 minutes here: too few; 11.7 s are over, and 1 step and the end take 5.7 s"
    assert said(ended.out) == f"{line} (train.max_steps=1)"
    assert ended.status == 0 and records(RUN)[-1]["step"] == 1


def test_a_dry_run_says_the_same(clock: FalseClock, tiny: Callable) -> None:
    dry = tiny("train.minutes=1", "--dry-run").out
    clock.updates = 0
    line = said(tiny("train.minutes=1").out)
    assert f"        {line}\n" in dry
    assert not re.search(r" here: ", tiny("train.max_steps=5", "--dry-run").out)


# What is left of it


@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("optim.optimizer=muon", "model.tie_weights=true"),
        MEMORY,
        ("optim.optimizer=muon", *MEMORY, "memory.share=0.3", "train.grad_accum=1"),
    ],
)
def test_what_was_timed_leaves_no_trace(
    settings: tuple[str, ...], clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = (*settings, "train.eval_every=9", "model.dropout=0.2")
    timed = tiny("train.minutes=0.5", *settings)
    steps = steps_of(timed.out)
    assert steps > 9
    monkeypatch.setattr(budget, "measure", None)  # from here on, nothing is timed
    for name, argv in (
        ("pasted", (f"train.max_steps={steps}", *settings)),
        ("again", ("--config", RUN / "config.yaml")),
    ):
        assert tiny(*argv, f"train.out_dir={name}").status == 0
        assert state(Path(name)) == state(RUN)
        assert settings_of(Path(name)) == settings_of(RUN)
    kept = checkpoint.load(RUN / LAST).settings["train"]
    assert (kept["minutes"], kept["max_steps"]) == (None, steps)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_all_that_changes_is_put_back(make: Callable, optimizer: str) -> None:
    def everything() -> list:
        now = trainer.checkpoint()
        return exact([vars(now) | {"model": 0}, trainer.loss_sum, trainer.grad_norm])

    trainer = make(f"optim.optimizer={optimizer}", *MEMORY)
    for updates in (0, 3):
        for _ in range(updates):
            trainer.update()
            losses(trainer)
            trainer.pause()
        before = everything()
        with budget.unchanged(trainer):
            for _ in range(2):
                trainer.update()
            trainer.pause()
            evaluation.measure(trainer)
            changed = everything()
        assert everything() == before
        for place in (0, 2):
            assert changed[place] != before[place]
        for name in ("weights", "optimizer", "progress", "shares"):
            assert changed[0][name] != before[0][name]


def test_a_resumed_run_has_the_same_steps(
    clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("train.minutes=0.5", *MEMORY)
    whole = tiny(*settings, "train.out_dir=whole")
    clock.updates = 0
    last = steps_of(whole.out)
    with monkeypatch.context() as patch:
        measure = budget.measure

        def stop_later(*args: object) -> Measured:
            measured = measure(*args)
            stop = after(7, lambda _: signal.raise_signal(signal.SIGTERM))
            patch.setattr(Trainer, "update", stop)
            return measured

        patch.setattr(budget, "measure", stop_later)
        assert tiny(*settings).status == 143
    assert checkpoint.load(RUN / LAST).progress["step"] == 7
    monkeypatch.setattr(budget, "measure", None)
    ended = tiny("--resume")
    assert ended.status == 0 and "time " not in ended.out
    assert records(RUN)[-1]["step"] == last
    assert state(RUN) == state(Path("whole"))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_minutes_more(
    optimizer: str, clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny(f"optim.optimizer={optimizer}", *MEMORY, "model.dropout=0.2")
    shutil.copytree(RUN, "pasted")
    clock.updates, start = 0, clock.now
    ended = tiny("--resume", "train.minutes=0.5")
    assert 0 <= 30 - (clock.now - start) < 6
    steps = steps_of(ended.out)
    assert f"0.5 minutes here: {steps - 10} steps (" in said(ended.out)
    assert f"from step 10 on, {steps - 10} steps" in ended.out
    monkeypatch.setattr(budget, "measure", None)
    tiny("--resume", "pasted", "--config=pasted/config.yaml", f"train.max_steps={steps}")
    assert state(RUN) == state(Path("pasted"))
    assert settings_of(RUN) == settings_of(Path("pasted"))


def test_what_times_nothing(
    clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("tiny.yaml").write_text(
        Path("tiny.yaml").read_text().replace("{seed", "{minutes: 1, seed")
    )
    assert "but at most 10 (train.max_steps=10)" in tiny().out
    monkeypatch.setattr(budget, "measure", None)
    for argv, last in (
        (("--overwrite", "train.minutes=null"), 10),
        (("--overwrite", "train.max_steps=9"), 9),
        (("--resume", "train.minutes=null"), 9),
        (("--resume", "train.max_steps=11"), 11),
        (("--resume", "train.minutes=1", "train.max_steps=11"), 11),  # which are made
        (("--resume", "train.minutes=1", "train.max_steps=5"), 11),
    ):
        ended = tiny(*argv)
        assert ended.status == 0 and "time  " not in ended.out
        assert checkpoint.load(RUN / LAST).progress["step"] == last
        assert checkpoint.load(RUN / LAST).settings["train"]["minutes"] is None


def test_a_run_out_of_patience_is_over(
    clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    early = ("train.patience=1", "train.eval_every=1", "optim.learning_rate=0")
    assert "ended early" in tiny("train.minutes=1", *early).out
    monkeypatch.setattr(budget, "measure", None)
    assert tiny("--resume", "train.minutes=1").status == 0


# Several processes, and what goes wrong


def test_all_processes_take_the_fewest(make: Callable) -> None:
    class Pair(World):
        def smallest(self, value: float, device: torch.device) -> float:
            return min(value, 7.0)  # the other is slower

    trainer = make("train.minutes=1")
    trainer.world = Pair(0, 2)
    costs = Measured(0.25, 3, 0.0, 1.0, 1.0, 0.0, save=0, sample=0, line=0, peak=0, grown=0)
    assert budget.fitting(trainer, costs, 60) == 7


def test_processes_agree(tiny_processes: Callable) -> None:
    """By the real clock, by which no two of them measure the same."""
    settings = ("train.batch_size=8", "train.grad_accum=1", "train.eval_every=100000")
    first, other = tiny_processes(2, *settings, "train.minutes=0.04", "train.out_dir=timed")
    assert (first.status, first.err) == (0, "") and other == (0, "", "")
    steps = steps_of(first.out)
    assert checkpoint.load(Path("timed", LAST)).progress["step"] == steps
    tiny_processes(2, *settings, f"train.max_steps={steps}", "train.out_dir=pasted")
    assert sha256(Path("timed")) == sha256(Path("pasted"))


TIMED = ("training.timing.time_evaluation", "training.trainer.Trainer.update", "os.fsync")


@pytest.mark.parametrize("place", TIMED)
def test_a_signal_while_it_is_timed(place: str, tiny_process: Callable) -> None:
    """As before the first step: it ends, and nothing is there or all is as it was."""
    ended = tiny_process("train.minutes=9", at=place, signals=[signal.SIGTERM])
    assert (ended.status, ended.out, ended.err) == (143, "", "") and not RUN.exists()
    tiny_process()
    before = contents(RUN)
    stopped = tiny_process("--resume", "train.minutes=9", at=place, signals=[signal.SIGTERM])
    assert stopped.status == 143 and contents(RUN) == before


@pytest.mark.parametrize("fault", [{"at": "write"}, {"at": "pathlib.Path.replace", "after": True}])
def test_kill_9_while_a_save_is_timed(fault: dict, tiny: Callable, tiny_process: Callable) -> None:
    killed = tiny_process("train.minutes=9", **fault, signals=[signal.SIGKILL])
    assert killed.status == -signal.SIGKILL
    assert not (RUN / LAST).exists()
    assert tiny().status == 0
    left = {path.name for path in RUN.iterdir()}
    assert left == {"best.pt", "last.pt", "config.yaml", "metrics.jsonl"}


def test_no_room_for_the_save_that_is_timed(tiny_process: Callable) -> None:
    tiny_process()
    before = contents(RUN)
    full = {"at": "system.checkpoint.save", "file_size": 100}
    ended = tiny_process("--resume", "train.minutes=9", **full)
    assert ended.status == 1 and "could not be written: File too large" in ended.err
    assert contents(RUN) == before


def test_what_is_timed_is_compiled(
    clock: FalseClock, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compiled model is timed, once it is compiled, and its start is part of the time."""
    calls = []

    def compiled(model: torch.nn.Module) -> Callable:
        clock.now += 20
        return lambda idx: (calls.append(clock.updates), model(idx))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    start = clock.now
    ended = tiny("train.minutes=1", "train.compile=true")
    assert ended.status == 0 and set(calls) == set(range(clock.updates))
    assert 0 <= 60 - (clock.now - start) < 6
    assert timing.WARM_UP + timing.FEWEST <= clock.updates - steps_of(ended.out)
