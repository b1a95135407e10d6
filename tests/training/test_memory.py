"""Counts beside a run: training does not know of them, and what they add is what is measured."""

import dataclasses
import functools
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import export
import mixture
import sample
import train
from data.counts import count, pack
from data.ngrams import Ngrams
from data.tokenizer import CharTokenizer
from generate import generate
from mixture import PRIOR, ROUNDS, Mixture
from system import checkpoint
from system.checkpoint import BEST, LAST, Checkpoint
from system.errors import UserError
from tests.helpers import reference
from tests.helpers.runs import (
    RUN,
    TEXT,
    after,
    contents,
    exact,
    flip_bytes,
    forge,
    records,
    sha256,
    state,
)
from training.memory import Memory
from training.trainer import Trainer

ORDER = 4
MEMORY = (f"memory.order={ORDER}", "memory.calibration_fraction=0.2")
TAUGHT = (*MEMORY, "memory.teach=0.3", "memory.folds=3")
CHARS = "".join(sorted(set(TEXT)))
APART, TRAIN = 60, 300  # where the stretch for calibration ends, and the training split
KEYS = "step seconds train_loss val_loss val_loss_trained val_characters learning_rate grad_norm"
KEYS += " chars_per_second"
FUZZ = int(os.environ.get("FUZZ", "100"))  # bytes to flip


def content(folder: str | Path = RUN, name: str = LAST) -> dict[str, Any]:
    """What a run saved."""
    return torch.load(Path(folder) / name)


def ids_of(text: str) -> np.ndarray:
    return np.array([CHARS.index(char) for char in text])


def counted(text: str) -> Ngrams:
    return Ngrams(count([ids_of(text)], len(CHARS), ORDER), vocab_size=len(CHARS))


def opinions(save: dict[str, Any], counts: Ngrams, text: str) -> list[np.ndarray]:
    """Of each character of `text` but the first, in windows of 8: its probability by the weights,
    by the counts, and how long a context those knew; (N,) each."""
    ids, found = ids_of(text), []
    weights = {name: tensor.numpy() for name, tensor in save["weights"].items()}
    fields = {name: save["model"][name] for name in ("n_layer", "n_head", "position", "activation")}
    for start in range(0, len(ids) - 1, 8):
        window = ids[None, start : start + 9]
        targets = window[:, 1:, None]
        net = reference.softmax(reference.gpt(weights, window[:, :-1], **fields))
        probs, known = counts.probs(torch.from_numpy(window[:, :-1]))
        by_counts = np.take_along_axis(probs.double().numpy(), targets, axis=-1)
        by_net = np.take_along_axis(net, targets, axis=-1)
        found.append((by_net.ravel(), by_counts.ravel(), known.numpy().ravel()))
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def fit(save: dict[str, Any], text: str = TEXT) -> np.ndarray:
    """The shares (order,) that `text` asks for, by expectation maximisation written as it is."""
    counts = counted(text[APART:TRAIN])
    net, by_counts, known = opinions(save, counts, text[:APART])
    shares = np.full(ORDER, 0.5)
    for _ in range(ROUNDS):
        share = shares[known]
        guilty = share * by_counts / ((1 - share) * net + share * by_counts)
        shares = np.array(
            [
                (guilty[known == k].sum() + PRIOR * guilty.mean()) / ((known == k).sum() + PRIOR)
                for k in range(ORDER)
            ]
        )
    return shares


def stop(trainer: Trainer) -> None:
    signal.raise_signal(signal.SIGTERM)


def test_training_is_the_same_without(tiny: Callable) -> None:
    for share in ("auto", 0, 1, 0.3):
        assert tiny(*MEMORY, f"memory.share={share}", f"train.out_dir={share}").status == 0
    Path("text.txt").write_text(TEXT[APART:])
    assert tiny("data.val_fraction=0.2942", "train.out_dir=without").status == 0
    plain = content("without")
    losses = [record["val_loss"] for record in records(Path("without"))]
    for folder in ("auto", "0", "1", "0.3"):
        for part in ("weights", "optimizer"):
            assert exact(content(folder)[part]) == exact(plain[part])
        trained = [record["val_loss_trained"] for record in records(Path(folder))]
        assert trained[1:] == losses
        train_losses = [record["train_loss"] for record in records(Path(folder))]
        assert train_losses == [None, *(r["train_loss"] for r in records(Path("without")))]


