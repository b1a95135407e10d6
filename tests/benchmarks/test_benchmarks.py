"""The benchmarks: their arithmetic by hand, their runs on a short text and beside a small peer."""

import json
import math
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from torch import Tensor, nn

import handmade
from analysis.measure import Column
from analysis.text import lose
from benchmarks import (
    ablation,
    bench,
    curve,
    nanogpt,
    ngram_weights,
    ours,
    page_speed,
    sample_speed,
    startup,
    text_size,
    time_to_loss,
    train_speed,
)
from data.windows import eval_windows
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import Fault, UserError
from tests.helpers import ROOT
from tests.helpers.browser import chromium
from tests.helpers.faults import Processes
from tests.helpers.peer import PEER, SHAPE, TEXT, Near, cells
from tests.helpers.posix import needs_posix
from tests.helpers.runs import contents
from tests.helpers.tiny import tiny_gpt
from training import budget, timing
from training.evaluation import losses
from training.objective import cross_entropy
from training.trainer import Trainer

CPU = torch.device("cpu")
WITH_PEER = [sample_speed, startup, text_size, time_to_loss, train_speed]


def shown(script: str, peer: Path) -> list[str]:
    """The options that benchmarks/README.md shows for a script, with the peer as the checkout."""
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    [line] = re.findall(rf"^    python -m benchmarks\.{script}\b([^#\n]*)", text, re.MULTILINE)
    return [*line.replace("~/nanoGPT", str(peer)).split(), "--out", "out"]


@pytest.fixture
def children() -> Iterator[None]:
    """End what a test that fails leaves behind; Python would wait for it."""
    yield
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def mean_loss(loss: Callable[[Tensor, Tensor], Tensor], ids: Tensor, window: int) -> float:
    """The mean over all of `ids` but the first, one window after the other."""
    total = 0.0
    for start in range(0, len(ids) - 1, window):
        part = ids[start : start + window + 1].long()
        total += loss(part[None, :-1], part[None, 1:]).item() * (len(part) - 1)
    return total / (len(ids) - 1)


def test_tables_ratios_and_counts() -> None:
    rows = [["a", "1,234", "-", "x"], ["a longer name", "5", "7.25", "y"]]
    text = bench.table(["name", "n", "speed", "z"], rows)
    assert cells(text) == [["name", "n", "speed", "z"], *rows]
    assert "| a  " in text and "|     5 |" in text
    assert bench.median_ratio([1, 2, 4], [3, 4, 40]) == 3  # not 4 / 2
    assert bench.median_ratio([2, 5], [1, 20]) == 2.25
    assert bench.count("12") == 12
    for wrong in ("0", "-1", "x", "1.5", ""):
        with pytest.raises(bench.argparse.ArgumentTypeError, match=f"at least 1, not {wrong}$"):
            bench.count(wrong)


