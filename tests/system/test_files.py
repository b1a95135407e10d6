"""Files that are whole or not there, and folders that one process holds."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from system import files
from system.errors import Fault, UserError
from system.files import alone_in, append_line, clear_temporary, write_whole
from tests.helpers.posix import needs_posix

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


@needs_posix
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


@needs_posix
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
