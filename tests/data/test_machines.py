"""Files of finite-state machines: what they say, what is written of them, every refusal."""

import dataclasses
from pathlib import Path

import pytest

from data import rules
from data.machines import Machine
from system.errors import UserError
from tests.helpers import tiny

LAMP = rules.read("lamp")
FILE = """chars: no1
block_size: 6
machine:
  start: no
  states: {no: n, 1: o}
  edges:
    no: {n: no, o: 1, 1: no}
    1: {n: 1, o: no, 1: no}
"""
CHARS = tiny.CHARS.replace("\0", "")  # which is no text in YAML


def test_a_file(tmp_path: Path) -> None:
    """What YAML would read as a boolean and a number stays text."""
    path = tmp_path / "my.yaml"
    path.write_text(FILE)
    edges = {"no": {"n": "no", "o": "1", "1": "no"}, "1": {"n": "1", "o": "no", "1": "no"}}
    rule = Machine("no1", 6, "no", {"no": "n", "1": "o"}, edges)
    assert rules.read(str(path)) == rule and rule.radix == 2
    path.write_text(FILE.replace("start: no", "start: no\n  radix: 3"))
    assert rules.read(str(path)) == dataclasses.replace(rule, radix=3)


@pytest.mark.parametrize(
    ("context", "answer"),
    [("p", "d"), ("pp", "b"), ("ppp", "o"), ("ppb", "b"), ("pdp", "b"), ("bpp", "d"), ("po", "o")],
)
def test_the_lamp(context: str, answer: str) -> None:
    assert LAMP.answer(context) == answer
    assert LAMP.answer("bd" + "o" * 6 + context) == answer  # the window begins in its middle


def test_the_window_begins_in_start() -> None:
    parity = rules.read("parity")
    assert parity.answer("b" + "a" * 15) == "b" and parity.answer("b" + "a" * 16) == "a"
    assert parity.radix == 4 and parity.within(3).radix == 3 and parity.within(64).radix == 4
    assert parity.within(3).answer("baa") == "b" and parity.within(3).answer("baaa") == "a"


@pytest.mark.parametrize(
    "rule",
    [
        LAMP,
        rules.read("parity"),
        Machine(
            CHARS,
            9,
            CHARS[:40],
            {CHARS[:40]: "\\", "no": '"', ": {}": "\ufeff"},
            dict.fromkeys((CHARS[:40], ": {}", "no"), dict.fromkeys(CHARS, "no")),
            9,
        ),
    ],
)
def test_what_is_written_reads_as_the_same_rule(rule: Machine, tmp_path: Path) -> None:
    (tmp_path / "rule.yaml").write_text(rules.write(rule), "utf-8")
    assert rules.read(str(tmp_path / "rule.yaml")) == rule


REFUSALS = {
    ("start: no", "strat: no"): "'strat' is no key of machine; did you mean start?",
    ("  start: no\n", ""): "machine has no start; it has start, states, edges",
    ("start: no", "start: [no]"): "start is a text, not a list",
    ("start: no", "start: n"): "start is 'n', which is no state; did you mean no?",
    ("start: no", "start: off"): "start is 'off', which is no state; there are no, 1",
    ("start: no", "start: no\n  radix: 7"): "radix must lie between 2 and block_size, 6, not 7",
    ("start: no", "start: no\n  radix: 1"): "radix must lie between 2 and block_size, 6, not 1",
    ("start: no", "start: no\n  radix: x"): "radix is a whole number, not 'x'",
    ("{no: n, 1: o}", "[no, 1]"): "states holds lines such as off: a, not a list",
    ("{no: n, 1: o}", "{}"): "states holds lines such as off: a, not a mapping",
    ("{no: n, 1: o}", "{no: n, 1: [o]}"): "what state '1' writes is a text, not a list",
    ("{no: n, 1: o}", "{no: n, 1: oo}"): "state '1' writes 'oo'; give one of the chars 'no1'",
    ("{no: n, 1: o}", "{no: n, 1: x}"): "state '1' writes 'x'; give one of the chars 'no1'",
    ("{no: n, 1: o}", "{no: n, '': o}"): "a state has an empty name; give it one",
    ("{no: n, 1: o}", "{no: n, 1: o, 2: o}"): "state '2' has no edges; say in edges where",
    ("{no: n, 1: o}", "{no: n}"): "edges has '1', which is no state; there are no",
    ("no: {n: no, o: 1, 1: no}", "no: n"): "edges of 'no' holds pairs such as a: on, not 'n'",
    ("o: 1, 1: no}", "o: 1, 1: [no]}"): "the edge of state 'no' for '1' is a text, not a list",
    ("o: 1, 1: no}", "o: 1}"): "state 'no' has no edge for '1'; say in edges where it leads",
    ("o: 1, 1: no}", "o: 1, 1: no, x: no}"): "state 'no' has an edge for 'x', which is none of",
    ("o: 1, 1: no}", "o: 1, 1: on}"): "the edge of state 'no' for '1' leads to 'on', which is no",
    ("o: 1, 1: no}", "o: 1, 1: no, 1: 1}"): "'1' stands twice; keep one",
    ("machine:", "default: a\nmachine:"): "default and machine exclude each other; keep one",
    ("block_size: 6\n", ""): "block_size is missing",
    ("chars: no1", "chars: noo"): "chars has 'o' twice; keep one",
}


@pytest.mark.parametrize("change", REFUSALS)
def test_refusals(change: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    assert FILE.count(change[0]) == 1
    path.write_text(FILE.replace(*change))
    with pytest.raises(UserError) as caught:
        rules.read(str(path))
    message = str(caught.value)
    assert REFUSALS[change] in message and "\n" not in message and len(message) < 300
    assert message.startswith(str(path)) and message.count(str(path)) == 1


@pytest.mark.parametrize("machine", ["machine: 3\n", "machine: [a]\n"])
def test_no_machine(machine: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(f"chars: ab\nblock_size: 4\n{machine}")
    with pytest.raises(UserError, match="machine holds keys such as start: off, not "):
        rules.read(str(path))
