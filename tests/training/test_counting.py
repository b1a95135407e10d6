"""How much of a text is counted: what fits into the memory, the same when a run goes on."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import train
from data.corpus import Corpus
from data.counts import Counts, count, pack
from data.tokenizer import CharTokenizer
from system import checkpoint, memory
from system.settings import MemoryConfig
from tests.helpers.runs import RUN, exact, forge, sha256
from training import counting
from training.counting import PIECES, Counting, bytes_for, settle, stretches
from training.memory import Memory
from training.teacher import Teacher

V, CPU = 7, torch.device("cpu")
MEMORY = ("memory.order=3", "memory.teach=0.3", "data.val_fraction=0.01")
LONG = "".join("abcdefg \n"[i * i % 11 % 9] for i in range(16_000))  # 15,524 to train on


def letters(length: int, seed: int = 1) -> Tensor:
    weights = torch.arange(V, 0, -1).float() ** 2
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(weights, length, replacement=True, generator=generator).byte()


def same(found: list[Counts], pieces: list[Tensor], order: int) -> None:
    wanted = count([piece.numpy() for piece in pieces], V, order)
    assert exact(pack(found, V)) == exact(pack(wanted, V))


@pytest.mark.parametrize("counted", [10_000, 10_099, 20_000, 30_000, 50_000])
@pytest.mark.parametrize("length", [10_000, 20_001, 30_050])
def test_pieces_from_all_over_a_text(length: int, counted: int) -> None:
    found = stretches(length, counted)
    assert found[0][0] == 0 and found[-1][1] == length
    assert all(stop <= start for (_, stop), (start, _) in itertools.pairwise(found))
    total = sum(stop - start for start, stop in found)
    assert total == length if counted >= length else counted - PIECES < total <= counted
    gaps = [start - stop for (_, stop), (start, _) in itertools.pairwise(found)]
    assert not gaps or max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize("folds", [2, 7])
def test_counts_of_a_part(folds: int) -> None:
    """No fold's counts have seen a character of it, and what is set apart is not counted."""
    text, apart = letters(30_000), letters(500, seed=2)
    config = MemoryConfig(order=4, teach=0.3, folds=folds, characters=10_000)
    with Counting(apart, text, V, config) as few:
        others, edges = few.others(), few.edges
        same(few.all(), [text[a:b] for a, b in stretches(30_000, 10_000)], 4)
        assert few.apart == 0
        memory = Memory(few, V, config, CPU)
    assert memory.earlier is memory.counts
    for (start, end), other in zip(itertools.pairwise(edges), others, strict=True):
        spans = stretches(30_000, 10_000)
        cut = [((a, min(b, start)), (max(a, end), b)) for a, b in spans]
        same(other, [text[a:b] for each in cut for a, b in each if a < b], 4)


def test_windows_that_were_not_counted_are_taught() -> None:
    text = letters(30_000)
    config = MemoryConfig(order=4, teach=0.3, folds=3, characters=10_000)
    teacher = Teacher(Counting(text[:0], text, V, config), V, config, CPU)
    starts = torch.tensor([105, 9_990, 10_105])  # between pieces, in two folds, in another one
    rows = torch.stack([text[start : start + 21].long() for start in starts.tolist()])
    logits = torch.zeros(3, 20, V, requires_grad=True)
    teacher.pull(logits, rows[:, 1:], idx=rows[:, :-1], starts=starts).backward()
    assert [bool(row.any()) for row in logits.grad] == [True, False, True]


def corpus(length: int, chars: str = "abcdefg") -> Corpus:
    ids = letters(length)
    return Corpus(CharTokenizer(chars), ids, ids[:100], "", ids[:0])


def test_what_fits_is_counted_whole() -> None:
    for free in (math.inf, 1e12):
        config, text = MemoryConfig(order=9, teach=0.2), corpus(50_000)
        settle(config, text, free, settled=False)
        assert (config.characters, text.notes) == (counting.MOST, [])


def test_what_does_not_fit_is_counted_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "STEP", 1000)
    monkeypatch.setattr(counting, "FIXED", 0)
    config, text = MemoryConfig(order=9, teach=0.2), corpus(100_000)
    need = bytes_for(MemoryConfig(order=9, teach=0.2), text)
    assert need(20_000) < need(50_000) < need(100_000)
    settle(config, text, need(50_000) / counting.SHARE, settled=False)
    assert config.characters == 50_000
    assert text.notes == [
        "50,000 of 100,000 characters are counted, in 100 pieces (memory.characters=50000)"
    ]


