"""A character-level GPT, small enough to read in one sitting.

Shapes are noted at line ends: B batch, T time, C channels (n_embd), H heads, D head size,
F feed-forward size, V vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

Position = Literal["learned", "rotary"]
Activation = Literal["gelu", "gelu_tanh", "relu2"]


@dataclass
class GPTConfig:
    """The structure of a GPT.

    Every field is read once, in a constructor.

    vocab_size: number of distinct characters; the text decides it
    block_size: longest context, in characters
    n_layer: number of blocks
    n_head: attention heads in each block
    n_embd: width of the residual stream
    head_size: width of one head; null means n_embd / n_head
    ffn_size: hidden width of the feed-forward; null means 4 * n_embd
    dropout: share of values dropped in training, at least 0 and below 1
    bias: whether LayerNorms and the linear layers of the blocks have biases
    position: learned embeddings at the input, or rotary angles in each head
    activation: nonlinearity of the feed-forward
    shift: share of the channels that attention and feed-forward read from the place before
    tie_weights: whether the output head shares the token embedding's weights

    Raises ValueError, one sentence, when a field is out of range or the fields do not fit.
    """

    vocab_size: int
    block_size: int = 256
    n_layer: int = 6
    n_head: int = 6
    n_embd: int = 384
    head_size: int | None = None
    ffn_size: int | None = None
    dropout: float = 0.0
    bias: bool = False
    position: Position = "rotary"
    activation: Activation = "relu2"
    shift: float = 0.0
    tie_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_layer", "n_head", "n_embd"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.head_size is None:
            if self.n_embd % self.n_head:
                raise ValueError(
                    f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}; "
                    "change one of them or set head_size"
                )
            self.head_size = self.n_embd // self.n_head
        if self.ffn_size is None:
            self.ffn_size = 4 * self.n_embd
        for name in ("head_size", "ffn_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, not {self.dropout}")
        if not 0 <= self.shift <= 1:
            raise ValueError(f"shift must lie between 0 and 1, not {self.shift}")
        for name, choices in (("position", Position), ("activation", Activation)):
            if getattr(self, name) not in get_args(choices):
                raise ValueError(f"{name} is one of {', '.join(get_args(choices))}")
        if self.position == "rotary" and self.head_size % 2:
            raise ValueError(
                f"rotary positions turn pairs of channels, so head_size={self.head_size} "
                "must be even; change it or set position to learned"
            )


def causal_pattern(q: Tensor, k: Tensor) -> Tensor:
    """How much each position attends to itself and to what came before: softmax(q k^T / sqrt(D)).

    k (..., T, D) of all positions, q (..., t, D) of the last t -> pattern (..., t, T), whose rows
    sum to 1. Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    (t, D), T = q.shape[-2:], k.shape[-2]
    scores = q / math.sqrt(D) @ k.mT
    if t > 1:  # the last position has no future
        scores = scores + q.new_full((t, T), -math.inf).triu(1 + T - t)  # filling is slower
    return F.softmax(scores, dim=-1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Mix the values by the causal pattern: q (..., t, D), k, v (..., T, D) -> (..., t, D).

    Two kernels, one result. The fused one is faster, but not on a CPU in training with bfloat16 or
    with dropout: there plain batched products are, up to five times (benchmarks/README.md). On an
    Apple chip it has been wrong without saying so, in three ways (docs/reliability.md).
    """
    t, T, place = q.shape[-2], k.shape[-2], q.device.type
    if t == 1 and place != "mps":  # the last position looks everywhere
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p)
    slow = place == "cpu" and q.requires_grad and (q.dtype != torch.float32 or dropout_p > 0)
    if t == T and place != "mps" and not slow:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, is_causal=True)
    return dropout(causal_pattern(q, k), dropout_p) @ v


def tail(x: Tensor, n: int) -> Tensor:
    """The last n positions of x (..., T, C), or all of them for 0."""
    return x[..., -n:, :] if 0 < n < x.shape[-2] else x


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero each value with probability p and scale the others by 1 / (1 - p).

    As F.dropout, but on a CPU, where random numbers are what takes the time, four values share the
    64 bits of one: p is then met to 1/65536.
    """
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    lanes = words.view(torch.int16)[: x.numel()].view(x.shape)  # each from -32768 to 32767
    kept = torch.ge(lanes, round(65536 * p) - 32768, out=torch.empty_like(x, requires_grad=False))
    return x * kept.div_(1 - p)


class Dropout(nn.Module):
    """Dropout of a share p of the values in training, none in evaluation."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p) if self.training else x


class Past:
    """What a block knows of the positions before those that it is given; here there are none.

    `generate.Cache` is one that keeps it, so that text can go on one character at a time.
    """

    length = 0

    def extend(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the next positions, each (B, H, t, D) -> of all, (B, H, T, D)."""
        return k, v

    def before(self, branch: int, x: Tensor) -> Tensor:
        """What each place's predecessor had, x (B, t, n) -> (B, t, n); zero at the first place.

        branch: which of the block's two inputs x is, that of attention (0) or feed-forward (1)
        """
        return F.pad(x, (0, 0, 1, -1))


NO_PAST = Past()


def turned(x: Tensor) -> Tensor:
    """Each channel's partner in its place: the halves of x (..., D) change sides."""
    return x.roll(x.shape[-1] // 2, dims=-1)


class Rotary(nn.Module):
    """Turn channel pairs (j, j + D/2) by an angle that grows with position.

    Attention scores then depend on distance alone. x (..., T, D), whose first position is `start`,
    -> (..., T, D). Su et al. 2021, arXiv:2104.09864.
    """

    def __init__(self, block_size: int, head_size: int) -> None:
        super().__init__()
        frequency = 10000.0 ** (-torch.arange(0, head_size, 2, dtype=torch.float64) / head_size)
        angle = torch.arange(block_size)[:, None] * frequency  # (block_size, D/2)
        dtype = torch.get_default_dtype()
        cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
        self.register_buffer("cos", torch.cat((cos, cos), dim=1), persistent=False)
        self.register_buffer("sin", torch.cat((-sin, sin), dim=1), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        T = x.shape[-2]
        cos, sin = (part[start : start + T].to(x.dtype) for part in (self.cos, self.sin))  # (T, D)
        return torch.addcmul(x * cos, turned(x), sin)

    def split(self, qkv: Tensor, start: int = 0) -> tuple[Tensor, ...]:
        """Queries and keys, turned, and values: qkv (B, T, 3 * H, D) -> each (B, H, T, D)."""
        H = qkv.shape[2] // 3
        qk, v = qkv.transpose(1, 2).split_with_sizes((2 * H, H), dim=1)
        return *self(qk, start).chunk(2, dim=1), v


class NoRotary(nn.Module):
    """Nothing is turned where positions are learned."""

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        return x

    def split(self, qkv: Tensor, start: int = 0) -> tuple[Tensor, ...]:
        """Queries, keys and values, as Rotary has them; cut like this, the way back is one copy."""
        return tuple(part.transpose(1, 2) for part in qkv.chunk(3, dim=2))


class Head(nn.Module):
    """One attention head: what each position looks for, what it offers, and what it hands over."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.n_embd, config.head_size, bias=config.bias)
        self.key = nn.Linear(config.n_embd, config.head_size, bias=config.bias)
        self.value = nn.Linear(config.n_embd, config.head_size, bias=config.bias)
        rotary = config.position == "rotary"
        self.rotate = Rotary(config.block_size, config.head_size) if rotary else NoRotary()

    def pattern(self, x: Tensor) -> Tensor:
        """Attention weights, x (B, T, C) -> (B, T, T)."""
        return causal_pattern(self.rotate(self.query(x)), self.rotate(self.key(x)))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, C) -> (B, T, D)."""
        return self.pattern(x) @ self.value(x)


def gather(layers: list[nn.Linear]) -> tuple[Tensor, Tensor | None]:
    """Weights and biases of several linear layers, stacked as those of one."""
    bias = None if layers[0].bias is None else torch.cat([layer.bias for layer in layers])
    return torch.cat([layer.weight for layer in layers]), bias


class MultiHeadAttention(nn.Module):
    """Heads side by side, then one projection: proj(cat([head(x) for head in heads])).

    The heads are modules of their own; `forward` gathers their weights and runs them as one.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads = nn.ModuleList([Head(config) for _ in range(config.n_head)])
        self.proj = nn.Linear(config.n_head * config.head_size, config.n_embd, bias=config.bias)
        self.dropout = config.dropout

    def gathered(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of all queries, then all keys, then all values: (3 * H * D, C)."""
        queries, keys = [head.query for head in self.heads], [head.key for head in self.heads]
        return gather([*queries, *keys, *(head.value for head in self.heads)])

    def qkv(self, x: Tensor) -> Tensor:
        """Queries, keys and values of all heads, x (B, T, C) -> (B, T, 3 * H * D)."""
        return F.linear(x, *self.gathered())

    def forward(self, x: Tensor, past: Past = NO_PAST, last: int = 0) -> Tensor:
        """x (B, T, C) of the positions that come after `past` -> (B, t, C).

        t is T, or `last` if that is not 0: only the last positions then look back.
        """
        (B, T, _), H = x.shape, len(self.heads)
        qkv = self.qkv(x).view(B, T, 3 * H, -1)
        q, k, v = self.heads[0].rotate.split(qkv, past.length)  # each (B, H, T, D)
        k, v = past.extend(k, v)
        dropout_p = self.dropout if self.training else 0.0
        y = causal_attention(tail(q, last), k, v, dropout_p)  # (B, H, t, D)
        return self.proj(y.transpose(1, 2).flatten(2))

    def contributions(self, x: Tensor) -> Tensor:
        """What each head adds to the residual stream, x (B, T, C) -> (B, H, T, C).

        The projection split by head, with an equal share of its bias: summed over the heads this
        is `forward` without dropout.
        """
        weights = self.proj.weight.chunk(len(self.heads), dim=1)  # each (C, D)
        parts = [head(x) @ weight.T for head, weight in zip(self.heads, weights, strict=True)]
        parts = torch.stack(parts, dim=1)  # (B, H, T, C)
        return parts if self.proj.bias is None else parts + self.proj.bias / len(self.heads)


class ReLU2(nn.Module):
    """max(x, 0)^2. So et al. 2021 (Primer), arXiv:2109.08668."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,  # what nanoGPT uses
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),  # what GPT-2 used
    "relu2": ReLU2,
}


class FeedForward(nn.Module):
    """Each position thinks for itself: widen, bend, narrow. x (B, T, C) -> (B, T, C)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.n_embd, config.ffn_size, bias=config.bias)
        self.act = ACTIVATIONS[config.activation]()
        self.down = nn.Linear(config.ffn_size, config.n_embd, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class Shift(nn.Module):
    """Token shift: the first n channels come from the place before. Peng et al. 2023 (RWKV).

    A layer then need not spend a head on looking one place back. arXiv:2305.13048.
    """

    reach = 1  # places before the one that is read

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def forward(self, x: Tensor, past: Past = NO_PAST, branch: int = 0) -> Tensor:
        """x (B, T, C) of the positions that come after `past` -> (B, T, C)."""
        moved, kept = x.split_with_sizes((self.n, x.shape[-1] - self.n), dim=-1)
        return torch.cat((past.before(branch, moved), kept), dim=-1)


class NoShift(nn.Module):
    """Every channel is read where it is."""

    reach = 0

    def forward(self, x: Tensor, past: Past = NO_PAST, branch: int = 0) -> Tensor:
        return x


class Block(nn.Module):
    """Pre-norm residual block: communicate (attention), then compute (feed-forward)."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        shifted = round(config.shift * config.n_embd)
        self.shift = Shift(shifted) if shifted else NoShift()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = MultiHeadAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.ffwd = FeedForward(config)
        self.drop = Dropout(config.dropout)

    def forward(self, x: Tensor, past: Past = NO_PAST, last: int = 0) -> Tensor:
        """x (B, T, C) of the positions that come after `past` -> (B, t, C), t as in attention."""
        read = last and last + self.shift.reach  # the feed-forward reads one place before, too
        attended = self.attn(self.shift(self.ln_1(x), past, 0), past, read)
        x = tail(x, read) + self.drop(attended)
        x = x + self.drop(self.ffwd(self.shift(self.ln_2(x), past, 1)))
        return tail(x, last)


class Positions(nn.Embedding):
    """One learned vector for each place in the context: T places from `start` on -> (T, C)."""

    def forward(self, T: int, start: int = 0) -> Tensor:
        return self.weight[start : start + T]


class NoPositions(nn.Module):
    """Nothing is added to the input where the heads themselves know about position."""

    def forward(self, T: int, start: int = 0) -> float:
        return 0.0


class GPT(nn.Module):
    """Token ids in, scores of every next token out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        learned = config.position == "learned"
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = Positions(config.block_size, config.n_embd) if learned else NoPositions()
        self.drop = Dropout(config.dropout)
        self.blocks = nn.Sequential(*[Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()
        if config.tie_weights:
            self.lm_head.weight = self.wte.weight

    @torch.no_grad()
    def init_weights(self) -> None:
        """Normal(0, 0.02), and zero where a branch or the head should start silent.

        A block that adds nothing at first lets the gradient reach every layer unchanged. A tied
        head then scores the repetition of a character by std * n_embd, which is kept small.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.normal_(std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.zero_()
        for block in self.blocks:
            block.attn.proj.weight.zero_()
            block.ffwd.down.weight.zero_()
        self.lm_head.weight.zero_()
        if self.config.tie_weights:
            self.wte.weight.normal_(std=min(0.02, 1.5 / self.config.n_embd))

    def forward(self, idx: Tensor, pasts: Sequence[Past] | None = None, last: int = 0) -> Tensor:
        """idx (B, T) of ids -> logits (B, T, V), or of the `last` positions if that is not 0.

        `pasts` has one Past for each block; idx comes after the positions that they hold. Raises
        ValueError when these and T exceed block_size.
        """
        pasts = pasts or [NO_PAST] * len(self.blocks)
        start, T = pasts[0].length, idx.shape[1]
        if start + T > self.config.block_size:
            raise ValueError(
                f"{start + T} characters do not fit a model whose block_size is "
                f"{self.config.block_size}; pass the last {self.config.block_size}"
            )
        x = self.drop(self.wte(idx) + self.wpe(T, start))  # (B, T, C)
        *lower, (top, past) = zip(self.blocks, pasts, strict=True)
        for block, below in lower:
            x = block(x, below)
        x = top(x, past, last)  # what other positions would add here, no one reads
        return self.lm_head(self.ln_f(x))  # (B, T, V)

    def parameter_count(self) -> int:
        """Number of weights; shared ones count once."""
        return sum(p.numel() for p in self.parameters())
