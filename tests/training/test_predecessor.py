"""What finished GPTs teach: targets that are partly what they expect at the same places."""

import dataclasses
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import handmade
import sample
import train
from model import GPT
from system.checkpoint import BEST, LAST, Checkpoint
from system.errors import UserError
from tests.helpers import reference
from tests.helpers.runs import RUN, TEXT, contents, exact, forge, records, sha256
from tests.helpers.tiny import tiny_gpt
from training.objective import cross_entropy
from training.predecessor import Predecessors, pack, take

V, T, SHARE = 13, 7, 0.3
CPU = torch.device("cpu")
IDX = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(1))
TARGETS = torch.randint(V, (3, T), generator=torch.Generator().manual_seed(2))
LOGITS = 3 * torch.randn(3, T, V, generator=torch.Generator().manual_seed(3))
GPT2 = {"position": "learned", "activation": "gelu_tanh", "bias": True, "tie_weights": True}
LONGER = tiny_gpt(seed=4, block_size=9, dropout=0.5)
EXACT = tiny_gpt(seed=5, block_size=T, n_layer=1, shift=0.4, n_embd=10)
SHORTER = tiny_gpt(seed=6, block_size=3, **GPT2)  # asked in windows of 3, 3 and 1


def taught_by(
    *models: GPT, share: float = SHARE, dtype: torch.dtype = torch.float32
) -> Predecessors:
    return Predecessors([pack(model) for model in models], share, CPU, dtype)


def expected(*models: GPT, idx: Tensor = IDX) -> np.ndarray:
    """What the models expect in the mean, (B, T, V), by the NumPy model, window for window."""
    found = []
    for model in models:
        weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        names = ("n_layer", "n_head", "position", "activation", "shift")
        fields = {name: getattr(model.config, name) for name in names}
        size, logits = model.config.block_size, []
        for start in range(0, idx.shape[1], size):
            window = idx[:, start : start + size].numpy()
            logits.append(reference.gpt(weights, window, **fields))
        found.append(reference.softmax(np.concatenate(logits, axis=1)))
    return sum(found) / len(found)


def target(*models: GPT, share: float = SHARE) -> np.ndarray:
    """The targets (B, T, V) by their definition."""
    return (1 - share) * np.eye(V)[TARGETS.numpy()] + share * expected(*models)


def loss(by: Predecessors, logits: Tensor) -> Tensor:
    """What is minimised."""
    starts = torch.arange(len(IDX))
    return cross_entropy(logits, TARGETS) + by.pull(logits, TARGETS, idx=IDX, starts=starts)


TEACHERS = {
    "the same window": (EXACT,),
    "a longer one": (LONGER,),
    "a shorter one": (SHORTER,),
    "an ensemble": (LONGER, EXACT, SHORTER),
    "one twice": (EXACT, SHORTER, EXACT),
}


@pytest.mark.parametrize("share", [SHARE, 1.0])
@pytest.mark.parametrize("models", TEACHERS.values(), ids=TEACHERS.keys())
def test_the_loss_and_the_target(models: tuple[GPT, ...], share: float) -> None:
    by, logits = taught_by(*models, share=share), LOGITS.clone().requires_grad_()
    found = loss(by, logits)
    found.backward()
    wanted = target(*models, share=share)
    log_probs = np.log(reference.softmax(LOGITS.double().numpy()))
    total = 0.0
    for b in range(len(IDX)):  # the soft cross-entropy, one number at a time
        for t in range(T):
            for v in range(V):
                total -= wanted[b, t, v] * log_probs[b, t, v]
    assert found.item() == pytest.approx(total / IDX.numel(), abs=2e-5)
    drawn_to = LOGITS.softmax(dim=-1) - logits.grad * IDX.numel()
    np.testing.assert_allclose(drawn_to.numpy(), wanted, rtol=0, atol=2e-5)


def test_teachers_learn_nothing() -> None:
    by, logits = taught_by(LONGER), LOGITS.clone().requires_grad_()
    before = exact(dict(LONGER.state_dict()))
    for _ in range(2):
        loss(by, logits).backward()
    [model] = by.models
    assert not model.training and all(p.grad is None for p in model.parameters())
    assert exact(pack(model)["weights"]) == before
    assert not by.probs(IDX).requires_grad


def test_half_precision() -> None:
    by, model = taught_by(EXACT, dtype=torch.bfloat16), EXACT.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = model(IDX)
    assert half.dtype == torch.bfloat16
    assert torch.equal(by.probs(IDX), half.float().softmax(dim=-1))
    starts = torch.zeros(len(IDX))
    pull = by.pull(LOGITS.bfloat16(), TARGETS, idx=IDX, starts=starts)
    assert pull.dtype == torch.float32
    assert pull == by.pull(LOGITS.bfloat16().float(), TARGETS, idx=IDX, starts=starts)


# Alphabets

CHARS = "abcdefghijklm"


def finished(model: GPT, chars: str) -> Checkpoint:
    """What a run saved of `model`."""
    return Checkpoint(model.config, chars, dict(model.state_dict()), {}, "", [], {"step": 1})


