"""Write on: the next character from the scores, again and again."""

from collections.abc import Iterator

import torch
from torch import Tensor

from model import GPT


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Leave the k highest scores of each row, exactly k also where scores tie; (B, V)."""
    values, ids = logits.topk(min(k, logits.shape[-1]))
    return torch.full_like(logits, -torch.inf).scatter(-1, ids, values)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Leave the fewest most likely characters that have probability p > 0 together; (B, V).

    Nucleus sampling: Holtzman et al. 2019, arXiv:1904.09751.
    """
    logits, ids = logits.sort(descending=True, stable=True)
    probs = logits.softmax(dim=-1)
    before = probs.cumsum(dim=-1) - probs  # probability of the likelier ones
    kept = logits.masked_fill(before >= p, -torch.inf)
    return torch.empty_like(logits).scatter(-1, ids, kept)


def choose(
    logits: Tensor,
    generator: torch.Generator,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Tensor:
    """Draw one id per row of `logits` (B, V) -> (B, 1); temperature 0 takes the likeliest."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() - logits.max(dim=-1, keepdim=True).values  # no overflow below
    logits = logits / max(temperature, 1e-6)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator)


@torch.inference_mode()
def generate(
    model: GPT,
    idx: Tensor,
    max_new_tokens: int,
    generator: torch.Generator,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[Tensor]:
    """Continue each row of idx (B, T), T >= 1, yielding the new ids (B,) of each place in turn.

    The context is the last block_size ids. The model samples in evaluation mode and is put back
    into the mode it had. Temperature divides the scores; top_k, then top_p narrow the choice.
    """
    training = model.training
    model.eval()
    try:
        for _ in range(max_new_tokens):
            idx = idx[:, -model.config.block_size :]
            new = choose(
                model(idx)[:, -1], generator, temperature=temperature, top_k=top_k, top_p=top_p
            )
            idx = torch.cat((idx, new), dim=1)
            yield new[:, 0]
    finally:
        model.train(training)
