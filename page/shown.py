"""What the page is told of one model: its weights, what they mean, its task, and what to check."""

import base64
import dataclasses
import math
import random
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from analysis.heads import look, through_ln_f
from data.aab import Rule
from data.laws import Law
from data.tokenizer import CharTokenizer
from generate import generate
from mixture import Mixture
from model import GPT
from page.breaks import Break
from page.pack import gram_count, pack, pack_counts, rounded
from proof.proof import count_contexts, every_context

MOST_TILES = 500  # more contexts than that are sampled
LONGEST_CHECK = 160  # characters of the text that the page opens with


@dataclass
class Shown:
    """One model on the page.

    label, about: a name, and a sentence
    mixture: the model with counts beside it, if there are any
    counts: those, as `data.counts.pack` packed them
    columns, units: names of the residual stream's columns and of the feed-forward's units, if any
    rule, shortest: what has to come after a context of at least so many characters
    some, of: where the rule is about other contexts, those or some drawn of so many
    proved: what Python found out about that
    by_hand: whether its weights must stay as they are to the last bit
    law: what it was compiled from, if it was
    """

    label: str
    about: str
    model: GPT
    chars: str
    columns: list[str] | None = None
    units: list[str] | None = None
    rule: Rule | None = None
    shortest: int = 2
    some: list[str] | None = None
    of: int = 0
    proved: str = ""
    breaks: list[Break] = field(default_factory=list)
    by_hand: bool = False
    law: Law | None = None
    mixture: Mixture | None = None
    counts: list[dict[str, Tensor]] = field(default_factory=list)

    @property
    def writer(self) -> GPT | Mixture:
        """What writes the text."""
        return self.mixture or self.model


def base64_of(values: Tensor) -> str:
    """Little-endian float32 as base64."""
    return base64.b64encode(values.float().contiguous().numpy().astype("<f4")).decode()


def write_on(model: GPT | Mixture, idx: Tensor, temperature: float) -> Tensor:
    """idx (T,) and what the model writes after it, up to a window or LONGEST_CHECK -> (t,)."""
    size = min(model.config.block_size, LONGEST_CHECK)
    idx, generator = idx[-size:], torch.Generator().manual_seed(1)
    steps = generate(model, idx[None], size - len(idx), generator, temperature=temperature)
    return torch.cat([idx, *steps])


@torch.inference_mode()
def checks(shown: Shown, idx: Tensor) -> dict[str, Any]:
    """What the page has to compute as well, of idx (T,): the logits, where each head looks from the
    last place, what each head adds there to the likeliest logit against the runner-up, and what
    the counts make of the logits."""
    model, chars = shown.model, shown.chars
    logits, inside = model(idx[None])[0], look(model, idx[None])  # (T, V)
    target, *others = logits[-1].topk(min(2, len(chars))).indices.tolist()
    other = others[0] if others else target
    biases = [block.attn.proj.bias for block in model.blocks]
    heads = inside.to_logits[0]  # (heads of all layers, V)
    if model.config.bias:  # `look` gives each head a share of it
        shares = torch.stack(biases) / model.config.n_head  # (layers, C)
        shares = through_ln_f(model, shares[None], inside.stream)[0]
        heads = heads - shares.repeat_interleave(model.config.n_head, dim=0)
    return {
        "text": CharTokenizer(chars).decode(idx),
        "logits": base64_of(logits),
        "mixed": base64_of(shown.mixture(idx[None])[0]) if shown.mixture else None,
        "pattern": base64_of(inside.pattern[0, :, -1]),
        "heads": base64_of(heads[:, target] - heads[:, other]),
        "target": target,
        "other": other,
    }


def contexts_of(chars: str, block_size: int, shortest: int, patterns: list[str]) -> list[str]:
    """Every context of `shortest` characters or more; or MOST_TILES of them, the patterns and what
    is drawn by length."""
    if count_contexts(chars, block_size, shortest) <= MOST_TILES:
        return every_context(chars, block_size, shortest)
    draw, found = random.Random(1), {pattern for pattern in patterns if len(pattern) >= shortest}
    while len(found) < MOST_TILES:
        found.add("".join(draw.choices(chars, k=draw.randint(shortest, block_size))))
    return sorted(found, key=lambda context: (len(context), context))


def is_context(text: str, chars: str, block_size: int) -> bool:
    """Whether the name of a unit is one, as patterns are."""
    return len(text) <= block_size and set(text) <= set(chars)


def task_of(shown: Shown) -> dict[str, Any]:
    """The contexts with the answers that the rule gives, how many there are in all, and in words,
    and what Python found."""
    size = (shown.chars, shown.model.config.block_size, shown.shortest)
    contexts, total = shown.some, shown.of
    if contexts is None:
        telling = [unit for unit in shown.units or [] if is_context(unit, *size[:2])]
        contexts, total = contexts_of(*size, telling), count_contexts(*size)
    digits = shown.model.config.block_size * math.log10(len(shown.chars))
    return {
        "contexts": contexts,
        "answers": "".join(map(shown.rule, contexts)),
        "total": min(total, 1e15),
        "totalText": f"about 10^{digits:.0f}" if total == math.inf else f"{total:,}",
        "proved": shown.proved,
    }


def described(shown: Shown, prompt: Tensor, temperature: float) -> tuple[dict, dict[str, str]]:
    """What page.js reads about one model, and its weights and its counts as base64, by name.

    Raises ValueError, one sentence, when the model is too large.
    """
    dtype = torch.float32 if shown.by_hand else rounded(shown.model)
    packed, about = pack(shown.model, shown.chars, dtype), shown.about
    carried = shown if dtype == torch.float32 else halved(shown)
    idx = write_on(carried.writer, prompt, temperature)
    if carried is not shown:
        about += (
            " Its weights are rounded to float16, which changes no probability of the first text "
            f"by more than {change(shown, carried, idx):.1g}."
        )
    large, counts = {"weights": packed.pop("weights")}, None
    if shown.mixture:
        counts = pack_counts(
            shown.counts, shown.mixture.shares.tolist(), shown.model.config.vocab_size
        )
        large["counts"] = counts.pop("bytes")
        about += (
            f" Beside it are counts of its text: {gram_count(shown.counts):,}, of up to "
            f"{len(shown.counts)} characters, {len(large['counts']) / 1e6:.1f} MB of this page."
        )
    return {
        "label": shown.label,
        "about": about,
        "packed": packed,
        "counts": counts,
        "columns": shown.columns,
        "units": shown.units,
        "task": None if shown.rule is None else task_of(shown),
        "breaks": [vars(each) for each in shown.breaks],
        "checks": checks(carried, idx),
    }, large


def halved(shown: Shown) -> Shown:
    """The same with its weights rounded to float16."""
    model, mixture = GPT(shown.model.config).eval(), shown.mixture
    weights = shown.model.state_dict()
    model.load_state_dict({name: weight.half().float() for name, weight in weights.items()})
    if mixture:
        mixture = Mixture(model, mixture.counts, mixture.shares).eval()
    return dataclasses.replace(shown, model=model, mixture=mixture)


@torch.inference_mode()
def change(one: Shown, other: Shown, idx: Tensor) -> float:
    """How far apart the probabilities are that both give, at most, in the text idx (T,)."""
    before, after = (each.writer(idx[None]).softmax(dim=-1) for each in (one, other))
    return (before - after).abs().max().item()
