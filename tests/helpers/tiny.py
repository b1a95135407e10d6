"""A model for tests: no two of its sizes are equal, and no weight is silent. And odd characters."""

import torch

from model import GPT, GPTConfig

CHARS = 'zyx\n \t\r\0é\u0301\u200d🙂👩🚀日\ufeff\ufffd<>"\\\N{NO-BREAK SPACE}{a'
SIZES = {
    "vocab_size": 13,
    "block_size": 6,
    "n_layer": 2,
    "n_head": 3,
    "head_size": 4,
    "n_embd": 7,
    "ffn_size": 11,
}


@torch.no_grad()
def tiny_gpt(*, seed: int = 1, **changes: object) -> GPT:
    """A GPT with `SIZES` and `changes`, whose every weight, gain and bias is Normal(0, 0.5)."""
    model = GPT(GPTConfig(**{**SIZES, **changes}))
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.normal_(std=0.5, generator=generator)
    return model
