"""Killed, interrupted, out of room, locked out: a run loses nothing, and --resume just goes on."""

import contextlib
import itertools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import sample
import train
from system import checkpoint, interrupt
from system.checkpoint import BEST, LAST
from tests.helpers import ROOT, soak
from tests.helpers.faults import Processes
from tests.helpers.posix import HUP, is_root, needs_posix
from tests.helpers.runs import RUN, contents, sha256

pytestmark = needs_posix

KILLS = {
    "a file is open": {"at": "open"},
    "half of a file is written": {"at": "write"},
    "a file is not yet durable": {"at": "os.fsync"},
    "a file is not yet in place": {"at": "pathlib.Path.replace"},
    "a file is in place": {"at": "pathlib.Path.replace", "after": True},
    "one checkpoint is saved and not the other": {"at": "system.checkpoint.save", "after": True},
    "old files are being removed": {"at": "pathlib.Path.unlink"},
}
END = {"signals": [signal.SIGTERM]}
SHORT = ("train.max_steps=4", "train.eval_every=2")


def go_on(train: Callable, folder: Path, *settings: str) -> str:
    """Resume the run in `folder`, or begin it where nothing was saved; the sha256 of its end."""
    how = ["--resume", f"train.out_dir={folder}"] if (folder / LAST).exists() else settings
    ended = train(*how)
    assert (ended.status, ended.err) == (0, "")
    assert not any(folder.glob(".*"))
    return sha256(folder)


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS.keys())
def test_kill_9(kill: dict, tiny_process: Callable, tiny: Callable, call: Callable) -> None:
    tiny(*SHORT, "train.out_dir=whole")
    for nth in itertools.count(1):
        settings, folder = (*SHORT, f"train.out_dir={nth}"), Path(str(nth))
        killed = tiny_process(*settings, **kill, nth=nth, signals=[signal.SIGKILL])
        if killed.status == 0:  # there is no nth time
            break
        assert killed.status == -signal.SIGKILL
        if (folder / LAST).exists():
            soak.check(folder, least=2 if "\nstep 4/" in killed.out else 0)
            argv = ("--ckpt", folder, "--device=cpu", "--max-new-tokens=9")
            ended = call(sample.main, *argv)
            assert ended.status == 0 and len(ended.out) == 11
        assert go_on(tiny, folder, *settings) == sha256(Path("whole"))
    assert nth > 5


REPLACING = ["a file is in place", "one checkpoint is saved and not the other"]


@pytest.mark.parametrize("kill", [*REPLACING, "old files are being removed"])
def test_kill_9_while_a_run_takes_the_place_of_another(
    kill: str, tiny_process: Callable, tiny: Callable
) -> None:
    tiny("train.out_dir=new")
    tiny("train.out_dir=old", "train.seed=2")
    for nth in range(1, 7):
        folder = shutil.copytree("old", str(nth))
        again = (f"train.out_dir={folder}", "--overwrite")
        killed = tiny_process(*again, **KILLS[kill], nth=nth, signals=[signal.SIGKILL])
        assert killed.status == -signal.SIGKILL
        kept = checkpoint.load(Path(folder, LAST)).progress["step"] == 10
        assert go_on(tiny, Path(folder)) == sha256(Path("old" if kept else "new"))


def test_soak(
    capsys: pytest.CaptureFixture, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "Processes", lambda: contextlib.nullcontext(processes))
    assert soak.main(["--kills", "5"]) == 0
    assert capsys.readouterr().out.startswith("5 kills, ")


@pytest.mark.parametrize("damage", [b"", b"PK\3\4", b"some text"])
def test_a_damaged_last_checkpoint(damage: bytes, tiny_process: Callable) -> None:
    tiny_process("train.out_dir=whole")
    tiny_process(at="training.trainer.Trainer.update", nth=6, **END)
    (RUN / LAST).write_bytes(damage)
    before = contents(RUN)
    refused = tiny_process("--resume")
    assert (
        refused.status == 2 and f"try {RUN}/best.pt, which --ckpt and --resume take" in refused.err
    )
    assert contents(RUN) == before
    ended = tiny_process("--resume", "--from-best")
    assert (ended.status, ended.err) == (0, "")
    assert sha256(RUN) == sha256(Path("whole"))