def test_a_share_that_is_given(tiny: Callable) -> None:
    for share in (0, 0.3, 1):
        tiny(*MEMORY, f"memory.share={share}", f"train.out_dir={share}")
        assert content(str(share))["shares"] == pytest.approx([share] * ORDER)
    for record in records(Path("0")):
        assert record["val_loss"] == pytest.approx(record["val_loss_trained"], abs=1e-6)
    alone = [record["val_loss"] for record in records(Path("1"))]
    assert alone == pytest.approx([alone[0]] * 4, abs=1e-6)
    trained = [record["val_loss_trained"] for record in records(Path("1"))]
    assert len(set(trained)) == 4
    for share in ("0", "1"):  # best is what was measured, not what was trained
        best = content(share, BEST)["progress"]["best_loss"]
        assert best == min(record["val_loss"] for record in records(Path(share)))
    assert content("1", BEST)["progress"]["step"] == 0


@pytest.mark.parametrize("settings", [MEMORY, (*MEMORY, "memory.share=0.3"), TAUGHT])
def test_the_record(settings: tuple[str, ...], tiny: Callable) -> None:
    ended = tiny(*settings)
    measured = records(RUN)
    assert [record["step"] for record in measured] == [0, 4, 8, 10]
    assert all(list(record) == KEYS.split() for record in measured)
    first, *others = measured
    assert first["train_loss"] is None and None not in [r["train_loss"] for r in others]
    assert '"train_loss": null' in (RUN / "metrics.jsonl").read_text().splitlines()[0]
    lines = [line for line in ended.out.splitlines() if line.startswith("step")]
    assert len(lines) == 4 and "train_loss -  " in lines[0]
    for line, record in zip(lines, measured, strict=True):
        assert f"  val_loss {record['val_loss']:.4f} (" in line
        assert f"  val_loss_trained {record['val_loss_trained']:.4f}  " in line


def test_no_record_without(tiny: Callable) -> None:
    ended = tiny()
    assert [record["step"] for record in records(RUN)] == [4, 8, 10]
    assert all(set(KEYS.split()) - set(record) == {"val_loss_trained"} for record in records(RUN))
    assert "val_loss_trained" not in ended.out
    assert (content()["counts"], content()["shares"]) == ([], [])


