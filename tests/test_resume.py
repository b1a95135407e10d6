"""A run that is stopped and resumed is the run that was never stopped, bit for bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import RUN, TEXT, after, contents, records, state

import train
from trainer import Trainer

TRAIN = Path(train.__file__)


class Crash(BaseException):
    """The power went."""


def crash(trainer: Trainer) -> None:
    raise Crash


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run(optimizer: str, tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = (f"optim.optimizer={optimizer}", "model.tie_weights=true")
    tiny(*settings, "train.out_dir=whole")
    whole = state(Path("whole"))
    stops = [(4, signal.SIGINT, 130), (6, signal.SIGTERM, 143), (10, signal.SIGINT, 130)]
    for step, number, status in stops:  # at an evaluation, between two, and at the end
        folder = f"train.out_dir={step}"
        with monkeypatch.context() as patch:
            patch.setattr(
                Trainer, "update", after(step, lambda _, n=number: os.kill(os.getpid(), n))
            )
            stopped = tiny(*settings, folder)
        assert stopped.status == status
        assert f"stopped at step {step} and saved" in stopped.out
        assert torch.load(f"{step}/last.pt")["progress"]["step"] == step
        assert tiny(folder, "--resume").status == 0
        assert state(Path(str(step))) == whole


def test_a_run_that_crashed(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("train.out_dir=whole")
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Trainer, "update", after(6, crash))
        tiny()
    with (RUN / "metrics.jsonl").open("a") as file:  # as if it had crashed while it saved step 8
        file.write('{"step": 8, "val_loss": 0}\n{"step": 9, "va')
    assert tiny("--resume").status == 0
    assert state(RUN) == state(Path("whole"))


def test_a_run_that_crashed_before_its_first_evaluation(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny("train.out_dir=whole")
    with monkeypatch.context() as patch, pytest.raises(Crash):
        patch.setattr(Trainer, "update", after(1, crash))
        tiny()
    assert tiny("--resume").status == 0
    assert state(RUN) == state(Path("whole"))


def test_another_process_goes_on(tiny: Callable) -> None:
    command = [sys.executable, TRAIN, "--device=cpu"]
    settings = ["--config=tiny.yaml", "optim.decay=none", "train.eval_every=20"]
    endless = [*command, *settings, "train.max_steps=20000"]
    with subprocess.Popen(endless, stdout=subprocess.PIPE, text=True) as process:
        next(line for line in process.stdout if line.startswith("step"))
        process.terminate()
        process.communicate()
    assert process.returncode == 143
    steps = torch.load(RUN / "last.pt")["progress"]["step"] + 3
    limit = f"train.max_steps={steps}"
    subprocess.run([*command, "--resume", limit], check=True, capture_output=True)
    tiny(*settings[1:], limit, "train.out_dir=whole")
    assert state(RUN) == state(Path("whole"))


def test_a_second_signal_ends_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    stop = train.Stop()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.signal == signal.SIGTERM
        assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is before


def test_the_newest_run_goes_further(tiny: Callable, call: Callable) -> None:
    newer, older = Path("checkpoints/newer"), Path("checkpoints/older")
    for folder, time in ((newer, 2), (older, 1)):
        tiny(f"train.out_dir={folder}")
        for path in folder.glob("*.pt"):
            os.utime(path, (time, time))
    before = contents(older)
    status, out, _ = call(train.main, "--device=cpu", "--resume", "train.max_steps=14")
    assert status == 0 and str(newer) in out
    assert [record["step"] for record in records(newer)] == [4, 8, 10, 12, 14]
    assert torch.load(newer / "last.pt")["progress"]["step"] == 14
    assert "max_steps: 14" in (newer / "config.yaml").read_text()
    assert contents(older) == before
    call(train.main, "--device=cpu", "--resume", "train.max_steps=12", f"train.out_dir={older}")
    assert records(older)[-1]["step"] == 12


def test_a_finished_run(tiny: Callable) -> None:
    for settings in ([], ["train.patience=1", "train.eval_every=1", "train.max_steps=1000"]):
        tiny("--overwrite", *settings)
        before = state(RUN)
        assert tiny("--resume").status == 0
        assert state(RUN) == before


@pytest.mark.parametrize("setting", ["model.n_layer=3", "data.val_fraction=0.2"])
def test_what_a_run_keeps(setting: str, tiny: Callable, refusal: Callable) -> None:
    tiny()
    before = contents(RUN)
    section = setting.partition(".")[0]
    assert f"keeps its {section} settings" in refusal(train.main, "--resume", setting)
    message = refusal(train.main, "--resume", setting, "optim.optimizer=muon")
    assert f"keeps its {section} and optim.optimizer settings" in message
    assert contents(RUN) == before


def test_a_changed_text(tiny: Callable, refusal: Callable) -> None:
    tiny()
    before = contents(RUN)
    Path("text.txt").write_text(TEXT[::-1])
    assert "--allow-data-change" in refusal(train.main, "--resume", "--device=cpu")
    assert contents(RUN) == before
    assert tiny("--resume", "--allow-data-change", "train.max_steps=12").status == 0
    assert records(RUN)[-1]["step"] == 12
    assert tiny("--resume", "train.max_steps=14").status == 0  # it is the run's text from now on
    Path("text.txt").write_text(TEXT + "é")
    assert "'é' (U+00E9)" in refusal(train.main, "--resume", "--device=cpu", "--allow-data-change")