@pytest.mark.parametrize("argv", [["--from-best"], ["--from-best", "--overwrite"]])
def test_the_best_checkpoint_is_only_for_resuming(argv: list[str], tiny: Callable) -> None:
    assert "--from-best goes with --resume" in tiny(*argv).err


# Signals


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [(signal.SIGINT, signal.SIGINT, 130), (signal.SIGTERM, HUP, 143)],
)
def test_a_first_signal_saves_and_a_second_ends_at_once(
    first: int, second: int, status: int, tiny_process: Callable
) -> None:
    tiny_process("train.out_dir=whole")
    places = {
        "training.trainer.Trainer.update": 3,
        "training.objective.cross_entropy": 5,  # in the first part of a batch
        "training.evaluation.losses": 1,
        "training.metrics.append": 1,
        "os.fsync": 7,  # in a save of an evaluation
        "system.checkpoint.save": 1,  # the one before the first step
    }
    for place, nth in places.items():
        for together in (2, 0):  # seconds; a real second one comes two seconds later
            folder = Path(f"{place}{together}")
            settings = f"train.out_dir={folder}"
            twice = {"signals": [first, second], "together": together}
            ended = tiny_process(settings, at=place, nth=nth, **twice)
            if together:
                assert ended.status == status and ended.err == ""
                assert f"and saved; go on with --resume {folder}" in ended.out.splitlines()[-1]
            else:
                assert ended.status == -second and "saved" not in ended.out
            assert go_on(tiny_process, folder, settings) == sha256(Path("whole"))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (HUP, 129)]
)
@pytest.mark.parametrize(
    "place", ["system.config.load", "data.corpus.load", "training.trainer.Trainer.resume"]
)
def test_a_signal_at_the_start_changes_nothing(
    place: str, number: int, status: int, tiny_process: Callable, home: Path
) -> None:
    tiny_process()
    before = contents(home)
    how = ["--resume"] if place == "training.trainer.Trainer.resume" else ["train.out_dir=runs/new"]
    ended = tiny_process(*how, at=place, signals=[number])
    assert ended == (status, "", "")
    assert contents(home) == before
    assert not Path("runs/new").exists()


def test_a_signal_at_the_end_loses_nothing(tiny_process: Callable) -> None:
    assert tiny_process(at="training.metrics.plot", **END).status == 143
    tiny_process("train.out_dir=whole")
    assert sha256(RUN) == sha256(Path("whole"))


