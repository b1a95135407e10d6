"""Several processes train as one does: the same losses, one writer, one end."""

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import train
from data import corpus
from model import GPT
from system import checkpoint, config
from system.checkpoint import LAST
from tests.helpers.posix import needs_posix
from tests.helpers.runs import RUN, records, sha256
from training import parallel
from training.parallel import World
from training.trainer import Trainer

LOSSES = ("train_loss", "val_loss", "learning_rate")
END = {
    "at": "training.trainer.Trainer.update",
    "nth": 6,
    "after": True,
    "signals": [signal.SIGTERM],
}
RATE = "optim.learning_rate=0.003"  # a higher one makes more of a last bit of bfloat16 in Muon
NAMES = ("best.pt", "last.pt", "config.yaml", "metrics.jsonl")
EXACTLY = ("model.dropout=0", "train.batch_size=8", "model.n_layer=2")


def losses(folder: str | Path) -> list[float]:
    """What the evaluations of a run measured, but for times."""
    return [record[name] for record in records(Path(folder)) for name in LOSSES]


@pytest.mark.parametrize(("ranks", "parts"), [(2, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_same_losses(
    optimizer: str, ranks: int, parts: int, tiny_process: Callable, tiny_processes: Callable
) -> None:
    settings = (*EXACTLY, RATE, f"optim.optimizer={optimizer}", f"train.grad_accum={parts}")
    alone = tiny_process(*settings, "train.out_dir=alone")
    first, *others = tiny_processes(ranks, *settings, "train.out_dir=shared")
    assert losses("shared") == pytest.approx(losses("alone"), abs=1e-5)
    assert (first.status, first.err) == (0, "") and f"{ranks} x cpu" in first.out
    assert len(first.out.splitlines()) == len(alone.out.splitlines())
    assert others == [(0, "", "")] * (ranks - 1)  # one of them speaks and writes
    assert {path.name for path in Path("shared").iterdir()} == {*NAMES}


@pytest.mark.parametrize(("before", "later"), [(2, 1), (1, 2), (2, 4)])
def test_another_number_goes_on(before: int, later: int, tiny_processes: Callable) -> None:
    settings = (*EXACTLY, "train.grad_accum=1")
    tiny_processes(1, *settings, "train.out_dir=whole")
    assert [ended.status for ended in tiny_processes(before, *settings, **END)] == [143] * before
    assert checkpoint.load(RUN / LAST).progress["step"] == 6
    assert [ended.status for ended in tiny_processes(later, "--resume")] == [0] * later
    assert losses(RUN) == pytest.approx(losses("whole"), abs=1e-5)


def test_the_same_number_goes_on_exactly(tiny_processes: Callable) -> None:
    tiny_processes(2, "train.out_dir=whole")  # with dropout
    tiny_processes(2, **END)
    assert tiny_processes(2, "--resume")[0].status == 0
    assert sha256(RUN) == sha256(Path("whole"))


def test_a_pause_leaves_the_sum_that_a_resumed_run_begins_with(home: Path) -> None:
    class Pair(World):
        def sum(self, *values: float, device: torch.device) -> list[float]:
            return [value + 0.1 for value in values]  # the other process adds its own

    settings = config.load(Path("tiny.yaml"), [], use_gpu=False)
    cpu = torch.device("cpu")
    text = corpus.load(settings.data, 8, cpu, chars=None, scratch=Path("ids"))
    settings.model = dataclasses.replace(settings.model, vocab_size=9)
    trainer, resumed = (Trainer(GPT(settings.model), text, settings, cpu) for _ in range(2))
    trainer.world = Pair(0, 2)
    trainer.loss_sum.fill_(1 / 3)
    trainer.pause()
    assert trainer.progress.loss_sum == pytest.approx((1 / 3 + 0.1) / 2)
    resumed.resume(trainer.checkpoint())
    assert torch.equal(resumed.loss_sum, trainer.loss_sum)


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_one_ends_all(
    rank: int, number: int, status: int, tiny_processes: Callable
) -> None:
    first, other = tiny_processes(2, rank=rank, **END | {"signals": [number]})
    assert first.status == status and "stopped at step 6 and saved" in first.out
    assert other == (status, "", "")
    assert checkpoint.load(RUN / LAST).progress["step"] == 6


def test_a_batch_that_cannot_be_shared(tiny_processes: Callable) -> None:
    for ranks, multiple in ((3, 6), (4, 8)):
        first = tiny_processes(ranks)[0]
        assert first.status == 2 and not RUN.exists()
        sentence = f"train.batch_size=4 cannot be shared equally by {ranks} processes with "
        assert f"{sentence}train.grad_accum=2; make it a multiple of {multiple}\n" in first.err


LOST = (1, "", "train.py: another process of this run has ended; its message says why\n")


def test_what_the_first_refuses_the_others_do_not_repeat(tiny_processes: Callable) -> None:
    tiny_processes(1)
    first, other = tiny_processes(2)
    assert first.status == 2 and f"{RUN} is not empty" in first.err
    assert other == LOST


def test_a_process_is_lost(tiny_processes: Callable) -> None:
    tiny_processes(2, "train.out_dir=whole")
    first, killed = tiny_processes(2, rank=1, **END | {"signals": [signal.SIGKILL]})
    assert first == (1, first.out, LOST[2]) and killed.status == -signal.SIGKILL
    assert checkpoint.load(RUN / LAST).progress["step"] == 4
    assert tiny_processes(2, "--resume")[0].status == 0
    assert sha256(RUN) == sha256(Path("whole"))


def test_the_first_cannot_save(tiny_processes: Callable) -> None:
    first, other = tiny_processes(2, rank=0, at="system.checkpoint.save", nth=2, file_size=100)
    assert first.status == 1 and "could not be written: File too large" in first.err
    assert other == LOST


def test_processes_that_cannot_meet(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    ended = tiny()
    assert ended.status == 2 and "2 processes cannot meet (" in ended.err
    assert ended.err.endswith("; use torchrun\n") and not RUN.exists()


@needs_posix
def test_torchrun(home: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [train.__file__, "--device=cpu", "--config=tiny.yaml", "train.max_steps=1000000"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        next(line for line in run.stdout if line.startswith("step"))
        run.send_signal(signal.SIGHUP)
        time.sleep(0.05)
        run.send_signal(signal.SIGHUP)  # as a terminal that closes; it sends on SIGHUP and SIGTERM
        out, err = run.communicate()
    assert run.returncode == 1
    assert "and saved; go on with --resume" in out, err
    assert not any(RUN.glob(".*"))
    checkpoint.load(RUN / LAST)


def test_shares_make_the_batch() -> None:
    batch = torch.arange(12).view(6, 2)
    for size in (1, 2, 3, 6):
        shares = [World(rank, size).share(batch) for rank in range(size)]
        assert len({len(share) for share in shares}) == 1
        assert torch.equal(torch.cat(shares), batch)


def test_gradients_are_exchanged_once_a_step(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, seen = [], []

    @contextlib.contextmanager
    def no_sync() -> Iterator[None]:
        inside.append(1)
        yield
        inside.pop()

    class Watched(World):
        def apart(self, forward: Callable) -> contextlib.AbstractContextManager:
            return World(0, 2).apart(SimpleNamespace(no_sync=no_sync))

    def backward(trainer: Trainer, *part: torch.Tensor) -> torch.Tensor:
        seen.append(bool(inside))
        return original(trainer, *part)

    original = Trainer.backward
    monkeypatch.setattr(Trainer, "backward", backward)
    monkeypatch.setattr(parallel, "join", lambda place: contextlib.nullcontext(Watched()))
    assert tiny("train.grad_accum=4").status == 0
    assert seen == [True, True, True, False] * 10
