"""The model against an independent one in NumPy, against its own parts, and against arithmetic."""

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from generate import Cache
from model import GPT, GPTConfig, Shift, causal_attention, dropout
from tests.helpers import reference
from tests.helpers.tiny import SIZES, tiny_gpt

B, T, H, D, C, V = 2, 5, SIZES["n_head"], SIZES["head_size"], SIZES["n_embd"], SIZES["vocab_size"]

both_positions = pytest.mark.parametrize("position", ["learned", "rotary"])
with_and_without_bias = pytest.mark.parametrize("bias", [False, True])
each_shift = pytest.mark.parametrize("shift", [0.0, 0.4, 1.0])  # of 0, 3 and all 7 channels
tied_and_untied = pytest.mark.parametrize("tie_weights", [False, True])


@pytest.fixture
def float64() -> Iterator[None]:
    """What is built while the test runs, Rotary's tables too, is in double precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def idx() -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(2))


def random(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def record(model: GPT, idx: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What goes into and comes out of each module in one pass, by the module's name."""
    seen = {}
    for name, module in model.named_modules():
        module.register_forward_hook(
            lambda module, args, out, name=name: seen.update({name: (args[0], out)})
        )
    model(idx)
    return seen


@both_positions
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu2"])
@tied_and_untied
@with_and_without_bias
@each_shift
def test_gpt_equals_the_reference(
    float64: None,
    idx: Tensor,
    position: str,
    activation: str,
    tie_weights: bool,
    bias: bool,
    shift: float,
) -> None:
    kinds = {"position": position, "activation": activation, "shift": shift}
    model = tiny_gpt(tie_weights=tie_weights, bias=bias, **kinds)
    weights = {name: p.numpy() for name, p in model.state_dict().items()}
    expected = reference.gpt(weights, idx.numpy(), n_layer=2, n_head=H, **kinds)
    np.testing.assert_allclose(model(idx).detach().numpy(), expected, rtol=0, atol=1e-10)


def test_state_dict_has_the_names_of_the_design() -> None:
    heads = {f"attn.heads.{h}.{part}" for h in range(H) for part in ("query", "key", "value")}
    block = heads | {"ln_1", "attn.proj", "ln_2", "ffwd.up", "ffwd.down"}
    layers = {f"blocks.{i}.{name}" for i in range(2) for name in block} | {"ln_f"}
    weights = {f"{name}.weight" for name in layers | {"wte", "lm_head"}}
    assert set(tiny_gpt(position="rotary", bias=False).state_dict()) == weights
    weights |= {f"{layer}.bias" for layer in layers} | {"wpe.weight"}
    assert set(tiny_gpt(position="learned", bias=True).state_dict()) == weights


@both_positions
@with_and_without_bias
def test_fused_heads_equal_heads_one_by_one(float64: None, position: str, bias: bool) -> None:
    attn, x = tiny_gpt(position=position, bias=bias).blocks[1].attn, random(B, T, C)
    one_by_one = attn.proj(torch.cat([head(x) for head in attn.heads], dim=-1))
    torch.testing.assert_close(attn(x), one_by_one, rtol=0, atol=1e-12)


@both_positions
@with_and_without_bias
def test_contributions_are_the_output_split_by_head(
    float64: None, position: str, bias: bool
) -> None:
    attn, x = tiny_gpt(position=position, bias=bias).blocks[1].attn, random(B, T, C)
    parts = attn.contributions(x)
    assert parts.shape == (B, H, T, C)
    torch.testing.assert_close(parts.sum(dim=1), attn(x), rtol=0, atol=1e-12)
    share = attn.proj.bias / H if bias else 0
    for h in range(H):
        alone = [head(x) * (head is attn.heads[h]) for head in attn.heads]
        part = torch.cat(alone, dim=-1) @ attn.proj.weight.T + share
        torch.testing.assert_close(parts[:, h], part, rtol=0, atol=1e-12)


@both_positions
@each_shift
@pytest.mark.parametrize("cut", [[1] * 6, [3, 1, 2], [6], [2, 4]])
def test_a_text_in_pieces_is_the_text(
    float64: None, position: str, shift: float, cut: list[int]
) -> None:
    model, idx = tiny_gpt(position=position, shift=shift, bias=True), torch.randint(V, (B, 6))
    pasts = [Cache(6) for _ in model.blocks]
    pieces = [model(piece, pasts) for piece in idx.split(cut, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), model(idx), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="7 characters do not fit"):
        model(idx[:, :1], pasts)


@both_positions
@each_shift
@pytest.mark.parametrize("last", [1, 3, T - 1, T])
def test_the_last_positions_alone(
    float64: None, idx: Tensor, position: str, shift: float, last: int
) -> None:
    model = tiny_gpt(position=position, shift=shift, bias=True).eval()
    torch.testing.assert_close(model(idx, last=last), model(idx)[:, -last:])
    pasts = [Cache(SIZES["block_size"]) for _ in model.blocks]
    model(idx[:, : T - last], pasts, last=1) if last < T else None  # as text is continued
    torch.testing.assert_close(model(idx[:, T - last :], pasts, last=1), model(idx)[:, -1:])


