"""The command line: what it takes, what its help shows, how a command ends."""

import argparse
import dataclasses
import runpy
import shlex
import signal
import subprocess
import sys
import time
from typing import get_type_hints

import pytest
import torch

import compare
import export
import sample
import score
import train
from system import commandline
from system.commandline import Parser
from system.errors import Fault, UserError
from system.interrupt import Terminated
from system.settings import Config
from tests.helpers import ROOT
from tests.helpers.posix import HUP


def run(outcome: BaseException | int, *argv: str) -> int:
    """What `commandline.run` makes of a command that ends like this."""

    def command(args: argparse.Namespace) -> int:
        if isinstance(outcome, int):
            return outcome
        raise outcome

    parser = Parser(prog="tool.py")
    parser.add_argument("--size", type=int)
    return commandline.run(command, parser, list(argv))


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
    ((Terminated(signal.SIGTERM),), 143, ""),
    ((Terminated(HUP),), 129, ""),
    ((BrokenPipeError(),), 141, ""),
    ((MemoryError(),), 1, NO_MEMORY),
    ((torch.OutOfMemoryError("CUDA out of memory."),), 1, NO_MEMORY),
    ((RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)."),), 1, NO_MEMORY),
    ((RuntimeError("CUDA error: out of memory\nadvice"),), 1, NO_MEMORY),
    (
        (
            NotImplementedError(
                "The operator 'aten::take' is not there for the MPS device. Advice."
            ),
        ),
        1,
        "tool.py: The operator 'aten::take' is not there for the MPS device; use --device cpu\n",
    ),
    ((0, "--sise=3"), 2, "tool.py: '--sise' is no option; did you mean --size 3?\n"),
    ((0, "--foo"), 2, "tool.py: '--foo' is no option; --help lists what there is\n"),
    (
        (OSError(28, "No space left on device", "runs/a.png"),),
        1,
        "tool.py: runs/a.png: No space left on device; "
        "check the path, its permissions and the room on the disk\n",
    ),
    ((0, "--size=x"), 2, "tool.py: --size is a whole number, not 'x'\n"),
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


# The command lines


@pytest.mark.parametrize("tool", [train, sample, score, compare])
def test_command_line_is_read_by_default(
    tool: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["python", "--frobnicate"])
    assert tool.main() == 2
    assert capsys.readouterr().err.startswith(f"{tool.__name__}.py: '--frobnicate' is no option; ")


@pytest.mark.parametrize("tool", [train, sample, score, compare, export])
def test_help_lists_every_option(tool: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        tool.main(["--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(tool.__doc__.strip())
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


@pytest.mark.parametrize("tool", [train, sample, score, compare, export])
def test_help_begins_with_examples_that_work(tool: object) -> None:
    about, examples, *_ = tool.__doc__.split("\n\n")
    assert about.endswith(".") and "\n" not in about
    lines = [line.strip() for line in examples.splitlines()]
    assert len(lines) in range(2, 6)
    for line in lines:
        example, _, meaning = line.partition("  ")
        assert meaning
        python, script, *argv = shlex.split(example)
        assert (python, script) == ("python", f"{tool.__name__}.py")
        assert not tool.parser().parse_intermixed_args(argv).debug


# How a command begins


def test_imports_are_done_without_looking_for_garbage() -> None:
    code = """
import gc
from system.commandline import Parser, begin, run
begin()
print(gc.isenabled(), gc.get_freeze_count())
run(lambda args: print(gc.isenabled(), gc.get_freeze_count() > 1000) or 0, Parser(), [])
frozen = gc.get_freeze_count()
run(lambda args: print(gc.isenabled(), gc.get_freeze_count() <= frozen) or 0, Parser(), [])
"""
    python = [sys.executable, "-c", code]
    out = subprocess.run(python, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    assert out.splitlines() == ["False 0", "True True", "True True"]


def test_a_command_knows_when_its_process_began() -> None:
    found = []

    def command(args: argparse.Namespace) -> int:
        found.append(args.begun)
        return 0

    before = time.perf_counter()
    assert commandline.run(command, Parser(), []) == 0  # which no `begin` came before
    assert before <= found[0] <= time.perf_counter()
    commandline.run(command, Parser(), [], 12.5)
    assert found[1] == 12.5


def test_training_is_told_when_its_process_began(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(commandline, "begin", lambda: 12.5)
    monkeypatch.setattr(commandline, "run", lambda *args: given.append(args[-1]) or 7)
    with pytest.raises(SystemExit, match="7"):
        runpy.run_path(train.__file__, run_name="__main__")
    assert given == [12.5]
