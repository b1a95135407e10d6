"""Whole runs through the command line: what they leave behind, what they measure and refuse."""

import dataclasses
import math
import re
import shlex
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import handmade
import model
import sample
import train
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import Fault
from tests.helpers import reference
from tests.helpers.runs import RUN, TEXT, after, contents, exact, records, state
from training.trainer import Trainer


@pytest.fixture
def refused(home: Path, refusal: Callable) -> Callable:
    """The sentence with which the arguments are refused."""
    return partial(refusal, train.main)


def test_the_run_folder(home: Path, call: Callable) -> None:
    status, out, err = call(train.main, "--device=cpu", "--config=aab", "train.max_steps=250")
    assert (status, err) == (0, "")
    assert not {"\r", "\x1b"} & set(out)
    folder = Path("checkpoints/aab")
    names = ["best.pt", "config.yaml", "last.pt", "loss.png", "metrics.jsonl"]
    assert sorted(path.name for path in folder.iterdir()) == names
    measured = records(folder)
    assert [record["step"] for record in measured] == [100, 200, 250]
    keys = (
        "step seconds train_loss val_loss val_characters learning_rate grad_norm chars_per_second"
    )
    for record in measured:
        assert list(record) == keys.split()
        speed = record["step"] * 32 * 5 / record["seconds"]
        assert record["chars_per_second"] == pytest.approx(speed, rel=0.1)  # seconds are rounded
        rate = 0.01 * (251 - record["step"]) / 230  # down to 0 after 20 steps of warm-up
        assert record["learning_rate"] == pytest.approx(rate)
    assert measured[0]["seconds"] < measured[-1]["seconds"]
    assert measured[-1]["val_loss"] < 0.11
    command = shlex.split(out.splitlines()[-1].partition("python sample.py ")[2])
    prompt = ("--prompt=aab", "--temperature=0", "--max-new-tokens=6", "--device=cpu")
    assert call(sample.main, *command, *prompt).out == "aabaabaab\n"


def test_the_settings_file_of_a_run_repeats_it(tiny: Callable, call: Callable) -> None:
    tiny("train.seed=5", "optim.beta2=0.9")
    again = ("--device=cpu", f"--config={RUN}/config.yaml", "train.out_dir=again")
    assert call(train.main, *again).status == 0
    assert state(Path("again")) == state(RUN)


def windows(ids: np.ndarray, size: int) -> list[np.ndarray]:
    """Rows of `size` + 1 ids that share their ends, and last a shorter one."""
    return [ids[None, start : start + size + 1] for start in range(0, len(ids) - 1, size)]


def reference_loss(save: dict) -> float:
    """val_loss of a checkpoint's content, computed by the NumPy model one window at a time."""
    chars = sorted(set(TEXT))
    ids = np.array([chars.index(char) for char in TEXT[300:]])
    weights = {name: tensor.numpy() for name, tensor in save["weights"].items()}
    fields = {name: save["model"][name] for name in ("n_layer", "n_head", "position", "activation")}
    total = 0.0
    for window in windows(ids, 8):
        logits = reference.gpt(weights, window[:, :-1], **fields)
        total += reference.cross_entropy(logits, window[:, 1:]) * (window.shape[1] - 1)
    return total / 99


