"""What a break is said to do, in every context."""

import dataclasses

import pytest
import torch

from data import rules
from data.laws import Law
from model import GPT
from page.breaks import Break, breaks
from proof.proof import prove
from tests.helpers.rules import build

LAMP = dataclasses.replace(rules.read("lamp"), block_size=5)
PARITY = rules.read("parity").within(8)


def broken(rule: Law, number: int) -> tuple[Break, GPT, list[str]]:
    """One of the breaks, the model with it, and where that is wrong."""
    model = build(rule)
    each = breaks(model.config, model.state_dict(), rule)[number]
    for name, place, value in each.edits:
        model.state_dict()[name].view(-1)[place] = value
    return each, model, prove(model, rule.chars, rule.answer, text="", shortest=1).all.wrong


@pytest.mark.parametrize("rule", [LAMP, PARITY])
def test_breaks_of_machines(rule: Law) -> None:
    each, _, wrong = broken(rule, 0)
    assert wrong and min(map(len, wrong)) > 4 and "The first 4 places stay right" in each.sentence
    each, model, wrong = broken(rule, 1)
    assert len(wrong) == sum(len(rule.chars) ** n for n in range(1, rule.block_size + 1))
    one, two = rule.chars[1], rule.chars[0]
    each, model, wrong = broken(rule, 2)
    assert wrong and each.title == f"Let {one} do what {two} does"
    idx = torch.randint(len(rule.chars), (200, rule.block_size))
    with torch.inference_mode():
        for ids, said in zip(idx, model(idx)[:, -1].argmax(-1), strict=True):
            text = "".join(rule.chars[i] for i in ids)
            assert rule.chars[said] == rule.answer(text.replace(one, two))
