"""Files that are whole or not there, and errors that are one line and an exit status."""

import argparse
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
import torch

import compare
import export
import sample
import train
from system import errors, files
from system.errors import Fault, Parser, UserError
from system.files import alone_in, append_line, clear_temporary, write_whole
from system.interrupt import Terminated
from system.settings import Config
from tests.helpers import ROOT

# write_whole


@pytest.mark.parametrize("content", [b"new\0", lambda file: file.write(b"new\0")])
@pytest.mark.parametrize("old", [None, b"old and longer"])
def test_file_is_written_whole(tmp_path: Path, content: bytes | Callable, old: bytes) -> None:
    path = tmp_path / "two" / "folders" / "file.pt"
    if old:
        path.parent.mkdir(parents=True)
        path.write_bytes(old)
    assert write_whole(path, content) == path
    assert path.read_bytes() == b"new\0"
    assert list(path.parent.iterdir()) == [path]


def test_file_is_durable_before_it_replaces_the_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(b"old")
    seen = []
    monkeypatch.setattr("os.fsync", lambda handle: seen.append(path.read_bytes()))
    write_whole(path, b"new")
    assert seen == [b"old", b"new"]  # at the fsync of the file, and at that of its folder


def test_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    precious, folder = tmp_path / "precious", tmp_path / "folder"
    precious.write_bytes(b"of mine")
    folder.mkdir()
    for name in ("file.pt", f".file.pt.{os.getpid()}.tmp"):
        (folder / name).symlink_to(precious)
        write_whole(folder / "file.pt", b"new")
        assert (precious.read_bytes(), (folder / "file.pt").read_bytes()) == (b"of mine", b"new")


def failing(reason: BaseException) -> Callable[..., None]:
    """A function that fails."""

    def fail(*args: object) -> None:
        raise reason

    return fail


FAILURES = [
    (OSError(28, "No space left on device"), Fault),
    (ValueError("a bug"), ValueError),
    (KeyboardInterrupt(), KeyboardInterrupt),
]


@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize(("reason", "raised"), FAILURES)
@pytest.mark.parametrize("place", ["system.files.os.fsync", "pathlib.Path.replace"])
def test_failure_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    reason: BaseException,
    raised: type[BaseException],
    old: bytes | None,
) -> None:
    path = tmp_path / "file.pt"
    if old:
        path.write_bytes(old)
    monkeypatch.setattr(place, failing(reason))
    with pytest.raises(raised) as caught:
        write_whole(path, b"new" * 1000)
    assert [(file, file.read_bytes()) for file in tmp_path.iterdir()] == [(path, old)] * bool(old)
    if raised is Fault:
        sentence = f"{path} could not be written: No space left on device; it needs 3,000 bytes of"
        assert str(caught.value).startswith(sentence)


def test_content_that_cannot_be_made_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="of something else"):
        write_whole(tmp_path / "file.pt", failing(OSError("of something else")))
    assert not any(tmp_path.iterdir())


def test_lines_are_added_and_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, seen = tmp_path / "lines", []
    monkeypatch.setattr("os.fsync", lambda handle: seen.append(path.read_text()))
    for line in ("one", "zw\u00f6lf"):
        append_line(path, line)
    assert seen == ["one\n", "one\nzw\u00f6lf\n"]
    monkeypatch.setattr("os.fsync", failing(OSError(28, "No space left on device")))
    with pytest.raises(Fault, match=r"lines could not be written: No space left on device; it"):
        append_line(path, "three")


def test_what_killed_processes_left_is_cleared(tmp_path: Path) -> None:
    for name in (".a.pt.12.tmp", ".a.pt.9999.tmp", ".b.pt.12.tmp", "a.pt", "a.pt.12.tmp", ".lock"):
        (tmp_path / name).touch()
    clear_temporary(tmp_path / "a.pt")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [".b.pt.12.tmp", ".lock", "a.pt", "a.pt.12.tmp"]


def test_a_folder_is_held_by_one_process(tmp_path: Path) -> None:
    folder = tmp_path / "two" / "folders"
    with alone_in(folder):
        for _ in range(2):  # also after a refusal
            with (
                pytest.raises(UserError, match=f"folders is in use by process {os.getpid()}; wait"),
                alone_in(folder),
            ):
                pass
    assert not folder.exists()  # nothing came into it
    with alone_in(folder):
        (folder / "saved").touch()
    assert [path.name for path in folder.iterdir()] == ["saved"]
    (folder / "saved").unlink()
    with alone_in(folder):
        pass
    assert folder.exists()  # it was there before


def test_a_lock_that_is_removed_as_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, flock = [], files.fcntl.flock

    def meanwhile(handle: int, how: int) -> None:
        """The holder of the file just opened leaves, and once another one comes."""
        calls.append(handle)
        if len(calls) < 3:
            (tmp_path / files.LOCK).unlink()
        if len(calls) == 2:
            (tmp_path / files.LOCK).write_text("99")
        flock(handle, how)

    monkeypatch.setattr(files.fcntl, "flock", meanwhile)
    with alone_in(tmp_path):
        assert len(calls) == 3
        assert (tmp_path / files.LOCK).read_text() == str(os.getpid())
    assert not any(tmp_path.iterdir())


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(files.fcntl, "flock", failing(OSError(37, "No locks available")))
    with alone_in(tmp_path):
        pass
    warning = f"warning: {tmp_path} cannot be held against other runs (No locks available); start"
    assert capsys.readouterr().err.startswith(warning)


