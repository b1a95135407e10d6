"""ONNX files as onnxruntime reads them, and one sentence for what cannot be written."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor

import export
import handmade
from exchange import onnx as exchange
from model import GPT, Activation, Position
from proof.exported import tried
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import Fault
from tests.helpers.tiny import CHARS, SIZES, tiny_gpt

STRUCTURES = [
    {"position": position, "activation": activation, "bias": bias, "tie_weights": tied, "shift": s}
    for position, activation, bias, tied, s in itertools.product(
        get_args(Position), get_args(Activation), (False, True), (False, True), (0.0, 0.4)
    )
]
EVERY_CHANNEL = {**STRUCTURES[0], "shift": 1.0}
META = {"chars": CHARS, "block_size": SIZES["block_size"], "about": "é\0"}


def opened(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(content, options)


def logits(session: onnxruntime.InferenceSession, idx: Tensor) -> Tensor:
    [values] = session.run(None, {"ids": idx.numpy()})
    return torch.from_numpy(values)


def random(*shape: int) -> Tensor:
    return torch.randint(SIZES["vocab_size"], shape, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize("structure", [*STRUCTURES, EVERY_CHANNEL], ids=str)
def test_every_structure_with_any_batch_and_length(structure: dict) -> None:
    model = tiny_gpt(**structure).eval()
    content = exchange.contents(model, META)
    session = opened(content)
    for B, T in ((2, 6), (3, 1), (1, 4)):
        idx = random(B, T)
        torch.testing.assert_close(logits(session, idx), model(idx), rtol=0, atol=1e-5)
    with pytest.raises(Exception, match="out of data bounds"):  # one more than the window
        logits(session, random(1, 7))


def test_what_the_file_holds() -> None:
    model = tiny_gpt(**STRUCTURES[-1])  # tied, rotary
    content = exchange.contents(model, META)
    file = onnx.load_from_string(content)
    onnx.checker.check_model(file, full_check=True)  # shapes and types, too
    held = {w.name: torch.tensor(numpy_helper.to_array(w)) for w in file.graph.initializer}
    parameters = dict(model.named_parameters())
    assert {name for name in held if "constant" not in name} == {*parameters, "cos", "sin"}
    assert all(torch.equal(held[name], p) for name, p in parameters.items())
    assert [(each.domain, each.version) for each in file.opset_import] == [("", 17)]
    session = opened(content)
    [ids], [out] = session.get_inputs(), session.get_outputs()
    assert (ids.name, ids.type, ids.shape) == ("ids", "tensor(int64)", ["B", "T"])
    assert (out.name, out.type, out.shape) == ("logits", "tensor(float)", ["B", "T", 13])
    known = session.get_modelmeta().custom_metadata_map
    assert {name: json.loads(text) for name, text in known.items()} == META


def spoiled(content: bytes, name: str = "blocks.0.ffwd.down.weight") -> bytes:
    """The file with one weight a little different."""
    file = onnx.load_from_string(content)
    [weight] = [each for each in file.graph.initializer if each.name == name]
    values = numpy_helper.to_array(weight).copy()
    values.flat[0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(values, name))
    return file.SerializeToString()


@pytest.fixture
def written(home: Path, saved: Checkpoint, call: Callable) -> Callable:
    """Export model.pt, and what `changes` it, to mine.onnx."""

    def written(*argv: str, **changes: object) -> object:
        checkpoint.save(Path("model.pt"), dataclasses.replace(saved, **changes))
        return call(export.main, "--ckpt", "model.pt", "--as", "onnx", "--to", "mine.onnx", *argv)

    return written


def test_the_command(written: Callable, saved: Checkpoint, refusal: Callable) -> None:
    status, out, err = written()
    version = f"onnxruntime {onnxruntime.__version__}"
    assert out.startswith(f"model.pt, step 3; logits in {version} as here to ")
    assert out.endswith("; written to mine.onnx\n")
    assert (status, err, out.count("\n")) == (0, "", 1)
    session, idx = opened(Path("mine.onnx").read_bytes()), random(2, 5)
    with torch.no_grad():
        torch.testing.assert_close(logits(session, idx), saved.build()(idx), rtol=0, atol=1e-5)
    known = session.get_modelmeta().custom_metadata_map
    assert known == {
        "chars": json.dumps(saved.chars),
        "block_size": "6",
        "about": '"trained for 3 steps"',
    }
    first = Path("mine.onnx").read_bytes()
    ask = ("--ckpt", "model.pt", "--as", "onnx", "--to")
    there = refusal(export.main, *ask, "mine.onnx")
    assert "mine.onnx is there already; name another file, or say --overwrite" in there
    assert "is a folder; name a file, such as mine.onnx" in refusal(export.main, *ask, ".")
    assert written("--overwrite").status == 0 and Path("mine.onnx").read_bytes() == first


def test_counts_stay_behind(written: Callable, saved: Checkpoint) -> None:
    said = "the counts stay behind: what was exported is the trained model alone\n"
    ended = written(counts=[{"length": torch.tensor(1)}], shares=[0.5])
    assert ended.status == 0 and ended.out.endswith(said)


@pytest.mark.parametrize("before", [b"", b"older"])
def test_a_file_that_computes_something_else_is_not_kept(
    before: bytes, written: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = exchange.contents
    monkeypatch.setattr(exchange, "contents", lambda *given: spoiled(contents(*given)))
    if before:
        Path("mine.onnx").write_bytes(before)
    status, out, err = written("--overwrite")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "the logits are off by" in err and "pip install --upgrade -r requirements-onnx" in err
    left = [path.read_bytes() for path in Path().glob("*mine.onnx*")]
    assert left == ([before] if before else [])


def test_what_onnxruntime_lacks(written: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "OPSET", 999)
    status, out, err = written()
    assert (status, out, err.count("\n")) == (2, "", 1)
    version = f"onnxruntime {onnxruntime.__version__}"
    assert f"{version} cannot run a file of opset 999 (Current official support for" in err
    assert "pip install --upgrade -r requirements-onnx.txt" in err
    assert not [*Path().glob("*mine.onnx*")]


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_package_is_missing(
    package: str, written: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    status, out, err = written()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert f"the package {package} is not installed; install it with: pip install -r" in err
    assert "requirements-onnx.txt" in err and not [*Path().glob("*mine.onnx*")]


def test_too_large_for_one_file(written: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GPT, "parameter_count", lambda self: 2**29)
    status, out, err = written()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "take 2,147,483,648 bytes, and an ONNX file holds at most 2,130,706,432" in err


HAND_SET = {
    "one-head": "right in each of 60 contexts, worst margin +1.0000",
    "two-head": "right in each of 124 contexts, worst margin +0.4504",
    "abc": "right in each of 9,840 contexts, worst margin +1.0000",
    "copy": "right in 4,622 of 4^8 contexts, drawn from its text, worst margin +1.0000",
}


@pytest.mark.parametrize("name", HAND_SET)
def test_hand_set_models_by_their_rule(name: str, tmp_path: Path) -> None:
    model, file = handmade.load(name).build(), tmp_path / "mine.onnx"
    found = exchange.write(file, model, {}, lambda running: tried(running, handmade.task_of(name)))
    assert found.startswith("logits in onnxruntime") and found.endswith(f"; {HAND_SET[name]}")


@pytest.mark.parametrize("name", ["one-head", "copy"])
def test_a_hand_set_model_that_is_wrong_is_not_kept(name: str, tmp_path: Path) -> None:
    model, file = handmade.load(name).build(), tmp_path / "mine.onnx"
    with torch.no_grad():
        model.lm_head.weight.neg_()
    with pytest.raises(Fault, match="what was exported is wrong after '"):
        exchange.write(file, model, {}, lambda running: tried(running, handmade.task_of(name)))
    assert not [*tmp_path.iterdir()]
