"""What an evaluation costs does not grow with the text, and says of how much of it a loss is."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import train
from system import checkpoint
from system.checkpoint import BEST, LAST
from system.settings import LARGEST_INT
from tests.helpers import reference
from tests.helpers.runs import RUN, TEXT, after, exact, forge, records, sha256, state
from training import evaluation, memory
from training.evaluation import read_at_the_end
from training.loop import describe
from training.parallel import World
from training.trainer import Trainer

MEMORY = ("memory.order=3", "memory.calibration_fraction=0.2")
BOUND = "train.eval_characters=26"  # three windows of 8, of the 99 characters of the split
WIDE = ("train.batch_size=2", "train.grad_accum=1")  # of 10 steps, 48 characters at the end


def lost(save: dict, starts: list[int]) -> float:
    """The loss in windows of 8 that begin at `starts` of the split, computed by the NumPy model."""
    chars = sorted(set(TEXT))
    ids = torch.tensor([chars.index(char) for char in TEXT[300:]]).numpy()
    weights = {name: tensor.numpy() for name, tensor in save["weights"].items()}
    fields = {name: save["model"][name] for name in ("n_layer", "n_head", "position", "activation")}
    losses = []
    for start in starts:
        window = ids[None, start : start + 9]
        logits = reference.gpt(weights, window[:, :-1], **fields)
        losses.append(reference.cross_entropy(logits, window[:, 1:]))
    return sum(losses) / len(losses)


def test_a_loss_is_of_windows_from_all_over_the_split(tiny: Callable) -> None:
    """Of 12 windows, those in the middle of each third: 2, 6 and 10."""
    assert tiny(BOUND, *WIDE).status == 0
    last, measured = torch.load(RUN / LAST), records(RUN)
    assert [record["val_characters"] for record in measured] == [24, 24, 24]
    assert measured[-1]["val_loss"] == pytest.approx(lost(last, [16, 48, 80]), abs=1e-5)
    best = torch.load(RUN / BEST)["progress"]
    assert best["best_loss"] == min(record["val_loss"] for record in measured)
    assert [("final_val_loss" in record) for record in measured] == [False, False, True]
    final = measured[-1]
    assert final["final_val_characters"] == 48  # 0.3 of the 160 that were trained on
    assert final["final_val_loss"] == pytest.approx(lost(last, [8, 24, 40, 56, 72, 88]), abs=1e-5)


def test_all_of_the_split_where_the_run_is_long(tiny: Callable) -> None:
    for name, bound in (("bounded", BOUND), ("whole", "train.eval_characters=99")):
        ended = tiny(bound, *MEMORY, "train.max_steps=12", f"train.out_dir={name}")
        assert ended.status == 0
    bounded, whole = records(Path("bounded")), records(Path("whole"))
    assert [record["val_characters"] for record in whole] == [99] * 4
    assert not any("final_val_loss" in record for record in whole)
    for name in ("val_loss", "val_loss_trained", "val_characters"):
        assert bounded[-1][f"final_{name}"] == whole[-1][name]
    for part in ("weights", "optimizer", "shares"):
        assert exact(torch.load("bounded/last.pt")[part]) == exact(
            torch.load("whole/last.pt")[part]
        )


RECORD = {"step": 8, "seconds": 9.7, "train_loss": 1.5, "val_loss": 2.0, "chars_per_second": 1234}
ENDED = {"final_val_loss": 2.25, "final_val_loss_trained": 2.5}


def test_what_is_said() -> None:
    """Of how many characters a loss is, where it is not of all."""
    begin, end = (
        "step  8/10  train_loss 1.5000  val_loss 2.0000 (2.885 bpc)",
        "  1,234 characters/s  10 s",
    )
    both = {"val_loss_trained": 3.0}
    for more, words in (({}, ""), (both, "  val_loss_trained 3.0000")):
        whole = RECORD | more | {"val_characters": 200_100}
        assert describe(whole, 10, 200_100) == f"{begin}{words}{end}"
        said = describe(whole, 10, 2_000_000)
        assert said == f"{begin}{words}  of 200,100 characters{end}"
        for count, read in ((2_000_000, "all"), (1_000_000, "more")):
            last = whole | ENDED | {"final_val_characters": count}
            assert describe(last, 10, 2_000_000) == (
                f"{said}\n{read} of the validation text  val_loss 2.2500 (3.246 bpc)  "
                f"val_loss_trained 2.5000  of {count:,} characters"
            )


@pytest.mark.parametrize(
    ("bound", "steps", "wider"),
    [  # a step trains on 32 characters; 0.3 of these
        (99, 1000, 0),
        (98, 1000, 99),
        (50, 5, 0),
        (50, 6, 57),
        (50, 10, 96),
        (50, 11, 99),
        (5, 5, 48),
        (5, 6, 50),  # ten times as many
        (5, 10, 50),
        (5, 11, 99),
    ],
)
def test_how_much_is_read_at_the_end(make: Callable, bound: int, steps: int, wider: int) -> None:
    trainer = make(f"train.eval_characters={bound}")
    assert read_at_the_end(trainer, steps) == wider


def test_a_run_that_ends_early_ends_with_it(tiny: Callable) -> None:
    early = ("train.patience=2", "train.eval_every=4", "optim.learning_rate=0")
    assert "ended early" in tiny(BOUND, *early, "train.max_steps=40").out
    assert [record["step"] for record in records(RUN) if "final_val_loss" in record] == [12]


def test_generations_end_with_it_once(tiny: Callable) -> None:
    assert tiny(BOUND, "train.generations=2").status == 0
    assert ["final_val_loss" in each for each in records(RUN)] == [False, False, False, True]


def test_a_resumed_run(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiny(BOUND, *MEMORY, "train.out_dir=whole").status == 0
    with monkeypatch.context() as patch:
        stop = after(7, lambda _: signal.raise_signal(signal.SIGTERM))
        patch.setattr(Trainer, "update", stop)
        assert tiny(BOUND, *MEMORY).status == 143
    assert tiny("--resume").status == 0
    assert sha256(RUN) == sha256(Path("whole"))


def test_the_bound_of_a_run_stays(tiny: Callable, refusal: Callable) -> None:
    tiny(BOUND)
    change = (train.main, "--resume", "--device=cpu", "train.eval_characters=30")
    assert "keeps train.eval_characters=26" in refusal(*change)


def test_a_run_from_before_reads_all(tiny: Callable) -> None:
    """Its best loss is of the whole split."""
    tiny("train.eval_characters=99")
    before = state(RUN)
    saved = torch.load(RUN / LAST)
    del saved["settings"]["train"]["eval_characters"]
    forge(RUN / LAST, saved)
    assert tiny("--resume", "train.max_steps=12").status == 0
    assert checkpoint.load(RUN / LAST).settings["train"]["eval_characters"] == LARGEST_INT
    assert [record["val_characters"] for record in records(RUN)] == [99] * 4
    assert state(RUN)["metrics"][:3] == before["metrics"]


def test_processes_share_it(make: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five pieces of two windows, and one of one."""
    monkeypatch.setattr("data.windows.AT_ONCE", 16)
    sums = []

    class Noted(World):
        def sum(self, *values: float, device: torch.device) -> list[float]:
            sums.append(values)
            return [*values]

    trainer = make("train.eval_characters=90")
    alone = evaluation.losses(trainer)
    for rank in range(3):
        trainer.world = Noted(rank, 3)
        evaluation.losses(trainer)
    mixed, trained, count = (sum(each) for each in zip(*sums, strict=True))
    assert [each[-1] for each in sums] == [32, 32, 24] and alone[-1] == count == 88
    assert (mixed / count, trained / count) == pytest.approx(alone[:2], abs=1e-6)


def test_the_shares_are_estimated_on_some_windows(
    make: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a text that is these windows: those in the middle of each third of seven are 1 3 5."""
    trainer = make(*MEMORY)
    ids, seen = trainer.corpus.calibration, []
    assert len(ids) == 60
    monkeypatch.setattr(memory, "ENOUGH", 25)
    judged = memory.judged
    monkeypatch.setattr(memory, "judged", lambda *a: seen.append(a[2]) or judged(*a))
    trainer.memory.calibrate(trainer.model, ids)
    assert exact(torch.cat(seen)) == exact(
        torch.stack([ids[8 * i : 8 * i + 8] for i in (1, 3, 5)]).long()
    )
    monkeypatch.setattr(memory, "ENOUGH", 59)
    seen.clear()
    trainer.memory.calibrate(trainer.model, ids)
    assert sum(idx.numel() for idx in seen) == 59