def test_a_folder_that_is_gone_when_the_run_ends(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    with alone_in(folder):
        shutil.rmtree(folder)
    assert not folder.exists()


def test_folder_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fault, match=r"file/a\.pt could not be written: "):
        write_whole(tmp_path / "file" / "a.pt", b"new")
    (tmp_path / "folder.pt").mkdir()
    with pytest.raises(Fault, match=r"folder\.pt could not be written: Is a directory"):
        write_whole(tmp_path / "folder.pt", b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.pt"]


# errors.run


def run(outcome: BaseException | int, *argv: str) -> int:
    """What `errors.run` makes of a command that ends like this."""

    def command(args: argparse.Namespace) -> int:
        if isinstance(outcome, int):
            return outcome
        raise outcome

    parser = Parser(prog="tool.py")
    parser.add_argument("--size", type=int)
    return errors.run(command, parser, list(argv))


NO_MEMORY = (
    "tool.py: there is not enough memory; make the batch, the model or the number of samples "
    "smaller\n"
)
ENDS = [
    ((0,), 0, ""),
    ((7, "--size", "3"), 7, ""),
    ((UserError("size 9 is too large; take 8"),), 2, "tool.py: size 9 is too large; take 8\n"),
    ((UserError("no file 'a\nb'"),), 2, "tool.py: no file 'a b'\n"),
    ((Fault("no room; make some"),), 1, "tool.py: no room; make some\n"),
    ((KeyboardInterrupt(),), 130, ""),
    ((Terminated(),), 143, ""),
    ((MemoryError(),), 1, NO_MEMORY),
    ((torch.OutOfMemoryError("CUDA out of memory."),), 1, NO_MEMORY),
    ((0, "--sise=3"), 2, "tool.py: unrecognized arguments: --sise=3; --help lists what there is\n"),
    ((0, "--deb"), 2, "tool.py: unrecognized arguments: --deb; --help lists what there is\n"),
    (
        (OSError(28, "No space left on device", "runs/a.png"),),
        1,
        "tool.py: runs/a.png: No space left on device; "
        "check the path, its permissions and the room on the disk\n",
    ),
    (
        (0, "--size=x"),
        2,
        "tool.py: argument --size: invalid int value: 'x'; --help lists what there is\n",
    ),
]


@pytest.mark.parametrize(("call", "status", "line"), ENDS)
def test_end_of_a_command(
    capsys: pytest.CaptureFixture[str], call: tuple, status: int, line: str
) -> None:
    assert run(*call) == status
    assert capsys.readouterr() == ("", line)


def test_bug_and_debug_show_the_traceback() -> None:
    for bug in (ZeroDivisionError("a bug"), RuntimeError("a bug")):
        with pytest.raises(type(bug), match="a bug"):
            run(bug)
    for error in (UserError("too large"), OSError("too large"), MemoryError("too large")):
        with pytest.raises(type(error), match="too large"):
            run(error, "--debug")


def test_forgiven_output(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    monkeypatch.setattr(sys, "stderr", None)
    errors.forgive_output()
    print("é", flush=True)
    print("é", file=sys.stderr, flush=True)
    assert raw.getvalue() == rb"\xe9" + b"\n"
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    errors.forgive_output()


@pytest.mark.parametrize("lines", [9, 9999])  # what waits until the end, and what does not
def test_reader_that_has_seen_enough_is_no_error(lines: int) -> None:
    code = "from system import errors\n"
    code += f"command = lambda args: input() or [print(i) for i in range({lines})]\n"
    code += "raise SystemExit(errors.run(command, errors.Parser(), []))"
    command, buffered = [sys.executable, "-c", code], {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(
        command, stdin=-1, stdout=-1, stderr=-1, text=True, cwd=ROOT, env=buffered
    ) as process:
        process.stdout.close()
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


# The command lines


@pytest.mark.parametrize("tool", [train, sample, compare])
def test_command_line_is_read_by_default(
    tool: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["python", "--frobnicate"])
    assert tool.main() == 2
    assert capsys.readouterr().err.startswith(f"{tool.__name__}.py: unrecognized arguments: --fro")


@pytest.mark.parametrize("tool", [train, sample, compare, export])
def test_help_lists_every_option(tool: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        tool.main(["--help"])
    shown = capsys.readouterr().out
    assert tool.__doc__.strip() in shown
    for action in tool.parser()._actions:
        assert action.help
        assert all(name in shown for name in action.option_strings)


def test_help_of_training_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        train.main(["--help"])
    shown = capsys.readouterr().out
    for section, cls in get_type_hints(Config).items():
        for field in dataclasses.fields(cls):
            times = 0 if field.name == "vocab_size" else 1
            assert shown.count(f"  {section}.{field.name}=") == times


@pytest.mark.parametrize(
    "argv",
    [
        ["train.seed=3", "--config", "aab", "train.zeed=4"],
        ["--config", "aab", "train.seed=3", "--device", "cpu", "train.zeed=4"],
    ],
)
def test_settings_may_stand_anywhere(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(argv) == 2
    assert "'train.zeed' is no setting" in capsys.readouterr().err
