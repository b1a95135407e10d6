"""The command: what it asks, what it prints, and that a kill costs nothing."""

import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import experiment
import sample
from experiments import lab
from system import checkpoint
from tests.helpers.faults import Ended, Processes

RULE = "chars: ab\nblock_size: 3\ndefault: a\nrules: {aa: b}\n"
SMALL = ("--handmade", "tiny.yaml", "--steps", 20, "--seeds", 2, "--batch-size", 8)
FEW = ("--arms", "same", "blurred", "between", "--blur", 1, 64, "--data", "every", "own")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[..., Ended]) -> Callable:
    """Run an experiment on a tiny rule, one run after the other."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RULE)
    return lambda *argv: call(experiment.main, *SMALL, "--jobs", 1, *argv)


def test_every_arm(tiny: Callable) -> None:
    status, out, err = tiny()
    assert status == 0
    assert re.fullmatch(
        r"30 runs; judged in all of 14 contexts\nat most \d+ s here, 1 side by side; "
        r"checkpoints/experiment-tiny keeps each run, .*\n",
        err,
    )
    rows = [line.split() for line in out.splitlines()]
    names = [row[0] for row in rows[1:16]]
    assert (
        names
        == ["same", "roomier", *["blurred"] * 5, *["noisy"] * 4, *["attention"] * 2]
        + ["feed-forward"] * 2
    )
    unblurred = out.splitlines()[3]
    assert re.match(r"blurred 1 +every +all +\d+ +0.0000 +2/2 \(.34-1.00\) +14 +14/14 ", unblurred)
    assert re.search(r"^same +every +loss +0.00( +\d+\.\d\d){10}$", out, re.MULTILINE)
    assert re.search(r"^Of 30 runs, \d+ reached the floor of the loss. Of these, ", out, re.M)
    folder = Path("checkpoints/experiment-tiny")
    assert out.endswith(f"\nsee {folder}/experiment.png\n")
    assert (folder / "experiment.png").read_bytes()[:4] == b"\x89PNG"
    saved = checkpoint.load(folder / "blurred_1-every-seed_1.pt")
    assert (saved.chars, saved.progress["step"]) == ("ab", 2)


def test_what_was_trained_can_be_sampled(tiny: Callable, call: Callable) -> None:
    tiny("--arms", "blurred", "--blur", 1)
    file = "checkpoints/experiment-tiny/blurred_1-every-seed_2.pt"
    ended = call(sample.main, "--ckpt", file, "--prompt", "a", "--temperature", 0)
    assert ended.status == 0 and ended.out.startswith("aabaabaab")


def test_killed_and_resumed(tiny: Callable, processes: Processes, call: Callable) -> None:
    """The same table, whether it was killed between two runs, or with one half written."""
    whole = tiny(*FEW, "--out", "whole")
    arguments = (*SMALL, "--jobs", 1, *FEW, "--out", "killed")
    for at in ({"at": "system.checkpoint.save", "nth": 3}, {"at": "write", "nth": 9}):
        ended = processes.run(
            "experiment", *arguments, cwd=Path.cwd(), **at, signals=[signal.SIGKILL]
        )
        assert ended.status == -signal.SIGKILL
    kept = len(json.loads(Path("killed/results.json").read_text())["runs"])
    assert 2 <= kept < 12
    again = call(experiment.main, *arguments)
    assert f"12 runs, {kept} of them made before; " in again.err
    assert again.out == whole.out.replace("whole/", "killed/")
    assert len([*Path("killed").glob("*.pt")]) == 12
    assert Path("killed/results.json").read_bytes() == Path("whole/results.json").read_bytes()
    once_more = call(experiment.main, *arguments)
    assert once_more.out == again.out and "at most" not in once_more.err


def test_side_by_side(tiny: Callable, call: Callable) -> None:
    """Two processes find what one does."""
    few = ("--arms", "same", "--out")
    alone = tiny(*few, "one")
    both = call(experiment.main, *SMALL, "--jobs", 2, *few, "two")
    assert both.status == 0 and both.out == alone.out.replace("one/", "two/")


def test_more_may_be_asked_later(tiny: Callable) -> None:
    tiny("--arms", "same")
    more = tiny("--arms", "same", "between", "--seeds", 3)
    assert "3 runs; judged" in more.err  # the lines of two, and a third
    assert "between" in more.out
    less = tiny("--arms", "same", "--json")
    found = json.loads(less.out)
    assert [*found["runs"]] == ["same, every, seed 1", "same, every, seed 2"]
    assert found["recipe"]["steps"] == 20
    assert len(found["runs"]["same, every, seed 1"]["between"]) == 11


def test_ctrl_c_ends_and_keeps(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    carried, real = [], lab.carry

    def carry(*args: object) -> object:
        if carried:
            raise KeyboardInterrupt
        carried.append(args)
        return real(*args)

    monkeypatch.setattr(lab, "carry", carry)
    assert tiny("--arms", "same").status == 130
    found = json.loads(Path("checkpoints/experiment-tiny/results.json").read_text())
    assert [*found["runs"]] == ["same, every, seed 1"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--handmade", "one-head"), r"one-head is a published model .*; name one of aab, abc"),
        (("--handmade", "gone"), r"there is no hand-set model 'gone'; there are"),
        (("--arms", "between"), r"--arms between draws lines .*; name one, as same"),
        (("--arms", "sane"), r"--arms .*'sane'"),
        (("--blur", "0.5"), r"--blur must be at least 1 and at most 1e\+09, not 0.5"),
        (("--seeds", "0"), r"--seeds must be at least 1 and at most 1000, not 0"),
        (("--long-carries", "0.5"), r"--long-carries is about sums, and tiny.yaml is none; leave"),
        (("--window", "1"), r"--window must be at least 2 and at most 4096, not 1"),
        (("--out", "tiny.yaml"), r"--out .*tiny.yaml.* is no folder; name one, or a new path"),
    ],
)
def test_refusals(argv: tuple[str, ...], message: str, tiny: Callable, refusal: Callable) -> None:
    assert re.search(message, refusal(experiment.main, *SMALL, *argv))


def test_what_is_in_the_folder_has_to_fit(tiny: Callable, refusal: Callable) -> None:
    tiny("--arms", "same", "--seeds", 1)
    path = Path("checkpoints/experiment-tiny/results.json")
    again = (*SMALL, "--arms", "same")
    said = refusal(experiment.main, *again, "--steps", 30, "--learning-rate", 0.01)
    assert f"{path} holds runs with --steps 20 --learning-rate 0.002; give the same, or" in said
    status = tiny("--steps", 20, "--learning-rate", 0.002, "--arms", "same", "--seeds", 1).status
    assert status == 0  # the remedy, pasted
    Path("tiny.yaml").write_text(RULE.replace("aa: b", "ba: b"))
    assert f"{path} holds runs with another rule; give" in refusal(experiment.main, *again)
    path.write_text("{}")
    assert f"{path} holds no results of an experiment; name" in refusal(experiment.main, *again)


def test_what_is_too_large(tiny: Callable, refusal: Callable) -> None:
    long = "ab" * 300
    Path("tiny.yaml").write_text(
        f"chars: {''.join(map(chr, range(0x4E00, 0x4E00 + 600)))}ab\nblock_size: 1000\n"
        f"default: a\nrules: {{{long}: b}}\n"
    )
    assert "tiny.yaml: the model would have" in refusal(experiment.main, *SMALL)