def test_what_is_published(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    machine = bench.machine(CPU)
    keys = {"date", "processor", "instructions", "cores", "threads", "system", "python", "torch"}
    assert machine.keys() == keys and all(machine.values())
    result = {"machine": machine, "found": [1.5, {"é": None}]}
    figure = Figure(figsize=(3, 2))
    bench.publish(tmp_path / "a/b", "c", result=result, tables=["one", "two"], figure=figure)
    assert {path.name for path in (tmp_path / "a/b").iterdir()} == {"c.md", "c.json", "c.png"}
    text = (tmp_path / "a/b/c.md").read_text()
    assert text.endswith("\n\none\n\ntwo\n") and text in capsys.readouterr().out
    assert all(f"{key} {value}" in text.splitlines()[0] for key, value in machine.items())
    assert json.loads((tmp_path / "a/b/c.json").read_text()) == result
    assert imread(tmp_path / "a/b/c.png").shape[:2] == (220, 330)
    bench.publish(tmp_path, "d", result=result, tables=["one"])
    assert {path.name for path in tmp_path.iterdir()} == {"a", "d.md", "d.json"}
    assert capsys.readouterr().out.endswith("d.md, .json\n")


def test_a_side_answers_until_it_fails(children: None) -> None:
    side = bench.Side(partial, divmod)
    assert side.startup > 0
    assert side.child.daemon  # with --debug, Python would wait for any other child for ever
    assert [side.ask(7, 2), side.ask(9, 5)] == [(3, 1), (1, 4)]
    with pytest.raises(Fault, match=r"^a benchmark's child process failed: ZeroDivisionError: .*$"):
        side.ask(1, 0)
    with pytest.raises(Fault, match=r"^a benchmark's child process failed: ValueError: .*'x'$"):
        bench.Side(int, "x")


@needs_posix
def test_a_side_that_dies(children: None) -> None:
    before = np.ones(1 << 27)  # 1 GB, which is none of the child's; torch may take half of it
    side = bench.Side(partial, bench.peak_memory)
    assert 10 < side.ask(CPU) < before.nbytes / 2**20
    os.kill(side.child.pid, signal.SIGSTOP)  # so that it dies with a question unread
    side.link.send((CPU,))
    side.child.kill()  # as the system does where memory is short
    side.child.join()
    for tell in (side.receive, partial(side.ask, CPU)):
        with pytest.raises(Fault, match="child process died"):
            tell()
    side = bench.Side(partial, os._exit)
    with pytest.raises(Fault, match="child process died"):
        side.ask(0)


def test_a_child_ends_quietly_with_its_parent() -> None:
    here, there = multiprocessing.Pipe()
    with ThreadPoolExecutor() as pool:
        life = pool.submit(bench.serve, there, time.time(), partial, (divmod,))
        assert here.recv()[0]
        here.close()
        life.result()


def test_sides_that_cannot_start_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def make(number: int) -> Callable[[int], float]:
        if number < 0:
            raise Fault(f"no side {number}")
        return lambda asked: number * asked

    def failing(number: int) -> Callable[[int], float]:
        def answer(asked: int) -> float:
            raise Fault(f"side {number} has no {asked}")

        return answer

    monkeypatch.setattr(bench, "Side", Near)
    made = {"a": (make, 1), "b": (make, -2), "c": (failing, 3), "d": (make, 4)}
    sides, left_out = bench.start_sides(made, 5)
    assert {name: side.ask(7) for name, side in sides.items()} == {"a": 7, "d": 28}
    assert left_out == {"b": "no side -2", "c": "side 3 has no 5"}
    said = "b is left out: no side -2\nc is left out: side 3 has no 5\n"
    assert capsys.readouterr() == ("", said)
    with pytest.raises(Fault, match="no side -2"):
        bench.start_sides({"b": made["b"], "a": made["a"]}, 5)


def test_steps_of_a_gpu_are_timed_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that computes only when it is waited for, which takes a second each time."""
    clock, queue = [10.0], []

    def synchronize() -> None:
        clock[0] += 1 + sum(queue)
        queue.clear()

    times = SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr(train_speed, "time", times)
    monkeypatch.setattr(torch, "slow", SimpleNamespace(synchronize=synchronize), raising=False)
    monkeypatch.setattr(torch.cpu, "synchronize", synchronize)
    step = partial(queue.append, 3)
    assert train_speed.timed(step, SimpleNamespace(type="slow"), 4) == [13 / 4] * 4
    assert train_speed.timed(step, CPU, 4) == [4] * 4


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    times = SimpleNamespace(time=lambda: 100 + now[0], perf_counter=lambda: now[0])
    monkeypatch.setattr(curve, "time", times)
    clock, told = curve.Clock(born=103.0), []
    for pause, act in enumerate([clock.stop, clock.go, clock.go, clock.stop, clock.stop, clock.go]):
        now[0] += 2**pause
        act()
        told.append((clock.startup, clock.seconds))
    assert told == [(0, 0), (10, 0), (10, 0), (10, 12), (10, 12), (10, 12)]  # 12: 4 + 8
    now[0] += 64
    made = curve.Curve(clock, lambda window: now.append(now.pop() + 500) or {"val_loss": 7}, 64)
    made.add(3)
    made.add(4)
    at = {"seconds": 76, "total_seconds": 86, "val_loss": 7}
    assert made.points == [{"step": 3, **at}, {"step": 4, **at}]


class Odd(nn.Module):
    """A model whose loss depends on all it is given, and on where in the window that is."""

    config = SimpleNamespace(block_size=100)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.1, dtype=torch.float64))

    def forward(self, idx: Tensor, targets: Tensor) -> tuple[None, Tensor]:
        return None, (self.scale * idx + targets * torch.arange(idx.shape[1])).mean()


@pytest.mark.parametrize("window", [7, 16384, 20000, None])
@pytest.mark.parametrize("length", [2, 71, 72, 100, 101, 16301, 16385, 16390, 40000])
def test_a_full_pass(length: int, window: int | None) -> None:
    ids = torch.randint(9, (length,), generator=torch.Generator().manual_seed(length))
    model = Odd()
    expected = mean_loss(lambda *pair: model(*pair)[1], ids, window or 100)
    assert curve.full_pass(model, ids, window) == pytest.approx(expected, rel=1e-9)


def test_a_run_of_the_peer(peer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("--device=cpu", "--block_size=70", "--max_iters=150")
    monkeypatch.setattr(nanogpt, "CPU_RECIPE", options)
    monkeypatch.setattr(time_to_loss, "THEIR_EVERY", 50)
    before = contents(peer)
    found = time_to_loss.their_curve(tmp_path / "run", CPU, peer)
    assert contents(peer) == before
    ids = np.array([sorted(set(TEXT)).index(char) for char in TEXT[1800:]])

    def expected(step: int, window: int) -> float:
        each = 0.01 * (np.arange(199) % window) + 0.1 * ids[1:] + 0.03 * ids[:-1]
        return pytest.approx(3 - 0.001 * step + each.mean(), rel=1e-5)

    assert [point["step"] for point in found["points"]] == [50, 100, 150]
    for point in found["points"]:
        assert point["seconds"] == point["step"]
        assert point["total_seconds"] == found["startup_seconds"] + point["seconds"] > point["step"]
        assert point["val_loss"] == expected(point["step"], 70)
    assert found["val_loss_64"] == expected(151, 64) and "val_loss_128" not in found


def test_a_run_of_ours(peer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overrides = [f"model.{name}={value}" for name, value in SHAPE.items()]
    overrides += ["model.block_size=96", "train.batch_size=4", "train.max_steps=5"]
    overrides += time_to_loss.PURE
    overrides += ["train.dtype=float32", f"data.dataset={Path('text.txt').resolve()}"]
    monkeypatch.setattr(time_to_loss, "POINTS", 2)
    found = time_to_loss.our_curve(tmp_path / "1,400 steps", CPU, overrides, 3)
    trainer = ours.trainer([*overrides, "train.seed=3"], "cpu")

    @torch.inference_mode()
    def loss(idx: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(trainer.model(idx), targets)

    seconds, points = -1, {point["step"]: point for point in found["points"]}
    assert list(points) == [0, 2, 4, 5]
    for step in range(6):
        if step:
            trainer.update()
        if step in points:
            point, expected = points[step], mean_loss(loss, trainer.corpus.val, 96)
            assert point["val_loss"] == pytest.approx(expected, rel=1e-5)
            assert point["total_seconds"] == found["startup_seconds"] + point["seconds"]
            assert seconds < (seconds := point["seconds"]) < point["total_seconds"]
    expected = mean_loss(loss, trainer.corpus.val, 64)
    assert found["val_loss_64"] == pytest.approx(expected, rel=1e-5)
    assert "val_loss_128" not in found
    assert time_to_loss.lines("a", found) == {"a": found}
    with pytest.raises(Fault, match=r"the run of ours failed: .*gone"):
        time_to_loss.curve(tmp_path / "other", "ours", 1, "cpu", "data.dataset=gone")


def test_a_run_of_ours_has_steps_and_no_minutes(peer: Path) -> None:
    for asked, steps in (((), 4400), (("train.max_steps=7",), 7)):
        train = ours.settings(asked, "cpu").train
        assert (train.minutes, train.max_steps) == (None, steps)
    overrides = [f"model.{name}={value}" for name, value in SHAPE.items()]
    overrides += [*time_to_loss.PURE, "data.dataset=text.txt", "model.block_size=64"]
    train = ours.trainer(overrides, "cpu").config.train
    assert (train.minutes, train.max_steps) == (None, 4400)


@pytest.mark.parametrize("last", [2, 4])  # the step of the last save before the cut
def test_a_run_that_is_cut_off_goes_on(
    peer: Path, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an update, or when an evaluation was written but not saved: as one that never stopped."""
    asked = [f"model.{name}={value}" for name, value in SHAPE.items()]
    asked += ["memory.order=3", "memory.calibration_fraction=0.1", "model.dropout=0.2"]
    asked += ["train.max_steps=6", "train.batch_size=4", "train.dtype=float32"]
    asked += ["data.dataset=text.txt"]
    steps, update, save = [], Trainer.update, checkpoint.save

    def updated(trainer: Trainer) -> None:
        steps.append(trainer.progress.step)
        update(trainer)

    def run(folder: str, age: float) -> curve.Curve:
        return curve.ours(curve.Clock(time.time() - age), 2, folder, "cpu", *asked)

    def cut_update(trainer: Trainer) -> None:
        updated(trainer)
        if trainer.progress.step == 3:
            raise KeyboardInterrupt

    def cut_save(path: Path, content: Checkpoint) -> None:
        if content.progress["step"] == 6:
            raise KeyboardInterrupt
        save(path, content)

    monkeypatch.setattr(Trainer, "update", updated)
    whole = run("whole", 0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if last == 2:
            patch.setattr(Trainer, "update", cut_update)
        else:
            patch.setattr(checkpoint, "save", cut_save)
        run("cut", 1000)
    kept = json.loads(Path("cut/curve.json").read_text())
    assert [point["step"] for point in kept["points"]] == [0, 2, 4, 6][: 2 if last == 2 else 4]
    steps.clear()
    again = run("cut", 0)
    assert steps == list(range(last, 6))
    until = last // 2 + 1
    assert again.points[:until] == kept["points"][:until]
    assert again.clock.startup == kept["startup_seconds"] > 1000
    seconds = [point["seconds"] for point in again.points]
    assert seconds == sorted(set(seconds))
    for one, other in zip(whole.points, again.points, strict=True):
        assert other["total_seconds"] == again.clock.startup + other["seconds"]
        assert one == {**other, **{key: one[key] for key in ("seconds", "total_seconds")}}


def test_a_run_of_ours_with_counts(peer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told apart: what the counts do alone, the mixture, and the GPT."""
    overrides = [f"model.{name}={value}" for name, value in SHAPE.items()]
    overrides += ["memory.order=3", "memory.teach=0.2", "train.batch_size=4", "train.max_steps=2"]
    overrides += ["model.block_size=130", "memory.calibration_fraction=0.1"]
    overrides += ["train.dtype=float32", f"data.dataset={Path('text.txt').resolve()}"]
    monkeypatch.setattr(time_to_loss, "POINTS", 1)
    found = time_to_loss.lines("a", time_to_loss.our_curve(Path("run"), CPU, overrides, 1))
    assert list(found) == ["counts alone", "a: counted and trained", "a: trained alone"]
    trainer = ours.trainer([*overrides, "train.seed=1"], "cpu")
    for step in (0, 2):
        trainer.update() if step else None
        trainer.update() if step else None
        for line, loss in zip(list(found)[1:], losses(trainer)[:2], strict=True):
            [point] = [p for p in found[line]["points"] if p["step"] == step]
            assert point["val_loss"] == pytest.approx(loss, rel=1e-5)
    for window in (64, 128):
        both = [found[line][f"val_loss_{window}"] for line in list(found)[1:]]
        assert both == pytest.approx(losses(trainer, window)[:2], rel=1e-5)
    assert found["counts alone"]["points"] == found["a: counted and trained"]["points"][:1]


def test_time_to_loss(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page shows it, with runs that end at once."""

    def our_curve(folder: Path, place: torch.device, overrides: tuple, seed: int) -> dict:
        return a_run(1, 1.5, (2, 1.6), (9, 1.4 + seed / 100))

    monkeypatch.setattr(time_to_loss, "our_curve", our_curve)
    monkeypatch.setattr(time_to_loss, "their_curve", lambda *where: a_run(3, 2, (9, 1.9)))
    status, out, err = call(time_to_loss.main, *shown("time_to_loss", peer))
    assert (status, err) == (0, "")
    assert "nanoGPT, run 3: val_loss 1.9000 after 12 s" in out
    assert "as shipped, run 2: val_loss 1.4200 after 10 s" in out
    assert "1,400 steps, run 1" in out
    assert Path("out/time_to_loss.md").read_text() in out
    only = ("--plans", "as shipped", "--seeds", "1")
    out = call(time_to_loss.main, *shown("time_to_loss", peer), *only).out
    assert "as shipped, run 1" in out and "1,400 steps" not in out and "run 2" not in out


def test_the_parts_of_a_run_on_a_text(peer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is foretold is made of the parts that were timed, by the arithmetic of a run."""
    overrides = [f"model.{name}={value}" for name, value in SHAPE.items()]
    overrides += [*text_size.KINDS["no counts"], "data.dataset=text.txt", "train.eval_every=4"]
    parts = {"step": 2, "steps": 1, "later": 0, "evaluation": 5, "share": 1, "character": 0}
    parts |= {"save": 0.5, "sample": 1, "line": 0.25, "peak": 0, "grown": 0}
    monkeypatch.setattr(text_size.timing, "measure", lambda trainer: timing.Measured(**parts))
    found = text_size.part_by_part(overrides, "cpu", Path("run"))(10)
    at_the_end = parts["save"] + parts["sample"] + budget.END
    evaluations = 3  # after 4, 8 and 10 steps, each with two saves
    assert found == {
        "step": 2000,
        "evaluation": 5,
        "foretold": 20 + evaluations * 6.25 + at_the_end,
    }


def test_a_process_that_is_watched(peer: Path) -> None:
    line = [sys.executable, "-c", "import time; a = b'x' * 10**8; time.sleep(0.5)"]
    seconds, most = text_size.watched(line, Path())
    assert seconds > 0.5 and (100 < most < 150 or not Path("/proc/self/status").exists())
    with pytest.raises(Fault, match=r"failed: .*ZeroDivisionError"):
        text_size.watched([sys.executable, "-c", "1 / 0"], Path())
    text = Path("text.txt").resolve()
    assert text_size.their_size(text, peer, Path("theirs").resolve())["start"] > 0


def test_texts_that_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole.txt"
    whole.write_bytes(b"a\nbc\ndef\n" * 10)
    monkeypatch.setattr(text_size.tiny_shakespeare, "fetch", lambda: whole)
    path = tmp_path / "text.txt"
    text_size.write_text(path, 25e-6)
    assert path.read_bytes() == whole.read_bytes()[:25]
    text_size.write_text(path, 250e-6)
    assert sorted(path.read_bytes()[:90]) == sorted(whole.read_bytes())
    assert path.read_bytes()[:90] != whole.read_bytes() and path.stat().st_size == 250
    again = path.read_bytes()
    text_size.write_text(path, 250e-6)
    assert path.read_bytes() == again


def test_text_size(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the page shows it, with figures that are given."""
    monkeypatch.setattr(text_size, "write_text", lambda path, size: None)
    given = {"start": 1234.56, "step": 78.4, "evaluation": 3.21, "memory": 400.4, "foretold": 5.55}
    monkeypatch.setattr(text_size, "our_size", lambda *where: given | {"last": 1.23456})
    monkeypatch.setattr(text_size, "their_size", lambda *where: {"start": 9, "memory": 8})
    status, _, err = call(text_size.main, *shown("text_size", peer))
    assert (status, err) == (0, "")

    def rows_of(text: str) -> dict[str, list[str]]:
        return {name: row for name, *row in cells(text.split("\n\n")[1])}

    rows = rows_of(Path("out/text_size.md").read_text())
    assert rows["0.03 MB, counts"] == ["1,234.6", "-", "78", "3.2", "400", "5.5", "-", "-", "1.235"]
    assert rows["100 MB, nanoGPT"][0] == "9.0" and "1000 MB, nanoGPT" not in rows
    assert rows["1000 MB, no counts"][0] == "1,234.6"
    assert imread("out/text_size.png").shape[1] > 1000
    only = ("--sizes", "2", "--counts", "no")
    assert call(text_size.main, *shown("text_size", peer), *only).status == 0
    rows = rows_of(Path("out/text_size.md").read_text())
    assert "2 MB, no counts" in rows and "2 MB, counts" not in rows and "4 MB, counts" not in rows


def test_the_speed_of_the_page(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    with chromium():  # or skip
        pass
    monkeypatch.setattr(page_speed, "SHAPES", {"wee": {**SHAPE, "block_size": 6}})
    argv = [word for word in shown("page_speed", peer) if word not in ("--out", "out")]
    status, out, err = call(page_speed.main, *argv, "--rounds", 1, "--characters", 30)
    assert (status, err) == (0, "")
    _, weights, size, speed = cells(out[out.index("| model") :])[1]
    assert (int(weights.replace(",", "")), size) == (1832, "0.1 MB") and int(speed) > 0


def test_the_ablation(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it on a short text; the mixtures again, one place after the other."""
    small = [f"model.{name}={value}" for name, value in SHAPE.items()]
    small += ["train.batch_size=4", "train.dtype=float32", "memory.order=3", "memory.teach=0.2"]
    small += ["memory.folds=3", "memory.calibration_fraction=0.05"]
    teach = (*small, "memory.teach=0")
    variants = {"as shipped": tuple(small), ablation.WITHOUT_TEACHER: teach}
    monkeypatch.setattr(ablation, "VARIANTS", variants)
    monkeypatch.setattr(ablation, "ORDERS", range(2, 4))
    trainers = []
    train = ablation.train
    monkeypatch.setattr(ablation, "train", lambda *a: trainers.append(train(*a)) or trainers[-1])
    argv = (*shown("ablation", peer), "--seeds", 2, "--steps", 3)
    status, out, err = call(ablation.main, *argv)
    assert (status, err) == (0, "")
    found = json.loads(Path("out/ablation.json").read_text())
    kinds = [(name, seed) for seed in (0, 1) for name in variants]
    for (name, seed), trainer in zip(kinds, trainers, strict=True):
        train_size = len(TEXT) - len(TEXT) // 10
        assert len(trainer.corpus.val) == int(train_size * 0.05)
        assert trainer.progress.step == 3 and trainer.config.train.seed == seed + 1
        both, alone, _ = losses(trainer)
        assert found["runs"][name][seed] == pytest.approx([both, alone])
        ways = found["mixed"][name][seed]
        assert ways["the net alone"] == pytest.approx(alone, rel=1e-5)
        assert ways["order 3"] == pytest.approx(both, rel=1e-5)
        assert ways["a share for each length, estimated (as shipped)"] == ways["order 3"]
        counts = trainer.memory.counts
        for share in (0.2, 0.3):
            total = 0.0
            for idx, targets in eval_windows(trainer.corpus.val, 6, 1):
                with torch.no_grad():
                    net = trainer.model.eval()(idx).softmax(-1)
                mixed = (1 - share) * net + share * counts.probs(idx)[0]
                total -= mixed.gather(-1, targets[..., None]).log().sum().item()
            expected = total / (len(trainer.corpus.val) - 1)
            assert ways[f"a share of {share}"] == pytest.approx(expected, rel=1e-5)
        bound = "a share for each length, estimated on what is judged (a bound)"
        assert ways[bound] <= min(ways["order 3"], ways["a share of 0.2"]) + 1e-3
        assert ways["a gate that sees lengths and entropies"] < ways["counts alone, order 2"] + 1
    table = cells(Path("out/ablation.md").read_text().split("\n\n")[1])
    alone = [run[1] for run in found["runs"]["as shipped"]]
    assert table[1][1:3] == [f"{sum(alone) / 2:.4f}", " ".join(f"{x:.4f}" for x in alone)]
    assert Path("out/ablation.md").read_text() in out
    assert (imread("out/ablation.png") != 1).any()


def test_ngrams_as_weights(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    status, _, err = call(ngram_weights.main, *shown("ngram_weights", peer))
    assert (status, err) == (0, "") and not Path("out/ngram_weights.png").exists()
    orders = json.loads(Path("out/ngram_weights.json").read_text())["orders"]
    assert [found["order"] for found in orders] == [2, 3, 4, 5]
    train, val = TEXT[: -len(TEXT) // 10], TEXT[-len(TEXT) // 10 :]
    for found in orders:
        order = found["order"]
        contexts = {train[i : i + k] for k in range(1, order) for i in range(len(train) - k + 1)}
        assert found["units"] == len(contexts)
        model = handmade.load_ngrams("text.txt", order).build()
        assert found["weights"] == model.parameter_count()
        chars = "".join(sorted(set(TEXT)))
        ids = torch.tensor([chars.index(char) for char in val])
        column = Column("", "handmade", model, chars)
        expected = lose(column, ids[: (len(ids) - 1) // 64 * 64 + 1], 64).loss
        assert found["loss"] == pytest.approx(expected, abs=0.05)  # all windows but the short one
        assert found["loss of the counts"] == pytest.approx(found["loss"], abs=1e-4)
        assert 0 < found["log-probabilities off from the counts"] < 1e-4
        assert 0 < found["off from a dictionary"] < 1e-4
    assert cells(Path("out/ngram_weights.md").read_text().split("\n\n")[1])[1][0] == "2"
    load = handmade.load_ngrams

    def changed(*asked: Any) -> Checkpoint:
        saved = load(*asked)
        saved.weights["blocks.0.ffwd.down.weight"][-8, 0] += 0.5
        return saved

    monkeypatch.setattr(handmade, "load_ngrams", changed)
    text = handmade.read_text("text.txt")
    found = ngram_weights.measure("text.txt", text, 3, CPU)
    assert found["loss of the counts"] == orders[1]["loss of the counts"] != found["loss"]
    assert found["log-probabilities off from the counts"] > 0.1
    assert found["off from a dictionary"] > 0.1


def a_run(startup: float, alike: float, *points: tuple[float, float]) -> dict:
    """A run of evaluations (training seconds, val_loss) and a last loss in windows of 64."""
    keys = ("seconds", "total_seconds", "val_loss")
    rows = [dict(zip(keys, (x, startup + x, loss), strict=True)) for x, loss in points]
    return {"startup_seconds": startup, "points": rows, "val_loss_64": alike}


FIRST = a_run(2, 1.875, (10, 2.1), (20, 1.9), (30, 1.85))
SECOND = a_run(4, 2, (10, 2), (20, 1.95), (40, 1.8))
OURS = a_run(1, 1.5, (1, 2.05), (2, 1.9), (3, 1.7), (5, 1.75))


def test_times_and_losses_by_hand() -> None:
    assert time_to_loss.seconds_to(1.9, FIRST, "total_seconds") == 22
    assert time_to_loss.seconds_to(1.9, FIRST, "seconds") == 20
    assert time_to_loss.seconds_to(1.7, OURS, "total_seconds") == 4
    assert time_to_loss.seconds_to(1.84, FIRST, "seconds") == math.inf
    assert time_to_loss.loss_at(14, SECOND, "val_loss") == 2
    assert time_to_loss.loss_at(99, OURS, "val_loss") == 1.7
    assert time_to_loss.loss_at(1.5, OURS, "val_loss") == math.inf


def test_tables_of_times_and_losses() -> None:
    late = a_run(3, 1.625, (1, 2.5), (100, 1.475))
    found = {"nanoGPT": [FIRST, SECOND], "a": [OURS], "b": [late]}
    header, *rows = cells(time_to_loss.time_table(found))
    levels = "1.9 1.8 1.6 1.5 1.47 1.451 1.42 1.4 1.391 1.38"
    assert header[1:] == levels.split()
    times = "times faster than nanoGPT's best to 1.9"
    assert rows == [
        ["nanoGPT", "33.0", *"---------"],
        ["a", "3.0", "4.0", *"--------"],
        [times, "7.3", "5.5", *"--------"],
        ["b", *["103.0"] * 4, *"------"],
        [times, *["0.2"] * 4, *"------"],
    ]
    header, *rows = cells(time_to_loss.loss_table(found))
    assert header[-3:] == ["in windows of 64", "in windows of 128", "best by 38 s"]
    assert rows == [
        ["nanoGPT", "3.0", "35.0", "38.0", "1.8500 1.8000", "1.9375", "-", "1.9000"],
        ["a", "1.0", "5.0", "6.0", "1.7000", "1.5000", "-", "1.7000"],
        ["b", "3.0", "100.0", "103.0", "1.4750", "1.6250", "-", "2.5000"],
    ]
    alone = {"a": [OURS, a_run(2, 3, (1, 2.5))]}  # which never got there
    assert cells(time_to_loss.time_table(alone))[1:] == [["a", *"----------"]]
    row = ["1.5", "3.0", "4.5", "1.7000 2.5000", "2.2500", "-"]
    assert cells(time_to_loss.loss_table(alone))[1][1:] == row
    never = {"nanoGPT": [a_run(1, 2, (3, 1.95)), a_run(1, 2, (8, 1.92))], "a": [OURS]}
    whole = "times faster than a whole run of nanoGPT, which ends above 1.9"
    assert cells(time_to_loss.time_table(never))[1:] == [
        ["nanoGPT", *"----------"],
        ["a", "3.0", "4.0", *"--------"],
        [whole, "1.3", "1.0", *"--------"],
    ]


def test_speed_of_training_by_hand() -> None:
    shape = {"n_layer": 2, "n_embd": 3, "block_size": 5, "batch_size": 4}
    assert train_speed.flops(1000, shape) == 6360
    one = {"seconds_a_step": [0.001, 0.002, 0.004], "memory_mb": 1234.4, "weights": 1_000_000}
    two = {"seconds_a_step": [0.003, 0.003, 0.016], "memory_mb": 7, "weights": 2_000_000}
    peaks = {"float32": 1.2e11, "bfloat16": 2.4e11}
    sides = {"ours": one, "nanoGPT": two}
    found = {"shape": shape, "peak_flops": peaks, "sides": sides, "left_out": {}}
    title, peak, table = train_speed.describe("wee", found).split("\n\n")
    assert title == "**wee**: n_layer 2, n_embd 3, block_size 5, batch_size 4"
    assert peak.endswith(": float32 120, bfloat16 240")
    assert cells(table)[1:] == train_speed.summary(found)
    assert cells(table)[1:] == [
        ["ours", "10,000", "3.00", "60", "25%", "1,234"],
        ["nanoGPT", "6,667", "1.00", "80", "33%", "7"],
    ]
    del found["sides"]["nanoGPT"]
    assert [row[2] for row in train_speed.summary(found)] == ["-"]


def test_speed_of_writing_by_hand() -> None:
    first = {"ours": [1, 2, 4], "ours, --window half": [1, 1, 1]}
    second = {"ours": [2, 2, 2], "ours, --window half": [0.5, 1, 2]}
    found = {
        "jobs": {sample_speed.FILLING: (1, 64), "10 x 500": (10, 500)},
        "seconds": {sample_speed.FILLING: first, "10 x 500": second},
        "same_characters": {},
    }
    header, *rows = cells(sample_speed.describe("wee", found))
    assert header == ["wee, characters/s", "ours", "ours, --window half"]
    assert rows == [[sample_speed.FILLING, "32", "64"], ["10 x 500", "2,500", "5,000"]]
    first["nanoGPT"], second["nanoGPT"] = [8, 8, 8], [5, 10, 20]
    found["same_characters"] = {sample_speed.FILLING: [64, 9, 64]}
    header, *rows = cells(sample_speed.describe("wee", found))
    assert header[3:] == ["nanoGPT", "ratio", "ratio, half", "same text as nanoGPT"]
    assert rows[0][1:] == ["32", "64", "8", "4.0", "8.0", "9 of 64"]
    assert rows[1][1:] == ["2,500", "5,000", "500", "5.0", "10.0", "-"]


def test_speed_of_training(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, with sides in this process."""
    monkeypatch.setattr(bench, "Side", Near)
    monkeypatch.setattr(train_speed, "PEAK_SIZE", 8)
    monkeypatch.setattr(train_speed, "SHAPES", {"small": SHAPE, "baby": {**SHAPE, "n_layer": 3}})
    monkeypatch.setattr(train_speed, "BATCH_SIZE", {"small": 3, "baby": 5})
    argv = (*shown("train_speed", peer), "--rounds", 4)
    before = contents(peer)
    status, out, err = call(train_speed.main, *argv)
    assert (status, err, contents(peer)) == (0, "", before)
    found = json.loads(Path("out/train_speed.json").read_text())
    for name, n_layer, rounds in (("small", 1, 4), ("baby", 3, 1)):
        sides = found[name]["sides"]
        assert list(sides) == ["ours", "ours, nanoGPT's structure", "ours, Muon", "nanoGPT"]
        assert {len(side["seconds_a_step"]) for side in sides.values()} == {rounds}
        weights = n_layer * (4 * 8 * 8 + 2 * 8 * 32 + 2 * 8) + 8 + 8 * len(set(TEXT))
        assert [side["weights"] for side in sides.values()] == [weights] * 3 + [1234]
        assert train_speed.describe(name, found[name]) in out
    assert Path("out/train_speed.md").read_text() in out
    assert (imread("out/train_speed.png") != 1).any()


def test_speed_of_training_compiled(
    peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With and without, on both sides; what cannot be compiled is left out."""
    compiled = []

    def compile(model: nn.Module) -> Callable:
        compiled.append(type(model).__module__)
        if len(compiled) == 2:
            raise RuntimeError("no compiler")
        return lambda *args: model(*args)

    monkeypatch.setattr(bench, "Side", Near)
    monkeypatch.setattr(torch, "compile", compile)
    monkeypatch.setattr(train_speed, "PEAK_SIZE", 8)
    monkeypatch.setattr(train_speed, "SHAPES", {"baby": SHAPE})
    monkeypatch.setattr(train_speed, "BATCH_SIZE", {"baby": 5})
    argv = (*shown("train_speed", peer), "--rounds", 1, "--shapes", "baby", "--compile")
    status, out, err = call(train_speed.main, *argv)
    assert status == 0 and err.endswith("ours, Muon, compiled is left out: torch.compile failed\n")
    assert compiled == ["model", "model", "nanogpt_model"]
    found = json.loads(Path("out/train_speed.json").read_text())["baby"]
    sides = ["ours", "ours, compiled", "ours, nanoGPT's structure", "ours, Muon", "nanoGPT"]
    assert list(found["sides"]) == [*sides, "nanoGPT, compiled"]
    assert "\n\nours, Muon, compiled is left out: torch.compile failed\n" in out


def test_speed_of_writing(peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, with sides in this process; the peer writes as ours but for one character."""

    def parrot(shape: str, name: str, path: Path) -> Callable:
        write = sample_speed.our_side(shape, name, "slide")

        def answer(texts: int, length: int, seed: int) -> dict:
            found = write(texts, length, seed)
            if length == 9:
                found["ids"][0][5] += 1
            return found

        return answer

    jobs = {sample_speed.FILLING: (1, None), "1 x 9": (1, 9), "2 x 7": (2, 7)}
    monkeypatch.setattr(sample_speed, "Side", Near)
    monkeypatch.setattr(sample_speed, "their_side", parrot)
    monkeypatch.setattr(sample_speed, "SHAPES", {"small": SHAPE})
    monkeypatch.setattr(sample_speed, "JOBS", jobs)
    argv = (*shown("sample_speed", peer), "--rounds", 1)
    before = contents(peer)
    status, out, err = call(sample_speed.main, *argv)
    assert (status, err, contents(peer)) == (0, "", before)
    found = json.loads(Path("out/sample_speed.json").read_text())
    assert found["small"]["same_characters"] == {sample_speed.FILLING: [6], "1 x 9": [5]}
    _, table, _ = out.strip().split("\n\n")
    assert table == sample_speed.describe("small", found["small"])
    assert (imread("out/sample_speed.png") != 1).any()


def test_whole_processes(
    peer: Path, call: Callable, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forked(line: list[str], path: Path) -> float:
        if "peer" in str(path):
            return timed(line, path)
        assert processes.run(Path(line[1]).stem, *line[2:], cwd=path).status == 0
        return 0.5

    timed = startup.timed
    monkeypatch.setattr(startup, "timed", forked)
    every, left_out = startup.jobs, ("import torch", "--handmade", "all steps")

    def some(*args: object) -> dict[str, list[str]]:
        jobs = every(*args).items()
        return {job: line for job, line in jobs if not any(name in job for name in left_out)}

    monkeypatch.setattr(startup, "jobs", some)
    argv = (*shown("startup", peer), "--rounds", 1)
    before = contents(peer)
    status, out, err = call(startup.main, *argv)
    assert (status, err, contents(peer)) == (0, "", before)
    seconds = json.loads(Path("out/startup.json").read_text())["seconds"]
    _, table, _ = out.strip().split("\n\n")
    header, *rows = cells(table)
    assert header[1:] == ["ours", "nanoGPT", "ratio"]
    (one, [ours], [theirs]), *others = [(job, *sides.values()) for job, sides in seconds.items()]
    assert rows[0] == [one, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}"]
    assert rows[1:] == [[job, f"{times[0]:.2f}", "-", "-"] for job, times in others]
    assert (imread("out/startup.png") != 1).any()


def test_an_older_checkout_takes_its_turn(
    tmp_path: Path, home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "older").mkdir()
    assert "has no sample.py" in call(startup.main, "--before", "older").err
    (tmp_path / "older" / "sample.py").touch()
    line = [sys.executable, "-c", "import pathlib; pathlib.Path('run').open('a').write('x')"]
    monkeypatch.setattr(startup, "jobs", lambda *args: {"a": line, "b": line})
    monkeypatch.setattr(startup, "HERE", home)
    assert call(startup.main, "--before", "older", "--rounds", 3, "--out", "out").status == 0
    assert [(folder / "run").read_text() for folder in (home, home / "older")] == ["x" * 6] * 2
    seconds = json.loads(Path("out/startup.json").read_text())["seconds"]
    assert all(len(times) == 3 for sides in seconds.values() for times in sides.values())
    monkeypatch.setattr(startup, "jobs", lambda *args: {"a": [sys.executable, "-c", "1 / 0"]})
    status, _, err = call(startup.main, "--rounds", 1, "--out", "out")
    assert status == 1 and "ZeroDivisionError" in err


def test_the_weights_mean_the_same_to_gpt2() -> None:
    """Which nanoGPT is, but for its activation: GPT-2's made exact."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"vocab_size": 13, "n_embd": 12, "n_layer": 2, "n_head": 3}
    model = tiny_gpt(**sizes, **nanogpt.STRUCTURE).double()
    kinds = {"n_positions": 6, "n_inner": 11, "eos_token_id": 0, "activation_function": "gelu"}
    peer = GPT2LMHeadModel(GPT2Config(**sizes, **kinds))
    mapped = nanogpt.weights(model)
    turned = re.compile(r"(attn|mlp)\.c_\w+\.weight$")  # which transformers has as (in, out)
    given = {name: w.T if turned.search(name) else w for name, w in mapped.items()}
    missing, unexpected = peer.double().eval().load_state_dict(given, strict=False)
    assert not unexpected and all(name.endswith(".bias") for name in missing)
    for name in missing:
        nn.init.zeros_(peer.get_parameter(name))
    idx = torch.randint(13, (4, 6), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(idx), peer(idx).logits)
    assert mapped.pop("lm_head.weight") is not None
    assert sum(weight.numel() for weight in mapped.values()) == model.parameter_count()


@pytest.mark.parametrize("part", PEER)
def test_what_a_checkout_lacks(part: str, peer: Path) -> None:
    nanogpt.check(None)
    nanogpt.check(peer)
    (peer / part).unlink()
    with pytest.raises(UserError, match=rf"^--nanogpt \S+/peer has no {re.escape(part)}; give the"):
        nanogpt.check(peer)


@pytest.mark.parametrize("module", [*WITH_PEER, ablation, ngram_weights])
@pytest.mark.parametrize(
    ("line", "said"),
    {
        "--nanogpt gone": "--nanogpt gone has no ",
        "--nanogpt peer/train.py": "--nanogpt peer/train.py has no ",
        "--device cuda": "--device cuda is not available",
        "--rounds 0": "must be a whole number of at least 1, not 0",
        "--seeds 0": "must be a whole number of at least 1, not 0",
        "surplus": "surplus",
    }.items(),
)
def test_refusals(
    module: ModuleType,
    line: str,
    said: str,
    peer: Path,
    call: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence, before anything is measured or written."""
    seeds = module in (time_to_loss, ablation)
    lacks = {"--nanogpt": module not in WITH_PEER, "--seeds": not seeds}
    lacks["--rounds"] = seeds or module in (ngram_weights, text_size)
    if lacks.get(line.split()[0]):
        said = line.split()[0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("Side", "measure", "curve", "train"):
        monkeypatch.setattr(module, name, lambda *args: pytest.fail("measured"), raising=False)
    before = contents(Path())
    status, out, err = call(module.main, "--out=out", *line.split())
    assert (status, out, err.count("\n"), contents(Path())) == (2, "", 1, before)
    assert err.startswith(f"python -m {module.__name__}: ") and said in err
