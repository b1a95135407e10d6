"""An independent GPT in NumPy and float64: the oracle that model.py is tested against.

Written from the papers' arithmetic, one head and one frequency at a time, so that it cannot share
a mistake with the batched PyTorch code. Never import torch or model here, and never make it fast.

Letters: batch B, time T, channels C, head size D, heads H, feed-forward size F, vocabulary V.
`weights` is a state dict as NumPy arrays, and `prefix` names a module in it up to and including
the dot ("blocks.0.attn."); the prefix is "" when the dict is that module's own.
"""

import math

import numpy as np

Weights = dict[str, np.ndarray]


def f64(values: np.ndarray | float) -> np.ndarray:
    """The same values in double precision, so that float32 weights are not computed in float32."""
    return np.asarray(values, dtype=np.float64)


def linear(weights: Weights, prefix: str, x: np.ndarray) -> np.ndarray:
    """y = x W^T + b; a bias that is not among the weights is zero. (..., in) -> (..., out)"""
    return f64(x) @ f64(weights[f"{prefix}weight"]).T + f64(weights.get(f"{prefix}bias", 0.0))


def layer_norm(weights: Weights, prefix: str, x: np.ndarray) -> np.ndarray:
    """Give each position mean 0 and variance 1 over its channels, then scale and shift.

    (B, T, C) -> (B, T, C). Biased variance, eps 1e-5. Ba et al. 2016, arXiv:1607.06450.
    """
    x = f64(x)
    mean = x.mean(axis=-1, keepdims=True)  # (B, T, 1)
    variance = ((x - mean) ** 2).mean(axis=-1, keepdims=True)  # (B, T, 1)
    normed = (x - mean) / np.sqrt(variance + 1e-5)
    return normed * f64(weights[f"{prefix}weight"]) + f64(weights.get(f"{prefix}bias", 0.0))


def softmax(scores: np.ndarray) -> np.ndarray:
    """Turn the scores of the last axis into weights that sum to 1; the shape stays."""
    exp = np.exp(scores - scores.max(axis=-1, keepdims=True))  # the maximum cancels: no overflow
    return exp / exp.sum(axis=-1, keepdims=True)


def rotate(x: np.ndarray) -> np.ndarray:
    """Rotary position: turn pair j of the vector at time t by the angle t * 10000^(-2j/D).

    (B, T, D) -> (B, T, D), D even. Su et al. 2021 (RoFormer), arXiv:2104.09864, which pairs the
    neighbours (2j, 2j+1); here pair j is (j, j + D/2), as in GPT-NeoX and LLaMA.
    """
    size = x.shape[-1]
    if size % 2 != 0:
        raise ValueError(f"rotary position needs an even head size, not {size}")
    half = size // 2
    rotated = np.zeros(x.shape, dtype=np.float64)
    for j in range(half):
        angle = np.arange(x.shape[1]) * 10000.0 ** (-2 * j / size)  # (T,)
        first, second = x[:, :, j], x[:, :, j + half]  # each (B, T)
        rotated[:, :, j] = first * np.cos(angle) - second * np.sin(angle)
        rotated[:, :, j + half] = first * np.sin(angle) + second * np.cos(angle)
    return rotated


def head_pattern(weights: Weights, prefix: str, x: np.ndarray, *, position: str) -> np.ndarray:
    """How much position t attends to each position s <= t: softmax(q k^T / sqrt(D)), causal.

    (B, T, C) -> (B, T, T); rows sum to 1. Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.
    """
    if position not in ("learned", "rotary"):
        raise ValueError(f"position is {position!r}, but must be 'learned' or 'rotary'")
    q = linear(weights, f"{prefix}query.", x)  # (B, T, D)
    k = linear(weights, f"{prefix}key.", x)  # (B, T, D)
    if position == "rotary":
        q, k = rotate(q), rotate(k)
    scores = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1])  # (B, T, T)
    time = np.arange(x.shape[1])
    future = time[None, :] > time[:, None]  # (T, T): the key's time is after the query's
    return softmax(np.where(future, -np.inf, scores))


def head(weights: Weights, prefix: str, x: np.ndarray, *, position: str) -> np.ndarray:
    """One attention head: a mean of the past's values, weighted by the pattern.

    (B, T, C) -> (B, T, D). Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    """
    v = linear(weights, f"{prefix}value.", x)  # (B, T, D)
    return head_pattern(weights, prefix, x, position=position) @ v