def test_val_loss(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data.windows.AT_ONCE", 40)  # several batches, the last one smaller
    slowly = ("optim.learning_rate=3e-3", "train.max_steps=40", "train.eval_every=2")
    shape = ("model.n_layer=2", "model.n_embd=64")  # 64: wide enough for oneDNN
    tiny(*shape, "train.batch_size=16", "train.seed=1", *slowly)
    losses = [record["val_loss"] for record in records(RUN)]
    best, last = (torch.load(RUN / name) for name in ("best.pt", "last.pt"))
    assert math.isclose(losses[-1], reference_loss(last), abs_tol=1e-5)
    assert math.isclose(min(losses), reference_loss(best), abs_tol=1e-5)
    assert min(losses) < min(losses[0], losses[-1])
    assert best["progress"]["step"] == 2 + 2 * losses.index(min(losses))
    assert best["progress"]["best_loss"] == last["progress"]["best_loss"] == min(losses)


def test_what_must_not_change_the_weights(tiny: Callable) -> None:
    tiny()
    tiny("train.eval_every=3", "train.out_dir=often")
    last, often = (torch.load(folder / "last.pt") for folder in (RUN, Path("often")))
    for part in ("weights", "optimizer"):
        assert exact(last[part]) == exact(often[part])


def test_dropout_differs_from_step_to_step(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    masks, dropout = [], model.dropout

    def seen(x: torch.Tensor, p: float) -> torch.Tensor:
        y = dropout(x, p)
        if p > 0:  # in training
            masks.append(exact(y == 0))
        return y

    monkeypatch.setattr(model, "dropout", seen)
    tiny("train.grad_accum=1")
    calls = len(masks) // 10  # of each step
    firsts = masks[::calls]
    assert len(firsts) == 10 and len({repr(mask) for mask in firsts}) == 10


def test_the_seed_decides_the_first_weights_and_the_batches(tiny: Callable) -> None:
    tiny()
    for setting in ("optim.learning_rate=0", f"train.init_from={RUN}"):  # no updates; one start
        weights = []
        for seed in (1, 2):
            again = ("--overwrite", "train.out_dir=again", "model.dropout=0")
            assert tiny(*again, setting, f"train.seed={seed}").status == 0
            weights.append(exact(torch.load("again/last.pt")["weights"]))
        assert weights[0] != weights[1]


def test_grad_accum_changes_only_the_rounding(tiny: Callable) -> None:
    for parts in (1, 4):
        tiny("model.dropout=0", f"train.grad_accum={parts}", f"train.out_dir={parts}")
    whole, parted = records(Path("1")), records(Path("4"))
    for name in ("train_loss", "val_loss"):
        expected = pytest.approx([record[name] for record in whole], rel=1e-4)
        assert [record[name] for record in parted] == expected


def test_train_loss_is_the_mean_since_the_last_evaluation(tiny: Callable) -> None:
    tiny("train.eval_every=1", "train.out_dir=each")
    tiny()
    each = [record["train_loss"] for record in records(Path("each"))]
    means = [np.mean(each[0:4]), np.mean(each[4:8]), np.mean(each[8:10])]
    assert [record["train_loss"] for record in records(RUN)] == pytest.approx(means, abs=1e-6)


def test_precision(tiny: Callable) -> None:
    losses = {}
    for dtype in ("float32", "bfloat16"):
        assert tiny(f"train.dtype={dtype}", f"train.out_dir={dtype}").status == 0
        losses[dtype] = records(Path(dtype))[-1]["val_loss"]
        weights = torch.load(Path(dtype) / "last.pt")["weights"]
        assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], abs=0.05)


def test_a_terminal_obeys_no_sample(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("text.txt").write_text("\x1b\n" * 99)
    sample, shown = r"s\n(\n[\n\x1b]{9})\n+best", r"s\n(\n(?:\n|\\x1b){9})\n+best"
    alone = "train.sample_characters=0"
    written = re.search(sample, tiny(alone).out)[1]
    assert "\x1b" in written
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda stream: True)
    assert re.search(shown, tiny("--overwrite", alone).out)[1] == written.replace("\x1b", r"\x1b")


def test_patience(tiny: Callable) -> None:
    status, out, _ = tiny("train.max_steps=1000", "train.eval_every=1", "train.patience=3")
    losses = [record["val_loss"] for record in records(RUN)]
    assert status == 0 and "ended early" in out
    assert len(losses) < 1000
    stale = [i - int(np.argmin(losses[: i + 1])) for i in range(len(losses))]
    assert stale[-1] == 3 and max(stale[:-1]) < 3


def fails(*args: object, **options: object) -> None:
    """A compiler that is not there, or a compiled model that does not run."""
    raise RuntimeError("no compiler:\n  install one")


