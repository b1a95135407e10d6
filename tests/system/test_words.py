"""The words of a command line: what is refused names a remedy, and the remedy works when pasted."""

import argparse
import random
import re
import shlex
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

import compare
import export
import look
import sample
import train
from system import hints
from system.errors import UserError
from tests.helpers import ROOT

TOOLS = (train, sample, compare, export, look)
SAFE = ("-h", "--help", "--debug")  # which are obeyed wherever they stand
REQUIRED = {export: ["--to", "new"]}
each_tool = pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)


def parsed(tool: ModuleType, words: list[str]) -> list[Any]:
    """All that a command is told by `words`."""
    given = vars(tool.parser().parse_intermixed_args([*REQUIRED.get(tool, []), *words]))
    values = [value if isinstance(value, list) else [value] for value in given.values()]
    return [str(value) for several in values for value in several]


# What is refused, and the remedies, the likeliest first
MEANT = [
    (train, "--ckpt a/b", "--resume a/b", "train.init_from=a/b"),
    (train, "--checkpoint=a/b", "--resume a/b", "train.init_from=a/b"),
    (train, "--max_steps 10", "train.max_steps=10"),
    (train, "--max-steps=10", "train.max_steps=10"),
    (train, "--train.seed=2", "train.seed=2"),
    (train, "--train.seed 2", "train.seed=2"),
    (train, "--train.sead 2", "train.seed=2"),
    (train, "--data 'my text.txt'", "data.dataset='my text.txt'"),
    (train, "--max_iters=10", "train.max_steps=10"),
    (train, "--minutes 10", "train.minutes=10"),
    (train, "--lr 1e-3", "optim.learning_rate=1e-3"),
    (train, "--out runs/a", "train.out_dir=runs/a"),
    (train, "--confg aab", "--config aab"),
    (train, "--conf aab", "--config aab"),
    (train, "--from_best", "--from-best"),
    (train, "max_steps=10", "train.max_steps=10"),
    (train, "config=aab", "--config aab"),
    (train, "train.seed = 2", "train.seed=2"),
    (train, "train.seed =2", "train.seed=2"),
    (train, "train.seed 2", "train.seed=2"),
    (train, "seed = 2", "train.seed=2"),
    (train, "--config aab train.seed 2 train.max_steps=3", "train.seed=2"),
    (train, "--resume train.max_steps 6000", "train.max_steps=6000"),
    (train, "aab.yaml", "--config aab.yaml"),
    (train, "-- aab", "--config aab"),
    (train, "a/last.pt", "--resume a/last.pt"),
    (train, "tests", "--resume tests"),
    (sample, "a/best.pt", "--ckpt a/best.pt"),
    (sample, "tests", "--ckpt tests"),
    (sample, "'new head'", "--ckpt 'new head'", "--handmade 'new head'", "--prompt 'new head'"),
    (sample, "--resume a/b", "--ckpt a/b"),
    (sample, "-prompt hi", "--prompt hi"),
    (sample, "--Prompt hi", "--prompt hi"),
    (sample, "--pormpt=-hi", "--prompt=-hi"),
    (sample, "--start hi", "--prompt hi"),
    (sample, "--top 1", "--top-k 1", "--top-p 1"),
    (sample, "--num_samples=3", "--num-samples 3"),
    (sample, "--trained_alone", "--trained-alone"),
    (sample, "train.seed=2", "--seed 2"),
    (sample, "seed=2", "--seed 2"),
    (export, "a/b", "--ckpt a/b", "--to a/b", "--handmade a/b"),
    (export, "--out a/b", "--to a/b"),
    (look, "a/best.pt", "--ckpt a/best.pt"),
    (look, "--resume a/b", "--ckpt a/b"),
    (compare, "a/best.pt", "--ckpt a/best.pt"),
    (compare, "--hand-made abc", "--handmade abc"),
]
WRITE = [  # the same, where it is known what was meant
    (train, "train.seed= 2", "train.seed=2"),
    (train, "data.dataset=tests/no such file", None),
    (sample, "--prompt hello big world --seed 3", "--prompt 'hello big world'"),
    (sample, "--prompt=hello world", "--prompt 'hello world'"),
    (sample, "--stop a b", "--stop 'a b'"),
    (look, "--prompt it is", "--prompt 'it is'"),
]