@pytest.mark.parametrize("tool", ["train", "sample", "compare", "export"])
def test_ctrl_c_while_torch_is_imported(tool: str, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import os, time\nos.kill(os.getpid(), 2)\ntime.sleep(60)")
    command = [sys.executable, ROOT / f"{tool}.py"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, b"", b"")


def test_an_ignored_signal_stays_ignored(tiny_process: Callable) -> None:
    ignored = [signal.SIGINT, HUP]  # in the background of a script; after nohup
    ended = tiny_process(at="training.evaluation.losses", signals=ignored, ignored=ignored)
    assert ended.status == 0


ENDLESS = ["optim.decay=none", "train.max_steps=1000000"]


def test_a_terminal_that_closes(tiny_process: Callable) -> None:
    in_the_bar = " val - "
    ended = tiny_process(*ENDLESS, "train.eval_every=1000000", hang_up=in_the_bar)
    assert ended.status == 129
    assert checkpoint.load(RUN / LAST).progress["step"] > 0
    assert not any(RUN.glob(".*"))


def test_ctrl_c_in_a_terminal_that_closes_before_the_run_has_saved(tiny_process: Callable) -> None:
    ctrl_c = {"at": "training.trainer.Trainer.update", "nth": 6, "signals": [signal.SIGINT]}
    ended = tiny_process("train.eval_every=1000000", **ctrl_c, hang_up=interrupt.HINT)
    assert ended.status == 130
    assert checkpoint.load(RUN / LAST).progress["step"] == 6
    assert not any(RUN.glob(".*"))


# What is printed


def test_what_is_printed_is_there_when_a_run_is_killed(tiny_process: Callable) -> None:
    kill = {"at": "training.trainer.Trainer.update", "signals": [signal.SIGKILL]}
    first = tiny_process("train.out_dir=1", **kill, nth=1).out
    assert first.startswith("model ") and "\nrun    1, 10 steps, " in first and first.endswith("\n")
    later = tiny_process("train.out_dir=2", **kill, nth=10).out.splitlines()
    assert [line[:10] for line in later[3::2]] == ["step  4/10", "step  8/10"]
    assert [len(line) for line in later[4::2]] == [7 + 5, 7 + 5]  # what the model writes, indented


FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")


@pytest.mark.parametrize(
    "where", [{"unread": [1]}, {"unread": [1, 2]}, pytest.param({"full": [1, 2]}, marks=FULL)]
)
def test_output_that_nobody_takes_ends_no_run(where: dict, tiny_process: Callable) -> None:
    tiny_process("train.out_dir=whole")
    stopped = tiny_process(**where, at="training.trainer.Trainer.update", nth=6, **END)
    assert (stopped.status, stopped.out, stopped.err) == (143, "", "")
    ended = tiny_process("--resume", **where)
    assert (ended.status, ended.out, ended.err) == (0, "", "")
    assert sha256(RUN) == sha256(Path("whole"))


# No room


@pytest.mark.parametrize("nth", range(1, 6))  # before the first step, and at two evaluations
def test_a_file_may_not_grow_so_large(nth: int, tiny_process: Callable, tiny: Callable) -> None:
    tiny("train.out_dir=whole")
    for size in (1, 9_000):
        folder = Path(str(size))
        settings = [f"train.out_dir={folder}"]
        full = tiny_process(*settings, at="system.checkpoint.save", nth=nth, file_size=size)
        assert full.status == 1
        sentence = rf"train\.py: {size}/(last|best)\.pt could not be written: File too large; "
        assert re.fullmatch(rf"{sentence}it needs \d+,\d{{3}} bytes of room, in .*\n", full.err)
        assert not any(folder.glob(".*"))
        if nth > 1:
            soak.check(folder, least=4 if nth > 3 else 0)
        assert go_on(tiny, folder, *settings) == sha256(Path("whole"))


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of `size` bytes at `folder`; the test is skipped where none may be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(tiny_process: Callable, home: Path) -> None:
    tiny_process("train.out_dir=whole")
    with small_disk(home / "disk", 1 << 20):
        folder = home / "disk" / "run"
        last = home / "disk" / "filler"
        stopped = tiny_process(f"train.out_dir={folder}", at="training.evaluation.losses", **END)
        assert stopped.status == 143
        for left in (0, 4096, 20_000):
            with last.open("wb", buffering=0) as file, contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            os.truncate(last, max(0, last.stat().st_size - left))
            before = contents(folder)
            full = tiny_process(f"train.out_dir={folder}", "--resume")
            assert full.status == 1
            assert f"{folder}/last.pt could not be written: No space left on device" in full.err
            assert contents(folder) == before
            last.unlink()
        assert go_on(tiny_process, folder) == sha256(Path("whole"))


def test_too_large_a_model_for_the_memory(tiny_process: Callable) -> None:
    ended = tiny_process("model.n_embd=4194304", "model.n_head=1")
    assert (ended.status, ended.out, ended.err.count("\n")) == (1, "", 1)
    assert "there is not enough memory" in ended.err and not RUN.exists()


def test_output_that_cannot_be_shown_ends_no_run(home: Path) -> None:
    Path("text.txt").write_text("日本語" * 100)
    command = [sys.executable, train.__file__, "--device=cpu", "--config=tiny.yaml"]
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}
    line = shlex.join(map(str, command)) + " 2>&-"
    ended = subprocess.run(line, shell=True, stdout=subprocess.PIPE, env=ascii_only)
    assert ended.returncode == 0
    assert rb"\u672c" in ended.stdout and b"best val_loss" in ended.stdout


