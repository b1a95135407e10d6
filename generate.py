"""Write on: the next character from the scores, again and again, as ids."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.ngrams import Ngrams
from mixture import Mixture
from model import GPT, MultiHeadAttention, Past, Rotary, tail, turned
from system.device import autocast

SHORTEST = torch.finfo(torch.float32).tiny
MANY = 1 << 27  # weights times positions: from there on bfloat16 is faster (benchmarks/README.md)


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
    generator: torch.Generator | Sequence[torch.Generator],
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
) -> Tensor:
    """Draw one id per row of `logits` (B, V) -> (B, 1); temperature 0 takes the likeliest.

    All rows may have one generator, or each its own.
    """
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    logits = logits.float() / max(temperature, 1e-6)
    if top_k is not None:
        logits = keep_top_k(logits, top_k)
    if top_p is not None and top_p < 1:
        logits = keep_top_p(logits, top_p)
    probs = logits.softmax(dim=-1)
    # the draw of torch.multinomial, without its checks, which take longer than the draw
    if isinstance(generator, torch.Generator):
        waits = torch.empty_like(probs).exponential_(generator=generator)
    else:
        rows = zip(probs, generator, strict=True)
        waits = torch.stack([torch.empty_like(p).exponential_(generator=own) for p, own in rows])
    waits.clamp_(min=SHORTEST)  # an Apple chip also draws 0, and 0 / 0 would win
    return (probs / waits).argmax(dim=-1, keepdim=True)


class Cache(Past):
    """Keeps what one block computed, so that each character passes through it once."""

    def __init__(self, block_size: int) -> None:
        self.block_size = self.window = block_size
        self.keys: Tensor | None = None  # (B, H, block_size, D), as the values
        self.nodes: Tensor | None = None  # contexts that counts know at the last place, (B, L)
        self.latest: dict[int, Tensor] = {}  # what the last place so far had, each (B, 1, n)

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the next positions, each (B, H, t, D) -> those of all so far, (B, H, T, D)."""
        B, H, t, D = k.shape
        if self.keys is None:
            self.keys, self.values = (k.new_empty(B, H, self.block_size, D) for _ in range(2))
        start, self.length = self.length, self.length + t
        self.keys.narrow(2, start, t).copy_(k)
        self.values.narrow(2, start, t).copy_(v)
        return self.keys.narrow(2, 0, self.length), self.values.narrow(2, 0, self.length)

    def follow(self, idx: Tensor, counts: Ngrams) -> Tensor:
        """The next ids (B, t) -> the contexts that `counts` know at each of them, (B, t, L)."""
        if self.nodes is None:
            self.nodes = counts.begin(len(idx), self.window)
        nodes = counts.contexts(idx, self.nodes)
        self.nodes = nodes[:, -1]
        return nodes

    def before(self, branch: int, x: Tensor) -> Tensor:
        """What each place's predecessor had, x (B, t, n) -> (B, t, n); zero at the first place."""
        first = self.latest.get(branch)
        self.latest[branch] = tail(x, 1)
        if first is None:
            first = torch.zeros_like(x[:, :1])
        return first if x.shape[1] == 1 else torch.cat((first, x[:, :-1]), dim=1)


