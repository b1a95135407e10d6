"""Text for programs: each option with each other, against samples that are written one by one."""

import functools
import itertools
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sample
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers.fuzz import drawn
from tests.writing.conftest import ASK

FUZZ = int(os.environ.get("FUZZ", "40"))  # examples of options
LINES = ["a", "no", "bad egg", "b", "hen é and a"]  # two pairs fill the context equally far
some = st.sampled_from
FLAGS = {name: st.just("") for name in ("--interactive", "--json", "--no-prompt")}
OPTIONS = {
    "--prompt": some(["a", r"bad\negg"]),
    "--prompts": some(["lines.txt", "-"]),
    "--num-samples": some(["1", "3"]),
    "--separator": some(["", r"\0", "é", r"\n\n"]),
    "--max-new-tokens": some(["0", "7"]),
    "--seed": some(["1", "2"]),
    "--window": some(["slide", "half"]),
}
STOPS = st.lists(some(["a", r"\n", "no", "hen"]), max_size=2)
INPUTS = ("--prompt", "--prompts", "--interactive")


def cut(text: str, stops: list[str]) -> str:
    """What stands before the first stop that is whole."""
    ends = [
        min(text[:end].find(s) for s in stops if s in text[:end])
        for end in range(len(text) + 1)
        if any(s in text[:end] for s in stops)
    ]
    return text[: ends[0]] if ends else text


def clash(given: dict[str, str]) -> bool:
    """Whether options of `given` exclude each other."""
    alone = ("--interactive", ("--num-samples", "--separator", "--json"))
    several = sum(name in given for name in INPUTS) > 1
    talk = alone[0] in given and any(name in given for name in alone[1])
    return several or talk or {"--json", "--separator"} <= given.keys()


def test_every_option_with_every_other(write: Callable, pipe: Callable) -> None:
    endings = Counter()
    Path("lines.txt").write_text("\n".join(LINES))

    @functools.cache
    def alone(prompt: str, seed: int, most: str, window: str) -> str:
        """The text that follows a prompt, without any of the options that are tried."""
        settings = (f"--seed={seed}", f"--max-new-tokens={most}", f"--window={window}")
        return write(f"--prompt={prompt}", *settings).out.removesuffix("\n")[len(prompt) :]

    @drawn(FUZZ)
    @given(st.fixed_dictionaries({}, optional=OPTIONS | FLAGS), STOPS)
    def example(given: dict[str, str], stops: list[str]) -> None:
        given = {"--max-new-tokens": "7", "--seed": "1", "--window": "slide"} | given
        words = [name if name in FLAGS else f"{name}={value}" for name, value in given.items()]
        pipe("\n".join(LINES).encode())
        status, out, err = write(*words, *(f"--stop={stop}" for stop in stops))
        endings[status] += 1
        if clash(given):
            assert (status, out, err.count("\n")) == (2, "", 1) and "exclude each other" in err
            return
        lines = LINES if "--prompts" in given or "--interactive" in given else ["\n"]
        lines = [given["--prompt"].replace(r"\n", "\n")] if "--prompt" in given else lines
        prompts = [line for line in lines for _ in range(int(given.get("--num-samples", 1)))]
        expected, stops = [], [stop.replace(r"\n", "\n") for stop in stops]
        for i, prompt in enumerate(prompts):
            seed = int(given["--seed"]) + i
            whole = alone(prompt, seed, given["--max-new-tokens"], given["--window"])
            text = cut(whole, stops)
            ended = "stop" if text != whole else "length"
            expected.append({"prompt": prompt, "text": text, "ended": ended, "seed": seed})
        bare = "--no-prompt" in given
        if "--json" in given:
            rows = [json.loads(line) for line in out.splitlines()]
            assert all(row.pop("model") == "model.pt, step 3" for row in rows)
            shown = [{k: v for k, v in e.items() if k != "prompt" or not bare} for e in expected]
            assert (status, rows) == (0, shown) and out.isascii()
            return
        between = given.get("--separator", "\n---\n").replace(r"\0", "\0").replace(r"\n", "\n")
        between = "\n" if "--interactive" in given else between
        texts = [e["text"] if bare else e["prompt"] + e["text"] for e in expected]
        assert (status, out) == (0, between.join(texts) + "\n")

    example()
    assert set(endings) == {0, 2}


