"""All that computes runs on an Apple chip, as far as can be found out without one."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import compare
import handmade
import look
import sample
import train
from data import ngrams, rules
from data.counts import count, pack
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers.apple import MPS, Apple
from tests.helpers.kernels import kernels, runs_on
from tests.helpers.runs import TEXT, after, records, state
from tests.helpers.tiny import tiny_gpt
from training import loop, metrics, timing
from training.trainer import Trainer

TOY = (
    "data.dataset=text.txt model.block_size=8 model.n_layer=2 model.n_head=2 model.n_embd=16 "
    "model.dropout=0 train.max_steps=6 train.eval_every=3 train.batch_size=4 "
    "train.sample_characters=9"
)
GPT2 = {"position": "learned", "activation": "gelu_tanh", "bias": True, "tie_weights": True}


def test_the_table_says_what_is_known() -> None:
    assert kernels("take") == {"CPU", "CUDA"}
    assert not runs_on("MPS", "take") and runs_on("CUDA", "take")
    assert "MPS" in kernels("cumsum")  # as cumsum.out, to which it is delegated
    assert runs_on("MPS", "square") and not kernels("square")  # made of others
    assert runs_on("MPS", "ones_like") and runs_on("MPS", "ones_like.out")  # likewise, by torchgen
    with pytest.raises(KeyError):
        runs_on("MPS", "tak")


FORBIDDEN: dict[str, Callable[[Tensor, Tensor], object]] = {
    "'aten::take' is not currently implemented": lambda x, i: x.take(i),
    "'aten::_linalg_eigh' is not": lambda x, i: torch.linalg.eigvalsh(x.outer(x)),
    "Cannot convert a MPS Tensor to float64": lambda x, i: x.double(),
    "Cannot convert a MPS Tensor": lambda x, i: torch.zeros(2, dtype=torch.float64).to(MPS),
    "Cannot convert": lambda x, i: torch.zeros(2, dtype=torch.float64, device=MPS),
    "on the same device": lambda x, i: x + x.cpu(),
    "for generator": lambda x, i: x.exponential_(generator=torch.Generator()),
    "read when it is gone": lambda x, i: x.cpu().to(MPS, non_blocking=True),
    "the source is overwritten": lambda x, i: x.to("cpu", torch.float16),
    "is overwritten": lambda x, i: torch.zeros(3, dtype=torch.float16).copy_(x),
    "wrong on an Apple chip": lambda x, i: F.scaled_dot_product_attention(*[x[None, None]] * 3),
    "all are negative": lambda x, i: (-i).amax(),
    "wrong places from": lambda x, i: i.unique(),
    "adding up int64": lambda x, i: i.index_add(0, i, i),
    "numpy": lambda x, i: x.numpy(),
}


@pytest.mark.parametrize("message", FORBIDDEN)
def test_the_pretended_chip_is_as_strict_as_a_real_one(message: str, apple: Apple) -> None:
    x, places = torch.tensor([0.5, 1.0, 2.0]).to(MPS), torch.tensor([2, 1, 1]).to(MPS)
    with pytest.raises((RuntimeError, TypeError, AssertionError), match=message):
        FORBIDDEN[message](x, places)


def test_the_pretended_chip_computes(apple: Apple) -> None:
    x = torch.tensor([0.5, 1.0, 2.0]).to(MPS).requires_grad_()
    assert x.device == MPS and (x + 1).device == MPS and x.cpu().device.type == "cpu"
    y = F.pad(x, (1, 0))[torch.tensor([3, 1])]  # places may be in the memory of the CPU
    y.square().sum().backward()
    assert (y.tolist(), x.grad.tolist()) == ([2.0, 0.5], [1.0, 0.0, 4.0])
    assert {"constant_pad_nd", "fill_.Scalar", "index.Tensor", "pow.Tensor_Scalar"} <= apple.seen


@pytest.fixture
def train_toy(home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Train as a shipped settings file says, but small, into a folder; what ended, if it did."""
    monkeypatch.setattr(metrics, "plot", lambda folder: None)
    monkeypatch.setattr(loop, "SAMPLE_CHARACTERS", 9)
    monkeypatch.setattr(ngrams, "DENSE", 200)  # as in long texts, most contexts are looked up

    def run(config: str, folder: str, *argv: str, status: int = 0) -> str:
        settings = (*TOY.split(), f"train.out_dir={folder}")
        ended = call(train.main, "--config", config, *settings, *argv)
        assert (ended.status, ended.err) == (status, ""), ended.err
        return ended.out

    return run


def losses(folder: str) -> list[float]:
    """All that were measured in a run."""
    names = ("train_loss", "val_loss", "val_loss_trained")
    return [record.get(name) or 0 for record in records(Path(folder)) for name in names]


