"""The Python of docs/export.md, word for word: exported models without this project."""

import ast
import importlib.util
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import export
from data.tokenizer import CharTokenizer
from generate import generate
from model import GPT
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers import ROOT
from tests.helpers.tiny import tiny_gpt

CHARS = ":EMORa\n🙂é"  # a is what TransformerLens tries a tokenizer with
PAGE = (ROOT / "docs" / "export.md").read_text("utf-8")
GPT2 = {"position": "learned", "activation": "gelu_tanh", "bias": True, "tie_weights": True}

JAIS2 = {"position": "rotary", "activation": "relu2", "shift": 0.0}


def blocks(heading: str) -> list[str]:
    """The Python under a heading of the page, block by block."""
    [section] = re.findall(rf"^##+ {heading}\n(.*?)(?=^#|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    code = re.findall(r"^    .+\n(?:(?:    .*)?\n)*", section, re.MULTILINE)
    code = [re.sub(r"^    ", "", block, flags=re.MULTILINE).strip() for block in code]
    return [block for block in code if not re.match(r"python |pip |import \*", block)]


def run(code: list[str], *packages: str) -> dict[str, object]:
    """Run what imports no more than `packages`; what it has made, by name."""
    for node in ast.walk(ast.parse("\n".join(code))):
        if isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= {*packages}
        assert not isinstance(node, ast.ImportFrom) or node.module in packages
    space: dict[str, object] = {}
    for block in code:
        exec(block, space)
    return space


@pytest.fixture
def exported(home: Path, saved: Checkpoint, call: Callable) -> Callable[..., GPT]:
    """Export a tiny model with the characters of the page's prompt."""

    def exported(*argv: str, **structure: object) -> GPT:
        model = tiny_gpt(vocab_size=len(CHARS), **structure).eval()
        saved.model, saved.chars, saved.weights = model.config, CHARS, dict(model.state_dict())
        checkpoint.save(Path("model.pt"), saved)
        assert call(export.main, "--ckpt", "model.pt", *argv).status == 0
        return model

    return exported


def greedy(model: GPT) -> str:
    """What our model writes after the page's prompt."""
    tokenizer = CharTokenizer(CHARS)
    idx = tokenizer.encode("ROMEO:").long()[None]
    steps = generate(model, idx, 50, torch.Generator(), temperature=0)
    return "ROMEO:" + tokenizer.decode(torch.cat(list(steps)))


@pytest.mark.parametrize(
    ("heading", "folder", "structure"),
    [
        ("With rotary positions: Jais2", "portable", JAIS2),
        ("With the structure of GPT-2", "my-gpt2", GPT2),
    ],
)
def test_with_transformers(
    heading: str,
    folder: str,
    structure: dict[str, object],
    exported: Callable,
    capsys: pytest.CaptureFixture,
) -> None:
    model = exported("--to", folder, **structure, n_embd=12, block_size=60)
    [code] = blocks(heading)
    assert len(code.splitlines()) == 5
    run([code], "transformers")
    assert capsys.readouterr().out == f"{greedy(model)}\n"


@pytest.mark.skipif(not importlib.util.find_spec("transformer_lens"), reason="not installed")
@torch.no_grad()
def test_with_transformerlens(exported: Callable) -> None:
    model = exported("--to", "my-gpt2", **GPT2, n_embd=12, block_size=6)  # just the prompt
    made = run(blocks("With TransformerLens")[:1], "transformer_lens.model_bridge")
    idx = CharTokenizer(CHARS).encode("ROMEO:").long()[None]
    torch.testing.assert_close(made["logits"], model(idx), rtol=0, atol=1e-5)
    x = model.blocks[0].ln_1(model.wte(idx) + model.wpe(6))
    patterns = torch.stack([head.pattern(x) for head in model.blocks[0].attn.heads], dim=1)
    torch.testing.assert_close(made["cache"]["pattern", 0], patterns, rtol=0, atol=1e-6)


def test_with_onnxruntime(exported: Callable, capsys: pytest.CaptureFixture) -> None:
    model = exported("--as", "onnx", "--to", "mine.onnx", shift=0.4, block_size=17)
    opens, writes = blocks("In Python")
    [notes] = blocks("In JavaScript")
    assert len(opens.splitlines()) == 5
    run([opens, writes, notes], "json", "onnxruntime")
    text = greedy(model)
    assert capsys.readouterr().out == f"{text}\n" and len(set(text)) > 6
    known = json.loads(Path("mine.json").read_text("utf-8"))
    assert known == {"chars": CHARS, "block_size": 17}
