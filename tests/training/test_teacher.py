"""What counts teach: targets that are partly counted, by counts that have not seen the passage."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from data import ngrams
from data.corpus import Batches
from data.counts import count
from data.ngrams import Ngrams
from system.settings import MemoryConfig
from tests.helpers import reference
from tests.helpers.runs import RUN, TEXT, exact, records
from training.counting import Counting
from training.objective import cross_entropy
from training.teacher import Teacher

V, T, SHARE, FOLDS = 5, 6, 0.3, 3
CPU = torch.device("cpu")
IDS = torch.randint(V, (101,), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
EDGES = [0, 33, 67, 101]
INSIDE = [0, 10, 26, 33, 50, 60, 67, 94]  # 26 and 60 end with the last of their fold
ACROSS = [27, 30, 32, 61, 66]
MEMORY = ("memory.order=3", "memory.calibration_fraction=0.2")
TAUGHT = (*MEMORY, "memory.teach=0.3", "memory.folds=3")


def teacher(ids: Tensor = IDS, vocab_size: int = V, **changes: object) -> Teacher:
    """A teacher of `ids` by counts of up to four characters."""
    config = MemoryConfig(**{"order": 4, "teach": SHARE, "folds": FOLDS, **changes})
    return Teacher(Counting(ids[:0], ids, vocab_size, config), vocab_size, config, CPU)


def without(fold: int, ids: Tensor = IDS, vocab_size: int = V) -> Ngrams:
    """Counts of what is before and what is after a fold, made for it alone."""
    start, end = EDGES[fold : fold + 2]
    pieces = [ids[:start].numpy(), ids[end:].numpy()]
    return Ngrams(count(pieces, vocab_size, 4), vocab_size=vocab_size)


def windows(starts: list[int], ids: Tensor = IDS, size: int = T) -> tuple[Tensor, Tensor, Tensor]:
    """idx (B, T), targets (B, T) and starts (B,)."""
    rows = torch.stack([ids[start : start + size + 1].long() for start in starts])
    return rows[:, :-1], rows[:, 1:], torch.tensor(starts)


def scores(*shape: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(2))


def loss(by: Teacher, logits: Tensor, idx: Tensor, targets: Tensor, starts: Tensor) -> Tensor:
    """What is minimised."""
    return cross_entropy(logits, targets) + by.pull(logits, targets, idx=idx, starts=starts)


def target(by: Teacher, idx: Tensor, targets: Tensor, starts: Tensor) -> Tensor:
    """What the logits are drawn to, (B, T, V): the gradient of a loss is softmax - target."""
    logits = scores(*idx.shape, by.counts.vocab_size).double().requires_grad_()
    loss(by, logits, idx, targets, starts).backward()
    return logits.detach().softmax(dim=-1) - logits.grad * idx.numel()


def expected(starts: list[int], share: float = SHARE) -> np.ndarray:
    """The targets (B, T, V) by their definition."""
    rows = []
    for start in starts:
        idx, targets, _ = windows([start])
        row = np.eye(V)[targets[0]]
        folds = [k for k in range(FOLDS) if EDGES[k] <= start and start + T < EDGES[k + 1]]
        if folds:
            row = (1 - share) * row + share * without(folds[0]).probs(idx)[0][0].double().numpy()
        rows.append(row)
    return np.stack(rows)


@pytest.mark.parametrize("dense", [ngrams.DENSE, 0])
def test_the_loss(dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "DENSE", dense)
    by, starts = teacher(), [*INSIDE, *ACROSS]
    logits = scores(len(starts), T, V)
    log_probs = np.log(reference.softmax(logits.double().numpy()))
    wanted = -(expected(starts) * log_probs).sum(axis=-1).mean()
    assert by.edges.tolist() == EDGES
    assert loss(by, logits, *windows(starts)).item() == pytest.approx(wanted, abs=1e-5)


def test_the_target() -> None:
    by, starts = teacher(), [*INSIDE, *ACROSS]
    found = target(by, *windows(starts))
    torch.testing.assert_close(found, torch.from_numpy(expected(starts)), rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(len(starts), T).double())
    assert (found[: len(INSIDE)] > 0).all()
    one_hot = torch.eye(V)[windows(ACROSS)[1]].double()
    torch.testing.assert_close(found[len(INSIDE) :], one_hot, rtol=0, atol=1e-6)


def test_the_gradient_sums_to_zero() -> None:
    starts = [*INSIDE, *ACROSS]
    logits = scores(len(starts), T, V).requires_grad_()
    loss(teacher(), logits, *windows(starts)).backward()
    torch.testing.assert_close(logits.grad.sum(dim=-1), torch.zeros(len(starts), T))


def test_windows_in_two_folds_are_not_taught() -> None:
    idx, targets, starts = windows(ACROSS)
    assert teacher().pull(scores(len(ACROSS), T, V), targets, idx=idx, starts=starts) == 0


def test_the_longest_grams_do_not_teach() -> None:
    by = teacher(torch.cat([IDS] * 3), order=20)
    pieces = [torch.cat([IDS] * 3)[len(IDS) :].numpy()]
    alone = Ngrams(count(pieces, V, 7), vocab_size=V)
    idx, _, starts = windows([0, 5])
    assert by.counts.order == alone.order == 7
    torch.testing.assert_close(
        by.counts.probs(idx, text=torch.zeros_like(starts))[0], alone.probs(idx)[0]
    )


@pytest.mark.parametrize("dense", [ngrams.DENSE, 60, 0])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_the_counts_of_a_fold(order: int, dense: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "DENSE", dense)
    by = teacher(order=order)
    idx, _, _ = windows(list(range(len(IDS) - T)))
    found = []
    for fold, (start, end) in enumerate(itertools.pairwise(EDGES)):
        pieces = [IDS[:start].numpy(), IDS[end:].numpy()]
        alone = Ngrams(count(pieces, V, order), vocab_size=V)
        asked = by.counts.probs(idx, text=torch.full((len(idx),), fold))
        for one, other in zip(asked, alone.probs(idx), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        found.append(asked[0])
    assert not torch.allclose(found[0], found[1]) and not torch.allclose(found[1], found[2])


@pytest.mark.parametrize("fold", [0, 1, 2])
def test_the_passage_is_not_seen(fold: int) -> None:
    marker = torch.tensor([5, 6, 5, 7, 6, 6, 7], dtype=torch.uint8)  # in no other fold
    place, other = EDGES[fold] + 9, EDGES[(fold + 1) % FOLDS] + 9
    ids = IDS.clone()
    ids[place : place + len(marker)] = marker
    by = teacher(ids, vocab_size=8)
    idx, targets, _ = windows([place], ids)
    own = target(by, idx, targets, torch.tensor([place]))
    real = torch.eye(8)[targets].double()
    unseen = without(fold, ids, vocab_size=8).probs(idx)[0].double()
    torch.testing.assert_close(own, (1 - SHARE) * real + SHARE * unseen, rtol=0, atol=1e-6)
    told = target(by, idx, targets, torch.tensor([other]))  # as if it stood in another fold
    likely = ((told - (1 - SHARE) * real) / SHARE).gather(-1, targets[..., None])
    never = unseen.gather(-1, targets[..., None])
    assert (likely > 2 * never).all() and never.max() < 1 / 8


def test_a_change_in_a_fold_changes_nothing_that_it_is_taught() -> None:
    changed = IDS.clone()
    changed[EDGES[1] : EDGES[2]] = IDS[EDGES[1] : EDGES[2]].flip(0)
    asked = [windows([start]) for start in (40, 10)]  # in the fold, and outside
    before, after = ([target(by, *each) for each in asked] for by in map(teacher, (IDS, changed)))
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


@pytest.mark.parametrize("folds", [2, 100])
def test_any_number_of_folds(folds: int) -> None:
    by = teacher(folds=folds)
    assert len(by.edges) == folds + 1 and (by.edges[0], by.edges[-1]) == (0, len(IDS))
    found = target(by, *windows(INSIDE))
    taught = [(found[row].amax(dim=-1) < 1 - 1e-3).any().item() for row in range(len(INSIDE))]
    inside = torch.tensor(INSIDE)
    same = torch.bucketize(inside, by.edges, right=True)
    same = same == torch.bucketize(inside + T, by.edges, right=True)
    assert taught == same.tolist()


def test_half_precision() -> None:
    asked = windows(INSIDE)
    logits = scores(len(INSIDE), T, V).bfloat16()
    idx, targets, starts = asked
    by = teacher()
    pull = by.pull(logits, targets, idx=idx, starts=starts)
    assert pull.dtype == torch.float32
    assert pull == by.pull(logits.float(), targets, idx=idx, starts=starts)


@pytest.mark.parametrize(("length", "batch_size"), [(101, 4), (101, 7), (30, 64), (9, 3)])
def test_the_starts_of_a_batch(length: int, batch_size: int) -> None:
    ids = torch.arange(length, dtype=torch.int32)  # each says where it stands
    batches = Batches(ids, batch_size, T, seed=3)
    for step in [0, 1, 2, 50, 7, 0]:  # in any order
        idx, targets = batches(step, CPU)
        starts = batches.starts_of(step)
        assert starts.shape == (batch_size,)
        assert torch.equal(idx, starts[:, None] + torch.arange(T))
        assert torch.equal(targets, idx + 1)
        assert torch.equal(starts, Batches(ids, batch_size, T, seed=3).starts_of(step))


def weights(folder: str | Path) -> dict:
    return exact(torch.load(Path(folder) / "last.pt")["weights"])


def test_no_share_and_some(tiny: Callable) -> None:
    assert tiny(*MEMORY).status == 0
    for name, changes in {
        "none": ["memory.teach=0", "memory.folds=3"],
        "some": ["memory.teach=0.3", "memory.folds=3"],
        "more": ["memory.teach=0.6", "memory.folds=3"],
        "folds": ["memory.teach=0.3", "memory.folds=4"],
    }.items():
        assert tiny(*MEMORY, *changes, f"train.out_dir={name}").status == 0
    assert weights("none") == weights(RUN)
    made = [weights(folder) for folder in (RUN, "some", "more", "folds")]
    assert all(made.count(each) == 1 for each in made)


def test_the_training_loss_is_that_of_the_text(tiny: Callable) -> None:
    losses = []
    for share in (0, 0.9):
        folder = f"train.out_dir=taught{share}"
        tiny(*TAUGHT, f"memory.teach={share}", "train.max_steps=1", folder)
        losses.append(records(Path(f"taught{share}"))[-1]["train_loss"])
    assert losses[0] == losses[1]


def test_a_batch_in_parts(tiny: Callable) -> None:
    settings = ("model.dropout=0", "optim.learning_rate=0.003")
    for parts in (1, 4):
        tiny(*TAUGHT, *settings, f"train.grad_accum={parts}", f"train.out_dir=parts{parts}")
    whole, parted = (torch.load(f"parts{parts}/last.pt")["weights"] for parts in (1, 4))
    for name, weight in whole.items():
        torch.testing.assert_close(parted[name], weight, rtol=0, atol=1e-4)


def test_the_teacher_is_told_where_its_windows_are(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, pull = [], Teacher.pull
    text = TEXT[60:300]  # after what is set apart
    ids = torch.tensor([sorted(set(TEXT)).index(char) for char in text])

    def note(
        self: Teacher, logits: Tensor, targets: Tensor, *, idx: Tensor, starts: Tensor
    ) -> Tensor:
        asked = windows(starts.tolist(), ids, size=8)
        seen.append(torch.equal(idx, asked[0]) and torch.equal(targets, asked[1]))
        return pull(self, logits, targets, idx=idx, starts=starts)

    monkeypatch.setattr(Teacher, "pull", note)
    assert tiny(*TAUGHT).status == 0
    assert seen == [True] * 20  # two parts of a batch, ten steps
