"""What is seen inside a model: against NumPy, one head at a time, and against all ways to pair."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from analysis.heads import attended, distance, look, match
from model import GPT
from tests.helpers import reference
from tests.helpers.tiny import SIZES, tiny_gpt

B, T, L, H, D, V = 2, 5, SIZES["n_layer"], SIZES["n_head"], SIZES["head_size"], SIZES["vocab_size"]
CHARS = "abcdefghijklm"

kinds = pytest.mark.parametrize(
    ("position", "activation", "bias"), [("learned", "gelu_tanh", True), ("rotary", "relu2", False)]
)


@pytest.fixture
def idx() -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(2))


def arrays(model: GPT) -> reference.Weights:
    """The weights of `model` as NumPy arrays."""
    return {name: p.numpy() for name, p in model.state_dict().items()}


def by_hand(model: GPT, idx: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `look` is to find, and the scores that no head adds, all by the NumPy model.

    Returns patterns (B, L*H, T, T), scores of each head (B, L*H, V), and the rest of them (B, V).
    """
    weights, config = arrays(model), model.config
    x = weights["wte.weight"][idx.numpy()].astype(float)  # (B, T, C)
    if config.position == "learned":
        x = x + weights["wpe.weight"][:T]
    patterns, heads, others = [], [], [x[:, -1]]
    for layer in range(L):
        name = f"blocks.{layer}."
        normed = reference.layer_norm(weights, f"{name}ln_1.", x)
        normed = reference.token_shift(normed, config.shift)
        for h in range(H):
            head, kind = f"{name}attn.heads.{h}.", {"position": config.position}
            patterns.append(reference.head_pattern(weights, head, normed, **kind))
            mixed = np.zeros((B, T, H * D))  # of all heads, the others silent
            mixed[:, :, h * D : (h + 1) * D] = reference.head(weights, head, normed, **kind)
            added = mixed @ weights[f"{name}attn.proj.weight"].T
            heads.append((added + weights.get(f"{name}attn.proj.bias", 0.0) / H)[:, -1])
            x = x + added
        x = x + weights.get(f"{name}attn.proj.bias", 0.0)
        thought = reference.layer_norm(weights, f"{name}ln_2.", x)
        thought = reference.token_shift(thought, config.shift)
        thought = reference.feed_forward(
            weights, f"{name}ffwd.", thought, activation=config.activation
        )
        others.append(thought[:, -1])
        x = x + thought
    size = np.sqrt(x[:, -1].var(axis=-1, keepdims=True) + 1e-5)  # (B, 1)

    def scores(part: np.ndarray) -> np.ndarray:
        scaled = (part - part.mean(axis=-1, keepdims=True)) / size * weights["ln_f.weight"]
        return scaled @ weights["lm_head.weight"].T  # (B, V)

    rest = sum(map(scores, others))
    if config.bias:
        rest += weights["ln_f.bias"] @ weights["lm_head.weight"].T
    return np.stack(patterns, axis=1), np.stack([scores(head) for head in heads], axis=1), rest


@kinds
@pytest.mark.parametrize(("tie_weights", "shift"), [(False, 0.0), (True, 0.0), (False, 0.4)])
def test_look_equals_the_reference(
    idx: Tensor, position: str, activation: str, bias: bool, tie_weights: bool, shift: float
) -> None:
    kinds = {"position": position, "activation": activation, "bias": bias}
    model = tiny_gpt(**kinds, tie_weights=tie_weights, shift=shift)
    inside = look(model, idx)
    patterns, heads, rest = by_hand(model, idx)
    assert inside.pattern.shape == (B, L * H, T, T)
    np.testing.assert_allclose(inside.pattern.numpy(), patterns, rtol=0, atol=1e-5)
    np.testing.assert_allclose(inside.to_logits.numpy(), heads, rtol=0, atol=1e-4)
    total = inside.to_logits.sum(dim=1).numpy() + rest  # (B, V)
    np.testing.assert_allclose(total, model(idx)[:, -1].detach().numpy(), rtol=0, atol=1e-4)
    assert np.ptp(heads, axis=1).min() > 0.01  # one head is not another


