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

from data.addition import Addition
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from model import GPT
from proof import addition, copying, machines, suffixes, sums
from proof.bounds import Followed, Stream, Unproved, rounding, terms
from proof.proof import count_contexts, played, prove
from system.errors import UserError

FOLLOW: dict[type[Law], Callable[[GPT, Law], Followed]] = {
    Suffixes: suffixes.follow,
    Copying: copying.follow,
    Addition: addition.follow,
    Machine: machines.follow,
}
ENUMERATED = 20_000  # contexts that are tried one by one; that takes a second


@dataclass
class Certificate:
    """What was proved, and how far it is from failing.

    about: what it was proved for
    attention: largest share that goes elsewhere than it should
    columns: how far a column is at most from its one-hot, in front of units or of the output,
        whichever is closer to failing
    allowed: how far it may be there, before a unit or a character is taken for another
    margin: least logit of the right character minus that of any other
    """

    about: str
    attention: float
    columns: float
    allowed: float
    margin: float

    def __str__(self) -> str:
        return (
            f"proved for {self.about}: attention off by {self.attention:.0e}, columns off by "
            f"{self.columns:.0e}, allowed {self.allowed:.2g}"
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
        rounded = rounding(terms(W) + 2) * (stream.weigh(size) + stream.most(size))
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
    least, allowed = margin(model, last)
    steps = ((followed.columns, followed.allowed), (last.off.max().item(), allowed))
    columns, allowed = max(steps, key=lambda step: step[0] / step[1] if step[1] > 0 else torch.inf)
    found = Certificate(
        about=rule.extent(),
        attention=followed.attention,
        columns=columns,
        allowed=allowed,
        margin=least,
    )
    if not (least > 0 and columns < allowed):
        raise Unproved(
            f"columns may be off by {columns:.2g}, and {allowed:.2g} is allowed; the right logit "
            f"leads by {least:.2g} at least"
        )
    return found


def assure(model: GPT, rule: Law, name: str) -> str:
    """Prove that `model`, compiled from `rule`, is right in every context, and say how.

    Where they are few, each of them is tried; otherwise the proof goes by parts. A rule of a game
    plays, too, against all that can be done. Raises UserError when there is no proof.
    """
    try:
        if rule.board:
            return f"{certify(model, rule)}; {played(model, rule.chars)}"
        if isinstance(rule, Addition) and (rule.order == "ordinary" or rule.digits < 3):
            return sums.assure_sums(model, rule, name)
        if count_contexts(rule.chars, rule.block_size, shortest=1) > ENUMERATED:
            return str(certify(model, rule))
        found = prove(model, rule.chars, rule.answer, text="", shortest=1).all
    except ValueError as error:
        raise UserError(f"{name} is not proved right: {error}; take a smaller window") from None
    if found.wrong:
        raise UserError(f"{name} is wrong after {found.wrong[0]!r}; take a smaller window")
    return f"proved in each of {found.total:,} contexts, worst margin {found.worst_margin:+.4f}"
