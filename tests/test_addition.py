"""Sums in all commands: each asks the rule which contexts it is about."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import handmade
import look
import sample
from analysis import measure, table
from analysis.measure import Column
from data.addition import CHARS, Addition
from data.rules import RuleTask
from proof import exported
from system.errors import Fault
from tests.helpers.rules import build
from tests.helpers.tiny import tiny_gpt


def test_a_sum_is_written(home: Path, call: Callable) -> None:
    ask = ("--handmade", "addition", "--device", "cpu")
    ended = call(sample.main, *ask, "--prompt", "321+654=", "--max-new-tokens", "4")
    assert ended.out == "321+654=9750\n"
    assert "addition, set by hand; proved for all 1,000,000 pairs of 3 digits: " in ended.err
    ended = call(sample.main, *ask, "--max-new-tokens", "25")  # after a line end
    assert ended.out == "\n" + 2 * "000+000=0000\n"


def test_the_page_shows_some_lines(home: Path, call: Callable) -> None:
    Path("one.yaml").write_text("addition: {digits: 1}\n")
    for name, some, total in (("one.yaml", 300, 300), ("addition", 500, 5_000_000)):
        assert call(look.main, "--handmade", name, "--out", "page.html").status == 0
        text = Path("page.html").read_text("utf-8")
        [side] = json.loads(re.search(r'id="given">(.*?)</script>', text, re.DOTALL)[1])["sides"]
        task, rule = side["task"], handmade.rule_of(name)
        assert (len(task["contexts"]), task["total"]) == (some, total)
        assert task["totalText"] == f"{total:,}" and "pairs of" in task["proved"]
        assert "".join(map(rule.answer, task["contexts"])) == task["answers"]
        assert all("=" in context for context in task["contexts"])


def test_other_code_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    task = RuleTask(Addition(1))
    model = build(task.law)
    said = exported.tried(model, task)
    assert said == "right in each of 300 contexts, worst margin +1.0000"
    monkeypatch.setattr(exported, "ENUMERATED", 40)
    assert exported.tried(model, task).startswith("right in 40 drawn of 300 contexts, ")
    model.lm_head.weight.data.neg_()
    with pytest.raises(Fault, match=r"what was exported is wrong after '\d\+\d="):
        exported.tried(model, task)


@pytest.mark.parametrize("most", [5000, 60])
def test_a_comparison(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with the rule's window, and one whose window holds no line."""
    monkeypatch.setattr(measure, "MOST", most)
    monkeypatch.setattr(table, "MOST", most)
    task = RuleTask(Addition(1))
    first = Column("sums", "handmade", build(task.law), CHARS)
    short = Column("short", "trained", tiny_gpt(vocab_size=13, block_size=4), CHARS)
    numbers = [measure.measure(column, first, task) for column in (first, short)]
    said = table.tabulate(numbers, task)
    count = min(most, 300)
    assert (numbers[0].all.right, numbers[0].all.total) == (count, count)
    assert numbers[1].all.total == count > numbers[1].all.right
    assert ("contexts right, of all" if most > 300 else "of 60 drawn of 300 ") in said
    with torch.inference_mode():  # what the other sees of each context
        contexts = task.contexts(most)
        ids = [torch.tensor([[CHARS.index(c) for c in context[-4:]]]) for context in contexts]
        right = sum(
            CHARS[short.model(idx)[0, -1].argmax()] == task.rule(context)
            for idx, context in zip(ids, contexts, strict=True)
        )
    assert numbers[1].all.right == right
