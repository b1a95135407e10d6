"""Rules and their files: the answers against plain searches, every refusal, the text they write."""

import ast
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import rules
from data.laws import Copying, Suffixes, quoted
from system.errors import UserError
from tests.helpers import tiny
from tests.helpers.rules import draw_rule

FILE = "chars: abc\nblock_size: 8\ndefault: a\nrules:\n  aabaab: c\n  aa: b\n"


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.sampled_from("abc"), min_size=1),
    st.text("abc", min_size=1, max_size=9),
    st.sampled_from("abc"),
)
def test_the_longest_pattern_decides(patterns: dict, context: str, default: str) -> None:
    rule = Suffixes("abc", 4, default, patterns)
    fitting = [p for p in patterns if context[-4:].endswith(p)]
    longest = max(fitting, key=len, default=None)
    assert rule.answer(context) == (default if longest is None else patterns[longest])


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text("abc", min_size=1, max_size=12), st.integers(2, 9))
def test_what_followed_the_last_time_is_copied(context: str, block_size: int) -> None:
    window = context[-block_size:]
    expected = window[-1]
    for place in range(len(window) - 1):  # a later one overwrites
        if window[place] == window[-1]:
            expected = window[place + 1]
    assert Copying("abc", block_size).answer(context) == expected


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(FILE)
    assert rules.read(str(path)) == Suffixes("abc", 8, "a", {"aabaab": "c", "aa": "b"})
    assert rules.read(str(path.rename(tmp_path / "my.yml"))).block_size == 8
    path.write_text(FILE + "activation: gelu_tanh\n")
    assert rules.read(str(path)).activation == "gelu_tanh"
    path.write_text("chars: 'no1 '\nblock_size: 4\ndefault: n\nrules: {no: 1, 1: ' ', '  ': o}\n")
    found = rules.read(str(path))  # what YAML would read as a boolean and a number stays text
    assert found == Suffixes("no1 ", 4, "n", {"no": "1", "1": " ", "  ": "o"})
    path.write_text("chars: ba\nblock_size: 3\ncopy: 1\n")
    assert rules.read(str(path)) == Copying("ba", 3)


def test_the_examples() -> None:
    assert set(rules.examples()) >= {"aab", "abc", "copy"}
    for name in rules.examples():
        assert rules.read(name) == rules.read(f"{name}.yaml")
        assert rules.read(name) == rules.read(str(rules.EXAMPLES / f"{name}.yaml"))


REFUSALS = {
    FILE.replace("chars: abc\n", ""): "chars is missing",
    FILE.replace("default: a\n", ""): "default is missing",
    FILE.replace("rules:\n  aabaab: c\n  aa: b\n", ""): "rules is missing",
    "chars: ab\ncopy: 1\n": "block_size is missing",
    FILE.replace(
        "chars: abc", "chars: ab"
    ): "rule 'aabaab' has 'c', which is not among the chars; add it",
    FILE.replace("aa: b", "aX: b"): "rule 'aX' has 'X', which is not among the chars",
    FILE.replace("aa: b", "aa: bc"): "rule 'aa' answers 'bc'; give one character",
    FILE.replace("aa: b", "aa: ''"): "rule 'aa' answers ''; give one character",
    FILE.replace("aa: b", "'': b"): "a rule has an empty pattern",
    FILE.replace("aa: b", "aabaab: b"): "'aabaab' stands twice; keep one",
    FILE.replace("default: a", "default: d"): "default 'd' is none of the chars 'abc'",
    FILE.replace("default: a", "default: ab"): "default 'ab' is none of the chars 'abc'",
    FILE.replace("chars: abc", "chars: abca"): "chars has 'a' twice; keep one",
    FILE.replace("chars: abc", "chars: ''"): "chars is missing",
    FILE.replace(
        "block_size: 8", "block_size: 5"
    ): "has 6 characters, and block_size is 5; shorten",
    FILE.replace("block_size: 8", "block_size: 1"): "block_size must lie between 2 and 4096, not 1",
    FILE.replace("block_size: 8", "block_size: 5000"): "block_size must lie between 2 and 4096",
    FILE.replace("block_size: 8", "block_size: x"): "block_size is a whole number, not 'x'",
    FILE.replace("rules:", "rulez:"): "'rulez' is no key of a rule; did you mean rules?",
    FILE + "activation: relu\n": "activation is one of gelu_tanh, relu2",
    FILE + "copy: 1\n": "default and copy exclude each other; keep one",
    "chars: ab\nblock_size: 3\ncopy: 2\n": "copy is 1, not '2'",
    "chars: ab\nblock_size: 3\ndefault: a\nrules: {}\n": "there are no rules to compile",
    "chars: ab\nblock_size: 3\ndefault: a\nrules: aa\n": "rules holds lines such as aa: b, not",
    "chars: ab\nblock_size: 3\ndefault: a\nrules: {aa: [b]}\n": "rules holds lines such as aa: b",
    "chars: ab\nblock_size: 3\ndefault: [a]\nrules: {aa: b}\n": "default is a text, not a list",
    "- a\n": "holds a list; it should hold keys such as chars:",
    "a: [": "is not YAML: ",
}


