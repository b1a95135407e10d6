"""What is printed arrives at once, as it is, and only a command whose text counts ends by it."""

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from system import output
from system.commandline import Parser, run
from tests.helpers import ROOT
from tests.helpers.faults import Ended


def test_forgiven_output(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    output.forgive_output()
    print("é", flush=True)
    assert raw.getvalue() == rb"\xe9" + b"\n"
    for stream in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", stream)
        output.forgive_output()
        sys.stdout.write("é")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Ja\x00\x08", r"\x1b[2Ja\x00\x08"),
        ("\x7f\x80\x9b\x9f\xa0é", "\\x7f\\x80\\x9b\\x9f\xa0é"),
        ("a\tb\nc\r\nd", "a\tb\nc\r\nd"),
        ("a\rb\r\r\n\r", "a\\x0db\\x0d\r\n\\x0d"),
        ("\\x1b", "\\x1b"),
        ("", ""),
    ],
)
def test_a_text_does_nothing_to_a_terminal(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it is cut into pieces; and it stays as it is where no terminal is."""
    for cuts in itertools.product([False, True], repeat=max(0, len(text) - 1)):
        edges = [0, *(i for i, cut in enumerate(cuts, 1) if cut), len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
        monkeypatch.setattr(sys, "stdout", Terminal())
        assert "".join(output.harmless(pieces)) == shown
        for stream in (io.StringIO(), None):
            monkeypatch.setattr(sys, "stdout", stream)
            assert list(output.harmless(pieces)) == pieces


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [("utf-8", "↵"), ("utf-16", "↵"), ("ascii", r"\n"), ("latin-1", r"\n"), ("cp1252", r"\n")],
)
def test_a_text_in_one_line(encoding: str, mark: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a terminal and for a file; what a line end looks like depends on what can be shown."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    text, shown = (
        "a\nb\r\n\r\r\nc\u2028\td\u2029\x1b\x85\x0b",
        r"a|b|\x0d|c|" "\t" r"d|\x1b\x85\x0b",
    )
    for terminal in (False, True):
        monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal, raising=False)
        monkeypatch.setattr(sys, "stdout", output.Unbroken(stream))
        assert output.in_one_line(text) == shown.replace("|", mark)
    for other in (io.StringIO(), None):
        monkeypatch.setattr(sys, "stdout", other)
        assert output.in_one_line("a\n\x00") == r"a↵\x00"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])  # as Python opens it, and as it does on Windows
def test_every_line_is_there_when_it_is_printed(
    newline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    with log.open("w", newline=newline) as stream:
        monkeypatch.setattr(sys, "stdout", stream)

        def command(args: object) -> int:
            for i in range(1, 4):
                print("line\r", i, sep="\n")
                assert log.read_bytes() == b"".join(b"line\r\n%d\n" % j for j in range(1, i + 1))
            return 7

        assert run(command, Parser(), []) == 7


PROGRAM = """
import contextlib
import sys
from system.commandline import Parser, run
from system.output import unbroken

def command(args):
    if args.what == "word":
        print(end="word")
        return 7
    with unbroken("stdout") if args.what == "files" else contextlib.nullcontext():
        for i in range(9999):
            print(i, flush=i < 3)
            print(i, file=sys.stderr, flush=i < 3)
        print(end="the end")
    return 7

parser = Parser(prog="tool.py")
parser.add_argument("what")
sys.exit(run(command, parser, None))
"""
LINES = "".join(f"{i}\n" for i in range(9999))
TEXT = f"{LINES}the end"
FULL = (
    "tool.py: No space left on device; check the path, its permissions and the room on the disk\n"
)


@pytest.fixture
def full() -> Iterator[TextIO]:
    """A file on a full disk."""
    disk = Path("/dev/full")
    if not disk.exists():
        pytest.skip("there is no /dev/full here")
    with disk.open("w") as stream:
        yield stream


def tool(what: str, out: TextIO | int = -1, err: TextIO | int = -1) -> Ended:
    """Run PROGRAM, as Python runs it where nothing is set; None for what was not piped."""
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}
    python = [sys.executable, "-c", PROGRAM, what]
    ended = subprocess.run(python, stdout=out, stderr=err, text=True, cwd=ROOT, env=environment)
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def test_a_text_that_nobody_takes(unread: TextIO, full: TextIO) -> None:
    for what in ("text", "word"):  # while it is written, and as it ends
        assert tool(what, out=unread) == (141, None, "")
        assert tool(what, out=full) == (1, None, FULL)
    assert tool("--help", out=full) == (0, None, "")


def test_where_files_count_nothing_that_is_printed_does(unread: TextIO, full: TextIO) -> None:
    for stream in (unread, full):
        assert tool("files", out=stream) == (7, None, LINES)
        assert tool("files", out=stream, err=stream).status == 7


def test_standard_error_ends_nothing(unread: TextIO, full: TextIO) -> None:
    for stream in (unread, full):
        assert tool("text", err=stream) == (7, TEXT, None)
    shell = [*("sh", "-c", '"$@" 2>&-', "sh"), sys.executable, "-c", PROGRAM, "text"]
    ended = subprocess.run(shell, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert (ended.returncode, ended.stdout) == (7, TEXT)


def test_room_that_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Disk(io.FileIO):
        full = False

        def write(self, content: bytes) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(content)

    disk = Disk(tmp_path / "log", "w")
    stream = io.TextIOWrapper(io.BufferedWriter(disk), line_buffering=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with output.unbroken("stdout"):
        print(1)
        disk.full = True
        print(2)
        disk.full = False
        print(3)
    assert sys.stdout is stream
    assert (tmp_path / "log").read_text() == "1\n2\n3\n"
