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
from collections.abc import Callable
from dataclasses import dataclass

import torch

from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from model import GPT
from proof import copying, machines, suffixes
from proof.bounds import Followed, Stream, Unproved, rounding
from proof.proof import count_contexts, prove
from system.errors import UserError

FOLLOW: dict[type[Law], Callable[[GPT, Law], Followed]] = {
    Suffixes: suffixes.follow,
    Copying: copying.follow,
    Machine: machines.follow,
}
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
def certify(model: GPT, rule: Law) -> Certificate:
    """Prove that `model`, compiled from `rule`, answers as the rule does in every context of its
    window. Raises Unproved where a part of it does not, or not surely."""
    model = copy.deepcopy(model).cpu().double().eval()
    followed = FOLLOW[type(rule)](model, rule)
    if not followed.attention < 0.5:
        raise Unproved(
            f"a head gives up to {followed.attention:.2g} of its attention to other places"
        )
    last = followed.stream.normed(model.ln_f)
    columns_off = max(followed.columns, last.off.max().item())
    least, allowed = margin(model, last)
    found = Certificate(
        chars=len(rule.chars),
        places=rule.block_size,
        attention=followed.attention,
        columns=columns_off,
        allowed=min(followed.allowed, allowed),
        margin=least,
    )
    if not (least > 0 and columns_off < found.allowed):
        raise Unproved(
            f"columns may be off by {columns_off:.2g}, and {found.allowed:.2g} is allowed; the "
            f"right logit leads by {least:.2g} at least"
        )
    return found


def assure(model: GPT, rule: Law, name: str) -> str:
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