def test_a_foreseen_size() -> None:
    """The grams that there are, from a sample: within a third for texts of several kinds."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 7, (400, 6))
    for ids in (rng.integers(0, 7, 120_000), words[rng.zipf(1.4, 20_000) % 400].ravel()):
        text = corpus(1)
        text.train = torch.from_numpy(ids).byte()
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(counting, "SAMPLE", 20_000)
            config = MemoryConfig(order=8)
            expected = bytes_for(config, text)(len(ids))
        there = sum(len(level.codes) for level in count([ids.astype(np.uint8)], 7, 8))
        real = counting.in_bytes(config, len(ids), there, 0)
        assert 0.9 < expected / real < 1.4


@pytest.fixture
def long(home: Path) -> None:
    Path("text.txt").write_text(LONG)


@pytest.mark.usefixtures("long")
def test_what_a_run_says_and_keeps(tiny: Callable, refusal: Callable) -> None:
    ended = tiny(*MEMORY, "memory.characters=12000", "train.max_steps=4")
    said = "12,000 of 15,524 characters are counted, in 100 pieces (memory.characters=12000)"
    assert f"       {said}\n" in ended.out
    assert f"        {said}\n" in tiny(*MEMORY, "memory.characters=12000", "--dry-run").out
    assert "keeps memory.characters=12000" in refusal(
        train.main, "--resume", "memory.characters=13000"
    )


@pytest.mark.usefixtures("long")
def test_a_run_goes_on_with_the_same_counts(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STEP": 1000, "FIXED": 0, "SHARE": 1}.items():
        monkeypatch.setattr(counting, name, value)
    monkeypatch.setattr(memory, "free", lambda: 240_000)
    assert tiny(*MEMORY, "train.out_dir=whole").status == 0
    kept = yaml.safe_load(Path("whole/config.yaml").read_text())["memory"]["characters"]
    assert kept == 11_000
    assert tiny(*MEMORY, "train.max_steps=4").status == 0
    monkeypatch.setattr(memory, "free", lambda: 1e12)
    assert tiny("--resume", "train.max_steps=10").status == 0
    counts = [checkpoint.load(folder / "last.pt").counts for folder in (RUN, Path("whole"))]
    assert exact(counts[0]) == exact(counts[1])
    monkeypatch.setattr(memory, "free", lambda: 10.0)
    before = sha256(RUN)
    ended = tiny("--resume")
    assert (ended.status, sha256(RUN)) == (0, before)
    assert "counting " in ended.err and "close other programs" in ended.err


@pytest.mark.usefixtures("long")
def test_what_was_asked_for_and_does_not_fit(
    tiny: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STEP": 1000, "FIXED": 0, "SHARE": 1}.items():
        monkeypatch.setattr(counting, name, value)
    command = ("--device=cpu", "--config=tiny.yaml", *MEMORY, "train.max_steps=1")
    monkeypatch.setattr(memory, "free", lambda: 240_000)
    message = refusal(train.main, *command, "memory.characters=40000")
    assert "counting 15,840 characters takes about 0.0 GB of memory" in message
    remedy = message.strip().rpartition("; set ")[2]
    assert remedy.startswith("memory.characters=")
    assert not RUN.exists()
    assert tiny(*MEMORY, "train.max_steps=1", remedy).status == 0
    monkeypatch.setattr(memory, "free", lambda: 1e3)
    message = refusal(train.main, *command, "--overwrite")
    remedy = message.strip().rpartition("; set ")[2]
    assert remedy == "memory.order=0 memory.teach=0"
    assert tiny(*MEMORY, "train.max_steps=1", "--overwrite", *remedy.split()).status == 0


def test_a_run_from_before(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counted all of up to 50 million characters, and does so when it goes on."""
    tiny(*MEMORY[:2], "memory.calibration_fraction=0.2", "train.max_steps=4")
    old = torch.load(RUN / "last.pt")
    del old["settings"]["memory"]["characters"]
    forge(RUN / "last.pt", old)
    monkeypatch.setattr(memory, "free", lambda: 10.0)
    assert tiny("--resume", "train.max_steps=6").status == 0
    now = torch.load(RUN / "last.pt")
    assert now["settings"]["memory"]["characters"] == 50_000_000
    assert exact(now["counts"]) == exact(old["counts"])