@pytest.mark.parametrize("content", REFUSALS)
def test_refusals(content: str, tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text(content)
    with pytest.raises(UserError) as caught:
        rules.read(str(path))
    message = str(caught.value)
    assert REFUSALS[content] in message and "\n" not in message
    assert message.startswith(str(path)) and message.count(str(path)) == 1


@pytest.mark.parametrize(
    "name", ["gone", "gone.yaml", "a/abc", "..", "", "abc.yml", "a" * 5000, "a" * 5000 + ".yaml"]
)
def test_no_such_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"there is no rule file '.*; configs/rules/ has .*abc"):
        rules.read(name)


def test_what_is_long_is_cut() -> None:
    chars = "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))
    for fields in (
        (chars, 8, "a", {chars[:2]: chars[0]}),
        ("ab", 8, "a" * 999, {"a": "b"}),
        ("ab", 8, "a", {"a" * 999: "b"}),
        ("ab", 8, "a", {"aX" * 999: "b"}),
        ("ab", 8, "a", {"a": "b" * 999}),
    ):
        with pytest.raises(ValueError, match=r"\.\.\.") as caught:
            Suffixes(*fields)
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "rule", [Suffixes("abc", 5, "a", {"aa": "b", "ba": "c"}), Copying("dcba", 4)]
)
def test_the_text_of_a_rule(rule: rules.Law) -> None:
    text = rules.text(rule, length=5000, seed=3)
    assert len(text) == 5000 and set(text) == set(rule.chars)
    size, period = rule.block_size, 3 * rule.block_size + 1
    assert {start % period for start in range(0, 5000, size)} == set(range(period))
    draw = random.Random(3)
    for start in range(0, 5000 - period, period):
        assert text[start : start + size] == "".join(draw.choices(rule.chars, k=size))
        for place in range(start + size, start + period):
            assert text[place] == rule.answer(text[max(0, place - size) : place])
    assert rules.text(rule, length=50, seed=3) == text[:50] != rules.text(rule, 50, seed=4)


CHARS = tiny.CHARS.replace("\0", "")  # which is no text in YAML
RNG = random.Random(4)
DRAWN = [
    *(draw_rule(RNG) for _ in range(30)),
    Copying(CHARS, 9),
    Suffixes(CHARS, 9, "\\", {CHARS[4:9]: "\ufeff"}),
]


def test_what_is_written_reads_as_the_same_rule(tmp_path: Path) -> None:
    for rule in DRAWN:
        (tmp_path / "rule.yaml").write_text(rules.write(rule), "utf-8")
        assert rules.read(str(tmp_path / "rule.yaml")) == rule
        assert ast.literal_eval(quoted(rule.chars)) == rule.chars


def test_the_same_rule_in_another_window() -> None:
    rule = Suffixes("ab", 8, "a", {"aab": "b"})
    assert rule.within(3) == Suffixes("ab", 3, "a", {"aab": "b"})
    assert Copying("ab", 8).within(2) == Copying("ab", 2)
    with pytest.raises(UserError, match=r"window of 2 is shorter than .* of 3 .*; take 3 or more"):
        rule.within(2)
