"""Jais2 against transformers: what it computes, its names, its settings, and exported folders."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, Jais2Config, Jais2ForCausalLM

import export
import look
import sample
from exchange import kinds, models
from exchange.jais2 import EPS, SINCE, config_from_jais2, config_to_jais2, from_jais2, to_jais2
from generate import generate
from model import GPT, GPTConfig
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import UserError
from tests.helpers.tiny import CHARS, tiny_gpt

B, H, D, C, F, V, SIZE = 2, 3, 4, 9, 11, 13, 17
SIZES = {
    "vocab_size": V,
    "max_position_embeddings": SIZE,
    "hidden_size": C,
    "num_hidden_layers": 2,
    "num_attention_heads": H,
    "head_dim": D,
    "intermediate_size": F,
}
STRUCTURES = pytest.mark.parametrize(
    ("bias", "tied"), [(True, False), (False, False), (True, True), (False, True)]
)


def biased(bias: bool) -> dict[str, bool]:
    return {"attention_bias": bias, "mlp_bias": bias}


@torch.no_grad()
def reference(bias: bool = True, tied: bool = False) -> nn.Module:
    """A Jais2 of transformers whose every weight is Normal(0, 0.5); without `bias` those are 0."""
    ends = {"bos_token_id": None, "eos_token_id": None, "tie_word_embeddings": tied}
    model = Jais2ForCausalLM(Jais2Config(**SIZES, **biased(bias), **ends)).eval()
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        p.normal_(std=0.5 if bias or not name.endswith("bias") else 0.0, generator=generator)
    return model


def random(vocab_size: int, *shape: int) -> Tensor:
    return torch.randint(vocab_size, shape, generator=torch.Generator().manual_seed(3))


@STRUCTURES
@torch.no_grad()
def test_the_logits_are_the_same_both_ways(bias: bool, tied: bool) -> None:
    theirs = reference(bias, tied)
    config, weights = config_from_jais2(theirs.config.to_dict()), theirs.state_dict()
    ours = GPT(config).eval()
    ours.load_state_dict(from_jais2(weights, config), strict=True)
    idx = random(V, B, SIZE)
    torch.testing.assert_close(ours(idx), theirs(idx).logits, rtol=0, atol=1e-5)
    assert config == GPTConfig(V, SIZE, 2, H, C, D, F, bias=bias, tie_weights=tied)
    back = to_jais2(ours.state_dict(), config)
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], weight) for name, weight in weights.items())


def test_epsilon_is_that_of_our_layer_norms() -> None:
    norms = [m for m in GPT(GPTConfig(**ours_of())).modules() if isinstance(m, nn.LayerNorm)]
    assert len(norms) == 5 and {norm.eps for norm in norms} == {EPS}


def ours_of(**changes: object) -> dict[str, object]:
    """The settings of SIZES by our names."""
    return dataclasses.asdict(config_from_jais2({**SIZES, **changes}))


def test_settings_there_and_back() -> None:
    for bias, tied in ((True, False), (False, True)):
        theirs = Jais2Config(
            **SIZES, **biased(bias), tie_word_embeddings=tied, attention_dropout=0.25
        )
        config = config_from_jais2(theirs.to_diff_dict())
        assert config == config_from_jais2(theirs.to_dict())
        assert (config.dropout, config.bias, config.tie_weights) == (0.25, bias, tied)
        again = Jais2Config(**config_to_jais2(config))
        assert config_from_jais2(again.to_dict()) == config
        assert again.bos_token_id is again.eos_token_id is None
    default = config_from_jais2({})
    assert default == config_from_jais2(Jais2Config().to_dict())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"hidden_act": "silu"}, "hidden_act is 'silu'; name a model with 'relu2'"),
        ({"layer_norm_eps": 1e-6}, "layer_norm_eps is 1e-06; name a model with 1e-05"),
        ({"rope_parameters": {"rope_theta": 5e5}}, "rope_parameters is {'rope_theta': 500000.0}"),
        ({"rope_theta": 5e5}, "rope_parameters is 500000.0; name a model with {'rope_type'"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_parameters is {'rope_ty"),
        ({"rope_parameters": [1]}, r"rope_parameters is \[1\]; name a model"),
        ({"num_key_value_heads": 1}, "num_key_value_heads is 1; name a model with as many as"),
        ({"mlp_bias": False}, "attention_bias is True and mlp_bias False; name a model in which"),
        ({"hidden_size": "wide"}, "hidden_size is a whole number, not 'wide'"),
        ({"head_dim": 3}, "head_size=3 must be even"),
        ({"num_hidden_layers": 0}, "n_layer must be at least 1, not 0"),
    ],
)
def test_settings_that_are_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        config_from_jais2({**SIZES, **change})


def refused(change: Callable[[dict[str, Tensor]], object], *, bias: bool, tied: bool) -> str:
    """The sentence with which the weights are refused once `change` was made to them."""
    theirs = reference(bias, tied)
    weights = {name: weight.clone() for name, weight in theirs.state_dict().items()}
    change(weights)
    with pytest.raises(UserError) as error:
        from_jais2(weights, config_from_jais2(theirs.config.to_dict()))
    return str(error.value)


def test_weights_that_are_refused() -> None:
    query, norm = "model.layers.1.self_attn.q_proj.weight", "model.layers.0.input_layernorm.bias"
    message = refused(lambda weights: weights.pop(query), bias=True, tied=False)
    assert message == f"the weights {query} are missing; name a whole model"
    message = refused(lambda w: w.update({query: w[query].t()}), bias=True, tied=False)
    assert f"{query} is of shape (9, 12), but by its settings it is (12, 9)" in message
    message = refused(lambda weights: weights[norm].fill_(1.0), bias=False, tied=False)
    assert f"{norm} is not zero, though attention_bias and mlp_bias are false" in message
    message = refused(lambda weights: weights["lm_head.weight"][3].add_(1), bias=True, tied=True)
    assert "lm_head.weight is not the embedding; set tie_word_embeddings to false" in message


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shift": 0.5}, "token shift; train a model without it, with model.shift=0 .* --as onnx$"),
        ({"activation": "gelu"}, "train one with model.activation=relu2, or export .* --as onnx$"),
        ({"n_embd": 7}, "n_embd that n_head divides, which 7 and 3 are not; .* --as onnx$"),
    ],
)
def test_models_that_are_not_built_as_jais2(changes: dict[str, object], sentence: str) -> None:
    config = GPTConfig(**{**ours_of(), **changes})
    with pytest.raises(UserError, match=sentence):
        to_jais2({}, config)


def test_transformers_has_the_same_demand() -> None:
    """Of a width that is a multiple of the heads, though the heads may be of any size."""
    with pytest.raises(Exception, match="not a multiple of the number of attention heads"):
        Jais2Config(**{**SIZES, "hidden_size": 7})


# Folders


@pytest.fixture
def trained(home: Path, saved: Checkpoint) -> Checkpoint:
    """A model of the default structure in model.pt, whose every weight is random."""
    model = tiny_gpt(seed=5, vocab_size=len(CHARS), n_embd=C, block_size=SIZE)
    weights = dict(model.state_dict())
    trained = dataclasses.replace(saved, model=model.config, chars=CHARS, weights=weights)
    checkpoint.save(Path("model.pt"), trained)
    return trained


@torch.no_grad()
def test_the_folder(
    trained: Checkpoint,
    call: Callable,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As transformers reads it, which neither stops early nor warns; and as we read it."""
    status, out, err = call(export.main, "--ckpt", "model.pt", "--to", "out")
    said = f"it takes transformers {SINCE} or newer, which have Jais2ForCausalLM"
    assert (status, out, err) == (
        0,
        f"model.pt, step 3; logits within 0e+00 of the checkpoint's; written to out\n{said}\n",
        "",
    )
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)  # to caplog
    theirs, tokenizer = (
        kind.from_pretrained("out") for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    ours, idx = trained.build(), random(len(CHARS), B, SIZE)
    assert type(theirs) is Jais2ForCausalLM and theirs.dtype == torch.float32
    torch.testing.assert_close(theirs(idx).logits, ours(idx), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in theirs.parameters()) == ours.parameter_count() + 5 * C  # biases
    for prompt in (tokenizer(CHARS[:3], return_tensors="pt"), {"input_ids": idx[:, :3]}):
        for use_cache in (True, False):
            settings = {"do_sample": False, "max_new_tokens": SIZE - 3, "use_cache": use_cache}
            found = theirs.generate(**prompt, **settings)
            steps = generate(ours, found[:, :3], SIZE - 3, torch.Generator(), temperature=0)
            assert torch.equal(torch.stack([*steps], dim=1), found[:, 3:])
    tokenizer.padding_side, tokenizer.pad_token = "left", CHARS[4]
    prompts = (CHARS[:5], CHARS[4:6])
    batch = tokenizer(list(prompts), padding=True, return_tensors="pt")
    found = theirs.generate(**batch, do_sample=False, max_new_tokens=SIZE - 5)
    assert batch["input_ids"].shape == (2, 5)
    for prompt, row in zip(prompts, found[:, 5:], strict=True):
        given = tokenizer(prompt, return_tensors="pt")["input_ids"]
        steps = generate(ours, given, SIZE - 5, torch.Generator(), temperature=0)
        assert torch.equal(torch.cat([*steps]), row)
    assert not caplog.records
    assert tokenizer.encode(CHARS) == [*range(len(CHARS))]
    assert tokenizer.decode(range(len(CHARS))) == CHARS
    assert theirs(idx.repeat(1, 2)).logits.shape[1] == 2 * SIZE  # goes on past its window
    again = models.load(Path("out"))
    assert (again.model, again.chars) == (trained.model, CHARS)
    assert again.fingerprint == trained.fingerprint
    assert all(torch.equal(again.weights[name], w) for name, w in trained.weights.items())


def test_sampling_and_looking(trained: Checkpoint, call: Callable, refusal: Callable) -> None:
    call(export.main, "--ckpt", "model.pt", "--to", "out")
    argv = ("--device", "cpu", "--prompt", "é\n", "--window", "roll", "--max-new-tokens", "40")
    expected = call(sample.main, "--ckpt", "model.pt", *argv)
    for option in ("--ckpt", "--gpt2"):
        ended = call(sample.main, option, "out", *argv)
        assert (ended.status, ended.out) == (0, expected.out)
        assert ended.err.startswith("out, Jais2 of ")
        Path("out/config.json").rename("config.json")
        Path("out/config.json").write_text('{"model_type": "jais2", "hidden_act": "silu"}')
        message = refusal(sample.main, option, "out", *argv)
        assert f"{option} out: hidden_act is 'silu'; name a model with 'relu2'" in message
        Path("config.json").rename("out/config.json")
    assert call(look.main, "--ckpt", "out", "--against", "model.pt").status == 0
    assert "out, read as transformers reads it." in Path("page.html").read_text("utf-8")


def test_a_transformers_that_is_older(monkeypatch: pytest.MonkeyPatch) -> None:
    config = GPTConfig(**ours_of())
    monkeypatch.setattr(kinds.metadata, "version", lambda package: "4.57.6")
    assert str(kinds.needs(config)).endswith(
        f"Jais2ForCausalLM; 4.57.6 is installed here: pip install 'transformers>={SINCE}'"
    )
    monkeypatch.setattr(kinds.metadata, "version", lambda package: f"{SINCE}.0")
    assert str(kinds.needs(config)).endswith("Jais2ForCausalLM")
    assert kinds.needs(dataclasses.replace(config, position="learned")) is None
