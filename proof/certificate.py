"""Proof by parts: that a compiled model is right in every context, where there are too many to try.

`proof.prove` tries them one by one. Here the weights are followed part by part instead, with bounds
on how far each part may be from what it should do:

LayerNorm   a row that is near a known number of ones comes out near them again
look back   scores depend on the two places, but for what the columns are off: all pairs of places
look up     (copying) scores depend on the two characters and the two places: all of these
units       what a unit gets is a sum over one-hots; so the least that it gets where it should be
            on, and the most where it should be off, are found one-hot by one-hot
answer      which units are on depends on the longest pattern that fits: each pattern in turn
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from data.rules import Copying, Rule, Suffixes
from handmade import copying, suffixes
from model import GPT, Block, Head
from proof.bounds import (
    UNIT,
    Scores,
    Stream,
    Unproved,
    attended,
    embedded,
    largest,
    rounding,
    silent,
    sure,
)
from proof.proof import count_contexts, prove
from system.errors import UserError

ENUMERATED = 20_000  # contexts that are tried one by one; that takes a second


@dataclass
class Certificate:
    """What was proved, and how far it is from failing.

    chars, places: the contexts are all that so many characters make, up to so many places
    attention: largest share that goes elsewhere than it should
    columns: how far a column is at most from its one-hot, in front of units and of the output
    allowed: how far it may be, before a unit or a character is taken for another
    margin: least logit of the right character minus that of any other
    """

    chars: int
    places: int
    attention: float
    columns: float
    allowed: float
    margin: float

    def __str__(self) -> str:
        return (
            f"proved for all {self.chars}^{self.places} contexts: attention off by "
            f"{self.attention:.0e}, columns off by {self.columns:.0e}, allowed {self.allowed:.2g}"
        )


def astray_back(head: Head, stream: Stream, by: int) -> float:
    """The largest share of a look-back head that does not go to the place `by` before."""
    scores, T = Scores(head, stream), len(stream.columns["place"])
    places = [scores.block(a, b) for a in ("place", None) for b in ("place", None)]
    by_place = sum(block.expand(T, T) for block in places)  # (T asks, T asked)
    low, high = scores.spread(
        *((s, "tok") for s in ("tok", "place", None)), ("tok", "place"), ("tok", None)
    )
    t = torch.arange(T)
    wanted = torch.where(t >= by, t - by, t)
    least = by_place[t, wanted] + low - 2 * scores.off  # (T,)
    others = (by_place + high - least[:, None]).exp().tril()
    others[t, wanted] = 0
    return others.sum(dim=1).max().item() * (1 + 1e-6)


def astray_up(head: Head, stream: Stream) -> float:
    """The largest share of the copying head that does not go to the latest place after the same
    character, or to its own place where there is none."""
    scores, T = Scores(head, stream), len(stream.columns["place"])
    low, high = scores.spread(
        *(("prev", slot) for slot in ("tok", "place", "prev", None)),
        *((slot, "tok") for slot in ("tok", "place", None)),
    )
    places = [scores.block(a, b) for a in ("place", None) for b in ("place", None)]
    by_place = sum(block.expand(T, T) for block in places)  # (T asks, T asked)
    worst, future = 0.0, torch.ones(T, T).triu(1).bool()
    characters = torch.arange(len(stream.columns["tok"]))
    for v in characters.tolist():
        base = by_place + scores.block("tok", "place")[v] + scores.block("tok", None)[v]
        by_prev = scores.block("place", "prev") + scores.block(None, "prev")
        by_prev = by_prev + scores.block("tok", "prev")[v]  # (T asks, V)
        match, rest = by_prev[:, [v]], by_prev[:, characters != v]  # (T, 1), (T, V - 1)
        least_match = base + match + low - 2 * scores.off  # (T, T)
        most_match = base + match + high
        most_other = torch.full_like(base, -torch.inf)
        if len(characters) > 1:
            most_other = base + rest.amax(dim=1, keepdim=True) + high
            alone = (base + rest.amin(dim=1, keepdim=True) + low - 2 * scores.off).diag()[:, None]
            others = (most_other - alone).exp().tril(-1)  # no place is after the same character
            worst = max(worst, others.sum(dim=1).max().item())
        any_before = torch.maximum(most_match, most_other).logcumsumexp(dim=1)
        later = most_other.masked_fill(future, -torch.inf).flip(1).logcumsumexp(dim=1).flip(1)
        before, after = any_before[:, :-1], torch.full_like(least_match, -torch.inf)
        after[:, :-1] = later[:, 1:]
        share = (before - least_match[:, 1:]).exp() + (after - least_match)[:, 1:].exp()
        worst = max(worst, share.masked_fill(future[:, 1:], 0.0).max().item())
    return worst * (1 + 1e-6)


def thresholds(block: Block, stream: Stream, rule: Suffixes) -> tuple[Tensor, Tensor, Tensor]:
    """What the unit of each telling pattern gets, (R,) each: the least where its pattern fits and
    should turn it on, the most there, and the most where it does not fit."""
    up, bias, columns, chars = block.ffwd.up.weight, block.ffwd.up.bias, stream.columns, rule.chars
    least, most, off = [], [], []
    for unit, pattern in enumerate(suffixes.telling(rule)):
        slots = ["tok", *(f"back{j}" for j in range(1, len(pattern)))]
        fits = {s: [columns[s][chars.index(c)]] for s, c in zip(slots, pattern[::-1], strict=True)}
        fits["place"] = list(columns["place"][len(pattern) - 1 :])
        row = {slot: up[unit, list(columns[slot])] for slot in stream.slots}
        right = [up[unit, fits[slot]] if slot in fits else row[slot] for slot in stream.slots]
        least.append((bias[unit] + sum(values.min() for values in right)).item())
        most.append((bias[unit] + sum(values.max() for values in right)).item())
        total, misses = bias[unit] + sum(values.max() for values in row.values()), []
        for slot, asked in fits.items():  # one of them holds something else, all others anything
            if wrong := [column for column in columns[slot] if column not in asked]:
                misses.append((total - row[slot].max() + up[unit, wrong].max()).item())
        off.append(max(misses, default=-math.inf))
    return tuple(torch.tensor(values, dtype=torch.float64) for values in (least, most, off))


def answered(block: Block, stream: Stream, rule: Suffixes) -> tuple[Stream, float]:
    """The stream behind the units, which should write the answer, and how far the columns in front
    of them might be off before a unit is on that should be off, or the other way round."""
    ffwd, normed, chars = block.ffwd, stream.normed(block.ln_2), rule.chars
    down, patterns = ffwd.down.weight, suffixes.telling(rule)
    answers, out = {"": rule.default, **rule.rules}, stream.columns["out"]
    least, most, off = thresholds(block, stream, rule)
    error = normed.error(ffwd.up.weight)[: len(patterns)] + UNIT * (1 + least.abs())
    on_low, on_high = sure(ffwd, least - error, most + error)
    off_low, off_high = sure(ffwd, torch.full_like(off, -torch.inf), off + error)
    middle, radius = (on_low + on_high) / 2, (on_high - on_low) / 2
    stray = torch.maximum(off_low.abs(), off_high.abs())
    worst = torch.zeros_like(ffwd.down.bias)
    for longest, answer in answers.items():
        on = torch.tensor([longest.endswith(pattern) for pattern in patterns], dtype=torch.bool)
        written = ffwd.down.bias + down[:, : len(patterns)] @ torch.where(on, middle, 0.0)
        written[out[chars.index(answer)]] -= 1
        spread = down[:, : len(patterns)].abs() @ torch.where(on, radius, stray)
        worst = worst.maximum(written.abs() + spread)
    idle = down[:, len(patterns) :].abs() @ largest(ffwd, normed)[len(patterns) :]
    size = down.abs().sum(dim=1) * (1 + on_high.max() if len(patterns) else 1.0)
    new = stream.off + worst + idle + rounding(down.shape[1] + 2) * (1 + size)
    slack = torch.minimum(least, -off) / ffwd.up.weight[: len(patterns)].abs().sum(dim=1)
    allowed = slack.min().item() if len(patterns) else 0.5
    return Stream(stream.columns, [*stream.slots, "out"], new), allowed


def margin(model: GPT, stream: Stream) -> tuple[float, float]:
    """The least logit of the character in `out` minus that of another, and how far the columns
    might be off before another one was the likeliest."""
    W, out = model.lm_head.weight, stream.columns["out"]
    rest = Stream(stream.columns, [slot for slot in stream.slots if slot != "out"], stream.off)
    worst, allowed = torch.inf, 0.5
    for right in range(len(W)):
        apart = W[right] - W  # (V, C)
        sure_of = apart[:, out[right]] + rest.least(apart)  # (V,)
        size = W[right].abs() + W.abs()
        rounded = rounding(size.shape[1] + 2) * (stream.weigh(size) + stream.most(size))
        bound = sure_of - stream.weigh(apart.abs()) - rounded
        others = torch.arange(len(W)) != right
        if others.any():
            worst = min(worst, bound[others].min().item())
            allowed = min(allowed, (sure_of / apart.abs().sum(dim=1))[others].min().item())
    return worst, allowed


@torch.no_grad()
def certify(model: GPT, rule: Rule) -> Certificate:
    """Prove that `model`, compiled from `rule`, answers as the rule does in every context of its
    window. Raises Unproved where a part of it does not, or not surely."""
    model = copy.deepcopy(model).cpu().double().eval()
    columns = (copying if isinstance(rule, Copying) else suffixes).columns_of(rule)
    stream, first = embedded(model, columns), model.blocks[0]
    normed, tolerated = stream.normed(first.ln_1), 0.5
    if isinstance(rule, Copying):
        astray = [astray_back(first.attn.heads[0], normed, by=1)]
        stream = silent(first, attended(first, stream, ["prev"], astray))
        second = model.blocks[1]
        astray.append(astray_up(second.attn.heads[0], stream.normed(second.ln_1)))
        stream = silent(second, attended(second, stream, ["out"], astray[1:]))
        columns_off = 0.0
    else:
        heads = enumerate(first.attn.heads, start=1)
        astray = [astray_back(head, normed, by) for by, head in heads]
        stream = attended(first, stream, [f"back{j + 1}" for j in range(len(astray))], astray)
        columns_off = stream.normed(first.ln_2).off.max().item()
        stream, tolerated = answered(first, stream, rule)
    if not max(astray) < 0.5:
        raise Unproved(f"a head gives up to {max(astray):.2g} of its attention to other places")
    last = stream.normed(model.ln_f)
    columns_off = max(columns_off, last.off.max().item())
    least, allowed = margin(model, last)
    found = Certificate(
        chars=len(rule.chars),
        places=rule.block_size,
        attention=max(astray),
        columns=columns_off,
        allowed=min(tolerated, allowed),
        margin=least,
    )
    if not (least > 0 and columns_off < found.allowed):
        raise Unproved(
            f"columns may be off by {columns_off:.2g}, and {found.allowed:.2g} is allowed; the "
            f"right logit leads by {least:.2g} at least"
        )
    return found


def assure(model: GPT, rule: Rule, name: str) -> str:
    """Prove that `model`, compiled from `rule`, is right in every context, and say how.

    Where they are few, each of them is tried; otherwise the proof goes by parts. Raises UserError
    when there is no proof.
    """
    try:
        if count_contexts(rule.chars, rule.block_size, shortest=1) > ENUMERATED:
            return str(certify(model, rule))
        found = prove(model, rule.chars, rule.answer, text="", shortest=1).all
    except ValueError as error:
        raise UserError(f"{name} is not proved right: {error}; take a smaller window") from None
    if found.wrong:
        raise UserError(f"{name} is wrong after {found.wrong[0]!r}; take a smaller window")
    return f"proved in each of {found.total:,} contexts, worst margin {found.worst_margin:+.4f}"
