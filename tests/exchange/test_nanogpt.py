"""nanoGPT's ckpt.pt and meta.pkl, put together by hand, against GPT-2 with the exact GELU."""

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import compare
import export
import look
import sample
import train
from exchange import models, nanogpt, plain
from tests.helpers.runs import contents

CHARS, SIZE, STEP = "\n abcdeé🙂", 11, 7
ARGS = {"vocab_size": len(CHARS), "block_size": SIZE, "n_layer": 2, "n_head": 3, "n_embd": 12}
TURNED = re.compile(r"c_(attn|proj|fc)\.weight$")
META = {"vocab_size": len(CHARS), "itos": dict(enumerate(CHARS))}
META["stoi"] = {char: i for i, char in META["itos"].items()}


@torch.no_grad()
def reference(*, bias: bool, vocab_size: int = len(CHARS)) -> nn.Module:
    """What nanoGPT computes, by transformers; its every weight is Normal(0, 0.5)."""
    names = {"n_positions": SIZE, "activation_function": "gelu", "vocab_size": vocab_size}
    ends = {"bos_token_id": None, "eos_token_id": None}
    model = GPT2LMHeadModel(GPT2Config(**{**ARGS, **names, **ends})).eval()
    generator = torch.Generator().manual_seed(1)
    for name, p in model.named_parameters():
        p.normal_(std=0.5 if bias or not name.endswith("bias") else 0.0, generator=generator)
    return model


def content(theirs: nn.Module, *, bias: bool, prefix: str = "") -> dict[str, object]:
    """What nanoGPT's train.py saves."""
    weights = {
        f"{prefix}{name}": weight.T if TURNED.search(name) else weight
        for name, weight in theirs.state_dict().items()
        if bias or not name.endswith(".bias")
    }
    args = {**ARGS, "vocab_size": theirs.config.vocab_size, "bias": bias, "dropout": 0.1}
    config = {"dataset": "letters", "compile": True, "learning_rate": 1e-3, "init_from": "scratch"}
    rest = {"optimizer": {"state": {}}, "iter_num": STEP, "best_val_loss": torch.tensor(1.5)}
    return {"model": weights, "model_args": args, "config": config, **rest}


@pytest.fixture
def theirs(home: Path) -> nn.Module:
    """The model in out/ckpt.pt, whose characters are in data/letters."""
    theirs = reference(bias=False)
    write(content(theirs, bias=False))
    Path("data/letters").mkdir(parents=True)
    Path("data/letters/meta.pkl").write_bytes(pickle.dumps(META))
    return theirs


def write(saved: dict[str, object]) -> None:
    Path("out").mkdir(exist_ok=True)
    torch.save(saved, "out/ckpt.pt")


def spoil(**changes: object) -> None:
    """Write out/ckpt.pt anew, changed."""
    write({**torch.load("out/ckpt.pt", weights_only=True), **changes})


@pytest.fixture
def refused(theirs: nn.Module, refusal: Callable) -> Callable[[], str]:
    """The sentence with which out/ckpt.pt is refused."""
    return lambda: refusal(sample.main, "--device", "cpu", "--ckpt", "out")


