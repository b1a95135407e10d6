"""Texts that are too short: what is said is pasted, and every shortest text is found by trying."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

import train
from data import corpus
from data.length import GOOD, Cut, cut
from system.errors import UserError
from system.settings import DataConfig
from tests.helpers import ROOT
from training import loop, metrics

often = settings(max_examples=200, deadline=None, derandomize=True)
SHORTEST = 4  # characters: a window of one and what follows it, to train on and to validate on
TEXT = (ROOT / "README.md").read_text("utf-8")
ONE_STEP = (
    *("--device=cpu", "--overwrite", "data.dataset=poem.txt", "train.out_dir=run"),
    *("model.n_layer=1", "model.n_head=1", "model.n_embd=8", "train.max_steps=1"),
    "train.sample_characters=3",
)


@pytest.fixture
def one_step(home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Train for a step on so many characters with a shipped settings file and what is added."""
    monkeypatch.setattr(metrics, "plot", lambda folder: None)
    monkeypatch.setattr(loop, "SAMPLE_CHARACTERS", 9)

    def one_step(length: int, *added: str, config: str = "tiny_shakespeare.yaml") -> tuple:
        Path("poem.txt").write_text(TEXT[:length])
        return call(train.main, "--config", config, *ONE_STEP, *added)

    return one_step


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("texts") / "short.txt"


def remedy(message: str) -> list[str]:
    """The words that a refusal says to add."""
    return re.search(r"; add (.+) to the command, or take a longer text", message)[1].split()


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (4, "model.block_size=1 data.val_fraction=0.5 memory.order=0 memory.teach=0"),
        (20, "model.block_size=4 data.val_fraction=0.5 memory.calibration_fraction=0.2"),
        (50, "model.block_size=8 data.val_fraction=0.2 memory.calibration_fraction=0.05"),
        (100, "model.block_size=8 memory.calibration_fraction=0.05"),
        (300, "model.block_size=16"),
        (600, "model.block_size=32"),
        (2000, "model.block_size=128"),
    ],
)
def test_what_is_said_to_be_added_trains(one_step: Callable, length: int, words: str) -> None:
    status, out, err = one_step(length)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"train.py: poem.txt has {length:,} characters: too few for model.block")
    assert "which take 2,570;" in err and "; --config small.yaml is for texts under 100," in err
    assert remedy(err) == words.split()
    status, out, err = one_step(length, *remedy(err))
    assert (status, err) == (0, "") and "step 1/1" in out


def test_what_is_said_to_be_enough_trains(one_step: Callable) -> None:
    assert one_step(2570).status == 0
    assert one_step(300, "model.block_size=16", config="small.yaml").status == 0


@pytest.mark.parametrize("length", range(SHORTEST))
def test_no_settings_train_on_hardly_any_text(one_step: Callable, length: int) -> None:
    assert one_step(length).err.endswith("; no settings train on so few; take a longer text\n")


def test_a_text_of_its_own_to_validate_on(one_step: Callable) -> None:
    Path("val.txt").write_text(TEXT[:40])
    err = one_step(300, "data.val_dataset=val.txt").err
    assert "poem.txt has 300 characters, and val.txt 40: too few for model.block_size=256 " in err
    assert "with memory.calibration_fraction=0.02, which take 262 of either; add model" in err
    assert remedy(err) == ["model.block_size=32"]
    assert one_step(300, "data.val_dataset=val.txt", *remedy(err)).status == 0
    Path("val.txt").write_text("")
    assert "no settings train on so few" in one_step(300, "data.val_dataset=val.txt").err


def test_the_window_of_a_model_that_is_there_stays(one_step: Callable) -> None:
    assert one_step(300, "model.block_size=16").status == 0
    Path("run").rename("first")
    err = one_step(100, "train.init_from=first").err
    assert remedy(err) == ["data.val_fraction=0.2", "memory.calibration_fraction=0.05"]
    assert one_step(100, "train.init_from=first", *remedy(err)).status == 0
    err = one_step(30, "train.init_from=first").err
    assert err.endswith("which take 170; take a longer text\n")


def refusal_of(wanted: Cut, data: DataConfig) -> str:
    """What is said of a text that is too short."""
    with pytest.raises(UserError) as caught:
        cut(wanted, data, fixed=False, settled=False)
    return str(caught.value)


def sizes(path: Path, length: int, words: list[str], **before: float) -> tuple[int, int, int, int]:
    """Characters to train, validate and calibrate on, and block_size, of a text that is loaded."""
    said = dict(word.split("=") for word in words)
    block_size = int(said.get("model.block_size", before["block_size"]))
    val_fraction = float(said.get("data.val_fraction", before["val_fraction"]))
    share = float(said.get("memory.calibration_fraction", before["calibration_fraction"]))
    path.write_text("a" * length)
    loaded = corpus.load(
        DataConfig(dataset=str(path), val_fraction=val_fraction),
        block_size,
        torch.device("cpu"),
        chars=None,
        scratch=path,
        calibration_fraction=0.0 if "memory.order" in said else share,
    )
    return len(loaded.train), len(loaded.val), len(loaded.calibration), block_size


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    length=st.integers(SHORTEST, 900),
    block_size=st.integers(1, 500),
    val_fraction=st.floats(0.001, 0.999),
    calibration_fraction=st.sampled_from([0.0, 0.001, 0.02, 0.3]),
)
@example(length=4, block_size=500, val_fraction=0.29, calibration_fraction=0.5)
def test_what_is_said_fits(shared: Path, length: int, **before: float) -> None:
    wanted = Cut(length, None, **before)
    if wanted.fits():
        words = []
    else:
        message = refusal_of(wanted, DataConfig(dataset="short.txt"))
        words = remedy(message)
        needed = int(re.search(r"which take ([\d,]+);", message)[1].replace(",", ""))
        train, val, apart, block_size = sizes(shared, needed, [], **before)
        assert min(train, val) > block_size
    train, val, apart, block_size = sizes(shared, length, words, **before)
    assert min(train, val) > block_size >= min(GOOD, length // 16, before["block_size"])
    assert apart >= 2 or not before["calibration_fraction"] or "memory.order=0" in words


@often
@given(share=st.floats(0.001, 0.999), block_size=st.integers(1, 500), apart=st.floats(0.001, 0.5))
@example(share=0.29, block_size=28, apart=0.02)
def test_the_needed_length_is_the_shortest(share: float, block_size: int, apart: float) -> None:
    def fits(length: int) -> bool:
        val = int(length * share)
        calibration = int((length - val) * apart)
        return min(val, length - val - calibration) > block_size and calibration >= 2

    needed = Cut(1, None, block_size, share, apart).needed()
    assert fits(needed)
    sides = (block_size / share, block_size / (1 - share) / (1 - apart), 2 / (1 - share) / apart)
    assert needed <= max(sides) + 2 / min(share, 1 - share) + 2