@both_positions
def test_pattern_equals_the_reference_and_never_sees_the_future(
    float64: None, position: str
) -> None:
    model, x = tiny_gpt(position=position, bias=True), random(B, T, C)
    weights = {name: p.numpy() for name, p in model.state_dict().items()}
    head, prefix = model.blocks[1].attn.heads[2], "blocks.1.attn.heads.2."
    pattern = head.pattern(x).detach()
    expected = reference.head_pattern(weights, prefix, x.numpy(), position=position)
    np.testing.assert_allclose(pattern.numpy(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(pattern.sum(dim=-1), torch.ones(B, T))
    assert pattern.triu(1).count_nonzero() == 0
    assert head.pattern(1000 * x).triu(1).count_nonzero() == 0  # however loud the future is


def test_attention_equals_the_fused_kernel(float64: None) -> None:
    q, k, v, toward = (random(B, H, T, D, seed=seed).requires_grad_() for seed in range(4))
    ours, fused = causal_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    gradients = [torch.autograd.grad(y, (q, k, v), toward) for y in (ours, fused)]
    torch.testing.assert_close([ours, *gradients[0]], [fused, *gradients[1]], rtol=0, atol=1e-12)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@both_positions
def test_gpu_equals_the_cpu(float64: None, idx: Tensor, position: str) -> None:
    model = tiny_gpt(position=position)
    expected = model(idx)
    torch.testing.assert_close(model.cuda()(idx.cuda()).cpu(), expected, rtol=0, atol=1e-10)


@both_positions
@each_shift
def test_only_the_past_counts(idx: Tensor, position: str, shift: float) -> None:
    model = tiny_gpt(position=position, shift=shift)
    for t in range(T):
        changed = idx.clone()
        changed[:, t] = (idx[:, t] + 1) % V
        before, after = model(idx), model(changed)
        assert torch.equal(after[:, :t], before[:, :t])
        assert (after[:, t:] != before[:, t:]).any(dim=-1).all()


def test_shifted_channels_come_from_the_place_before() -> None:
    x = random(B, T, C)
    shifted = Shift(3)(x)
    assert torch.equal(shifted[..., 3:], x[..., 3:])
    assert torch.equal(shifted[:, 1:, :3], x[:, :-1, :3])
    assert shifted[:, 0, :3].count_nonzero() == 0
    model = tiny_gpt(shift=0.4)
    assert model.parameter_count() == tiny_gpt().parameter_count()
    assert {block.shift.n for block in model.blocks} == {3}


@tied_and_untied
@both_positions
def test_untrained_model_knows_nothing(position: str, tie_weights: bool) -> None:
    torch.manual_seed(4)
    config = GPTConfig(65, block_size=64, n_layer=2, position=position, tie_weights=tie_weights)
    model = GPT(config)
    ids = torch.randint(65, (4, 65))
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(65), rel=0.02 if tie_weights else 1e-6)


@tied_and_untied
def test_weights_at_first(tie_weights: bool) -> None:
    torch.manual_seed(5)
    model = GPT(GPTConfig(65, n_layer=2, bias=True, position="learned", tie_weights=tie_weights))
    for name, p in model.state_dict().items():
        silent = ("attn.proj.weight", "ffwd.down.weight", "bias")
        if name.endswith(silent) or (name == "lm_head.weight" and not tie_weights):
            assert p.count_nonzero() == 0, name
        elif "ln_" in name:
            assert (p == 1).all(), name
        else:
            std = 1.5 / 384 if tie_weights and name in ("wte.weight", "lm_head.weight") else 0.02
            assert p.std().item() == pytest.approx(std, rel=0.03), name
            assert abs(p.mean().item()) < 0.001, name
    assert (model.lm_head.weight is model.wte.weight) == tie_weights


@both_positions
def test_block_size_is_the_longest_context(position: str) -> None:
    model = tiny_gpt(position=position)
    assert model(torch.zeros(B, 6, dtype=torch.long)).shape == (B, 6, V)
    with pytest.raises(ValueError, match=r"^7 characters .* block_size is 6; pass the last 6$"):
        model(torch.zeros(B, 7, dtype=torch.long))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"vocab_size": 0}, "vocab_size must be at least 1, not 0"),
        ({"block_size": -1}, "block_size must be at least 1, not -1"),
        ({"n_layer": 0}, "n_layer must be at least 1, not 0"),
        ({"n_head": 0}, "n_head must be at least 1, not 0"),
        ({"n_embd": 0}, "n_embd must be at least 1, not 0"),
        ({"head_size": 0}, "head_size must be at least 1, not 0"),
        ({"ffn_size": 0}, "ffn_size must be at least 1, not 0"),
        ({"dropout": 1}, "dropout must be at least 0 and below 1, not 1"),
        ({"dropout": -0.5}, "dropout must be at least 0 and below 1, not -0.5"),
        ({"dropout": math.nan}, "dropout must be at least 0 and below 1, not nan"),
        ({"shift": -0.1}, "shift must lie between 0 and 1, not -0.1"),
        ({"shift": 1.5}, "shift must lie between 0 and 1, not 1.5"),
        ({"shift": math.nan}, "shift must lie between 0 and 1, not nan"),
        ({"position": "rotray"}, "position is one of learned, rotary"),
        ({"activation": "relu"}, "activation is one of gelu, gelu_tanh, relu2"),
        ({"head_size": None}, "n_embd=7 is not divisible by n_head=3; .* set head_size"),
        ({"head_size": 5}, "head_size=5 must be even; .* set position to learned"),
    ],
)
def test_config_errors_are_sentences(changes: dict[str, float | None], sentence: str) -> None:
    with pytest.raises(ValueError, match=f"{sentence}$"):
        GPTConfig(**{**SIZES, **changes})


