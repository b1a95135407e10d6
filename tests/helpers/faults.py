"""Commands in processes of their own, which meet with signals, kills and full disks.

A server process imports torch once and forks itself for each command, so that a command starts in
milliseconds. A fault is done at the nth call of a function, before or after it:

    {"at": "os.fsync", "nth": 3, "signals": [9]}                    kill -9 before the third
    {"at": "training.metrics.append", "after": true, "signals": [15]}    SIGTERM after the first
    {"at": "write", "signals": [9]}                                 with half of a file written
    {"at": "system.checkpoint.save", "nth": 2, "file_size": 100}    let no file grow larger

Or with what is printed, from the start: {"unread": [1, 2]}, {"full": [1]}, {"hang_up": "step 4/"}.
"""

import contextlib
import gc
import importlib
import json
import os
import pathlib
import pkgutil
import re
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tests.helpers import ROOT

GREETING = r"^\[Gloo\] .*\n"  # of torch 2.7 to 2.9, on standard output
LO = "lo0" if sys.platform == "darwin" else "lo"


class Ended(NamedTuple):
    """How a process ended: its exit status, or less than 0 for the signal that killed it."""

    status: int
    out: str
    err: str


class Processes:
    """The server; `run` runs a command in a process of its own and waits until it ends.

    modules: what the commands need beside torch, imported once for all of them
    """

    def __init__(self, *modules: str) -> None:
        self.modules = modules

    def __enter__(self) -> "Processes":
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", __name__, *self.modules]
        self.server = subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()

    def run(self, tool: str, *argv: object, cwd: Path, **task: Any) -> Ended:
        """Run `tool`.py with `argv` in `cwd`, without the picture unless `picture` is true.

        `kill_after` is in seconds, `ignored` are signals; `together` is for how many seconds
        signals count as one; nobody reads the handles `unread`, and `full` lead to a full disk;
        `hang_up`: a terminal that closes once this is shown; `typed`: one at which, each time that
        the first of two is shown, the second is typed. `environ` are variables for what is
        imported late; the name of no module that is imported may have a part that is in `without`.
        The rest is a fault.
        """
        return self.run_all(1, tool, *argv, cwd=cwd, **task)[0]

    def run_all(self, ranks: int, tool: str, *argv: object, cwd: Path, **task: Any) -> list[Ended]:
        """The same in `ranks` processes that share the work, as torchrun would start them.

        The fault is that of all of them, or of number `rank`.
        """
        task |= {"ranks": ranks, "tool": tool, "argv": [*map(str, argv)], "cwd": str(cwd)}
        print(json.dumps(task), file=self.server.stdin, flush=True)
        ended = [Ended(*each) for each in json.loads(self.server.stdout.readline())]
        for each in ended:
            assert "Traceback" not in each.err, each.err
        return ended


def serve(*modules: str) -> None:
    """Import `modules`, and run the commands that come in as lines of JSON, one after the other."""
    gc.disable()  # until a command runs, as `commandline.begin` does
    for name in ("sample", "train", *modules):
        importlib.import_module(name)
    for line in sys.stdin:
        task = json.loads(line)
        if "hang_up" in task or "typed" in task:
            print(json.dumps([at_a_terminal(task)]), flush=True)
            continue
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        started = [start(task, rank, port) for rank in range(task["ranks"])]
        if "kill_after" in task:
            time.sleep(task["kill_after"])
            os.kill(started[0][0], signal.SIGKILL)
        print(json.dumps([finish(*process) for process in started]), flush=True)


def start(task: dict[str, Any], rank: int, port: int) -> tuple[int, int, int]:
    """Fork one process of a command: its number, and where what it writes can be read."""
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(out_end, 1)
        os.dup2(err_end, 2)
        if task["ranks"] > 1:
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": LO}
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": task["ranks"]}
            os.environ |= {name: str(value) for name, value in (meeting | place).items()}
        os._exit(child(task, fault=task.get("rank", rank) == rank))
    os.close(out_end)
    os.close(err_end)
    return pid, out, err


