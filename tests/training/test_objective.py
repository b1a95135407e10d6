"""What is minimised: in pieces as at once, and both against plain dictionaries in float64."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.kneser_ney import KneserNey
from model import GPT, GPTConfig
from system.settings import MemoryConfig
from tests.helpers import reference
from training import objective
from training.counting import Counting
from training.objective import is_wide, minimised
from training.predecessor import Predecessors, pack
from training.teacher import Teacher
from training.trainer import Trainer

CPU = torch.device("cpu")
V, T, SHARE, ORDER = 23, 6, 0.3, 3
EDGES = [0, 70, 140]  # of two folds
STARTS = torch.tensor([3, 75, 66, 127, 20])  # the third lies in both
B = len(STARTS)
WEIGHTS = 1 / np.arange(1, V + 1)
IDS = np.random.default_rng(1).choice(V, 140, p=WEIGHTS / WEIGHTS.sum())
WINDOWS = torch.from_numpy(IDS)[STARTS[:, None] + torch.arange(T + 1)]
ASKED = {"idx": WINDOWS[:, :-1], "starts": STARTS}
pieces = pytest.mark.parametrize("size", [1, 4 * V, 7 * V, 1 << 19])  # of one place, 4, 7, and all


@pytest.fixture
def teacher() -> Teacher:
    config = MemoryConfig(order=ORDER, teach=SHARE, folds=2)
    ids = torch.from_numpy(IDS).to(torch.uint8)
    return Teacher(Counting(ids[:0], ids, V, config), V, config, CPU)


def scores(spread: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return (spread * torch.randn(B, T, V, generator=generator)).requires_grad_()


def target(share: float) -> np.ndarray:
    """What the scores are drawn to, (B, T, V), by its definition."""
    rows = []
    for row, start in zip(WINDOWS, STARTS.tolist(), strict=True):
        hard = np.eye(V)[row[1:]]
        fold = int(start >= EDGES[1])
        if start + T < EDGES[fold + 1]:
            left = [IDS[: EDGES[fold]].tolist(), IDS[EDGES[fold + 1] :].tolist()]
            soft = KneserNey(left, V, ORDER).probs([row[:-1].tolist()])[0][0]
            hard = (1 - share) * hard + share * soft
        rows.append(hard)
    return np.stack(rows)


def gradient(by: Teacher | Predecessors | None, logits: Tensor, *, wide: bool = True) -> tuple:
    """The loss, and the gradient of what is minimised, as it is without the mean over places."""
    aim, loss = minimised(logits, WINDOWS[:, 1:], by, **ASKED, wide=wide)
    (aim / 4).backward()  # as for a batch in four parts
    return loss.item(), 4 * B * T * logits.grad.float()


@pieces
@pytest.mark.parametrize("taught", [True, False])
def test_by_the_definition(
    size: int, taught: bool, teacher: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objective, "AT_ONCE", size)
    p = reference.softmax(scores().detach().double().numpy())
    wanted = torch.from_numpy(p - target(SHARE if taught else 0.0)).float()
    said = -np.log(np.take_along_axis(p, WINDOWS[:, 1:, None].numpy(), axis=-1)).mean()
    for wide in (True, False):
        loss, found = gradient(teacher if taught else None, scores(), wide=wide)
        assert loss == pytest.approx(said, abs=1e-5)
        torch.testing.assert_close(found, wanted, rtol=0, atol=2e-6)


def test_what_gpts_teach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "AT_ONCE", 4 * V)
    model = GPT(GPTConfig(V, block_size=T, n_layer=1, n_head=1, n_embd=4))
    torch.nn.init.normal_(model.lm_head.weight)
    by = Predecessors([pack(model)], SHARE, CPU, torch.float32)
    (one, mine), (other, theirs) = (gradient(by, scores(), wide=wide) for wide in (True, False))
    assert one == pytest.approx(other, abs=1e-5)
    torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


def test_scores_that_no_probability_is_left_of(teacher: Teacher) -> None:
    logits = scores(spread=300)
    p = logits.detach().double().softmax(dim=-1)
    assert p.float().gather(-1, WINDOWS[:, 1:, None]).min() == 0
    loss, found = gradient(teacher, logits)
    wanted = -logits.detach().double().log_softmax(-1).gather(-1, WINDOWS[:, 1:, None]).mean()
    assert loss == pytest.approx(wanted.item(), rel=1e-6)
    wanted = p - torch.from_numpy(target(SHARE))
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-4)


def test_half_precision(teacher: Teacher) -> None:
    half = scores().detach().bfloat16()
    loss, found = gradient(teacher, half.clone().requires_grad_())
    exact, wanted = gradient(teacher, half.float().requires_grad_())
    assert loss == exact
    torch.testing.assert_close(found, wanted, rtol=2**-8, atol=0)


def test_who_goes_in_pieces(make: Callable[..., Trainer], monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_wide(1024, CPU)
    assert not is_wide(1023, CPU) and not is_wide(20_000, torch.device("meta"))
    taught = ("memory.order=3", "memory.calibration_fraction=0.2", "memory.teach=0.3")
    narrow = make(*taught, "memory.folds=3")
    monkeypatch.setattr(objective, "WIDE", 2)
    wide = make(*taught, "memory.folds=3")
    assert (narrow.wide, wide.wide) == (False, True)
    for _ in range(5):
        narrow.update(), wide.update()
    assert wide.loss_sum.item() == pytest.approx(narrow.loss_sum.item(), abs=1e-4)
    for one, other in zip(wide.model.parameters(), narrow.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4)
