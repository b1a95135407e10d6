"""What Windows and macOS lack or do otherwise, seen in the source and by stand-ins."""

import ast
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from system import files
from system.errors import Fault, UserError
from system.files import alone_in, append_line, write_whole
from tests.helpers import ROOT
from tests.helpers.posix import needs_posix
from tests.test_architecture import TREES

try:
    import fcntl
except ImportError:  # this is Windows
    fcntl = None

MODULES = {"fcntl", "resource", "pty", "tty", "termios", "pwd", "grp", "syslog"}
NAMES = {  # what POSIX has and Windows does not
    "os": "fork forkpty getuid geteuid getgid uname mkfifo killpg getpgid setsid wait wait3 wait4 "
    "statvfs sysconf sched_getaffinity sched_setaffinity nice chown O_NOFOLLOW WNOHANG openpty",
    "signal": "SIGKILL SIGHUP SIGPIPE SIGSTOP SIGCONT SIGALRM SIGCHLD SIGUSR1 SIGUSR2 SIGQUIT "
    "alarm setitimer pause sigwait pthread_kill",
}
ABSENT = {f"{module}.{name}" for module, names in NAMES.items() for name in names.split()}
TESTS = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.glob("tests/**/*.py"))}


def imported(node: ast.AST) -> set[str]:
    """The names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    return {node.module} if isinstance(node, ast.ImportFrom) else set()


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """`node` and all below it that runs when the module is imported: no body of a function."""
    yield node
    for field, value in ast.iter_fields(node):
        if field == "body" and isinstance(node, ast.FunctionDef | ast.Lambda):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from at_import(child)


def missing(tree: ast.Module, nodes: Iterator[ast.AST]) -> set[str]:
    """What of `nodes` Windows has not, unless the module asks first: by `try`, hasattr, getattr."""
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try)]
    asked = {name for each in tries for node in each.body for name in imported(node)}
    asked |= {getattr(node, "value", None) for node in ast.walk(tree)}  # "SIGHUP"
    found = set()
    for node in nodes:
        found |= imported(node) & MODULES - asked
        if isinstance(node, ast.Attribute) and node.attr not in asked:
            found |= {ast.unparse(node)} & ABSENT
    return found


@pytest.mark.parametrize("module", TREES)
def test_nothing_is_used_that_windows_lacks(module: str) -> None:
    assert not missing(TREES[module], ast.walk(TREES[module]))


@pytest.mark.parametrize("path", TESTS)
def test_tests_are_collected_on_windows(path: str) -> None:
    tree = ast.parse(TESTS[path].read_text("utf-8"))
    assert not missing(tree, at_import(tree))


SOURCES = {
    "import fcntl": {"fcntl"},
    "from resource import getrusage": {"resource"},
    "def f():\n    import os\n    os.fork()": {"os.fork"},
    "import signal\nEND = signal.SIGHUP": {"signal.SIGHUP"},
    "try:\n    import fcntl\nexcept ImportError:\n    fcntl = None\nfcntl.flock(3, 4)": set(),
    "import signal\nEND = signal.SIGHUP if hasattr(signal, 'SIGHUP') else 0": set(),
}


@pytest.mark.parametrize(("source", "found"), SOURCES.items())
def test_what_windows_lacks_is_noticed(source: str, found: set[str]) -> None:
    tree = ast.parse(source)
    assert missing(tree, ast.walk(tree)) == found
    inside = {name for name in found if "def " in source}
    assert missing(tree, at_import(tree)) == found - inside


def failing(reason: OSError) -> Callable[..., None]:
    """A function that fails."""

    def fail(*args: object) -> None:
        raise reason

    return fail


# Windows

NO_ACCESS = PermissionError(errno.EACCES, "Permission denied")


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files as Windows has them: other locks, of bytes that no one else reads; none goes if open.

    Here flock does the locking, whose locks are those of an open file, too.
    """
    flock, unlink, how = fcntl.flock, Path.unlink, fcntl.LOCK_EX | fcntl.LOCK_NB

    def locking(handle: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        assert os.lseek(handle, 0, os.SEEK_CUR) > 1000  # where the number of the process is not
        try:
            flock(handle, how)
        except BlockingIOError:
            raise NO_ACCESS from None

    def unlink_closed(path: Path, missing_ok: bool = False) -> None:
        if path.name == files.LOCK:
            with path.open("rb") as file:
                try:
                    flock(file, how)
                except BlockingIOError:
                    raise NO_ACCESS from None
        unlink(path, missing_ok)

    monkeypatch.setattr(files, "fcntl", None)
    stand_in = SimpleNamespace(LK_NBLCK=2, locking=locking)
    monkeypatch.setattr(files, "msvcrt", stand_in, raising=False)
    monkeypatch.setattr(Path, "unlink", unlink_closed)


@needs_posix
def test_a_folder_is_held_on_windows(tmp_path: Path, windows: None) -> None:
    folder = tmp_path / "run"
    for _ in range(2):
        with alone_in(folder):
            assert (folder / files.LOCK).read_text() == str(os.getpid())
            for _ in range(2):
                with pytest.raises(UserError, match=f"run is in use by process {os.getpid()}; "):
                    alone_in(folder).__enter__()
        assert not folder.exists()


@needs_posix
def test_windows_without_locks(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(files.msvcrt, "locking", failing(OSError(22, "Invalid argument")))
    with alone_in(tmp_path):
        pass
    assert "cannot be held against other runs (Invalid argument)" in capsys.readouterr().err


@needs_posix
@pytest.mark.parametrize("times", [0, 1, len(files.PAUSES)])
def test_a_file_that_is_being_read_is_replaced(
    tmp_path: Path, windows: None, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    path, pauses, replace = tmp_path / "last.pt", [], Path.replace
    path.write_bytes(b"old")

    def refuse(source: Path, target: Path) -> None:
        if len(pauses) < times:
            raise NO_ACCESS
        replace(source, target)

    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr("time.sleep", pauses.append)
    write_whole(path, b"new")
    assert path.read_bytes() == b"new" and [*tmp_path.iterdir()] == [path]
    assert pauses == [*files.PAUSES[:times]]


@needs_posix
@pytest.mark.parametrize("system", ["windows", "here"])
def test_a_file_that_stays_in_use_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, system: str
) -> None:
    if system == "windows":
        request.getfixturevalue("windows")
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr(Path, "replace", failing(NO_ACCESS))
    with pytest.raises(Fault, match=r"last\.pt could not be written: Permission denied; it needs"):
        write_whole(tmp_path / "last.pt", b"new")
    assert not any(tmp_path.iterdir())
    assert pauses == ([*files.PAUSES] if system == "windows" else [])


@needs_posix
def test_ids_that_stay_mapped_stand_in_no_way(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that is mapped: it stays until the next run in the folder."""
    unlink, mapped = Path.unlink, set()

    def unlink_others(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith(".ids") and path.exists() and path not in mapped:
            mapped.add(path)  # in the process that is running
            raise NO_ACCESS
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_others)
    settings = ("data.map_above_mb=0", "train.out_dir=run")
    assert tiny(*settings).status == 0
    scratch = Path("run/.ids.0.bin")
    assert mapped == {scratch} and scratch.exists()
    assert tiny("--resume", "train.max_steps=12", "train.out_dir=run").status == 0
    assert not scratch.exists()


# macOS


@pytest.mark.parametrize("there", [True, False])
def test_the_drive_of_a_mac_is_told_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    done = []

    def control(handle: int, what: int) -> None:
        done.append((what, os.fstat(handle).st_ino))
        if not there:  # as on a network file system
            raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=control))
    monkeypatch.setattr("os.fsync", lambda handle: done.append(os.fstat(handle).st_ino))
    path = write_whole(tmp_path / "last.pt", b"new")
    file, folder = path.stat().st_ino, tmp_path.stat().st_ino
    assert done == [file, (51, file), folder, (51, folder)]
    done.clear()
    append_line(path, "more")
    assert done == [file, (51, file)]