@pytest.mark.parametrize("compiler", [fails, lambda model: fails], ids=["compiling", "running"])
def test_a_failing_compiler(
    compiler: Callable, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny("train.out_dir=plain")
    monkeypatch.setattr(torch, "compile", compiler)
    status, out, err = tiny("train.compile=true")
    assert status == 0 and "step 10/10" in out
    assert err == "torch.compile failed (no compiler: install one); going on without it\n"
    assert records(RUN)[-1]["val_loss"] == records(Path("plain"))[-1]["val_loss"]


def test_a_working_compiler(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("train.out_dir=plain")
    calls = []

    def compiled(model: torch.nn.Module) -> Callable:
        return lambda idx: (calls.append(idx.shape), model(idx))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    status, _, err = tiny("train.compile=true")
    assert (status, err) == (0, "")
    assert set(calls) == {(2, 8)} and len(calls) >= 20  # every part of every batch, nothing else
    assert records(RUN)[-1]["val_loss"] == records(Path("plain"))[-1]["val_loss"]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("rate", ["1e+09", "1e+30"])
def test_a_loss_that_is_not_finite(rate: str, optimizer: str, tiny: Callable) -> None:
    tiny(f"optim.optimizer={optimizer}")
    before = state(RUN)
    settings = ("train.max_steps=100", "train.eval_every=1000", "optim.decay=none")
    status, _, err = tiny("--resume", f"optim.learning_rate={rate}", *settings)
    assert status == 1
    sentence = rf"train\.py: .*not finite at step 1\d, with learning_rate {re.escape(rate)}; .*\n"
    assert re.fullmatch(sentence, err)
    assert "--resume and a lower optim.learning_rate or optim.grad_clip" in err
    assert state(RUN)["best.pt"] == before["best.pt"]
    assert state(RUN)["metrics"] == before["metrics"]
    last = torch.load(RUN / "last.pt")
    assert last["progress"]["step"] == 10
    assert exact(last["weights"]) == before["last.pt"]["weights"]
    assert tiny("--resume", "optim.learning_rate=0.01", "train.max_steps=12").status == 0


@pytest.mark.parametrize("step", [6, 8])
def test_weights_that_are_not_finite(
    step: int, tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(trainer: Trainer) -> None:
        next(trainer.model.parameters()).data[0] = math.nan
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "update", after(step, spoil))
    status, _, err = tiny()
    assert (status, err.count("\n")) == (1, 1)
    assert f"not finite at step {step}" in err
    assert [record["step"] for record in records(RUN)] == [4]
    for name in ("best.pt", "last.pt"):
        save = torch.load(RUN / name)
        assert save["progress"]["step"] == 4
        assert all(tensor.isfinite().all() for tensor in save["weights"].values())


def test_init_from(tiny: Callable, call: Callable) -> None:
    tiny("train.max_steps=14", "train.eval_every=1", "model.tie_weights=true", "model.n_layer=2")
    source = torch.load(RUN / "best.pt")
    Path("other.txt").write_text("abc\n" * 50)
    frozen = ("optim.learning_rate=0", "train.max_steps=1", "train.seed=9")
    for name in ("", "best.pt"):
        status, *_ = call(
            *(train.main, "--config=aab", "--device=cpu", "--overwrite", *frozen),
            *("data.dataset=other.txt", f"train.init_from={RUN / name}", "model.n_layer=2"),
        )
        assert status == 0
        tuned = torch.load("checkpoints/aab/last.pt")
        assert exact(tuned["weights"]) == exact(source["weights"])
        assert tuned["chars"] == source["chars"]
        assert tuned["model"] == {**source["model"], "dropout": 0}
        assert tuned["progress"]["step"] == 1
    assert checkpoint.load(checkpoint.locate(None)).build().config.tie_weights


def test_init_from_refuses_what_does_not_fit(tiny: Callable, refused: Callable) -> None:
    tiny()
    tune = ("--device=cpu", "--config=tiny.yaml", f"train.init_from={RUN}", "train.out_dir=tuned")
    assert "model.n_layer=3" in refused(*tune, "model.n_layer=3")
    assert not Path("tuned").exists()


KINDS = {
    "plain": (),
    "tied": ("model.tie_weights=true", "model.position=learned"),
    "biased": ("model.bias=true",),
}


@pytest.mark.parametrize("kind", KINDS)
def test_init_from_with_new_characters(kind: str, tiny: Callable, call: Callable) -> None:
    """What the model knew stays as it was, bit for bit, and the new ones hardly take from it."""
    words = "the cat sat on the mat and the dog sat on the cat\n"
    Path("text.txt").write_text(words * 40)
    shape = ("model.n_embd=32", "train.max_steps=60", "train.eval_every=60", *KINDS[kind])
    assert tiny(*shape).status == 0
    old = checkpoint.load(RUN / "best.pt")
    Path("more.txt").write_text((words + "é z\n") * 40)
    argv = ("--device=cpu", "--config=tiny.yaml", f"train.init_from={RUN}", "train.max_steps=1")
    frozen = ("optim.learning_rate=0", "data.dataset=more.txt", "train.out_dir=more")
    status, out, _ = call(train.main, *argv, *frozen)
    assert status == 0
    assert f"new    'z' (U+007A) and 'é' (U+00E9) to {RUN}, which gets " in out
    new = checkpoint.load(Path("more/last.pt"))
    assert new.chars == old.chars + "zé" and new.model.vocab_size == len(new.chars)
    known = len(old.chars)
    kept = {name: new.weights[name][: len(weight)] for name, weight in old.weights.items()}
    assert all(torch.equal(kept[name], weight) for name, weight in old.weights.items())
    idx = torch.tensor([old.chars.index(char) for char in words * 8]).view(-1, 8)
    with torch.inference_mode():
        before, after = old.build()(idx), new.build()(idx)
    assert torch.equal(before, after[..., :known])
    worse = (after.double().logsumexp(-1) - before.double().logsumexp(-1)).mean().item()
    assert 0 < worse < 1e-3
    learning = ("data.dataset=more.txt", "train.out_dir=learned", "train.max_steps=60")
    assert call(train.main, *argv[:3], *learning).status == 0
    losses = [record["val_loss"] for record in records(Path("learned"))]
    assert losses[-1] < records(Path("more"))[-1]["val_loss"]
    assert call(sample.main, "--ckpt", "learned", "--prompt", "zé").out.startswith("zé")


@pytest.mark.parametrize("name", ["one-head", "two-head"])
def test_init_from_a_hand_set_model(name: str, home: Path, call: Callable) -> None:
    folder, source = Path("checkpoints/aab"), handmade.load(name)
    line = f"--config aab --device cpu train.init_from=handmade:{name} train.max_steps=2"
    frozen = ("optim.learning_rate=0", "train.eval_every=1", "model.dropout=0.25")
    assert call(train.main, *line.split(), *frozen).status == 0
    kept = torch.load(folder / "last.pt")
    assert exact(kept["weights"]) == exact(source.weights)
    assert kept["chars"] == "ab"
    assert kept["model"] == {**dataclasses.asdict(source.model), "dropout": 0.25}
    assert kept["progress"]["step"] == 2
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    assert settings["train"]["init_from"] == f"handmade:{name}"
    assert settings["model"]["n_head"] == source.model.n_head


def test_the_text_of_a_rule(home: Path, call: Callable) -> None:
    """It is learned like any other, also by the rule's own weights."""
    line = "--config aab --device cpu data.dataset=rules:copy train.init_from=handmade:copy"
    frozen = ("optim.learning_rate=0", "train.max_steps=1", "train.out_dir=by-rule")
    assert call(train.main, *line.split(), *frozen).status == 0
    kept = torch.load("by-rule/last.pt")
    assert exact(kept["weights"]) == exact(handmade.load("copy").weights)
    line = "--config aab --device cpu data.dataset=rules:abc model.block_size=8 train.max_steps=1"
    ended = call(train.main, *line.split(), "train.out_dir=trained")
    assert "54,000 characters to train on, 6,000 to validate, 3 distinct" in ended.out
    assert torch.load("trained/last.pt")["chars"] == "abc"


def test_a_run_from_hand_set_weights_goes_on(home: Path, call: Callable) -> None:
    start = "--config aab --device cpu train.init_from=handmade:one-head train.eval_every=3"
    start += " optim.decay=none train.out_dir="
    for line in (
        f"{start}whole train.max_steps=6",
        f"{start}parts train.max_steps=3",
        "--resume --device cpu train.out_dir=parts train.max_steps=6",
    ):
        assert call(train.main, *line.split()).status == 0
    parts, whole = state(Path("parts")), state(Path("whole"))
    assert parts["last.pt"] == whole["last.pt"]
    assert parts["metrics"] == whole["metrics"]


HANDMADE_REFUSED = {
    "train.init_from=handmade:three-head": "there is no hand-set model 'three-head'; there are one",
    "train.init_from=handmade:": "there is no hand-set model ''; there are one-head, new-head, two",
    "train.init_from=one-head": "there is no checkpoint one-head",
    "data.dataset=rules:gone": "there is no rule file 'gone'; configs/rules/ has aab, abc, ",
    "train.init_from=handmade:one-head data.dataset=text.txt": "'c' (U+0063)",
    "train.init_from=handmade:one-head model.n_head=2": "model.n_head=2 does not fit handmade:one",
    "train.init_from=handmade:one-head model.bias=false": "model.bias=false does not fit handmade:",
    "train.init_from=handmade:two-head model.block_size=5": "model.block_size=5 does not fit",
}


@pytest.mark.parametrize("line", HANDMADE_REFUSED)
def test_init_from_refuses_hand_set_models_that_do_not_fit(line: str, refused: Callable) -> None:
    before = contents(Path())
    assert HANDMADE_REFUSED[line] in refused("--config", "aab", "--device", "cpu", *line.split())
    assert contents(Path()) == before


REFUSED = {
    "": "--config NAME is missing; configs/ has aab.yaml",
    "--config nope": "no settings file 'nope'; configs/ has aab.yaml",
    "--config tiny.yaml --device cuda": "--device cuda is not available",
    "--config tiny.yaml --device tpu": "'tpu'",
    "--config tiny.yaml --sead 1": "--sead",
    "--config tiny.yaml train.max_step=3": "did you mean train.max_steps",
    "--config tiny.yaml train.max_steps=some": "train.max_steps is a whole number, not 'some'",
    "--config tiny.yaml train.max_steps=0": "max_steps must be at least 1",
    "--config tiny.yaml train.minutes=0": "train.minutes must be above 0, not 0.0; null makes",
    "--config tiny.yaml train.minutes=long": "train.minutes is a number, not 'long'",
    "--config tiny.yaml data.dataset=gone.txt": "gone.txt",
    "--config tiny.yaml data.dataset=[text.txt,gone.txt]": "gone.txt is no file or folder to read",
    "--config tiny.yaml data.val_dataset=gone.txt": "data.val_dataset=gone.txt is not",
    "--config tiny.yaml data.val_dataset=text.txt data.val_from=spread": "val_from=spread takes "
    "validation from the text itself, and val_dataset=text.txt is another one; leave one out",
    "--config tiny.yaml data.min_count=0": "data.min_count must be at least 1, not 0",
    "--config tiny.yaml model.block_size=500": "model.block_size=500",
    "--config tiny.yaml train.init_from=gone.pt": "there is no checkpoint gone.pt",
    "--config tiny.yaml train.init_from=text.txt": "text.txt is damaged or no checkpoint",
    "--config tiny.yaml train.out_dir=text.txt": "text.txt",
    "--config tiny.yaml --resume --overwrite": "--resume and --overwrite exclude each other",
    "--config tiny.yaml --resume": f"{RUN} has no last.pt to resume",
    "--resume": "checkpoints/ has no last.pt to resume",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals(line: str, refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before = contents(Path())
    assert REFUSED[line] in refused(*shlex.split(line))
    assert contents(Path()) == before


def test_options_and_settings_in_any_order(home: Path, call: Callable) -> None:
    line = "train.max_steps=3 --config tiny.yaml train.seed=2 --device cpu train.eval_every=3"
    assert call(train.main, *line.split()).status == 0
    assert [record["step"] for record in records(RUN)] == [3]


def test_a_folder_that_is_not_empty(tiny: Callable, refused: Callable) -> None:
    tiny()
    before = contents(RUN)
    assert "--overwrite" in refused("--config", "tiny.yaml", "--device", "cpu", "train.seed=2")
    assert contents(RUN) == before
    assert tiny("--overwrite", "train.seed=2", "train.max_steps=9").status == 0
    tiny("train.seed=2", "train.max_steps=9", "train.out_dir=anew")
    assert state(RUN) == state(Path("anew"))


def test_an_old_run_outlives_a_new_one_that_cannot_be_saved(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny()
    before = contents(RUN)

    def full(path: Path, saved: Checkpoint) -> None:
        raise Fault("no room")

    monkeypatch.setattr(checkpoint, "save", full)
    assert tiny("--overwrite").status == 1
    assert contents(RUN) == before


def test_how_often_a_run_goes_through_the_text(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 characters hold 36 windows of 8 wherever an epoch begins, and a batch has 4."""
    monkeypatch.setattr("training.timing.SECONDS", 0.1)
    epochs = "10 steps, 1.1 epochs of 9.0 steps"
    assert f"run    {RUN}, {epochs}\n" in tiny().out
    assert f" {epochs}\n" in tiny("--dry-run").out
    longer = ("--resume", "train.max_steps=14")
    assert "run     4 steps, 0.4 epochs of 9.0 steps\n" in tiny(*longer, "--dry-run").out
    assert f"run    {RUN} from step 10 on, 4 steps, 0.4 epochs of 9.0 steps\n" in tiny(*longer).out
    assert "0 steps, 0.0 epochs of 9.0 steps\n" in tiny("--resume", "train.max_steps=3").out
    assert "for 0 steps and 0 evaluations" in tiny("--resume", "train.max_steps=3", "--dry-run").out


def test_a_dry_run_leaves_nothing(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.timing.SECONDS", 0.1)
    status, out, err = tiny("--dry-run", "data.map_above_mb=0")
    assert (status, err) == (0, "") and not any(Path("checkpoints").rglob("*.*"))
    assert "936 parameters" in out and "10 steps" in out and "about " in out
    tiny()
    before = contents(RUN)
    assert tiny("--dry-run").out.splitlines()[:4] == out.splitlines()[:4]
    assert "4 steps" in tiny("--dry-run", "--resume", "train.max_steps=14").out
    assert contents(RUN) == before


def test_what_was_done_with_the_text_is_said(
    tiny: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.timing.SECONDS", 0.1)
    Path("texts").mkdir()
    for name in ("a", "b", "._a"):
        Path(f"texts/{name}.txt").write_text(TEXT)
    said = "{} distinct\n{}2 files, 1 left out: ._a.txt (hidden)\n"
    distinct = len(set(TEXT))
    assert said.format(distinct, 8 * " ") in tiny("data.dataset=texts", "--dry-run").out
    assert said.format(distinct, 7 * " ") in tiny("data.dataset=texts").out
    assert said.format(distinct, 7 * " ") in tiny("--resume").out
    assert re.search(r"distinct\nrun ", tiny("--overwrite").out)  # of text.txt, read as it is
    Path("sorted.txt").write_text("".join(sorted(TEXT)))
    line = "the last 100 characters, for validation, are unlike those before; data.val_from=spread"
    for options in ("--dry-run", "--overwrite"):
        assert f" {line} takes" in tiny("data.dataset=sorted.txt", options).out
        assert line not in tiny("data.dataset=sorted.txt", options, "data.val_from=spread").out


def test_a_run_shown_in_tensorboard_is_the_same_run(tiny: Callable) -> None:
    tiny("train.out_dir=plain")
    assert tiny("train.tensorboard=true").err == ""
    plain, shown = state(Path("plain")), state(RUN)
    assert shown["metrics"] == plain["metrics"]
    for part in ("weights", "optimizer"):
        assert shown["last.pt"][part] == plain["last.pt"][part]
    events = EventAccumulator(str(RUN / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == records(RUN)[0].keys() - {"step"}
    for name in ("val_loss", "grad_norm"):
        seen = [(event.step, event.value) for event in events.Scalars(name)]
        assert seen == [(r["step"], pytest.approx(r[name])) for r in records(RUN)]
    assert [e.step for e in events.Tensors("sample/text_summary")] == [4, 8, 10]


def test_a_board_that_fails_stops_no_run(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny("train.out_dir=plain")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", fail)
    ended = tiny("train.tensorboard=true")
    assert ended.status == 0 and ended.err.count("\n") == 1 and "No space left" in ended.err
    assert state(RUN)["metrics"] == state(Path("plain"))["metrics"]


def test_tensorboard_that_is_absent(refused: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    message = refused("--config", "tiny.yaml", "--device", "cpu", "train.tensorboard=true")
    assert "pip install -r requirements-tensorboard.txt" in message and not RUN.exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gpu_trains_and_writes_as_the_cpu_does(tiny: Callable, optimizer: str) -> None:
    exactly = ["model.dropout=0", f"optim.optimizer={optimizer}", "optim.learning_rate=0.001"]
    tiny(*exactly, "train.out_dir=cpu")
    assert tiny(*exactly, "train.out_dir=gpu", "--device", "cuda").status == 0
    losses = [[r["val_loss"] for r in records(Path(name))] for name in ("cpu", "gpu")]
    np.testing.assert_allclose(losses[0], losses[1], atol=0.01)
    greedy = ["--temperature", "0", "--max-new-tokens", "50", "--device", "cuda"]
    assert sample.main(["--ckpt", "gpu", *greedy]) == 0
