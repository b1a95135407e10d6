"""Exported folders as transformers reads them, and one sentence for what cannot be exported."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

import export
import handmade
import sample
from data.tokenizer import CharTokenizer
from exchange.gpt2 import config_to_gpt2
from generate import generate
from model import GPTConfig
from system import checkpoint, config
from system.checkpoint import Checkpoint
from tests.helpers.tiny import CHARS, tiny_gpt

FILES = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
FILES |= {"generation_config.json", "README.md"}
SAME = "logits within 0e+00 of the checkpoint's"
SHAPE = {"vocab_size": len(CHARS), "block_size": 34, "n_embd": 12, "head_size": 4, "dropout": 0.1}


@pytest.fixture
def trained(home: Path, saved: Checkpoint) -> Checkpoint:
    """A model of GPT-2's structure in model.pt, whose every weight is random."""
    structure = config.load(config.find("tiny_shakespeare_gpt2"), [], use_gpu=False).model
    kinds = {name: getattr(structure, name) for name in ("position", "activation", "bias")}
    model = tiny_gpt(seed=5, tie_weights=structure.tie_weights, **SHAPE, **kinds)
    weights = dict(model.state_dict())
    trained = dataclasses.replace(saved, model=model.config, chars=CHARS, weights=weights)
    checkpoint.save(Path("model.pt"), trained)
    return trained


@pytest.fixture
def write(trained: Checkpoint, call: Callable) -> Callable:
    """Export model.pt to the folder out."""
    return lambda *argv: call(export.main, "--ckpt", "model.pt", "--to", "out", *argv)


@pytest.fixture
def refused(trained: Checkpoint, refusal: Callable) -> Callable:
    """The sentence with which the arguments are refused."""
    return lambda *argv: refusal(export.main, "--ckpt", "model.pt", *argv)