def multi_head_attention(
    weights: Weights, prefix: str, x: np.ndarray, *, n_head: int, position: str
) -> np.ndarray:
    """Every head on its own, side by side in order, then projected back to the stream.

    (B, T, C) -> (B, T, C). Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2.
    """
    heads = [head(weights, f"{prefix}heads.{h}.", x, position=position) for h in range(n_head)]
    return linear(weights, f"{prefix}proj.", np.concatenate(heads, axis=-1))  # from (B, T, H*D)


def gelu_tanh(u: np.ndarray) -> np.ndarray:
    """GELU in its tanh form, as in GPT-2. Hendrycks and Gimpel 2016, arXiv:1606.08415."""
    return 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))


def gelu(u: np.ndarray) -> np.ndarray:
    """GELU itself: u times the share of a normal distribution below it. arXiv:1606.08415."""
    return 0.5 * u * (1 + np.vectorize(math.erf)(u / np.sqrt(2)))


def relu2(u: np.ndarray) -> np.ndarray:
    """Squared ReLU. So et al. 2021 (Primer), arXiv:2109.08668."""
    return np.maximum(u, 0) ** 2


def feed_forward(weights: Weights, prefix: str, x: np.ndarray, *, activation: str) -> np.ndarray:
    """Widen, bend, narrow, at each position alone. (B, T, C) -> (B, T, F) -> (B, T, C)

    Vaswani et al. 2017, arXiv:1706.03762, section 3.3, with the activation as given.
    """
    activate = {"gelu": gelu, "gelu_tanh": gelu_tanh, "relu2": relu2}[activation]
    hidden = activate(linear(weights, f"{prefix}up.", x))  # (B, T, F)
    return linear(weights, f"{prefix}down.", hidden)


def token_shift(x: np.ndarray, share: float) -> np.ndarray:
    """The first `share` of the channels as the place before had them; zero at the first place.

    (B, T, C) -> (B, T, C). Peng et al. 2023 (RWKV), arXiv:2305.13048.
    """
    shifted = f64(x).copy()
    for c in range(round(share * x.shape[-1])):
        for t in range(x.shape[1]):
            shifted[:, t, c] = x[:, t - 1, c] if t > 0 else 0.0
    return shifted


def block(
    weights: Weights,
    prefix: str,
    x: np.ndarray,
    *,
    n_head: int,
    position: str,
    activation: str,
    shift: float = 0.0,
) -> np.ndarray:
    """Pre-norm residual block, as in GPT-2 (Radford et al. 2019). (B, T, C) -> (B, T, C)"""
    normed = token_shift(layer_norm(weights, f"{prefix}ln_1.", x), shift)
    attn = f"{prefix}attn."
    x = x + multi_head_attention(weights, attn, normed, n_head=n_head, position=position)
    normed = token_shift(layer_norm(weights, f"{prefix}ln_2.", x), shift)
    return x + feed_forward(weights, f"{prefix}ffwd.", normed, activation=activation)


def gpt(
    weights: Weights,
    idx: np.ndarray,
    *,
    n_layer: int,
    n_head: int,
    position: str,
    activation: str,
    shift: float = 0.0,
) -> np.ndarray:
    """The model without dropout: ids (B, T) -> logits (B, T, V). Radford et al. 2019 (GPT-2)."""
    if idx.min() < 0:
        raise ValueError(f"idx holds {idx.min()}, but ids start at 0")  # NumPy counts from the end
    x = f64(weights["wte.weight"])[idx]  # (B, T, C)
    if position == "learned":
        x = x + f64(weights["wpe.weight"])[np.arange(idx.shape[1])]  # position t adds row t
    for i in range(n_layer):
        prefix = f"blocks.{i}."
        kinds = {"position": position, "activation": activation, "shift": shift}
        x = block(weights, prefix, x, n_head=n_head, **kinds)
    x = layer_norm(weights, "ln_f.", x)
    return x @ f64(weights["lm_head.weight"]).T  # (B, T, V); never a bias


def cross_entropy(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -log softmax(logits)[target], in nats per character; (B, T, V) and (B, T)."""
    logits = f64(logits)
    top = logits.max(axis=-1, keepdims=True)  # (B, T, 1); kept out of exp, as in softmax
    log_sum = top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))  # (B, T, 1)
    target_logits = np.take_along_axis(logits, targets[:, :, None], axis=-1)  # (B, T, 1)
    return float((log_sum - target_logits).mean())
