"""A hand-set model in somebody else's code, which is tried: bounds know of our arithmetic only."""

import random

from data import aab
from data.rules import RuleTask
from model import GPT
from proof.certificate import ENUMERATED
from proof.proof import count_contexts, every_context, margins, score
from system.errors import Fault

CHARACTERS = 200_000  # of contexts that are drawn where there are too many to try each


def drawn(task: RuleTask, block_size: int) -> list[str]:
    """Different contexts from the text that the rule writes, the short ones first."""
    draw, text, contexts = random.Random(1), task.text(), set()
    for _ in range(max(20, CHARACTERS // block_size)):
        end = draw.randint(block_size, len(text))
        contexts.add(text[end - draw.randint(1, block_size) : end])
    return sorted(contexts, key=lambda context: (len(context), context))


def tried(model: GPT, task: aab.Task | RuleTask) -> str:
    """Try `model`, or what has its interface, on every context, or on some where these are too
    many, and say what was tried. Raises Fault where an answer is wrong."""
    chars, block_size = task.letters, model.config.block_size
    shortest = 1 if isinstance(task, RuleTask) else 2  # a text may leave open what follows one
    if count_contexts(chars, block_size, shortest) <= ENUMERATED:
        contexts = every_context(chars, block_size, shortest)
        which = f"in each of {len(contexts):,} contexts"
    else:
        contexts = drawn(task, block_size)
        which = f"in {len(contexts):,} of {len(chars)}^{block_size} contexts, drawn from its text"
    answers = [task.rule(context) for context in contexts]
    found = score(
        dict(zip(contexts, margins(model, chars, contexts, answers=answers), strict=True))
    )
    if found.wrong:
        raise Fault(
            f"what was exported is wrong after {found.wrong[0]!r}; export a model of a smaller "
            "window"
        )
    return f"right {which}, worst margin {found.worst_margin:+.4f}"