@pytest.mark.parametrize("settings", [MEMORY, (*MEMORY, "memory.share=0.3"), TAUGHT])
def test_val_loss(
    settings: tuple[str, ...], tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.windows.AT_ONCE", 40)  # several batches, the last one smaller
    tiny(*settings)
    last = content()
    net, by_counts, known = opinions(last, counted(TEXT[:TRAIN]), TEXT[TRAIN:])
    share = np.array(last["shares"])[known]
    assert len(net) == 99 and set(known) == {1, 2, 3}
    record = records(RUN)[-1]
    mixed = (1 - share) * net + share * by_counts
    assert record["val_loss"] == pytest.approx(-np.log(mixed).mean(), abs=1e-5)
    assert record["val_loss_trained"] == pytest.approx(-np.log(net).mean(), abs=1e-5)
    assert last["progress"]["best_loss"] == min(r["val_loss"] for r in records(RUN))


def test_the_shares(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    found, calibrate = {}, Memory.calibrate

    def note(self: Memory, model: torch.nn.Module, ids: Tensor) -> None:
        calibrate(self, model, ids)
        found[len(found)] = self.shares.tolist()

    monkeypatch.setattr(Memory, "calibrate", note)
    tiny(*MEMORY)
    assert len(found) == 4 and len({tuple(shares) for shares in found.values()}) == 4
    best, last = content(name=BEST), content()
    steps = [record["step"] for record in records(RUN)]
    for save in (best, last):
        assert save["shares"] == found[steps.index(save["progress"]["step"])]
        np.testing.assert_allclose(save["shares"], fit(save), rtol=0, atol=1e-4)
    found.clear()
    monkeypatch.setattr(Trainer, "update", after(6, stop))
    assert tiny(*MEMORY, "train.out_dir=stopped").status == 143
    assert content("stopped")["progress"]["step"] == 6
    assert content("stopped")["shares"] == found[1]  # of step 4


def test_what_the_counts_are_of(tiny: Callable) -> None:
    for settings in (MEMORY, TAUGHT, (*MEMORY, "memory.share=1")):
        tiny(*settings, "--overwrite")
        whole = pack(count([ids_of(TEXT[:TRAIN])], len(CHARS), ORDER), len(CHARS))
        assert exact(content()["counts"]) == exact(whole) == exact(content(name=BEST)["counts"])


def test_what_validation_decides(tiny: Callable) -> None:
    tiny(*TAUGHT)
    Path("text.txt").write_text(TEXT[:TRAIN] + TEXT[TRAIN:][::-1])
    tiny(*TAUGHT, "train.out_dir=other")
    assert content()["fingerprint"] != content("other")["fingerprint"]
    for part in ("weights", "optimizer", "shares", "counts"):
        assert exact(content()[part]) == exact(content("other")[part])
    losses = ([record["val_loss"] for record in records(Path(run))] for run in (RUN, "other"))
    assert not set(next(losses)) & set(next(losses))


def test_what_calibration_decides(tiny: Callable) -> None:
    tiny(*TAUGHT)
    other = TEXT[:APART][::-1] + TEXT[APART:]
    Path("text.txt").write_text(other)
    tiny(*TAUGHT, "train.out_dir=other")
    for part in ("weights", "optimizer"):
        assert exact(content()[part]) == exact(content("other")[part])
    assert not set(content()["shares"]) & set(content("other")["shares"])
    np.testing.assert_allclose(
        content("other")["shares"], fit(content("other"), other), rtol=0, atol=1e-4
    )
    whole = pack(count([ids_of(other[:TRAIN])], len(CHARS), ORDER), len(CHARS))
    assert exact(content("other")["counts"]) == exact(whole) != exact(content()["counts"])
    trained = ([r["val_loss_trained"] for r in records(Path(run))] for run in (RUN, "other"))
    assert next(trained) == next(trained)


def test_a_mapped_text(tiny: Callable) -> None:
    tiny(*TAUGHT)
    tiny(*TAUGHT, "data.map_above_mb=0", "train.out_dir=mapped")
    for part in ("weights", "shares", "counts"):
        assert exact(content("mapped")[part]) == exact(content()[part])


STOPS = {
    "at the first evaluation": {"at": "training.evaluation.losses"},
    "between evaluations": {"at": "training.trainer.Trainer.update", "nth": 6, "after": True},
    "at an evaluation": {"at": "training.evaluation.losses", "nth": 3},
}


@pytest.mark.parametrize("settings", [MEMORY, TAUGHT, (*TAUGHT, "memory.share=0.3")])
def test_a_resumed_run(settings: tuple[str, ...], tiny: Callable, tiny_process: Callable) -> None:
    assert tiny(*settings, "train.out_dir=whole").status == 0
    whole = sha256(Path("whole"))
    for place, fault in enumerate(STOPS.values()):
        folder = f"train.out_dir={place}"
        stopped = tiny_process(*settings, folder, **fault, signals=[signal.SIGTERM])
        assert stopped.status == 143
        assert tiny("--resume", folder).status == 0
        assert sha256(Path(str(place))) == whole


def test_a_run_killed_at_its_first_evaluation(tiny: Callable, tiny_process: Callable) -> None:
    assert tiny(*TAUGHT, "train.out_dir=whole").status == 0
    fault = {"at": "training.evaluation.losses", "signals": [signal.SIGKILL]}
    assert tiny_process(*TAUGHT, **fault).status == -signal.SIGKILL
    assert tiny("--resume").status == 0
    assert sha256(RUN) == sha256(Path("whole"))


def test_a_finished_run(tiny: Callable) -> None:
    tiny(*TAUGHT)
    before = state(RUN)
    assert tiny("--resume").status == 0
    assert state(RUN) == before


@pytest.mark.parametrize("settings", [TAUGHT, (*TAUGHT, "memory.share=1")])  # 1: best at step 0
def test_a_run_goes_on_from_its_best(settings: tuple[str, ...], tiny: Callable) -> None:
    tiny(*settings)
    before = state(RUN)
    assert tiny("--resume", "--from-best").status == 0
    assert state(RUN) == before


def test_a_changed_text_is_counted_anew(tiny: Callable, refusal: Callable) -> None:
    tiny(*TAUGHT)
    Path("text.txt").write_text(TEXT[::-1])
    assert "--allow-data-change" in refusal(train.main, "--resume", "--device=cpu")
    assert tiny("--resume", "--allow-data-change", "train.max_steps=12").status == 0
    whole = pack(count([ids_of(TEXT[::-1][:TRAIN])], len(CHARS), ORDER), len(CHARS))
    assert exact(content()["counts"]) == exact(whole)
    np.testing.assert_allclose(content()["shares"], fit(content(), TEXT[::-1]), rtol=0, atol=1e-4)


CHANGES = [
    "memory.order=3",
    "memory.order=0",
    "memory.share=0.5",
    "memory.calibration_fraction=0.3",
    "memory.teach=0.1",
    "memory.folds=4",
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_a_run_keeps(change: str, tiny: Callable, refusal: Callable) -> None:
    tiny(*MEMORY)
    before = contents(RUN)
    assert f"keeps {change.partition('=')[0]}=" in refusal(train.main, "--resume", change)
    assert contents(RUN) == before


def test_counts_come_to_no_run_that_has_none(tiny: Callable, refusal: Callable) -> None:
    tiny()
    assert "keeps memory.order=0" in refusal(train.main, "--resume", *MEMORY)


def test_weights_alone_are_taken_over(tiny: Callable) -> None:
    tiny(*MEMORY)
    settings = (f"train.init_from={RUN}/{LAST}", "train.max_steps=1", "train.out_dir=new")
    assert tiny(*settings).status == 0
    assert (content("new")["counts"], content("new")["shares"]) == ([], [])
    assert tiny(*settings, "--overwrite", "memory.order=2", MEMORY[1]).status == 0
    assert len(content("new")["counts"]) == len(content("new")["shares"]) == 2
    first = records(Path("new"))[0]
    assert first["val_loss_trained"] == records(RUN)[-1]["val_loss_trained"]


ASK = ("--device=cpu", "--prompt=abc", "--max-new-tokens=60")


def test_sampling(tiny: Callable, call: Callable) -> None:
    tiny(*MEMORY, "memory.share=0.5")
    last = checkpoint.load(RUN / LAST)
    mixed = call(sample.main, f"--ckpt={RUN / LAST}", *ASK)
    assert mixed.err.startswith(f"{RUN / LAST}, step 10, counted and trained; seed ")
    checkpoint.save(Path("alone.pt"), dataclasses.replace(last, counts=[], shares=[]))
    alone = call(sample.main, "--ckpt=alone.pt", *ASK)
    chosen = call(sample.main, f"--ckpt={RUN / LAST}", "--trained-alone", *ASK)
    assert (chosen.status, chosen.out) == (0, alone.out)
    assert chosen.err.startswith(f"{RUN / LAST}, step 10; seed ")
    assert (mixed.status, len(mixed.out)) == (0, 64) and mixed.out != alone.out
    assert call(sample.main, "--ckpt=alone.pt", "--trained-alone", *ASK).out == alone.out


@pytest.mark.parametrize("share", [0, 1])
def test_sampling_with_one_of_the_two(share: int, tiny: Callable, call: Callable) -> None:
    tiny(*MEMORY, f"memory.share={share}")
    greedy = call(sample.main, f"--ckpt={RUN}", *ASK, "--temperature=0").out
    saved = checkpoint.load(RUN / BEST)
    if share:
        text, counts = "abc", counted(TEXT[:TRAIN])
        while len(text) < 63:
            probs, _ = counts.probs(torch.from_numpy(ids_of(text[-8:]))[None])
            text += CHARS[int(probs[0, -1].argmax())]
    else:
        idx = torch.from_numpy(ids_of("abc"))[None]
        steps = generate(saved.build(), idx, 60, torch.Generator(), temperature=0)
        text = "abc" + CharTokenizer(CHARS).decode(torch.stack(list(steps), dim=1)[0])
    assert greedy == f"{text}\n"


def test_what_writes_is_what_was_measured(tiny: Callable) -> None:
    tiny(*MEMORY)
    model = mixture.load(checkpoint.load(RUN / LAST))
    assert isinstance(model, Mixture) and not model.training
    ids, total = torch.from_numpy(ids_of(TEXT[TRAIN:])), 0.0
    for start in range(0, 99, 8):
        window = ids[None, start : start + 9]
        with torch.no_grad():
            scores = model(window[:, :-1])
        total -= scores.gather(-1, window[:, 1:, None]).sum().item()
    assert total / 99 == pytest.approx(records(RUN)[-1]["val_loss"], abs=1e-5)


GPT2 = ("position=learned", "activation=gelu_tanh", "bias=true", "tie_weights=true")


def test_export(tiny: Callable, call: Callable) -> None:
    shape = [f"model.{setting}" for setting in GPT2]
    tiny(*MEMORY, *shape)
    step = content(name=BEST)["progress"]["step"]
    sentence = "the counts stay behind: what was exported is the trained model alone\n"
    written = f"{RUN / BEST}, step {step}; logits within 0e+00 of the checkpoint's; written to "
    assert call(export.main, f"--ckpt={RUN}", "--to=out") == (0, f"{written}out\n{sentence}", "")
    bare = dataclasses.replace(checkpoint.load(RUN / BEST), counts=[], shares=[])
    checkpoint.save(RUN / BEST, bare)
    assert call(export.main, f"--ckpt={RUN}", "--to=bare") == (0, f"{written}bare\n", "")
    cards = [Path(folder, "README.md").read_text("utf-8") for folder in ("out", "bare")]
    assert ["counts" in card for card in cards] == [True, False]
    for folder in ("out", "bare"):
        Path(folder, "README.md").unlink()
    out, bare_out = contents(Path("out")), contents(Path("bare"))
    assert len(out) == 5 and [*out.values()] == [bare_out[Path("bare", p.name)] for p in out]


@pytest.fixture
def kept(saved: Checkpoint) -> Checkpoint:
    """A small model with counts."""
    vocab_size = saved.model.vocab_size
    ids = np.random.default_rng(1).integers(vocab_size, size=60)
    saved.counts = pack(count([ids], vocab_size, 3), vocab_size)
    saved.shares = [0.25, 0.5, 0.125]
    return saved


def test_everything_comes_back(kept: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, kept)
    loaded = checkpoint.load(tmp_path / BEST)
    assert exact(vars(loaded) | {"model": 0}) == exact(vars(kept) | {"model": 0})
    assert isinstance(mixture.load(loaded), Mixture)


def test_flipped_bytes(kept: Checkpoint, tmp_path: Path) -> None:
    flip_bytes(kept, tmp_path / LAST, times=FUZZ, seed=2)


@pytest.mark.parametrize("name", ["last", "followers", "counts"])
def test_every_bit_of_a_count_matters(name: str, kept: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, kept)
    raw = bytearray((tmp_path / BEST).read_bytes())
    counts = kept.counts[2][name].numpy().tobytes()
    start = raw.index(counts)
    for place in range(start, start + len(counts)):
        raw[place] ^= 1 << place % 8
        (tmp_path / BEST).write_bytes(raw)
        with pytest.raises(UserError, match=" is damaged"):
            checkpoint.load(tmp_path / BEST)
        raw[place] ^= 1 << place % 8


@pytest.mark.parametrize("number", [2, 3])
def test_checkpoints_from_before_counts(number: int, tiny: Callable, call: Callable) -> None:
    tiny("train.max_steps=4")
    for name in (LAST, BEST):
        old = content(name=name)
        del old["counts"], old["shares"], old["settings"]["memory"]
        if number == 2:
            del old["model"]["shift"]
        forge(RUN / name, {**old, "format": number})
    loaded = checkpoint.load(RUN / LAST)
    assert (loaded.counts, loaded.shares) == ([], [])
    assert call(sample.main, f"--ckpt={RUN}", *ASK).err.startswith(f"{RUN / BEST}, step 4; ")
    assert tiny("--resume", "train.max_steps=6").status == 0
    assert [record["step"] for record in records(RUN)] == [4, 6]


FORGERIES: dict[str, Callable[[dict], object]] = {
    "an order too few": lambda c: c["counts"].pop(1),
    "no last characters": lambda c: c["counts"][1].pop("last"),
    "counts below zero": lambda c: c["counts"][1].update(counts=-c["counts"][1]["counts"].int()),
    "characters that are none": lambda c: c["counts"][1]["last"].fill_(200),
    "another order of grams": lambda c: c["counts"].__setitem__(
        2, {name: tensor.flip(0) for name, tensor in c["counts"][2].items()}
    ),
    "counts that are no tensors": lambda c: c["counts"].__setitem__(0, {"last": [1]}),
    "no counts of an order": lambda c: c["counts"].append(
        {name: tensor[:0] for name, tensor in c["counts"][0].items()}
    ),
    "a share too few": lambda c: c["shares"].pop(),
    "one share": lambda c: c.update(shares=[0.5]),
    "no shares": lambda c: c.update(shares=[]),
    "a share too many": lambda c: c["shares"].append(0.5),
    "shares that are texts": lambda c: c.update(shares=["a"] * ORDER),
    "shares that are not numbers": lambda c: c.update(shares=[float("nan")] * ORDER),
    "shares above one": lambda c: c.update(shares=[2.0] * ORDER),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES.keys())
def test_forged_counts_are_refused(
    change: Callable[[dict], object], tiny: Callable, refusal: Callable
) -> None:
    tiny(*MEMORY, "train.max_steps=1")
    forged = content(name=BEST)
    change(forged)
    forge(RUN / BEST, forged)
    refusal(sample.main, f"--ckpt={RUN / BEST}", *ASK)


SHARES = {name: change for name, change in FORGERIES.items() if "share" in name}


@pytest.mark.parametrize("change", SHARES.values(), ids=SHARES.keys())
def test_forged_shares_are_not_resumed(
    change: Callable[[dict], object], tiny: Callable, refusal: Callable
) -> None:
    tiny(*MEMORY, "train.max_steps=1")
    forged = content()
    change(forged)
    forge(RUN / LAST, forged)
    refusal(train.main, "--resume", "--device=cpu", "train.max_steps=2")


@pytest.fixture
def refused(home: Path, refusal: Callable) -> Callable:
    """The sentence with which a run of tiny.yaml is refused, before it has made anything."""

    def refused(*argv: str) -> str:
        message = refusal(train.main, "--device=cpu", "--config=tiny.yaml", *argv)
        assert not RUN.exists()
        return message

    return functools.wraps(refusal)(refused)


@pytest.mark.parametrize("fraction", ["0.001", "0.003", "0.004", "0.0066"])
def test_too_short_a_stretch_for_calibration(fraction: str, refused: Callable) -> None:
    message = refused("memory.order=3", f"memory.calibration_fraction={fraction}")
    assert f" and memory.calibration_fraction={fraction}, which take " in message
    assert "; add memory.calibration_fraction=0.05 to the command, or take " in message


def test_too_long_a_stretch_for_calibration(refused: Callable) -> None:
    settings = ("model.block_size=130", "data.val_fraction=0.4", "memory.order=3")
    message = refused(*settings, "memory.calibration_fraction=0.5")
    assert "memory.calibration_fraction=0.5, which take 436; add model.block_size=64 to" in message
    assert "memory.calibration_fraction must lie between 0.001 and 0.5" in refused(
        "memory.order=3", "memory.calibration_fraction=0.51"
    ).replace("memory: ", "memory.")


def test_a_given_share_sets_as_much_apart(refused: Callable) -> None:
    settings = ("memory.order=3", "memory.calibration_fraction=0.004")
    assert refused(*settings) == refused(*settings, "memory.share=0.5")


def test_the_shortest_stretch_for_calibration(tiny: Callable) -> None:
    """It holds one character that comes after another, and is shorter than a window."""
    assert tiny("memory.order=3", "memory.calibration_fraction=0.007").status == 0
    shares = checkpoint.load(RUN / LAST).shares
    assert len(shares) == 3 and all(0 < share < 1 for share in shares)


@pytest.mark.parametrize("order", [1, 2, 20])
def test_any_order(order: int, tiny: Callable, call: Callable) -> None:
    settings = (f"memory.order={order}", *TAUGHT[1:])
    assert tiny(*settings).status == 0
    assert len(content()["shares"]) == len(content()["counts"]) == order
    assert all(0 <= share <= 1 for share in content()["shares"])
    assert call(sample.main, f"--ckpt={RUN}", *ASK).status == 0


LOSSES = ("train_loss", "val_loss", "val_loss_trained")


def losses(folder: str) -> list[float]:
    """What the evaluations of a run measured; 0 for the training loss of no step."""
    return [record[name] or 0 for record in records(Path(folder)) for name in LOSSES]


def test_two_processes(tiny_process: Callable, tiny_processes: Callable) -> None:
    settings = (*TAUGHT, "model.dropout=0", "train.batch_size=8", "optim.learning_rate=0.003")
    alone = tiny_process(*settings, "train.out_dir=alone")
    first, other = tiny_processes(2, *settings, "train.out_dir=shared")
    assert losses("shared") == pytest.approx(losses("alone"), abs=1e-5)
    assert len(losses("shared")) == 12
    assert content("shared")["shares"] == pytest.approx(content("alone")["shares"], abs=1e-4)
    assert (first.status, first.err) == (0, "") and other == (0, "", "")
    assert len(first.out.splitlines()) == len(alone.out.splitlines())


def test_records_are_json_that_others_read(tiny: Callable) -> None:
    tiny(*MEMORY)
    for line in (RUN / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line and "Infinity" not in line
        assert json.loads(line)["val_loss"] > 0