@pytest.mark.parametrize(("tool", "wrong", "remedies"), [(t, w, r) for t, w, *r in MEANT])
def test_did_you_mean(
    tool: ModuleType, wrong: str, remedies: list[str], refusal: Callable, monkeypatch: Any
) -> None:
    monkeypatch.chdir(ROOT)  # where there is a folder called tests
    words = [*REQUIRED.get(tool, []), *shlex.split(wrong)]
    assert refusal(tool.main, *words).endswith(f"; did you mean {' or '.join(remedies)}?\n")
    for remedy in remedies:
        flag = remedy in ("--from-best", "--trained-alone")
        wanted = "True" if flag else shlex.split(remedy)[-1].removeprefix("--prompt=")
        assert wanted in parsed(tool, shlex.split(remedy))


@pytest.mark.parametrize(("tool", "wrong", "remedy"), WRITE)
def test_what_was_cut_by_blanks(
    tool: ModuleType, wrong: str, remedy: str | None, refusal: Callable
) -> None:
    message = refusal(tool.main, *shlex.split(wrong))
    if remedy is None:  # there is no file of that name, so that is not what was meant
        assert "; write " not in message
    else:
        assert message.endswith(f"; write {remedy}\n")
        assert shlex.split(remedy)[-1] in parsed(tool, shlex.split(remedy))


def test_a_path_that_was_cut_by_blanks(home: Any, refusal: Callable) -> None:
    (home / "my text.txt").write_text("a")
    message = refusal(train.main, "data.dataset=my", "text.txt", "--config", "aab")
    assert message.endswith("; write data.dataset='my text.txt'\n")


def test_words_that_mean_nothing(refusal: Callable) -> None:
    for wrong in ("--frobnicate", "--frobnicate=3", "-x", "-9a"):
        assert refusal(sample.main, wrong).endswith(" is no option; --help lists what there is\n")
    assert refusal(train.main, "q=b").endswith("section.key=value; --help lists what there is\n")
    assert "train.py takes others" in refusal(sample.main, "model.n_layer=2")
    assert "--debug takes no value; write --debug alone" in refusal(sample.main, "--debug=3")
    assert "--to PATH is missing; it is the folder to write" in refusal(export.main)
    assert "--window is one of slide, half, roll, not 'z'" in refusal(sample.main, "--window", "z")
    for option in ("--ckpt", "--handmade"):  # what "$UNSET" gives
        assert f"write {option} " in refusal(sample.main, option, "")
    assert "write --resume PATH, or --resume alone" in refusal(train.main, "--resume=")


def taking_values(tool: ModuleType) -> Iterator[argparse.Action]:
    """The options of a command that take a value."""
    yield from (a for a in tool.parser()._actions if a.option_strings and a.nargs != 0)


@each_tool
@pytest.mark.parametrize("value", ["-hello", "---", "-it's", "-$x", "--a=b\\"])
def test_a_value_that_begins_with_a_dash(tool: ModuleType, value: str, refusal: Callable) -> None:
    for action in taking_values(tool):
        name = action.option_strings[0]
        message = refusal(tool.main, *REQUIRED.get(tool, []), name, value)
        remedy = re.search(r"begins with a dash; write (.*)", message)[1]
        assert remedy.startswith(f"{name}=") and shlex.split(remedy) == [f"{name}={value}"]
        if action.choices or action.type not in (None, export.Path):
            with pytest.raises(UserError, match=f"^{name} .* not "):
                parsed(tool, shlex.split(remedy))
        else:
            assert value in parsed(tool, shlex.split(remedy))