def test_patterns_are_those_of_the_heads(idx: Tensor) -> None:
    model, seen = tiny_gpt(bias=True), []
    for block in model.blocks:
        block.ln_1.register_forward_hook(
            lambda module, args, out, heads=block.attn.heads: seen.append(
                torch.stack([head.pattern(out) for head in heads], dim=1)
            )
        )
    model(idx)
    patterns = torch.cat(seen, dim=1)
    assert patterns.shape == (B, L * H, T, T)
    torch.testing.assert_close(look(model, idx).pattern, patterns.detach())


def test_attended_is_one_context_at_a_time() -> None:
    contexts = ["abc", "cba", "me", "bad", "hi", "m", "badkid"]
    model = tiny_gpt(bias=True, position="learned")
    rows, effects = attended(model, CHARS[::-1], contexts)
    assert rows.shape == (len(contexts), L * H, 6)
    assert effects.shape == (len(contexts), L * H, V)
    for context, row, effect in zip(contexts, rows, effects, strict=True):
        ids = torch.tensor([[CHARS[::-1].index(char) for char in context]])
        inside = look(model, ids)
        torch.testing.assert_close(row[:, : len(context)], inside.pattern[0, :, -1])
        assert row[:, len(context) :].count_nonzero() == 0
        torch.testing.assert_close(row.sum(dim=-1), torch.ones(L * H))
        torch.testing.assert_close(effect, inside.to_logits[0], rtol=0, atol=1e-5)


def test_distance_by_hand() -> None:
    rows = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0]], [[0, 1, 0], [0.2, 0.3, 0.5]]])  # (2, 2, 3)
    others = torch.tensor([[[0.0, 0, 1]], [[0, 1, 0]]])  # (2, 1, 3)
    torch.testing.assert_close(distance(rows, others), torch.tensor([[0.5], [0.85]]))
    torch.testing.assert_close(distance(others, rows), torch.tensor([[0.5, 0.85]]))
    torch.testing.assert_close(distance(rows[:1], others[:1]), torch.ones(2, 1))


def test_distance_is_that_of_a_metric() -> None:
    generator = torch.Generator().manual_seed(5)
    few, many = (torch.rand(7, heads, 4, generator=generator).softmax(dim=-1) for heads in (2, 3))
    apart = distance(few, many)
    assert apart.shape == (2, 3)
    assert apart.min() > 0 and apart.max() < 1
    torch.testing.assert_close(distance(many, few), apart.T)
    assert torch.equal(distance(many, many).diagonal(), torch.zeros(3))
    for h, k in itertools.product(range(2), range(3)):
        pairs = zip(few[:, h].tolist(), many[:, k].tolist(), strict=True)
        each = [sum(max(p - q, 0) for p, q in zip(*pair, strict=True)) for pair in pairs]
        assert apart[h, k].item() == pytest.approx(sum(each) / 7, abs=1e-6)


@pytest.mark.parametrize(("H", "K"), [(3, 3), (2, 4), (4, 2), (1, 5), (5, 1), (1, 1)])
def test_match_is_the_best_of_all_pairings(H: int, K: int) -> None:
    generator = torch.Generator().manual_seed(6)
    greedy = 0
    for _ in range(20):
        apart = torch.rand(H, K, generator=generator)
        pairs = match(apart)
        rows, columns = zip(*pairs, strict=True)
        assert len(pairs) == min(H, K) == len(set(rows)) == len(set(columns))
        assert list(rows) == sorted(rows)
        every = itertools.combinations(itertools.product(range(H), range(K)), min(H, K))
        sums = [
            sum(apart[pair].item() for pair in choice)
            for choice in every
            if all(r != s and c != d for (r, c), (s, d) in itertools.combinations(choice, 2))
        ]
        assert sum(apart[pair].item() for pair in pairs) == pytest.approx(min(sums), abs=1e-6)
        greedy += list(columns) == apart[list(rows)].argmin(dim=1).tolist()
    assert greedy < 20 or min(H, K) == 1  # the nearest of each is not always free