@pytest.mark.parametrize("model", [LONGER, SHORTER])  # the latter has tied weights
def test_another_order_of_characters(model: GPT) -> None:
    theirs = "mcbadefghijkl"
    by = Predecessors([take(finished(model, theirs), "a", CHARS)], SHARE, CPU, torch.float32)
    as_they_say = torch.tensor([[theirs.index(CHARS[i]) for i in row] for row in IDX.tolist()])
    probs = expected(model, idx=as_they_say)
    for i, char in enumerate(CHARS):
        found = by.probs(IDX)[..., i].numpy()
        np.testing.assert_allclose(found, probs[..., theirs.index(char)], rtol=0, atol=1e-5)


ALPHABETS = {
    "abcdefghijklé": "does not know 'm' (U+006D) and knows 'é' (U+00E9), not in the text; a",
    "0123456789ABC": "not know 'a' (U+0061), 'b' (U+0062), 'c' (U+0063) and 10 more and knows '0'",
    "abcdefghijkl": "does not know 'm' (U+006D); a teacher has the characters of the text",
    "abcdefghijklmn": "x knows 'n' (U+006E), not in the text; a teacher has the characters of",
}


@pytest.mark.parametrize("theirs", ALPHABETS)
def test_other_characters(theirs: str) -> None:
    with pytest.raises(UserError) as refused:
        take(finished(tiny_gpt(vocab_size=len(theirs)), theirs), "x", CHARS)
    assert ALPHABETS[theirs] in str(refused.value) and "\n" not in str(refused.value)


# Runs

FIRST = "train.teacher=first"
MEMORY = ("memory.order=3", "memory.calibration_fraction=0.2")


def content(folder: str | Path = RUN, name: str = LAST) -> dict[str, Any]:
    """What a run saved."""
    return torch.load(Path(folder) / name)


def weights(folder: str | Path = RUN) -> object:
    """What a run has learned."""
    return exact(content(folder)["weights"])


@pytest.fixture
def first(tiny: Callable) -> Callable:
    """As `tiny`, where a run of another shape has ended in the folder first."""
    tiny("train.out_dir=first", "model.block_size=5", "model.n_layer=2", "optim.optimizer=muon")
    return tiny


def test_a_run_with_a_teacher(first: Callable) -> None:
    first("train.out_dir=alone")
    ended = first(FIRST)
    said = "teach  50% of each target comes from first (1,720 parameters)\n"
    assert ended.status == 0 and said in ended.out
    assert "generation" not in ended.out and "generation" not in records(RUN)[0]
    more = {"share": "train.teach=0.9", "last": f"train.teacher=first/{LAST}"}
    for folder, setting in more.items():
        assert first(FIRST, setting, f"train.out_dir={folder}").status == 0
    made = [weights(folder) for folder in ("alone", RUN, "share")]
    assert all(made.count(each) == 1 for each in made)
    assert content("last")["teachers"][0]["weights"].keys() == content("first")["weights"].keys()
    teacher = {name: content("first", BEST)[name] for name in ("model", "weights")}
    assert exact(content()["teachers"]) == exact(content(name=BEST)["teachers"]) == exact([teacher])


def test_the_training_loss_is_that_of_the_text(first: Callable) -> None:
    first("train.max_steps=1")
    first("train.max_steps=1", FIRST, "train.out_dir=taught")
    assert records(Path("taught"))[0]["train_loss"] == records(RUN)[0]["train_loss"]


def test_who_has_learned_all_that_the_teacher_knows_stays_as_it_is(first: Callable) -> None:
    """Against the teacher's own expectations a copy of it has no gradient, whatever the text."""
    copy = ("train.init_from=first", "train.max_steps=1", "model.dropout=0")
    first(*copy, FIRST, "train.teach=1")
    assert records(RUN)[0]["grad_norm"] < 1e-6
    first(*copy, FIRST, "train.teach=0.5", "train.out_dir=half")
    first(*copy, "train.out_dir=alone")
    half, alone = (records(Path(folder))[0]["grad_norm"] for folder in ("half", "alone"))
    assert half == pytest.approx(alone / 2, rel=1e-4) and alone > 0.01


def test_a_batch_in_parts(first: Callable) -> None:
    settings = (FIRST, "model.dropout=0", "optim.learning_rate=0.003")
    for parts in (1, 4):
        first(*settings, f"train.grad_accum={parts}", f"train.out_dir={parts}")
    whole, parted = (content(str(parts))["weights"] for parts in (1, 4))
    for name, weight in whole.items():
        torch.testing.assert_close(parted[name], weight, rtol=0, atol=1e-4)


def test_counts_do_not_teach_beside(first: Callable) -> None:
    first(*MEMORY, FIRST, "train.out_dir=alone")
    ended = first(*MEMORY, FIRST, "memory.teach=0.4", "memory.folds=3")
    assert "comes from first (1,720 parameters); counts do not teach\n" in ended.out
    assert weights() == weights("alone")
    for part in ("counts", "shares"):
        assert exact(content()[part]) == exact(content("alone")[part]) != []