# Who may write where


def test_two_runs_cannot_share_a_folder(tiny_process: Callable, home: Path) -> None:
    endless = [*ENDLESS, "train.eval_every=20"]
    command = [sys.executable, train.__file__, "--device=cpu", "--config=tiny.yaml", *endless]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        next(line for line in first.stdout if line.startswith("step"))
        for how in ([], ["--overwrite"], ["--resume"]):
            second = tiny_process(*how)
            assert second == (2, "", second.err)
            assert f"{RUN} is in use by process {first.pid}; " in second.err
        assert tiny_process("train.out_dir=another").status == 0
        first.kill()
        first.communicate()
    assert (RUN / ".lock").read_text() == str(first.pid)
    soak.check(RUN, least=1)
    third = tiny_process("--resume", at="training.trainer.Trainer.update", **END)
    assert third.status == 143
    assert not (RUN / ".lock").exists()


def test_a_lock_is_not_written_through_a_link(tiny: Callable) -> None:
    tiny()
    Path("precious").write_text("of mine")
    (RUN / ".lock").symlink_to("../../precious")
    refused = tiny("--resume")
    assert refused.status == 2 and f"{RUN} cannot be used" in refused.err
    assert Path("precious").read_text() == "of mine"


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder that cannot be written to, not even by root."""
    with small_disk(folder, 1 << 20):
        (folder / "sub").mkdir()
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield


def test_an_impossible_folder_is_told_before_the_first_step(
    tiny_process: Callable, home: Path
) -> None:
    Path("file").touch()
    places = ["file", "file/below", "/proc/run", "x" * 300, "way/too/" + "x" * 300]
    for place in places:
        ended = tiny_process(
            f"train.out_dir={place}", at="training.trainer.Trainer.update", signals=[9]
        )
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1), place
        assert "choose another with train.out_dir=FOLDER" in ended.err
    assert tiny_process("train.out_dir=made/on/the/way").status == 0
    with read_only(home / "disk"):
        for place in ("disk", "disk/sub", "disk/new"):
            ended = tiny_process(
                f"train.out_dir={place}", at="training.trainer.Trainer.update", signals=[9]
            )
            assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
            assert "Read-only file system; choose another" in ended.err


@pytest.mark.skipif(is_root(), reason="root may write everywhere")
def test_a_folder_of_somebody_else(tiny_process: Callable) -> None:
    Path("theirs").mkdir(mode=0o555)
    ended = tiny_process("train.out_dir=theirs")
    assert ended.status == 2 and "Permission denied; choose another" in ended.err


def test_run_names_cannot_leave_their_folder(tiny: Callable, home: Path) -> None:
    Path("checkpoints").mkdir()
    Path("elsewhere").mkdir()
    Path("checkpoints/linked").symlink_to("../elsewhere")
    before = contents(home)
    for name in ("...yaml", "..yaml", "linked.yaml"):
        Path(name).write_text(Path("tiny.yaml").read_text())
        ended = tiny("--config", name)
        assert (ended.status, ended.out) == (2, "") and "leads out of checkpoints/" in ended.err
        Path(name).unlink()
    assert contents(home) == before
    for link in (LAST, BEST, "metrics.jsonl", "config.yaml"):
        tiny("--overwrite")
        Path("precious").write_bytes((RUN / link).read_bytes())
        (RUN / link).unlink()
        (RUN / link).symlink_to("../../precious")
        before = Path("precious").read_bytes()
        assert tiny("--resume", "train.max_steps=12").status == 0
        assert Path("precious").read_bytes() == before