def at_a_terminal(task: dict[str, Any]) -> tuple[int, str, str]:
    """Run a command in a terminal, where keys are typed, or which closes, as `task` says."""
    import pty  # here, as these are not on Windows
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - the server's own is another
        termios.tcsetwinsize(1, (24, 100))
        os._exit(child(task, fault=True))
    shown, after = "", 0
    for words, keys in task.get("typed", [(task.get("hang_up"), None)]):
        while words not in shown[after:]:
            shown += read(terminal)
        after = len(shown)
        if keys is not None:
            os.write(terminal, keys.encode())
    while "typed" in task and (more := read(terminal)):
        shown += more
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown, ""


def read(terminal: int) -> str:
    """What a terminal shows next, with the line ends of a text; nothing once its command is gone.

    What it shows is ASCII, or a character may be cut in two.
    """
    with contextlib.suppress(OSError):  # Linux's word for the end
        return os.read(terminal, 1 << 16).decode(errors="replace").replace("\r\n", "\n")
    return ""


def finish(pid: int, *ends: int) -> tuple[int, str, str]:
    """Wait for a process: its status, and what it wrote."""
    written = []
    for end in ends:  # until it ends
        with open(end, encoding="utf-8") as file:  # noqa: PTH123 - a handle has no path
            written.append(
                re.sub(r"^\[Gloo\] .*\n", "", file.read(), flags=re.M)
            )  # torch 2.7 to 2.9
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), *written


def child(task: dict[str, Any], *, fault: bool) -> int:
    """The status with which the command of `task` ends in this process, which may meet a fault."""
    from system import interrupt  # here: who only asks a server needs no torch
    from training import loop, metrics

    try:
        lead_nowhere(task)
        sys.stdout = open(1, "w", encoding="utf-8")  # noqa: SIM115 - as Python's own, in blocks
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8")  # noqa: SIM115
        os.chdir(task["cwd"])
        loop.SAMPLE_CHARACTERS = 9
        if not task.get("picture"):  # it takes longer than the rest
            metrics.plot = lambda folder: None
        for number in task.get("ignored", []):
            signal.signal(number, signal.SIG_IGN)
        interrupt.TOGETHER = task.get("together", interrupt.TOGETHER)
        os.environ |= task.get("environ", {})
        if "at" in task and fault:
            install(task)
        status = pkgutil.resolve_name(f"{task['tool']}:main")(task["argv"])
        sys.stdout.flush()
        for part in task.get("without", []):
            assert not [name for name in sys.modules if part in name]
    except BaseException:
        traceback.print_exc()
        status = 99
    return status


def lead_nowhere(task: dict[str, Any]) -> None:
    """Let handles of this process lead to a full disk, or to a pipe that nobody reads."""
    for number in task.get("full", []):
        os.dup2(os.open("/dev/full", os.O_WRONLY), number)
    for number in task.get("unread", []):
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, number)


def install(fault: dict[str, Any]) -> None:
    """Do `fault` when its function is called for the nth time."""
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == fault.get("nth", 1)

    def act() -> None:
        if size := fault.get("file_size"):
            import resource  # here, because Windows has none, and these names are imported there

            limit = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit))
        for number in fault.get("signals", []):
            os.kill(os.getpid(), number)

    def wrapped(original: Callable) -> Callable:
        def call(*args: Any, **kwargs: Any) -> Any:
            now = due()
            if now and not fault.get("after"):
                act()
            result = original(*args, **kwargs)
            if now and fault.get("after"):
                act()
            return result

        return call

    def opened(original: Callable) -> Callable:
        def call(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            file = original(path, mode, *args, **kwargs)
            if mode in ("xb", "ab") and due():
                if fault["at"] == "open":
                    act()
                return HalfWritten(file, act)
            return file

        return call

    if fault["at"] in ("open", "write"):
        pathlib.Path.open = opened(pathlib.Path.open)
    else:
        owner, _, name = fault["at"].rpartition(".")
        owner = pkgutil.resolve_name(owner)
        setattr(owner, name, wrapped(getattr(owner, name)))


class HalfWritten:
    """An open file into which only half can be written before something happens."""

    def __init__(self, file: Any, act: Callable[[], None]) -> None:
        self.file, self.act = file, act

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        self.file.flush()
        self.act()
        self.file.write(content[len(content) // 2 :])

    def __enter__(self) -> "HalfWritten":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


if __name__ == "__main__":
    serve(*sys.argv[1:])
    os._exit(0)  # to take apart what torch has imported takes most of a second
