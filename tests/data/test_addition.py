"""Sums: their lines against Python's own arithmetic, their files, the contexts they decide."""

import random
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from data import rules
from data.addition import CHARS, Addition
from data.rules import RuleTask
from system.errors import UserError

BOTH = [Addition(2), Addition(2, "ordinary")]


def read_line(line: str, order: str) -> tuple[int, int, int]:
    """The two numbers and the sum that a line says."""
    assert line[-1] == "\n"
    turn = -1 if order == "reversed" else 1
    numbers, total = line[:-1].split("=")
    a, b = numbers.split("+")
    assert len(a) == len(b) == len(total) - 1
    return tuple(int(part[::turn]) for part in (a, b, total))


def read_pair(context: str) -> tuple[int, ...]:
    return tuple(int(part[::-1]) for part in context.partition("=")[0].split("+"))


def text_of(ids: torch.Tensor) -> list[str]:
    return ["".join(CHARS[i] for i in row) for row in ids.tolist()]


@pytest.mark.parametrize("order", ["reversed", "ordinary"])
def test_all_pairs(order: str) -> None:
    for n in (1, 2):
        rule = Addition(n, order)
        parts = list(rule.every_line(7))
        assert {len(part) for part in parts[:-1]} == {7} and parts[0].shape[1] == 3 * n + 4
        lines = text_of(torch.cat(parts))
        for line, (a, b) in zip(lines, product(range(10**n), repeat=2), strict=True):
            assert read_line(line, order) == (a, b, a + b) and line == rule.line(a, b)
            for place in range(len(line))[rule.decided]:
                assert rule.answer(line[: place + 1]) == line[place + 1]


@pytest.mark.parametrize("digits", [3, 9, 18])
def test_large_numbers(digits: int) -> None:
    rule, rng = Addition(digits), random.Random(digits)
    numbers = [(10**digits - 1,) * 2, (0, 0)]
    numbers += [tuple(rng.randrange(10**digits) for _ in range(2)) for _ in range(500)]
    lines = text_of(rule.sums(*torch.tensor(numbers).T))
    assert [read_line(line, "reversed") for line in lines] == [(a, b, a + b) for a, b in numbers]


def test_the_issue_by_hand() -> None:
    assert Addition(3).line(123, 456) == "321+654=9750\n"
    assert Addition(3, "ordinary").line(123, 456) == "123+456=0579\n"
    assert (Addition(3).block_size, Addition(3).decided, Addition(3).pairs) == (
        12,
        slice(7, 12),
        10**6,
    )


@pytest.mark.parametrize("rule", BOTH)
def test_the_answer_where_nothing_is_decided(rule: Addition) -> None:
    said = {"": "0", "1": "0", "12": "+", "12+": "0", "12+3": "0", "12+34": "=", "x": "0"}
    said |= {"12=": "0", "123+": "0", "12+34=111": "\n", "1+2=": "0"}
    for context, answer in said.items():
        assert rule.answer(context) == answer
        assert rule.answer("9\n" + context)[-1] == answer or len(context) > 7
    wrong = rule.line(12, 34)[:6] + "9"  # what follows is a digit of the sum all the same
    assert rule.answer(wrong) == rule.line(12, 34)[7]


def carried(a: int, b: int, n: int) -> int:
    """The longest run of carries, as one adds on paper."""
    runs, carry = [0], 0
    for place in range(n):
        carry = int(str(a).zfill(n)[-1 - place]) + int(str(b).zfill(n)[-1 - place]) + carry > 9
        runs.append(runs[-1] + 1 if carry else 0)
    return max(runs)


def test_carries() -> None:
    rng = random.Random(3)
    for n, pairs in (
        (1, list(product(range(10), repeat=2))),
        (2, list(product(range(100), repeat=2))),
        (18, [tuple(rng.randrange(10**18) for _ in range(2)) for _ in range(300)]),
        (3, [(999, 1), (999, 0), (909, 191), (0, 0), (555, 545)]),
    ):
        a, b = torch.tensor(pairs).T
        assert Addition(n).carries(a, b).tolist() == [carried(*pair, n) for pair in pairs]


def test_the_contexts_that_are_decided() -> None:
    domain = Addition(1).domain()
    assert len(domain) == len(set(domain)) == 300
    assert domain[:4] == ["0+0=", "0+0=0", "0+0=00", "0+1="] and domain[-1] == "9+9=81"
    assert domain[297::2] == ["9+9=", "9+9=81"]
    with pytest.raises(IndexError):
        domain[300]
    large = Addition(12).domain()
    assert len(large) == sys.maxsize and large[0] == "0" * 12 + "+" + "0" * 12 + "="
    assert large[-1].startswith("9" * 12)  # it goes all along the pairs
    assert RuleTask(Addition(1)).contexts(300) == sorted(domain, key=lambda c: (len(c), c))
    some = RuleTask(Addition(3)).contexts(50)
    assert len(set(some)) == 50
    assert {len(context) for context in some} == set(range(8, 13))
    assert all(Addition(3).line(*read_pair(context)).startswith(context) for context in some)
    assert RuleTask(rules.read("abc")).contexts(50) is None


def test_the_text() -> None:
    text = rules.text(Addition(2), length=1000)
    assert set(text) == set(CHARS) == set("0123456789+=\n") and list(CHARS) == sorted(CHARS)
    lines = text.splitlines(keepends=True)[:100]
    assert all(a + b == total for a, b, total in (read_line(line, "reversed") for line in lines))
    assert len(set(lines)) > 90
    assert rules.text(Addition(2), 20) == text[:20] != rules.text(Addition(2), 20, seed=2)
    unseen = rules.text(Addition(2), 2000, seed=2)
    assert RuleTask(Addition(2)).windows(10) == unseen.splitlines(keepends=True)


def test_files(tmp_path: Path) -> None:
    assert rules.read("addition") == Addition(3)
    for rule in (*BOTH, Addition(18)):
        (tmp_path / "sum.yaml").write_text(rules.write(rule), "utf-8")
        assert rules.read(str(tmp_path / "sum.yaml")) == rule


REFUSALS = {
    "addition: 3\n": "addition is such as {digits: 3}, not '3'",
    "addition: {}\n": "addition has no digits; give them, as in addition: {digits: 3}",
    "addition: {digits: 3, ordr: up}\n": "'ordr' is no key of addition; did you mean order?",
    "addition: {digits: 3, order: up}\n": "order is one of reversed, ordinary",
    "addition: {digits: three}\n": "digits is a whole number, not 'three'",
    "addition: {digits: 0}\n": "digits must lie between 1 and 18 in reversed order, not 0",
    "addition: {digits: 4, order: ordinary}\n": "between 1 and 3 in ordinary order, not 4",
    "addition: {digits: 3}\nchars: ab\n": "chars and addition exclude each other; keep one",
    "addition: {digits: 3}\nblock_size: 12\n": "block_size and addition exclude each other",
}


@pytest.mark.parametrize("content", REFUSALS)
def test_refusals(content: str, tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(content)
    with pytest.raises(UserError) as caught:
        rules.read(str(tmp_path / "my.yaml"))
    assert REFUSALS[content] in str(caught.value)


def test_another_window() -> None:
    assert Addition(3).within(12) == Addition(3)
    with pytest.raises(UserError, match=r"window of 13 does not fit .* of 3 digits, .*; take 12"):
        Addition(3).within(13)
