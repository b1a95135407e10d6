"""A talk, through a pipe and at a terminal."""

import io
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers.faults import Processes
from tests.writing.conftest import ASK

SHORT = ("--max-new-tokens", "7")


@pytest.fixture
def talk(write: Callable, pipe: Callable) -> Callable:
    """What a talk answers to lines that come through a pipe, and what it says beside that."""

    def talk(lines: str, *argv: str) -> tuple[str, list[str]]:
        pipe(lines.encode())
        status, out, err = write("--interactive", *SHORT, *argv)
        assert status == 0
        return out, err.splitlines()[1:]

    return talk


@pytest.fixture
def text(write: Callable) -> Callable:
    """What sample.py writes from one beginning with a seed, as a whole."""
    return lambda prompt, seed, *argv: write(
        "--prompt", prompt, "--seed", str(seed), *SHORT, *argv
    ).out.removesuffix("\n")


def test_each_line_is_a_fresh_beginning(talk: Callable, text: Callable) -> None:
    expected = [text("a", 1), text("bad", 2), text("\n", 3), text("a", 4)]
    assert talk("a\nbad\n\na") == ("\n".join(expected) + "\n", [])


def test_what_stands_goes_on(talk: Callable, text: Callable) -> None:
    first = text("a", 1)
    more = text(first, 2)
    kept = text(f"{more}egg", 3)
    again = text(kept, 4)
    fresh = text("no", 5)
    shown = [first, more[len(first) :], kept[len(more) :], again[len(kept) :], fresh]
    said = ["each line goes on from all that stands so far", "each line is a fresh beginning"]
    lines = "a\n:more\n:keep\negg\n\n:keep\nno\n"
    assert talk(lines) == ("\n".join(shown) + "\n", said)


def test_the_stop_stands_too(talk: Callable, text: Callable) -> None:
    """A game goes on behind it: the model wrote it, although it is not shown."""
    whole = text("a", 1)
    stop = whole[4:6]
    at = whole.index(stop, 1)
    answer = text(f"{whole[: at + len(stop)]}bad", 2, f"--stop={stop}")[at + len(stop) :]
    out, _ = talk("a\n:keep\nbad\n", f"--stop={stop}")
    assert out == f"{whole[:at]}\n{answer}\n"


def test_commands(talk: Callable, text: Callable) -> None:
    lines = ":temperature 0\n:seed 7\na\n:temperature\n:temperature 0.8\n:seed\na\n"
    expected = f"{text('a', 1, '--temperature=0')}\n{text('a', 8)}\n"
    said = ["temperature 0", "the next text has seed 7", "temperature 0"]
    said += ["temperature 0.8", "the next text has seed 8"]
    assert talk(lines) == (expected, said)
    out, said = talk(":help\n")
    for command in (":more", ":keep", ":temperature", ":seed", ":help", "::", "Ctrl-C"):
        assert out == "" and any(command in line for line in said)


def test_a_line_goes_on(talk: Callable, text: Callable) -> None:
    out, _ = talk("bad\\\negg\\\n\nbad\\nno\nhen\\")
    shown = [text("bad\negg\n", 1), text("bad\nno", 2), text("hen\n", 3)]
    assert out == "\n".join(shown) + "\n"


def test_a_colon_is_written_twice(talk: Callable, text: Callable, saved: Checkpoint) -> None:
    saved.chars = saved.chars.replace("k", ":")
    checkpoint.save(Path("model.pt"), saved)
    assert talk("::a\n::\n") == (f"{text(':a', 1)}\n{text(':', 2)}\n", [])


def test_what_is_wrong_is_said_and_the_talk_goes_on(talk: Callable, text: Callable) -> None:
    wrong = {
        ":temprature 1": "':temprature' is no command; :help lists them, and :: begins a line",
        ":": "':' is no command",
        ":temperature warm": ":temperature takes a number, not 'warm'",
        ":temperature -1": ":temperature must be at least 0 and at most 1e+06, not -1",
        ":temperature nan": "not nan",
        ":seed 1.5": ":seed takes a whole number, not '1.5'",
        ":keep 3": ":keep takes no value; type :keep alone",
        "bütz": "the line has 't' (U+0074), 'z' (U+007A) and 'ü' (U+00FC) not among the 13 known",
    }
    out, said = talk("\n".join([*wrong, "a"]))
    assert out == f"{text('a', 1)}\n" and len(said) == len(wrong)
    for line, words in zip(said, wrong.values(), strict=True):
        assert words in line
    assert "begin the talk with --unknown skip" in said[-1]
    assert talk("bütza\n", "--unknown", "skip")[0] == f"{text('ba', 1)}\n"


def test_bytes_that_are_no_text_name_their_place(
    write: Callable, pipe: Callable, text: Callable
) -> None:
    first = text("é", 1)
    pipe("\ufeffé\r\nb".encode() + b"\xe9\n")
    ended = write("--interactive", *SHORT)
    assert (ended.status, ended.out) == (2, f"{first}\n")
    assert "standard input is not UTF-8 at byte offset 8; pipe UTF-8" in ended.err


def test_no_standard_input(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "--interactive has no standard input to read" in refused("--interactive")


def test_ctrl_c_ends_a_talk_through_a_pipe(
    write: Callable, pipe: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"a\nb\n")
    monkeypatch.setattr("writing.output.show", lambda pieces: signal.raise_signal(signal.SIGINT))
    assert write("--interactive").status == 130


def test_ctrl_c_at_a_terminal_forgets_a_line(
    write: Callable, text: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = iter([KeyboardInterrupt, "a", KeyboardInterrupt, EOFError])

    def pretended(ready: str) -> str:
        line = next(typed)
        if line == "a":
            return line
        raise line

    monkeypatch.setattr("builtins.input", pretended)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    assert write("--interactive", *SHORT).out == f"\n{text('a', 1)}\n\n\n"


def test_output_that_is_no_terminal_has_no_prompts(
    talk: Callable, pipe: Callable, write: Callable, text: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"a\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    ended = write("--interactive", *SHORT)
    assert ended.out == f"{text('a', 1)}\n" and ended.err.endswith("there is\n> > ")


def test_at_a_terminal(write: Callable, text: Callable, processes: Processes, home: Path) -> None:
    """Ctrl-C stops a text, Ctrl-P is the line before, Ctrl-D ends."""
    first = text("bad egg", 1)
    typed = [
        ("> ", "bad egx\x7fg\r"),
        (first, "\x03"),
        ("\n> ", ":seed 1\r"),
        ("\n> ", "\x10\x10\r"),
        (first, "\x03"),
        ("\n> ", "\x04"),
    ]
    argv = (*ASK, "--max-new-tokens", "1000000", "--interactive")
    ended = processes.run("sample", *argv, cwd=home, typed=typed)
    assert ended.status == 0
    assert ended.out.count(first) == 2 and ":help lists what else there is" in ended.out
