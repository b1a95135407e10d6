"""Whether a model that was read back from an export, or runs in other code, does what it should."""

import random

import torch

from data.aab import Task
from data.ngrams import Ngrams
from data.rules import RuleTask
from data.windows import eval_windows
from model import GPT
from proof.certificate import ENUMERATED
from proof.proof import MOST, count_contexts, every_context, margins, played, prove, score
from system.checkpoint import Checkpoint
from system.errors import Fault, UserError

PLACES, ROWS = 4096, 16  # of a text at which counts are looked up; windows at a time
OFF = 1e-3  # what logarithms of probabilities may be off by, which are off by 1e-5
CHARACTERS = 200_000  # of contexts that are drawn where there are too many to try each
APART = 1e-4  # what logits of two ways to compute a trained model may be apart


def longest_window(task: Task) -> int:
    """Places of the largest window of which every context can be tried."""
    sizes = range(2, MOST)
    return next(n for n in sizes if count_contexts(task.letters, n + 1) > MOST)


def assure_task(model: GPT, task: Task, name: str) -> str:
    """Try every context of two characters or more, as the published rules have them, and say so.

    Raises UserError where one is answered wrong, or where they are too many.
    """
    if model.config.block_size > longest_window(task):
        raise UserError(
            f"the contexts of {name} in a window of {model.config.block_size} are too many to try; "
            f"take --window {longest_window(task)} or less"
        )
    found = prove(model, task.letters, task.rule, text="").all
    if found.wrong:
        raise UserError(f"{name} is wrong after {found.wrong[0]!r}; take a smaller window")
    return (
        f"proved in each of {found.total:,} contexts of two characters or more, worst margin "
        f"{found.worst_margin:+.4f}"
    )


@torch.inference_mode()
def assure_counts(model: GPT, counts: Ngrams, ids: torch.Tensor) -> str:
    """Hold the model's probabilities against those of `counts`, on the text ids (N,), and say how
    far they are off. Raises UserError where that is too far."""
    off, places = 0.0, 0
    for idx, _ in eval_windows(ids, model.config.block_size, ROWS, PLACES):
        said = model(idx).double().log_softmax(dim=-1)
        off = max(off, (said - counts.log_probs(idx).double()).abs().max().item())
        places += idx.numel()
    if not off < OFF:
        raise UserError(f"log-probabilities are off by {off:.0e}; take a lower order")
    return (
        f"log-probabilities within {off:.0e} of the counts, at {places:,} places of text that was "
        "not counted"
    )


@torch.inference_mode()
def assure_same(model: GPT, saved: Checkpoint) -> str:
    """Hold the logits against those of the model in `saved`, for some ids, and say how far they are
    off. Raises UserError where that is too far."""
    V, T = saved.model.vocab_size, saved.model.block_size
    idx = torch.randint(V, (2, T), generator=torch.Generator().manual_seed(1))
    off = (model(idx) - saved.build()(idx)).abs().max().item()
    if not off < APART:
        raise UserError(f"its logits are off by {off:.0e}; sample.py --ckpt writes with it")
    return f"logits within {off:.0e} of the checkpoint's"


def drawn(task: RuleTask, block_size: int) -> list[str]:
    """Different contexts from the text that the rule writes, the short ones first."""
    draw, text, contexts = random.Random(1), task.text(), set()
    for _ in range(max(20, CHARACTERS // block_size)):
        end = draw.randint(block_size, len(text))
        contexts.add(text[end - draw.randint(1, block_size) : end])
    return sorted(contexts, key=lambda context: (len(context), context))


def to_try(task: Task | RuleTask, block_size: int) -> tuple[list[str], str]:
    """Every context that the rule is about, or some where these are too many; and in words."""
    shortest = 1 if isinstance(task, RuleTask) else 2  # a text may leave open what follows one
    contexts = task.contexts(ENUMERATED)
    if contexts is not None:
        return contexts, f"in {task.share(ENUMERATED)} contexts"
    if count_contexts(task.letters, block_size, shortest) <= ENUMERATED:
        contexts = every_context(task.letters, block_size, shortest)
        return contexts, f"in each of {len(contexts):,} contexts"
    contexts, all_of_them = drawn(task, block_size), f"{len(task.letters)}^{block_size}"
    return contexts, f"in {len(contexts):,} of {all_of_them} contexts, drawn from its text"


def tried(model: GPT, task: Task | RuleTask) -> str:
    """Try a model in other code, whose arithmetic no bounds follow, on contexts of its rule, and
    say on which. Raises Fault where an answer is wrong."""
    chars = task.letters
    contexts, which = to_try(task, model.config.block_size)
    answers = [task.rule(context) for context in contexts]
    found = score(
        dict(zip(contexts, margins(model, chars, contexts, answers=answers), strict=True))
    )
    if found.wrong:
        raise Fault(
            f"what was exported is wrong after {found.wrong[0]!r}; export a model of a smaller "
            "window"
        )
    said = f"right {which}, worst margin {found.worst_margin:+.4f}"
    if isinstance(task, RuleTask) and task.law.board:
        said += f"; {played(model, chars)}"
    return said