@each_tool
def test_a_value_that_is_missing(tool: ModuleType, refusal: Callable) -> None:
    for action in taking_values(tool):
        name, required = action.option_strings[0], REQUIRED.get(tool, [])
        if action.nargs == "?":
            continue
        assert f"{name} takes a value; write {name} " in refusal(tool.main, *required, name)
        other = next(o for o in tool.parser()._option_string_actions if o not in (name, *SAFE))
        for word in (other, "--"):
            message = refusal(tool.main, *required, name, word)
            assert f"{name} takes a value; write {name} " in message
            assert message.endswith(f", or {name}={word}\n")


def test_a_value_that_no_message_can_repeat(refusal: Callable) -> None:
    for value in (f"-{'x' * 1000}", "-a\nb", "-\udc80"):
        assert refusal(sample.main, "--prompt", value).endswith("; write --prompt=VALUE\n")


@pytest.mark.parametrize("value", ["-", "-5", "-.5", "-1e3", "-two words", "", "a=b"])
def test_values_that_need_no_equals_sign(value: str) -> None:
    assert sample.parser().parse_intermixed_args(["--prompt", value]).prompt == value


RESUMED = {
    "--resume": ("", []),
    "--resume a/b": ("a/b", []),
    "--resume=a/b": ("a/b", []),
    "--resume train.max_steps=6": ("", ["train.max_steps=6"]),
    "--resume a/b train.max_steps=6": ("a/b", ["train.max_steps=6"]),
    "train.seed=1 --resume train.seed=2 train.seed=3": (
        "",
        ["train.seed=1", "train.seed=2", "train.seed=3"],
    ),
    "train.max_steps=6 --resume a/b": ("a/b", ["train.max_steps=6"]),
    "--config x.yaml --resume": ("", []),
    "--resume --config x.yaml": ("", []),
    "--resume trian.max_steps=6": ("", ["trian.max_steps=6"]),
    "--resume runs/lr=0.1": ("runs/lr=0.1", []),
    "--resume ./train.max_steps=6": ("./train.max_steps=6", []),
    "--resume=train.max_steps=6": ("train.max_steps=6", []),
    "--resume v1.lr=0.1": ("v1.lr=0.1", []),  # such a folder is there
    "--resume train.seed=2 -- train.seed=3": ("", ["train.seed=2", "train.seed=3"]),
}


@pytest.mark.parametrize("line", RESUMED)
def test_a_path_and_settings_after_resume(line: str, home: Any) -> None:
    for name in ("v1.lr=0.1", "train.max_steps=6", "train.seed=2"):
        (home / name).mkdir()
    args = train.parser().parse_intermixed_args(shlex.split(line))
    assert (args.resume, args.overrides) == RESUMED[line]


@each_tool
def test_what_argparse_reads_too_is_read_as_it_does(tool: ModuleType) -> None:
    """Random lines: what is read is what argparse reads, which refuses nearly the same."""
    parser, rng = tool.parser(), random.Random(1)
    options = [name for name in parser._option_string_actions if name[:2] == "--"]
    options = [name for name in options if name not in ("--help", "--resume")]
    pool = [*options, "a", "3", "0.5", "-1", "-", "x y", "train.seed=2", "half", "cpu", "-x y"]
    both = 0
    for _ in range(1000):
        words = rng.choices(pool, k=rng.randrange(6)) + REQUIRED.get(tool, [])
        try:
            expected = vars(argparse.ArgumentParser.parse_intermixed_args(parser, words))
        except UserError:
            expected = None
        try:
            found = vars(parser.parse_intermixed_args(words))
        except UserError:
            found = None
        if found is not None:
            both += 1
            assert found == expected, words
        elif expected:  # a lone word that is no setting is refused sooner
            assert any("=" not in word for word in expected["overrides"]), words
    assert both > 50


def test_each_alias_leads_to_an_option_or_a_setting() -> None:
    options = {name for tool in TOOLS for name in tool.parser()._option_string_actions}
    there = {name.lstrip("-") for name in options}
    there |= {name.replace("_", "-") for name in train.config.names()}
    assert set().union(*hints.ALIASES.values()) <= there
