"""What is minimised: the loss against the text, and what is taught beside it.

Where the alphabet is wide, the scores of all places do not fit into a processor's cache, and every
pass over them goes to memory: on a CPU the losses would take as long as the model. There, a piece
that fits becomes its part of the gradient at once, and nothing else of that size is kept.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from training.predecessor import Predecessors
from training.teacher import Soft, Teacher

WIDE = 1024  # characters from which on this is faster
AT_ONCE = 1 << 19  # scores in a piece; with fewer, two threads wait for each other


def is_wide(vocab_size: int, device: torch.device) -> bool:
    """Whether losses are computed in pieces; a GPU is better off with all at once."""
    return vocab_size >= WIDE and device.type == "cpu"


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean loss in nats per character: logits (B, T, V), targets (B, T) -> scalar."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())


def minimised(
    logits: Tensor,
    targets: Tensor,
    teacher: Teacher | Predecessors | None,
    *,
    idx: Tensor,
    starts: Tensor,
    wide: bool,
) -> tuple[Tensor, Tensor]:
    """What is minimised, and the mean loss of the text alone, in nats per character; two scalars.

    logits (B, T, V), targets and idx (B, T), starts (B,): where in the text the windows begin.
    wide: whether both are computed in pieces. What is taught is then in the gradient of the first
    alone: its value, which no one reads, is that of the second.
    """
    if wide:
        soft = teacher.soft(idx, starts) if teacher else None
        loss = InPieces.apply(logits.flatten(0, 1), targets.flatten(), soft)
        return loss, loss
    loss = cross_entropy(logits.float(), targets)
    if not teacher:
        return loss, loss
    return loss + teacher.pull(logits, targets, idx=idx, starts=starts), loss


class InPieces(torch.autograd.Function):
    """The mean loss of N places, and the gradient of what is minimised, which is known with it.

    The gradient is softmax - target, the target (1 - share) one-hot + share probs.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, soft: Soft | None) -> Tensor:
        """logits (N, V), targets (N,) -> the mean loss against the text, a scalar."""
        (N, V), gradient = logits.shape, torch.empty_like(logits)
        loss, answers = torch.zeros(()), targets[:, None]
        for start in range(0, N, rows := max(1, AT_ONCE // V)):
            places = slice(start, start + rows)
            scores, answer = logits[places].float(), answers[places]  # (n, V), (n, 1)
            slope = scores.softmax(dim=-1)
            # the largest probability is 1 / sum(exp(scores - the largest score))
            norm = scores.amax(dim=1, keepdim=True) - slope.amax(dim=1, keepdim=True).log()
            loss += (norm - scores.gather(1, answer)).sum()
            hard = torch.full_like(norm, -1.0)
            if soft:
                share = soft.share[places]  # (n, 1)
                slope.addcmul_(soft.probs(places), share, value=-1)
                hard += share
            slope.scatter_add_(1, answer, hard)
            torch.div(slope, N, out=gradient[places])
        ctx.save_for_backward(gradient)
        return loss / N

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of `forward`."""
        [gradient] = ctx.saved_tensors
        return gradient if slope == 1 else gradient * slope, None, None
