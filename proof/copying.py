"""Copying, followed part by part: a head that looks back, one that looks up, and silent units."""

import torch

from data.laws import Copying
from handmade.copying import columns_of
from model import GPT, Head
from proof.attention import Scores, astray_back, attended
from proof.bounds import Followed, Stream, embedded, silent


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


def follow(model: GPT, rule: Copying) -> Followed:
    """Follow a model that was compiled from `rule`. Raises Unproved."""
    (first, second), stream = model.blocks, embedded(model, columns_of(rule))
    before = astray_back(first.attn.heads[0], stream.normed(first.ln_1), by=1)
    stream = silent(first, attended(first, stream, ["prev"], [before]))
    latest = astray_up(second.attn.heads[0], stream.normed(second.ln_1))
    stream = silent(second, attended(second, stream, ["out"], [latest]))
    return Followed(stream, max(before, latest))
