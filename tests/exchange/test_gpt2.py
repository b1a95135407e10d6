"""GPT-2 part by part against transformers: what it computes, its names, its settings."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

from exchange.gpt2 import EPS, config_from_gpt2, config_to_gpt2, from_gpt2, to_gpt2
from generate import Cache, generate
from model import GPT, GPTConfig
from system.errors import UserError

B, T, H, D, C, F, V, SIZE = 2, 5, 3, 4, 12, 11, 13, 54
SIZES = {"vocab_size": V, "n_positions": SIZE, "n_embd": C, "n_layer": 2, "n_head": H, "n_inner": F}
DTYPES = pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=["float32", "float64"]
)


@torch.no_grad()
def reference(dtype: torch.dtype = torch.float32, seed: int = 1, **changes: object) -> nn.Module:
    """A GPT-2 of transformers whose every weight, gain and bias is Normal(0, 0.5)."""
    settings = {**SIZES, "bos_token_id": None, "eos_token_id": None, **changes}
    model = GPT2LMHeadModel(GPT2Config(**settings)).to(dtype).eval()
    generator = torch.Generator().manual_seed(seed)
    for p in model.parameters():
        p.normal_(std=0.5, generator=generator)
    return model


def ours(theirs: nn.Module) -> GPT:
    """The same model as a GPT of ours."""
    config = config_from_gpt2(theirs.config.to_dict())
    model = GPT(config).to(theirs.dtype).eval()
    model.load_state_dict(from_gpt2(theirs.state_dict(), config), strict=True)
    return model


def random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=dtype)


PARTS = {  # what both are given, our part, theirs
    "token embedding": ("idx", lambda us, x: us.wte(x), lambda it, x: it.transformer.wte(x)),
    "position embedding": (
        "idx",
        lambda us, x: us.wpe(T, 2),
        lambda it, x: it.transformer.wpe(torch.arange(2, 2 + T)),
    ),
    "ln_1": ("x", lambda us, x: us.blocks[1].ln_1(x), lambda it, x: it.transformer.h[1].ln_1(x)),
    "ln_2": ("x", lambda us, x: us.blocks[1].ln_2(x), lambda it, x: it.transformer.h[1].ln_2(x)),
    "attention": (
        "x",
        lambda us, x: us.blocks[1].attn(x),
        lambda it, x: it.transformer.h[1].attn(x)[0],
    ),
    "feed-forward": (
        "x",
        lambda us, x: us.blocks[1].ffwd(x),
        lambda it, x: it.transformer.h[1].mlp(x),
    ),
    "block": ("x", lambda us, x: us.blocks[1](x), lambda it, x: it.transformer.h[1](x)),
    "end": (
        "x",
        lambda us, x: us.lm_head(us.ln_f(x)),
        lambda it, x: it.lm_head(it.transformer.ln_f(x)),
    ),
    "model": ("idx", lambda us, x: us(x), lambda it, x: it(x).logits),
}


@DTYPES
@pytest.mark.parametrize("part", PARTS)
@torch.no_grad()
def test_each_part_computes_the_same(part: str, dtype: torch.dtype, atol: float) -> None:
    theirs = reference(dtype)
    given, our, their = PARTS[part]
    x = random(B, T, C, dtype=dtype)
    if given == "idx":
        x = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(2))
    expected, got = their(theirs, x), our(ours(theirs), x)
    assert got.dtype == dtype and got.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=atol)


@DTYPES
@pytest.mark.parametrize("kernel", ["eager", "sdpa"])
@torch.no_grad()
def test_a_full_context_by_each_of_their_kernels(
    kernel: str, dtype: torch.dtype, atol: float
) -> None:
    theirs = reference(dtype)
    theirs.set_attn_implementation(kernel)
    idx = torch.randint(V, (B, SIZE), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(ours(theirs)(idx), theirs(idx).logits, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_there_and_back_is_exact(dtype: torch.dtype) -> None:
    theirs, config = reference(dtype), config_from_gpt2(reference().config.to_dict())
    weights = to_gpt2(from_gpt2(theirs.state_dict(), config), config)
    assert weights.keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        assert torch.equal(weights[name], weight), name
        assert weights[name].is_contiguous()
    reference(dtype, seed=2).load_state_dict(weights, strict=True)
    model = ours(theirs)
    back = from_gpt2(to_gpt2(model.state_dict(), config), config)
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())


@torch.no_grad()
def test_a_head_that_is_not_tied() -> None:
    theirs = reference(tie_word_embeddings=False)
    assert not torch.equal(theirs.lm_head.weight, theirs.transformer.wte.weight)
    model = ours(theirs)
    assert not model.config.tie_weights
    idx = torch.randint(V, (B, SIZE), generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(model(idx), theirs(idx).logits, rtol=0, atol=1e-5)
    weights, config = to_gpt2(model.state_dict(), model.config), model.config
    assert weights.keys() == theirs.state_dict().keys()
    assert all(torch.equal(weights[name], w) for name, w in theirs.state_dict().items())
    assert config_from_gpt2(config_to_gpt2(config)) == config
    del weights["lm_head.weight"]
    with pytest.raises(UserError, match=r"the weights lm_head\.weight are missing"):
        from_gpt2(weights, config)


def greedy(model: GPT, idx: Tensor, count: int) -> Tensor:
    """The likeliest ids after idx (B, T), each from the whole context anew: (B, T + count)."""
    for _ in range(count):
        idx = torch.cat((idx, model(idx)[:, -1:].argmax(dim=-1)), dim=1)
    return idx


@pytest.mark.parametrize("use_cache", [False, True])
@torch.no_grad()
def test_greedy_text_is_theirs(use_cache: bool) -> None:
    theirs, count = reference(seed=5), 50
    idx = torch.tensor([[1, 7, 3, 12], [9, 0, 9, 2]])  # the context is full in the end
    mask = torch.ones_like(idx)
    settings = {"do_sample": False, "max_new_tokens": count, "pad_token_id": 0}
    expected = theirs.generate(idx, attention_mask=mask, use_cache=use_cache, **settings)
    top = theirs(expected).logits.topk(2).values[:, idx.shape[1] - 1 :]
    assert (top[..., 0] - top[..., 1]).min() > 1e-3  # rounding cannot decide
    assert min(len(set(row)) for row in expected.tolist()) > 4
    model = ours(theirs)
    new = list(generate(model, idx, count, torch.Generator(), temperature=0))
    assert torch.equal(torch.cat((idx, torch.stack(new, dim=1)), dim=1), expected)
    assert torch.equal(greedy(model, idx, count), expected)


@torch.no_grad()
def test_one_token_at_a_time_as_with_their_cache() -> None:
    theirs, past = reference(torch.float64), None
    model = ours(theirs)
    pasts = [Cache(SIZE) for _ in model.blocks]
    for token in torch.randint(V, (SIZE, B, 1), generator=torch.Generator().manual_seed(6)):
        out = theirs(token, past_key_values=past, use_cache=True)
        past = out.past_key_values
        torch.testing.assert_close(model(token, pasts), out.logits, rtol=0, atol=1e-10)


def test_names_as_files_have_them() -> None:
    theirs, config = reference().state_dict(), config_from_gpt2(reference().config.to_dict())
    expected = from_gpt2(theirs, config)
    bare = {name.removeprefix("transformer."): weight for name, weight in theirs.items()}
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, SIZE, SIZE).tril() for i in range(2)}
    masks |= {f"h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
    for weights in (
        bare,
        {**bare, **masks},
        {**theirs, "transformer.h.1.attn.bias": torch.ones(1)},
    ):
        for head in ({}, {"lm_head.weight": weights["lm_head.weight"]}):
            without = {name: weight for name, weight in weights.items() if "lm_head" not in name}
            found = from_gpt2({**without, **head}, config)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def changed(change: Callable[[dict[str, Tensor]], object]) -> str:
    """The sentence with which the weights are refused once `change` was made to them."""
    weights = {name: weight.clone() for name, weight in reference().state_dict().items()}
    change(weights)
    with pytest.raises(UserError) as error:
        from_gpt2(weights, config_from_gpt2(reference().config.to_dict()))
    return str(error.value)


def test_weights_that_are_refused() -> None:
    weight, bias = "transformer.h.1.attn.c_attn.weight", "transformer.h.0.ln_2.bias"
    missing = changed(lambda weights: [weights.pop(weight), weights.pop(bias)])
    assert "weights h.0.ln_2.bias, h.1.attn.c_attn.weight are missing; name" in missing
    extra = {f"h.{i}.crossattention.c_attn.weight": torch.ones(1) for i in range(7)}
    message = changed(lambda weights: weights.update(extra))
    assert "h.4.crossattention.c_attn.weight and 2 more are unexpected; name" in message
    message = changed(lambda weights: weights.update({weight: weights[weight].t()}))
    assert (
        "h.1.attn.c_attn.weight is of shape (36, 12), but by its settings it is (12, 36)" in message
    )
    message = changed(lambda weights: weights["transformer.ln_f.bias"].fill_(torch.nan))
    assert "ln_f.bias has values that are no finite numbers" in message
    message = changed(lambda weights: weights.update({bias: torch.ones(C, dtype=torch.int8)}))
    assert "h.0.ln_2.bias has values that are no finite numbers" in message
    message = changed(lambda weights: weights["lm_head.weight"][3].add_(1))
    assert "lm_head.weight is not wte.weight; say tie_word_embeddings: false in" in message


def test_more_layers_than_weights() -> None:
    config = config_from_gpt2({**reference().config.to_dict(), "n_layer": 10**9})
    with pytest.raises(UserError, match="n_layer is 1000000000, but there are only 29 weights"):
        from_gpt2(reference().state_dict(), config)


def test_settings_there_and_back() -> None:
    settings = {"resid_pdrop": 0.25, "attn_pdrop": 0.25, "embd_pdrop": 0.25}
    theirs = GPT2Config(**{**SIZES, **settings}).to_dict()
    config = config_from_gpt2(theirs)
    kinds = {"bias": True, "position": "learned", "activation": "gelu_tanh", "tie_weights": True}
    assert config == GPTConfig(V, SIZE, 2, H, C, D, F, 0.25, **kinds)
    back = config_to_gpt2(config)
    assert {name: theirs[name] for name in back.keys() - {"bos_token_id", "architectures"}} == {
        name: value for name, value in back.items() if name not in ("bos_token_id", "architectures")
    } | {"eos_token_id": theirs["eos_token_id"]}
    assert config_from_gpt2(back) == config
    assert config_from_gpt2(GPT2Config(**back).to_dict()) == config


def test_settings_that_are_left_out_are_those_of_gpt2() -> None:
    for given in ({}, {"n_inner": None}, {"n_ctx": 1024}, {"n_layer": 24}, {"n_embd": 24}):
        sparse = config_from_gpt2({"model_type": "gpt2", **given})
        assert sparse == config_from_gpt2(GPT2Config(**given).to_dict())
    small = config_from_gpt2({"model_type": "gpt2"})
    assert (small.block_size, small.n_embd, small.ffn_size, small.vocab_size) == (
        *(1024, 768, 3072),
        50257,
    )
    assert config_from_gpt2({"model_type": "gpt2", "n_ctx": 7}).block_size == 7


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"activation_function": "relu"},
            "activation_function is 'relu'; .* with 'gelu_new' or 'gelu'",
        ),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06; .* with 1e-05"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False; .* with True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "inverse_layer_idx is True; .* with False"),
        ({"add_cross_attention": True}, "add_cross_attention is True; .* with False"),
        ({"tie_word_embeddings": "no way"}, "tie_word_embeddings is true or false, not 'no way'"),
        ({"n_embd": "wide"}, "n_embd is a whole number, not 'wide'"),
        ({"n_positions": [6]}, "block_size is a whole number, not a list"),
        ({"n_layer": None}, "n_layer is a whole number, not None"),
        ({"n_inner": 1.5}, "n_inner is a whole number, not 1.5"),
        ({"n_head": 5}, "n_embd=12 is not divisible by n_head=5"),
        ({"n_layer": 0}, "n_layer must be at least 1, not 0"),
        ({"resid_pdrop": 1}, "dropout must be at least 0 and below 1, not 1"),
    ],
)
def test_settings_that_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        config_from_gpt2({**GPT2Config(**SIZES).to_dict(), **change})


def test_epsilon_is_that_of_our_layer_norms() -> None:
    config = config_from_gpt2(GPT2Config(**SIZES).to_dict())
    norms = [module for module in GPT(config).modules() if isinstance(module, nn.LayerNorm)]
    assert len(norms) == 5 and {norm.eps for norm in norms} == {EPS}


CHANGES = {
    "position": ("rotary", "model.position=learned"),
    "shift": (0.5, "model.shift=0.0"),
    "activation": ("relu2", "model.activation=gelu_tanh"),
    "head_size": (6, "model.head_size=null"),
}


@pytest.mark.parametrize("names", [*itertools.combinations(CHANGES, 1), tuple(CHANGES)])
def test_models_that_are_not_built_as_gpt2(names: tuple[str, ...]) -> None:
    config = config_from_gpt2(GPT2Config(**SIZES).to_dict())
    for name in names:
        setattr(config, name, CHANGES[name][0])
    needed = " ".join(CHANGES[name][1] for name in names)
    for attempt in (lambda: config_to_gpt2(config), lambda: to_gpt2({}, config)):
        with pytest.raises(UserError, match=f"train one with {needed}, or with --config tiny_sh"):
            attempt()
