"""What a run shows and keeps on its way: a line of what it writes by now, and checkpoints."""

import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from tqdm import tqdm

import sample
import train
from tests.helpers.clock import FalseClock
from tests.helpers.runs import RUN, after, contents, exact, state
from training import kept, loop, timing
from training.board import Board
from training.parallel import World
from training.trainer import Trainer

COUNTS = ("memory.order=3", "memory.calibration_fraction=0.2")
KEEP = ("train.keep_every=2", "train.eval_every=2")
LINE = re.compile(r"^step +(\d+)/.*\n {7}(.*)$", re.M)


def learned(folder: Path) -> dict:
    """All that a run measured and saved, but for what it was asked to show and keep of it."""
    found = state(folder)
    for name in ("best.pt", "last.pt"):
        for setting in ("sample_characters", "keep_every"):
            del found[name]["settings"]["train"][setting]
    return found


def saved(path: Path) -> dict:
    """All that is in a checkpoint, but for where and how fast it was made, and how long the run."""
    content = torch.load(path)
    for name in ("out_dir", "max_steps"):
        del content["settings"]["train"][name]
    del content["progress"]["seconds"], content["sha256"]
    return exact(content)


def names(folder: Path) -> list[str]:
    """The checkpoints that a run has kept."""
    return sorted(path.name for path in folder.glob("step*"))


# What it writes


@pytest.mark.parametrize("settings", [(), (*COUNTS, "optim.optimizer=muon", "memory.teach=0.3")])
def test_a_run_learns_the_same(settings: tuple[str, ...], tiny: Callable) -> None:
    for name, *shown in (
        ("none", "train.sample_characters=0"),
        ("few", "train.sample_characters=1"),
        ("many", "train.sample_characters=30", "train.keep_every=1"),
    ):
        ended = tiny(*settings, "model.dropout=0.3", *shown, f"train.out_dir={name}")
        assert (ended.status, ended.err) == (0, "")
        assert bool(LINE.search(ended.out)) == (name != "none")
    assert learned(Path("none")) == learned(Path("few")) == learned(Path("many"))


@pytest.mark.parametrize("counts", [(), COUNTS])
def test_the_line_is_what_sample_would_write(
    counts: tuple[str, ...], tiny: Callable, call: Callable
) -> None:
    out = tiny(*counts, "train.sample_characters=23", "train.keep_every=1", "train.max_steps=8").out
    told = LINE.findall(out)
    assert [int(step) for step, _ in told] == [0] * bool(counts) + [4, 8]
    for step, line in told:
        file = RUN / f"step_{int(step):06}.pt"
        ask = ("--device=cpu", "--seed=68", "--max-new-tokens=23")
        text = call(sample.main, "--ckpt", file, *ask).out
        assert text == "\n" + line.replace("↵", "\n") + "\n" and len(line) == 23


def test_it_is_one_line_that_does_nothing(tiny: Callable) -> None:
    Path("text.txt").write_text("\x1b\n\t\x85" * 99)
    out = tiny("train.sample_characters=40", "train.max_steps=1").out
    [(_, line)] = LINE.findall(out)
    assert set(re.sub(r"\\x1b|\\x85", "", line)) == set("↵\t") and r"\x1b" in line
    assert out.split("\n").index(f"       {line}") == 4


def test_without_it_nothing_else_changes(tiny: Callable) -> None:
    def told(*settings: str) -> list[str]:
        out = tiny("--overwrite", *settings).out
        return [re.sub(r"[\d,]+ characters/s.*", "", line) for line in out.splitlines()]

    both, alone = told(), told("train.sample_characters=0")
    assert [line for line in both if not re.fullmatch(" {7}.{5}", line)] == alone
    assert len(both) == len(alone) + 3