def test_several_batches_of_a_length(write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lines.txt").write_text("\n".join(LINES))
    ask = ("--prompts", "lines.txt", "--num-samples", "5", "--max-new-tokens", "9", "--json")
    together = write(*ask)
    monkeypatch.setattr("writing.samples.MOST_ROWS", 2)
    assert write(*ask) == together and together.out.count("\n") == 25


def test_a_single_batch_comes_as_it_is_made(
    write: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("writing.texts.Text.finish", None)
    assert write("--num-samples", "2").status == 0
    with pytest.raises(TypeError, match="not callable"):
        Path("lines.txt").write_text("a\nab\n")
        write("--prompts", "lines.txt", "--debug")


def test_at_a_terminal_the_line_before_a_sample_is_enough(
    write: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = ("--prompt", "a", "--num-samples", "2", "--max-new-tokens", "3")
    for terminals, between in itertools.product(((True, True), (True, False)), (None, "|")):
        for stream, terminal in zip((sys.stdout, sys.stderr), terminals, strict=True):
            monkeypatch.setattr(stream, "isatty", lambda terminal=terminal: terminal)
        out = write(*ask, *(("--separator", between) if between else ())).out
        assert out[4:].startswith(between or ("\n" if all(terminals) else "\n---\n"))


def test_lines_of_any_system(write: Callable, pipe: Callable) -> None:
    Path("lines.txt").write_bytes("a\nno é\n".encode())
    ask = ("--json", "--max-new-tokens", "9", "--prompts")
    expected = write(*ask, "lines.txt")
    for content in ("a\r\nno é\r\n", "\ufeffa\nno é"):
        pipe(content.encode())
        assert write(*ask, "-") == expected


def test_prompts_that_are_refused(refused: Callable, pipe: Callable) -> None:
    for content, words in (
        (b"", "--prompts - is empty; it takes one prompt a line"),
        (b"a\nb\xff\n", "--prompts - is not UTF-8 at byte offset 3"),
        (b"a\n\nb", "line 2 of standard input '' has no character to start from"),
        (b"a\nbz\n", "line 2 of standard input has 'z' (U+007A) not among the 13 known"),
        (rb"a\x", r"line 1 of standard input has '\\' (U+005C) and 'x' (U+0078) not among"),
    ):
        pipe(content)
        assert words in refused("--prompts", "-")
    assert "--prompts gone cannot be read: No such file" in refused("--prompts", "gone")


def test_a_stop_that_cannot_come(refused: Callable) -> None:
    assert "--stop 'a£' has '£' (U+00A3) not among the 13 known" in refused("--stop", "a£")
    assert "--stop is empty" in refused("--stop", "a", "--stop", "")


def test_an_alphabet_with_a_backslash(write: Callable, saved: Checkpoint, call: Callable) -> None:
    saved.chars = saved.chars.replace("k", "\\")
    checkpoint.save(Path("model.pt"), saved)
    ended = write("--prompt", r"a\n", "--max-new-tokens", "0")
    note = (
        r"\n in --prompt is taken literally, because this model knows the backslash; "
        r"for a line end write $'\n'"
    )
    assert (ended.out, ended.err.splitlines()[1:]) == ("a\\n\n", [note])
    stopped = write("--prompt", r"a\\b", "--stop", "b", "--stop", r"\n", "--temperature", "0")
    assert stopped.out.startswith(r"a\\b") and stopped.err.count("is taken literally") == 1
    assert r"\n in --stop" in stopped.err
    assert "literally" not in write("--prompt", "a\n", "--stop", "\n").err  # the remedy


def test_any_output_gets_json(write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii", raising=False)
    assert json.loads(write("--prompt", "é", "--json").out)["prompt"] == "é"


@pytest.mark.parametrize("how", ["--json", "--interactive", "--no-prompt"])
def test_a_reader_that_is_gone(
    how: str, write: Callable, pipe: Callable, unread: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(b"a\n" * 9)
    monkeypatch.setattr(sys, "stdout", unread)
    assert sample.main([*ASK, how]) == 141