def test_the_counts_of_a_teacher_stay_behind(tiny: Callable) -> None:
    tiny(*MEMORY, "train.out_dir=counted", "memory.share=0.9")
    assert tiny("train.teacher=counted").status == 0
    saved = content("counted", BEST)
    assert saved["counts"] and saved["shares"]
    alone = {name: saved[name] for name in ("model", "weights")}
    assert exact(content()["teachers"]) == exact([alone])


def test_an_ensemble(first: Callable) -> None:
    first("train.out_dir=with,comma", "train.seed=2")
    ended = first("train.teacher=with,comma", "train.out_dir=one")  # it is there as it is written
    assert "comes from with,comma (936 parameters)\n" in ended.out
    refused = first("train.teacher=first, with,comma")
    assert refused.status == 2 and "there is no checkpoint with in " in refused.err
    Path("with,comma").rename("second")
    ended = first("train.teacher=first, second", "train.out_dir=two")
    assert "comes from first, second (1,720 and 936 parameters)\n" in ended.out
    both = [content(folder, BEST) for folder in ("first", "second")]
    wanted = [{name: each[name] for name in ("model", "weights")} for each in both]
    assert exact(content("two")["teachers"]) == exact(wanted)
    again = ("--config=two/config.yaml", "train.out_dir=again")
    assert first(*again).status == 0 and weights("again") == weights("two")


def test_a_teacher_that_was_set_by_hand(tiny: Callable) -> None:
    ended = tiny("--config=aab", "train.teacher=handmade:one-head", "train.max_steps=1")
    assert "% of each target comes from handmade:one-head (" in ended.out
    source = handmade.load("one-head")
    teacher = {"model": dataclasses.asdict(source.model), "weights": source.weights}
    assert exact(content("checkpoints/aab")["teachers"]) == exact([teacher])


# Going on


def test_a_resumed_run_needs_no_teacher_but_its_own(
    first: Callable, tiny_process: Callable, call: Callable, refusal: Callable
) -> None:
    first(FIRST, "train.out_dir=whole")
    stop = {"at": "training.trainer.Trainer.update", "signals": [signal.SIGTERM], "after": True}
    for nth in (2, 6):
        assert tiny_process(FIRST, f"train.out_dir={nth}", **stop, nth=nth).status == 143
    shutil.rmtree("first")
    before = contents(Path())
    for other in ("gone", "null", "first,first"):
        change = ("--resume", "6", f"train.teacher={other}", "--device=cpu")
        assert "a resumed run keeps train.teacher=first; " in refusal(train.main, *change)
    assert contents(Path()) == before
    assert call(train.main, "--resume", "2", "--device=cpu").status == 0
    first("train.out_dir=first", "train.seed=9")  # another one of that name
    ended = call(train.main, "--resume", "6", FIRST, "--device=cpu")
    assert "teach  50% of each target comes from first (1,720 parameters)\n" in ended.out
    assert sha256(Path("2")) == sha256(Path("6")) == sha256(Path("whole"))


def test_a_run_keeps_having_no_teacher(first: Callable, refusal: Callable) -> None:
    first()
    message = refusal(train.main, "--resume", str(RUN), FIRST, "--device=cpu")
    assert "a resumed run keeps train.teacher=null; " in message


def test_the_other_commands_do_without(first: Callable, call: Callable) -> None:
    first(FIRST)
    taught = content(name=BEST)
    forge(RUN / "plain.pt", taught | {"teachers": []})
    ask = ("--prompt=abc", "--max-new-tokens=40", "--device=cpu")
    texts = [call(sample.main, f"--ckpt={RUN / name}", *ask).out for name in (BEST, "plain.pt")]
    assert texts[0] == texts[1] and len(texts[0]) > 40


# What cannot be

REFUSED = {
    "train.teacher=gone": "there is no checkpoint gone in ",
    "train.teacher=first,gone": "there is no checkpoint gone in ",
    "train.teacher=,first": "train.teacher=,first has an empty name between commas; take one out",
    "train.teacher=text.txt": "text.txt is damaged or no checkpoint; name another file",
    "train.teacher=empty": "the folder empty has no best.pt or last.pt; name a run folder or a",
    "train.teacher=handmade:gone": "there is no hand-set model 'gone'; there are one-head, ",
    "train.teacher=handmade:one-head": "handmade:one-head does not know '\\n' (U+000A), ' '",
    "train.teacher=first data.dataset=more.txt": "teacher=first does not know 'é' (U+00E9); a",
    "train.teacher=first train.teach=0": "train.teach must be above 0 and at most 1, not 0.0",
}


def test_teachers_that_cannot_be(first: Callable) -> None:
    Path("empty").mkdir()
    Path("more.txt").write_text(TEXT + "é")
    before = contents(Path())
    for line, sentence in REFUSED.items():
        ended = first(*line.split())
        assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1), line
        assert sentence in ended.err
    assert contents(Path()) == before