def random(*shape: int) -> torch.Tensor:
    return torch.randint(len(CHARS), shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("prefix", ["", "_orig_mod."])
@torch.no_grad()
def test_the_logits_are_the_same(bias: bool, prefix: str, home: Path) -> None:
    theirs = reference(bias=bias)
    saved = content(theirs, bias=bias, prefix=prefix)
    if bias:  # as it was before torch had its attention
        saved["model"][f"{prefix}transformer.h.0.attn.bias"] = torch.ones(1, 1, SIZE, SIZE)
    write(saved)
    Path("out/meta.pkl").write_bytes(pickle.dumps(META))
    found, idx = models.load(models.locate(Path("out"))), random(2, SIZE)
    torch.testing.assert_close(found.build()(idx), theirs(idx).logits, rtol=0, atol=1e-5)
    assert (found.chars, found.progress) == (CHARS, {"step": STEP})
    assert (found.model.bias, found.model.dropout) == (bias, 0.1)


@torch.no_grad()
def test_ids_that_are_no_characters_are_left_out(home: Path) -> None:
    theirs = reference(bias=False, vocab_size=16)
    write(content(theirs, bias=False))
    Path("out/meta.pkl").write_bytes(pickle.dumps(META))
    found, idx = models.load(Path("out/ckpt.pt")), random(2, SIZE)
    expected = theirs(idx).logits[..., : len(CHARS)]
    torch.testing.assert_close(found.build()(idx), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_command_takes_it(theirs: nn.Module, call: Callable, refusal: Callable) -> None:
    prompt = ("--prompt", "ab", "--device", "cpu", "--temperature", "0", "--max-new-tokens", "9")
    idx = torch.tensor([[CHARS.index("a"), CHARS.index("b")]])
    written = theirs.generate(idx, do_sample=False, max_new_tokens=9)[0]
    text = "".join(CHARS[i] for i in written) + "\n"
    for path in ("out", "out/ckpt.pt"):
        ended = call(sample.main, "--ckpt", path, *prompt)
        assert ended == (0, text, f"out/ckpt.pt, step {STEP}\n")
    assert call(look.main, "--ckpt", "out", "--out", "page.html").status == 0
    assert f"out/ckpt.pt, step {STEP}." in Path("page.html").read_text("utf-8")
    assert call(export.main, "--ckpt", "out", "--to", "hf").status == 0
    exported = AutoModelForCausalLM.from_pretrained("hf")
    torch.testing.assert_close(exported(idx).logits, theirs(idx).logits, rtol=0, atol=1e-5)
    assert call(sample.main, "--ckpt", "hf", *prompt).out == text
    message = refusal(compare.main, "--ckpt", "out")
    assert f"out is a model of {len(CHARS)} characters" in message


def test_training_starts_from_it_and_cannot_go_on(
    theirs: nn.Module, tiny: Callable, refusal: Callable
) -> None:
    for path in ("out", "out/ckpt.pt"):
        message = refusal(train.main, "--resume", path)
        assert f"{path} was trained by another program" in message
    [setting] = re.findall(r"train\.init_from=\S+", message)
    ended = tiny(setting, "train.max_steps=1", "train.out_dir=checkpoints/fine")
    assert ended.status == 0 and "new " in ended.out  # the text has other characters, too
    fine = models.load(models.locate(Path("checkpoints/fine")))
    assert fine.model.activation == "gelu" and fine.chars.startswith(CHARS)


# What is refused


def test_no_characters(refused: Callable) -> None:
    Path("data/letters/meta.pkl").unlink()
    message = refused()
    assert f"no meta.pkl that says which its {len(CHARS)} characters are; copy it from" in message
    assert "data/letters/ to out\n" in message
    Path("out/meta.pkl").write_bytes(pickle.dumps({**META, "itos": [*CHARS, "x"]}))
    assert f"has {len(CHARS) + 1} characters, and the model {len(CHARS)}; copy the" in refused()
    args = torch.load("out/ckpt.pt", weights_only=True)["model_args"]
    Path("out/meta.pkl").unlink()
    for dataset in ("..", "a/../letters", "/data/letters", "C:letters", 3):
        spoil(config={"dataset": dataset})
        assert "there is no meta.pkl" in refused()
    weights = content(reference(bias=False, vocab_size=50304), bias=False)["model"]
    spoil(model=weights, model_args={**args, "vocab_size": 50304})
    assert "trained on GPT-2's tokens, which are no characters; name a model of char" in refused()


@pytest.mark.parametrize("itos", [{}, {0: "a", 2: "b"}, {0: "ab"}, ["a", "a"], [1], None])
def test_lists_that_are_none(itos: object, refused: Callable) -> None:
    Path("out/meta.pkl").write_bytes(pickle.dumps({"itos": itos}))
    message = refused()
    assert "out/meta.pkl is damaged" in message and "copy the meta.pkl that nanoGPT's" in message


def test_a_list_that_is_too_long(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nanogpt, "LARGEST", 50)
    assert "meta.pkl is too large for a list of characters; copy the meta.pkl" in refused()


class Runs:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_no_code_is_run(protocol: int, refused: Callable) -> None:
    before = contents(Path())
    for value in (Runs(), {**META, "more": Runs()}, {**META, "more": {1, 2}}, {"itos": b"ab"}):
        raw = pickle.dumps(value, protocol)
        Path("out/meta.pkl").write_bytes(raw)
        assert "is damaged or more than a plain list of characters, and is not read" in refused()
        for cut in (raw[:-1], raw[: len(raw) // 2], b""):
            with pytest.raises((ValueError, IndexError)):
                plain.loads(cut)
    Path("out/meta.pkl").unlink()
    assert contents(Path()) == before


def test_checkpoints_that_do_not_fit(refused: Callable) -> None:
    good = torch.load("out/ckpt.pt", weights_only=True)
    args, weights = good["model_args"], good["model"]
    up = "transformer.h.1.mlp.c_fc.weight"
    for changes, sentence in (
        ({"model_args": []}, "model or model_args is no dict; name a ckpt.pt"),
        ({"model": {"a": 1}}, "model holds more than weights; name a ckpt.pt"),
        ({"model_args": {}}, "vocab_size is a whole number, not None"),
        ({"model_args": {**args, "n_head": 5}}, "n_embd=12 is not divisible by n_head=5"),
        ({"model_args": {**args, "n_layer": 10**9}}, "n_layer is 1000000000, but there are only"),
        ({"model": {**weights, up: torch.ones(3)}}, "h.1.mlp.c_fc.weight is of shape (3,), but"),
        ({"model": {**weights, up: weights[up] * torch.nan}}, "are no finite numbers"),
        ({"iter_num": "x"}, "iter_num is a whole number, not 'x'"),
    ):
        write({**good, **changes})
        message = refused()
        assert f"out/ckpt.pt: {sentence}" in message or sentence in message


# Pickles

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(PLAIN, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_read_as_they_are(value: object, protocol: int) -> None:
    shared = [value, {"again": value}]
    assert repr(plain.loads(pickle.dumps(shared, protocol))) == repr(shared)