def test_config_fills_in_sizes() -> None:
    config = GPTConfig(13, n_embd=15, n_head=3, position="learned")  # odd heads are fine there
    assert (config.head_size, config.ffn_size) == (5, 60)


def test_dropout_falls_on_embedding_attention_and_both_branches(float64: None) -> None:
    p, rows = 0.3, 700
    model = tiny_gpt(dropout=p, position="learned", bias=True)
    torch.manual_seed(6)
    seen = record(model, torch.randint(V, (rows, 1)))  # T = 1, so each head's pattern is one weight
    stream = [seen[f"blocks.{at}"][0] for at in ("0.ln_1", "0.ln_2", "1.ln_1")]
    heads, attn = model.blocks[0].attn.heads, seen["blocks.0.attn"]
    value = torch.cat([head.value(attn[0]) for head in heads], dim=-1)
    attended = seen["blocks.0.attn.proj"][0]
    for whole, part in (
        (seen["wte"][1] + seen["wpe"][1], stream[0]),
        (value, attended),
        (attn[1], stream[1] - stream[0]),
        (seen["blocks.0.ffwd"][1], stream[2] - stream[1]),
    ):
        kept = part.abs() > 1e-12
        torch.testing.assert_close(part[kept], whole[kept] / (1 - p))
        assert kept.double().mean().item() == pytest.approx(1 - p, abs=0.04)
    weights = attended.view(rows, H, D) != 0
    assert torch.equal(weights.any(dim=-1), weights.all(dim=-1))  # whole weights, not values


@pytest.mark.parametrize("p", [0.1, 0.2, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_fair(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(7)
    shape = (401, 7, 203)  # an odd number of values
    x = torch.full(shape, 3.0, dtype=dtype, requires_grad=True)
    y = dropout(x, p)
    kept, n = (y != 0).double(), math.prod(shape)
    scale = torch.ones((), dtype=dtype).div(1 - p)
    assert y.unique().tolist() == [0, (3 * scale).item()]
    assert abs(kept.mean().item() - (1 - p)) < 4 * math.sqrt(p * (1 - p) / n)
    y.sum().backward()
    torch.testing.assert_close(x.grad, y.detach() / 3)
    line = kept.flatten() - kept.mean()
    for gap in range(1, 9):  # four values come from one number
        correlation = (line[gap:] * line[:-gap]).mean() / line.square().mean()
        assert abs(correlation.item()) < 5 / math.sqrt(n)


def test_dropout_follows_the_seed() -> None:
    def drawn(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return dropout(torch.ones(50), 0.4)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    assert torch.equal(dropout(torch.ones(50), 0), torch.ones(50))


def test_dropout_rests_outside_training(idx: Tensor) -> None:
    model, sure = tiny_gpt(dropout=0.3), tiny_gpt(dropout=0.0)
    assert not torch.equal(model(idx), sure(idx))
    assert torch.equal(model.eval()(idx), sure(idx))


@both_positions
@tied_and_untied
@with_and_without_bias
def test_parameter_count(position: str, tie_weights: bool, bias: bool) -> None:
    layer_norm = C + bias * C
    attention = 3 * H * (C * D + bias * D) + H * D * C + bias * C
    feed_forward = C * 11 + bias * 11 + 11 * C + bias * C
    ends = V * C * (1 if tie_weights else 2) + (6 * C if position == "learned" else 0) + layer_norm
    model = tiny_gpt(position=position, tie_weights=tie_weights, bias=bias)
    assert model.parameter_count() == ends + 2 * (attention + feed_forward + 2 * layer_norm)


@pytest.mark.parametrize(("position", "bias"), [("learned", False), ("rotary", True)])
def test_gradient_reaches_every_weight(
    float64: None, idx: Tensor, position: str, bias: bool
) -> None:
    """Learned positions go without biases: there a key's bias shifts a row's scores alike."""
    model = tiny_gpt(position=position, bias=bias)
    F.cross_entropy(model(idx).flatten(0, 1), random(B * T, V).softmax(dim=-1)).backward()
    assert min(p.grad.norm().item() for p in model.parameters()) > 1e-4