@pytest.mark.parametrize("config", ("tiny_shakespeare", "tiny_shakespeare_gpt2"))
def test_training_there_is_training_here(
    config: str, train_toy: Callable, apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = "train.generations=2"
    with monkeypatch.context() as patch:
        stop = after(2, lambda trainer: signal.raise_signal(signal.SIGTERM))
        patch.setattr(Trainer, "update", stop)
        assert ", mps, float32\n" in train_toy(config, "there", two, status=128 + signal.SIGTERM)
    train_toy(config, "there", "--resume")
    train_toy(config, "here", two, "--device", "cpu", "--cpu-section", "no")
    assert losses("there") == pytest.approx(losses("here"), rel=1e-3)
    assert apple.seen >= {"_fused_adamw_", "native_layer_norm_backward", "embedding_dense_backward"}
    if config == "tiny_shakespeare":
        assert apple.seen >= {"searchsorted.Tensor", "repeat_interleave.Tensor", "index_put_"}
        assert "baddbmm" in apple.seen  # of Muon


def test_a_dry_run_and_dropout(
    train_toy: Callable, apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0)
    options = ("model.dropout=0.2", "train.grad_accum=2", "data.map_above_mb=0")
    assert "6 steps" in train_toy("tiny_shakespeare", "there", "--dry-run", *options)
    assert "bernoulli_.float" in apple.seen


def test_minutes(train_toy: Callable, apple: Apple) -> None:
    out = train_toy("tiny_shakespeare", "timed", "train.minutes=0.0001")
    assert "time   0.0001 minutes here: too few; " in out and "(train.max_steps=1)\n" in out
    train_toy("tiny_shakespeare", "pasted", "train.max_steps=1")
    assert state(Path("timed")) == state(Path("pasted"))


SHAPES = {"rotary": {"shift": 0.5}, "GPT-2": GPT2}


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_there_are_those_here(shape: str, apple: Apple) -> None:
    here, there = (tiny_gpt(**SHAPES[shape]) for _ in range(2))
    idx, targets = torch.arange(12).view(2, 6), torch.arange(12).flip(0)
    for model, place in ((here, torch.device("cpu")), (there.to(MPS), MPS)):
        logits = model(idx.to(place))
        assert logits.device == place
        F.cross_entropy(logits.flatten(0, 1), targets.to(place)).backward()
    for p, q in zip(here.parameters(), there.parameters(), strict=True):
        torch.testing.assert_close(q.grad.cpu(), p.grad)


WRITE = (
    "--window slide",
    "--window half --num-samples 3 --seed 5 --top-k 4",
    "--window roll --top-p 0.7 --temperature 1.5",
    "--window roll --temperature 0 --num-samples 2 --trained-alone",
    "--window half --top-p 0.9 --top-k 7 --trained-alone --stop a",
)


@pytest.mark.parametrize("argv", WRITE)
def test_what_is_written_there_is_written_here(
    argv: str, saved: Checkpoint, home: Path, call: Callable, apple: Apple
) -> None:
    ids = np.arange(99) ** 2 % len(saved.chars)
    saved.counts = pack(count([ids], len(saved.chars), 3), len(saved.chars))
    saved.shares = [0.2, 0.3, 0.4]
    checkpoint.save(Path("model.pt"), saved)
    line = ["--ckpt", "model.pt", "--max-new-tokens", "20", *argv.split()]
    there, here = (call(sample.main, *line, "--device", name) for name in ("auto", "cpu"))
    assert there == here and there.status == 0
    assert apple.seen >= {"native_layer_norm", "addcmul", "_softmax", "argmax"}
    assert "exponential_" in apple.seen or "--temperature 0" in argv


@pytest.mark.parametrize("name", [*handmade.MODELS, *rules.examples(), "ngram"])
def test_weights_set_by_hand_write_there_as_here(
    name: str, home: Path, call: Callable, apple: Apple
) -> None:
    line = ["--handmade", name, "--max-new-tokens", "30", "--num-samples", "2"]
    if name == "ngram":
        Path("text.txt").write_text(2 * TEXT)
        line += ["--data", "text.txt", "--order", "3"]
    there, here = (call(sample.main, *line, "--device", name) for name in ("auto", "cpu"))
    assert there == here and there.status == 0 and "argmax" in apple.seen


def test_what_has_no_device_computes_on_the_cpu(
    home: Path, call: Callable, saved: Checkpoint, apple: Apple
) -> None:
    checkpoint.save(Path("one.pt"), handmade.load("one-head"))
    assert call(compare.main, "--ckpt", "one.pt", "--out", ".").status == 0
    assert call(look.main, "--handmade", "--out", "page.html").status == 0
    assert not apple.seen
