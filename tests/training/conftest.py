"""What several tests of training share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from training import timing
from training.start import find_run, prepare
from training.trainer import Trainer


@pytest.fixture
def make(home: Path) -> Callable[..., Trainer]:
    """A function that makes the Trainer of tiny.yaml with some changes."""

    def make(*overrides: str) -> Trainer:
        argv = ["--config=tiny.yaml", "--device=cpu", "--overwrite", *overrides]
        args = train.parser().parse_intermixed_args(argv)
        settings, folder = find_run(args, use_gpu=False)
        return prepare(args, settings, folder, torch.device("cpu"))

    return make


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time as few steps as may be."""
    monkeypatch.setattr(timing, "SECONDS", 0)
