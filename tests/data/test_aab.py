"""The a/b texts, and the rules that continue them: everywhere, and against other words for them."""

import itertools
import math
import re
from collections import Counter

import pytest

from data import aab
from data.aab import LETTERS, Rule, Task

CASES = [(aab.rule, "aab"), (aab.third_back, "aabab"), (aab.both, "aabab")]
FOLLOWED_BY_B = {  # the same rules, as what a whole context looks like
    aab.rule: r".*aa",
    aab.third_back: r"a|aa|aaa|.*a..a",
    aab.both: r"a|aa|aaa|baa|.*a..a",
}

each_rule = pytest.mark.parametrize(("rule", "word"), CASES)
each_word = pytest.mark.parametrize("word", ["aab", "aabab", "abbb", "ab", "a"])


def strings(longest: int) -> list[str]:
    """Every text of a and b with 0 up to `longest` characters."""
    lengths = range(longest + 1)
    return ["".join(text) for n in lengths for text in itertools.product("ab", repeat=n)]


def parts(word: str, size: int) -> set[str]:
    """All that stands in `word` repeated, up to `size` characters long."""
    line = word * (size + 2)
    return {line[i : i + n] for n in range(size + 1) for i in range(len(word))}


def test_texts() -> None:
    assert aab.text() == "aab" * 200
    assert aab.text(7) == "aabaaba"
    assert aab.text(0) == ""
    assert aab.text(9, "aabab") == Task("aabab", aab.both).text(9) == "aababaaba"
    assert Task("aabab", aab.both).text() == "aabab" * 120
    assert LETTERS == "ab"
    assert (aab.AAB.word, aab.AAB.rule) == ("aab", aab.rule)


@pytest.mark.parametrize("rule", FOLLOWED_BY_B)
def test_a_rule_says_what_follows_any_text(rule: Rule) -> None:
    for context in strings(7):
        assert rule(context) == "ab"[bool(re.fullmatch(FOLLOWED_BY_B[rule], context))], context


@each_rule
def test_a_rule_continues_its_word(rule: Rule, word: str) -> None:
    """From its third character on, and from anywhere once enough of the text is known."""
    line, enough = word * 12, 2 if rule is aab.rule else 4
    assert [rule(line[:i]) for i in range(2, len(line))] == list(line[2:])
    for start, size in itertools.product(range(len(word)), range(enough, 8)):
        assert rule(line[start : start + size]) == line[start + size]


@each_word
@pytest.mark.parametrize("size", [1, 2, 5, 6, 11])
def test_windows(word: str, size: int) -> None:
    line = word * 30
    every = Counter(line[i : i + size] for i in range(7 * len(word)))
    windows = Counter(Task(word, aab.rule).windows(size))
    assert {window: 7 * count for window, count in windows.items()} == every


def test_entropy_floor_by_hand() -> None:
    """After a, the text of aab goes on with a or b alike; all else is certain."""
    for block_size in (1, 2, 5, 9):
        floor = aab.AAB.entropy_floor(block_size)
        assert floor == pytest.approx(2 / 3 * math.log(2) / block_size, rel=1e-12)


@each_word
@pytest.mark.parametrize("block_size", [1, 3, 6])
def test_entropy_floor_is_what_counting_gives(word: str, block_size: int) -> None:
    """The best a model can say after a beginning is how often each character came after it."""
    line, starts = word * 40, range(20 * len(word))
    nats = 0.0
    for start in starts:
        for end in range(start + 1, start + 1 + block_size):
            seen = line[start:end]
            after = [line[i + len(seen)] for i in starts if line.startswith(seen, i)]
            nats -= math.log(after.count(line[end]) / len(after))
    floor = Task(word, aab.rule).entropy_floor(block_size)
    assert floor == pytest.approx(nats / len(starts) / block_size, rel=1e-9, abs=1e-12)


def test_what_never_occurs_in_aab() -> None:
    assert aab.AAB.never() == ["bb", "aaa", "bab"]


@each_word
def test_what_never_occurs(word: str) -> None:
    never, occurs = Task(word, aab.rule).never(), parts(word, 9)
    for text in strings(9):  # none of it in what occurs, some of it in all that does not
        assert any(part in text for part in never) == (text not in occurs)
    assert not any(one in other for one, other in itertools.permutations(never, 2))
    assert never == sorted(never, key=lambda part: (len(part), part))