def test_one_process_writes(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    class Second(World):
        leads = False

    trainer = make()
    trainer.world = Second()
    monkeypatch.setattr(loop, "generate", None)
    loop.evaluate_and_keep(trainer, RUN, Board(), tqdm(disable=True))


def test_a_large_model_writes_less(
    make: Callable, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is planned is what it takes: here two seconds a character."""
    clock, generate = FalseClock(monkeypatch), loop.generate

    def slow(*args: object, **kinds: object) -> Iterator[torch.Tensor]:
        for new in generate(*args, **kinds):
            clock.now += 2
            yield new

    monkeypatch.setattr(loop, "generate", slow)
    monkeypatch.setattr(loop, "SAMPLE_CHARACTERS", 4)
    trainer = make("train.sample_characters=2147483647")
    before = clock.now
    assert len(loop.write_line(trainer)) == 3 and clock.now - before == 6
    measured = timing.measure(trainer)
    assert (measured.sample, measured.line) == (8, 6)
    monkeypatch.setattr(loop, "LINE_SECONDS", 0)
    assert len(loop.write_line(trainer)) == 1


# What it keeps


def test_what_is_kept_is_what_was_there(tiny: Callable, call: Callable) -> None:
    """As if the run had ended then: the learning rate here does not depend on the end."""
    still = ("optim.decay=none", *COUNTS)
    assert tiny(*KEEP, *still).status == 0
    assert names(RUN) == ["step_000000.pt", "step_000004.pt", "step_000008.pt"]
    assert tiny(*KEEP, *still, "train.max_steps=4", "train.out_dir=ended").status == 0
    assert saved(RUN / "step_000004.pt") == saved(Path("ended/last.pt"))
    assert saved(RUN / "step_000004.pt") == saved(Path("ended/step_000004.pt"))
    Path("again").mkdir()  # and a run can go on from it
    shutil.copy(RUN / "step_000004.pt", "again/last.pt")
    assert call(train.main, "--device=cpu", "--resume", "again").status == 0
    assert saved(Path("again/last.pt")) == saved(RUN / "last.pt")


def test_a_resumed_run_keeps_the_same(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny(*KEEP, "train.out_dir=whole")
    for step in (3, 4):
        stop = after(step, lambda _: signal.raise_signal(signal.SIGTERM))
        with monkeypatch.context() as patch:
            patch.setattr(Trainer, "update", stop)
            assert tiny(*KEEP, "--overwrite").status == 143
        assert tiny("--resume").status == 0
        assert names(RUN) == names(Path("whole")) == ["step_000004.pt", "step_000008.pt"]
        for name in names(RUN):
            assert saved(RUN / name) == saved(Path("whole", name))


def test_a_run_that_was_killed_as_it_kept(tiny: Callable, tiny_process: Callable) -> None:
    """Nothing half is left, and nothing stands there twice."""
    tiny(*KEEP, "train.out_dir=whole")
    for nth, there in (
        (11, []),
        (12, ["step_000004.pt"]),
    ):  # before it is in place, and right after
        shutil.rmtree(RUN, ignore_errors=True)
        killed = tiny_process(*KEEP, at="os.fsync", nth=nth, signals=[signal.SIGKILL])
        assert killed.status == -signal.SIGKILL and names(RUN) == there
        assert torch.load(RUN / "last.pt")["progress"]["step"] == 2
        assert any(RUN.glob(".step_000004.pt.*.tmp")) == (not there)
        assert tiny("--resume").status == 0
        assert names(RUN) == names(Path("whole")) == ["step_000004.pt", "step_000008.pt"]
        assert saved(RUN / "step_000004.pt") == saved(Path("whole/step_000004.pt"))
        assert not any(RUN.glob(".*"))


def test_what_is_of_another_run_goes(tiny: Callable) -> None:
    """And nothing else: of a run that begins anew all, of one that goes back what came after."""
    tiny(*KEEP, "train.keep_every=1")
    for name in ("step_12.pt", "step_a.pt", "step_000004.pt.bak"):
        (RUN / name).write_text("mine")
    mine = {"step_12.pt", "step_a.pt", "step_000004.pt.bak"}
    shutil.copy(RUN / "step_000004.pt", RUN / "best.pt")
    (RUN / ".step_000004.pt.123.tmp").write_text("half")
    before = contents(RUN)
    assert tiny("--resume", "--from-best", "train.max_steps=7", "train.keep_every=0").status == 0
    assert set(names(RUN)) - mine == {"step_000002.pt", "step_000004.pt"}
    assert not any(RUN.glob(".*"))
    for name in {*mine, "step_000002.pt", "step_000004.pt"}:
        assert contents(RUN)[RUN / name] == before[RUN / name]
    assert tiny("--overwrite").status == 0
    assert set(names(RUN)) == mine


def test_names_and_numbers(home: Path) -> None:
    settings = train.config.build({"train": {"keep_every": 3, "eval_every": 4}}).train
    assert [n for n in range(30) if kept.is_kept(settings, n)] == [0, 12, 24]
    for standing, steps in ((0, 11), (0, 12), (11, 1), (12, 12), (12, 11), (5, 40)):
        some = [kept.is_kept(settings, n) for n in range(standing + 1, standing + steps + 1)]
        assert kept.count(settings, standing, steps) == sum(some)
    settings.keep_every = 0
    assert kept.count(settings, 0, 99) == 0 and not kept.is_kept(settings, 0)
    large = kept.file_of(home, 12_345_678)
    large.touch()
    assert large.name == "step_12345678.pt"
    kept.forget(home, 12_345_677)
    assert not large.exists()


@pytest.mark.parametrize("counts", [(), COUNTS])
def test_the_room_that_they_take(counts: tuple[str, ...], tiny: Callable, quick: None) -> None:
    settings = (*counts, "train.keep_every=1", "train.eval_every=3")  # after 0, 3, 6 and 9
    [line] = re.findall(r"^disk +(.*)$", tiny(*settings, "--dry-run").out, re.M)
    size, number = re.fullmatch(
        r"(\S+) kB, two checkpoints of \S+ kB each, and (\d) that train.keep_every=1 keeps", line
    ).groups()
    assert tiny(*settings).status == 0
    assert int(number) == len(names(RUN)) == 3 + bool(counts)
    there = sum(path.stat().st_size for path in RUN.glob("*.pt"))
    assert 1e3 * float(size) == pytest.approx(there, rel=0.25)
    [more] = re.findall(r"^disk .*$", tiny("--resume", "train.max_steps=12", "--dry-run").out, re.M)
    assert more.endswith(", and 1 that train.keep_every=1 keeps")
