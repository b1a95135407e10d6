"""What the tests of texts share: a model with random weights, in a file, that writes."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sample
from system import checkpoint
from system.checkpoint import Checkpoint

ASK = ("--ckpt", "model.pt", "--device", "cpu")


@pytest.fixture
def write(home: Path, saved: Checkpoint, call: Callable) -> Callable:
    """Sample from model.pt, which knows the characters of `saved`."""
    checkpoint.save(Path("model.pt"), saved)
    return lambda *argv: call(sample.main, *ASK, *argv)


@pytest.fixture
def refused(write: Callable, refusal: Callable) -> Callable:
    """The sentence with which the arguments are refused."""
    return lambda *argv: refusal(sample.main, *ASK, *argv)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Let standard input be a pipe with these bytes."""

    def pipe(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    return pipe