class Rolling(Cache):
    """Keeps the latest `window` places, in room for twice as many.

    Rotary scores depend on distance alone. So where the room ends, the later half becomes the
    first one, with its keys turned back by as many places.
    """

    def __init__(self, window: int, rotary: Rotary) -> None:
        super().__init__(2 * window)
        self.window, self.rotary = window, rotary

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the next positions, each (B, H, t, D) -> those of the window."""
        k, v = super().extend(k, v)
        return tail(k, self.window), tail(v, self.window)

    def make_room(self) -> None:
        """Before the next position, go back to the first half if the room is full."""
        if self.length == self.block_size:
            self.length = size = self.window
            keys, values = self.keys[:, :, size:], self.values[:, :, size:]
            back = keys * self.rotary.cos[size] - turned(keys) * self.rotary.sin[size]
            self.keys, self.values = (F.pad(kept, (0, 0, 0, size)) for kept in (back, values))


def caches(model: GPT | Mixture) -> list[Cache]:
    """An empty cache for each block."""
    return [Cache(model.config.block_size) for _ in model.blocks]


def rolling(model: GPT | Mixture) -> list[Rolling]:
    """Let a `ready` model with rotary positions go on past its window: an empty cache each block.

    Raises ValueError where positions are learned: there is none for what comes after the last.
    """
    gpt = model.gpt if isinstance(model, Mixture) else model
    config, size = gpt.config, gpt.config.block_size
    if config.position != "rotary":
        raise ValueError("the window rolls only where positions are rotary")
    rotary = ready(Rotary(2 * size, config.head_size).to(gpt.wte.weight.device))
    gpt.config = dataclasses.replace(config, block_size=2 * size)
    for block in gpt.blocks:
        block.attn.heads[0].rotate = rotary
    return [Rolling(size, rotary) for _ in gpt.blocks]


@functools.cache
def direct(kind: type[nn.Module]) -> type[nn.Module]:
    """The same kind of module, but a call is `forward` at once, without looking for hooks."""
    return type(kind.__name__, (kind,), {"__call__": kind.forward})


def ready(module: nn.Module, dtype: torch.dtype = torch.float32) -> Callable | list:
    """A copy of a model, or of a part of it, in evaluation mode, that writes faster.

    It computes the same, by the same `forward`. But for one character, calls and attributes of
    modules take longer than arithmetic; so a call looks for no hooks, weights and parts are plain
    attributes, what has no parts is one call of torch, the heads are gathered once, and weights of
    products are of the type in which autocast would have them. What is not trained is shared.
    """
    if isinstance(module, nn.Linear):
        return product(module.weight, module.bias, dtype)
    weights = {name: copied(p) for name, p in module._parameters.items()}
    if isinstance(module, nn.LayerNorm):
        shape, weight, bias, eps = module.normalized_shape, *weights.values(), module.eps
        return lambda x: torch.layer_norm(x, shape, weight, bias, eps)
    parts = {name: ready(part, dtype) for name, part in module._modules.items()}
    if isinstance(module, nn.ModuleList | nn.Sequential):
        return list(parts.values())
    writer = object.__new__(direct(type(module)))
    plain = parts | weights | module._buffers
    writer.__dict__ = module.__dict__ | {"_modules": parts, "training": False} | plain
    if isinstance(module, MultiHeadAttention):
        writer.qkv = product(*module.gathered(), dtype)
    return writer


def product(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A linear layer whose weights (out, in) stand in memory as the product reads them."""
    columns = copied(weight.t(), dtype)  # (in, out)
    if bias is None:
        return lambda x: x @ columns
    weight, bias = columns.t(), copied(bias, dtype)
    return lambda x: F.linear(x, weight, bias)


def copied(p: Tensor | None, dtype: torch.dtype | None = None) -> Tensor | None:
    """A weight as it is now, row after row in memory, if there is one."""
    if p is None:
        return None
    return p.detach().to(dtype or p.dtype, copy=True, memory_format=torch.contiguous_format)


@torch.inference_mode()
def generate(
    model: GPT | Mixture,
    idx: Tensor,
    max_new_tokens: int,
    generator: torch.Generator | Sequence[torch.Generator],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    window: Literal["slide", "half", "roll"] = "slide",
    dtype: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Continue each row of idx (B, T), T >= 1, yielding the new ids (B,) of each place in turn.

    The context is the last block_size ids. The weights are those at the start; nothing is dropped.
    Temperature divides the scores; top_k, then top_p narrow the choice. With a generator for each
    row, a row is what it would be alone, but for the rounding of a larger product.

    While the context fills, each character passes through the model once, in float32. After that
    every new one moves all others to another place, and the whole context is computed again, with
    products in `dtype` where there are many. With window "half" a full context is cut to its last
    half instead, which is faster, and another text. With "roll" each character passes once for
    good and keeps what it made of what has left the window since, which is another text, too.

    Raises ValueError where a window cannot roll, because positions are learned.
    """
    size = model.config.block_size
    kept = size if window == "slide" else (size + 1) // 2
    together = len(idx) if isinstance(generator, torch.Generator) else 1
    if together * size * model.parameter_count() < MANY:
        dtype = torch.float32
    whole = ready(model, dtype)
    model = whole if dtype == torch.float32 else ready(model)
    precision = autocast(idx.device, dtype)
    context = unseen = idx[:, -size:]
    pasts = rolling(model) if window == "roll" else caches(model)
    for _ in range(max_new_tokens):
        if (
            unseen.shape[1] == size and window != "roll"
        ):  # all at once, and the next character moves all of it
            with precision:
                logits = whole(unseen, last=1)  # (B, 1, V)
        else:
            logits = model(unseen, pasts, last=1)
        new = choose(logits[:, 0], generator, temperature=temperature, top_k=top_k, top_p=top_p)
        yield new[:, 0]
        unseen = new
        if window == "roll":
            for past in pasts:
                past.make_room()
            continue
        context = torch.cat((context, new), dim=1)
        if context.shape[1] > size:
            unseen = context = context[:, -kept:]
            pasts = caches(model)