def contents(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_the_folder(write: Callable) -> None:
    assert write() == (0, f"model.pt, step 3; {SAME}; written to out\n", "")
    assert contents("out").keys() == FILES


def random(*shape: int) -> Tensor:
    return torch.randint(len(CHARS), shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_the_folder_counts_and_not_who_reads_where_it_is(
    unread: TextIO, trained: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert export.main(["--ckpt", "model.pt", "--to", "out"]) == 0
    assert contents("out").keys() == FILES


def test_the_logits_are_the_same(write: Callable, trained: Checkpoint) -> None:
    write()
    theirs = AutoModelForCausalLM.from_pretrained("out")
    assert type(theirs).__name__ == "GPT2LMHeadModel" and theirs.dtype == torch.float32
    idx, ours = random(2, 34), trained.build()
    torch.testing.assert_close(theirs(idx).logits, ours(idx), rtol=0, atol=1e-5)
    assert theirs.config.n_positions == 34 and theirs.config.resid_pdrop == 0.1
    assert theirs.config.bos_token_id is theirs.config.eos_token_id is None
    assert sum(p.numel() for p in theirs.parameters()) == ours.parameter_count()


@torch.no_grad()
def test_the_greedy_text_is_the_same(write: Callable, trained: Checkpoint) -> None:
    write()
    theirs, tokenizer = (
        kind.from_pretrained("out") for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    prompt = "zy\n🙂"
    idx = tokenizer(prompt, return_tensors="pt")
    settings = {"do_sample": False, "max_new_tokens": 30, "pad_token_id": 0}
    expected = theirs.generate(**idx, **settings)
    steps = generate(trained.build(), idx["input_ids"], 30, torch.Generator(), temperature=0)
    assert torch.equal(torch.stack(list(steps), dim=1), expected[:, 4:])
    assert len(set(expected[0].tolist())) > 5
    decoded = CharTokenizer(CHARS).decode(expected[0])
    assert tokenizer.decode(expected[0]) == decoded and decoded.startswith(prompt)


def test_sampling_from_the_folder(write: Callable, call: Callable) -> None:
    write()
    for argv in ([], ["--prompt", "é\n", "--num-samples", "2", "--stop", "a"]):
        place = ["--device", "cpu", *argv]
        ours = call(sample.main, "--ckpt", "model.pt", *place)
        assert call(sample.main, "--gpt2", "out", *place).out == ours.out


def test_the_tokenizer(write: Callable) -> None:
    write()
    tokenizer = AutoTokenizer.from_pretrained("out")
    assert tokenizer.get_vocab() == {char: i for i, char in enumerate(CHARS)}
    assert tokenizer.encode(CHARS) == list(range(len(CHARS)))
    assert tokenizer.decode(range(len(CHARS))) == CHARS
    for i, char in enumerate(CHARS):
        assert tokenizer.encode(char) == [i] and tokenizer.decode([i]) == char
    with pytest.raises(Exception, match="Missing"):
        tokenizer.encode("q")  # in place of losing it


def test_the_newest_run(trained: Checkpoint, call: Callable, refusal: Callable) -> None:
    for argv in ([], ["--ckpt"]):
        assert "python train.py --config" in refusal(export.main, *argv, "--to", "out")
    checkpoint.save(Path("checkpoints/mine/best.pt"), trained)
    for i, argv in enumerate(([], ["--ckpt"], ["--ckpt", "checkpoints/mine"])):
        ended = call(export.main, *argv, "--to", f"out{i}")
        assert ended.out == f"checkpoints/mine/best.pt, step 3; {SAME}; written to out{i}\n"
        Path(f"out{i}/README.md").unlink()  # which has the name of the folder
    assert contents("out0") == contents("out1") == contents("out2")


def test_a_folder_that_is_not_empty(write: Callable, refused: Callable) -> None:
    Path("out").mkdir()
    assert write().status == 0
    whole = contents("out")
    Path("out/config.json").write_text("mine")
    assert "--to out is not empty; name another folder, or say --overw" in refused("--to", "out")
    assert Path("out/config.json").read_text() == "mine"
    Path("out/notes.txt").write_text("mine")
    assert write("--overwrite").status == 0
    assert contents("out") == {**whole, "notes.txt": b"mine"}
    assert "--to model.pt is no folder; name one" in refused("--to", "model.pt")
    assert "--to" in refused()


def test_a_head_of_its_own(home: Path, trained: Checkpoint, call: Callable) -> None:
    """Untied, and read back by sample.py as well."""
    untied = tiny_gpt(seed=6, **{**dataclasses.asdict(trained.model), "tie_weights": False})
    kept = dataclasses.replace(trained, model=untied.config, weights=dict(untied.state_dict()))
    checkpoint.save(Path("untied.pt"), kept)
    assert call(export.main, "--ckpt", "untied.pt", "--to", "out").status == 0
    theirs = AutoModelForCausalLM.from_pretrained("out")
    assert not torch.equal(theirs.lm_head.weight, theirs.transformer.wte.weight)
    with torch.no_grad():
        logits = theirs(random(2, 34)).logits
        torch.testing.assert_close(logits, kept.build()(random(2, 34)), rtol=0, atol=1e-5)
    ours = call(sample.main, "--ckpt", "untied.pt", "--device", "cpu").out
    assert call(sample.main, "--gpt2", "out", "--device", "cpu").out == ours


def test_the_card_of_a_trained_model(write: Callable, trained: Checkpoint) -> None:
    counts = [{"codes": torch.arange(3)}]
    settings = {"data": {"dataset": ["/home/me/plays.txt", "b.txt"]}, "optim": {"beta2": 0.95}}
    progress = {"step": 1234, "best_loss": 1.5}
    more = {"settings": settings, "progress": progress, "counts": counts, "shares": [0.5]}
    checkpoint.save(Path("model.pt"), dataclasses.replace(trained, **more))
    assert write().out.endswith("the trained model alone\n")
    card = Path("out/README.md").read_text("utf-8")
    assert "trained on plays.txt, b.txt: 1,234 steps, `val_loss` 1.5000 nats per character" in card
    assert "together with its counts" in card and "/home" not in card
    assert "What the optimizer remembers, the counts beside it" in card
    assert "    optim.beta2=0.95\n" in card and SAME in card


def test_safetensors_is_not_there(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    message = refused("--to", "out")
    assert "the package safetensors is not installed; install it with: pip install -r" in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"position": "learned"}, "train one with model.activation=gelu_tanh model.head_size=null"),
        ({"shift": 0.5}, "no class of transformers has token shift; train a model without it, wi"),
        ({}, "Jais2 takes an n_embd that n_head divides, which 7 and 3 are not; train one with"),
    ],
)
def test_models_that_are_in_no_class(
    changes: dict[str, object], sentence: str, home: Path, saved: Checkpoint, refusal: Callable
) -> None:
    model = tiny_gpt(**changes)
    other = dataclasses.replace(saved, model=model.config, weights=dict(model.state_dict()))
    checkpoint.save(Path("other.pt"), other)
    assert sentence in refusal(export.main, "--ckpt", "other.pt", "--to", "out")
    assert not Path("out").exists()


@pytest.mark.parametrize("name", ["one-head", "two-head", "abc", "copy"])
def test_what_was_set_by_hand(name: str, home: Path, refusal: Callable) -> None:
    """What it should do is not in the file, so there would be no proof."""
    checkpoint.save(Path("by_hand.pt"), handmade.load(name))
    message = refusal(export.main, "--ckpt", "by_hand.pt", "--to", "out")
    assert "by_hand.pt was set by hand, and the rule that an export is proved by is not" in message
    assert "python export.py --handmade abc --to abc-gpt2" in message
    assert not Path("out").exists()


@pytest.mark.parametrize("use_gpu", [False, True])
def test_the_settings_that_are_named_can_be_exported(use_gpu: bool) -> None:
    model = config.load(config.find("tiny_shakespeare_gpt2"), [], use_gpu=use_gpu).model
    assert isinstance(model, GPTConfig)
    assert config_to_gpt2(model)["n_head"] == model.n_head
