"""The comparison through the command line: its table, its JSON, its picture, what it refuses."""

import json
import re
import shutil
import warnings
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

import compare
import handmade
import mixture
import train
from analysis import picture, table
from analysis.heads import look
from analysis.measure import Column, measure
from data import rules
from data.aab import AAB, Task, both
from data.counts import count, pack
from data.ngrams import Ngrams
from generate import generate
from model import GPT
from system import checkpoint, config
from system.checkpoint import Checkpoint
from tests.helpers import ROOT, reference
from tests.helpers.runs import contents
from tests.helpers.tiny import tiny_gpt
from training import metrics

RUN = Path("checkpoints/aab")
SEE = r"\n\nsee (.*compare\.png)\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of aab.yaml."""
    folder = tmp_path_factory.mktemp("aab")
    precision = torch.get_float32_matmul_precision()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "plot", lambda folder: None)
        assert train.main(["--config=aab.yaml", "--device=cpu", f"train.out_dir={folder}"]) == 0
    torch.set_float32_matmul_precision(precision)
    return folder


@pytest.fixture
def run(home: Path, trained: Path) -> Path:
    """The run, where train.py would have left it."""
    return Path(shutil.copytree(trained, RUN))


@pytest.fixture
def plain(home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Compare without waiting for the picture."""
    monkeypatch.setattr(picture, "draw", lambda path, *args, **kinds: path)
    return partial(call, compare.main)


@pytest.fixture
def numbers(plain: Callable) -> Callable:
    """What --json tells of each model."""
    return lambda *argv: json.loads(plain("--json", *argv).out)["models"]


def save(path: str, *, chars: str = "ab", **changes: object) -> Path:
    """A checkpoint of a model of two layers of three heads with random weights."""
    model = tiny_gpt(**{"vocab_size": 2, "bias": True, "position": "learned", **changes})
    weights = dict(model.state_dict())
    saved = Checkpoint(model.config, chars, weights, {}, "", [], progress={"step": 0})
    checkpoint.save(Path(path), saved)
    return Path(path)


def scores(model: GPT, chars: str, context: str) -> np.ndarray:
    """Scores of the two characters after `context` by the NumPy model, (2,)."""
    weights = {name: p.numpy() for name, p in model.state_dict().items()}
    sizes = {"n_layer": model.config.n_layer, "n_head": model.config.n_head}
    kinds = {"position": model.config.position, "activation": model.config.activation}
    idx = np.array([[chars.index(char) for char in context]])
    return reference.gpt(weights, idx, **sizes, **kinds)[0, -1]


def wrong_contexts(path: Path, task: Task) -> set[str]:
    """The contexts, each tried on its own, that the likeliest character goes on from wrongly."""
    saved = checkpoint.load(checkpoint.locate(path))
    model, wrong, known = saved.build(), set(), ["a", "b"]
    for _ in range(2, saved.model.block_size + 1):
        known = [context + char for context in known for char in "ab"]
        for context in known:
            idx = torch.tensor([[saved.chars.index(char) for char in context]])
            [[new]] = generate(model, idx, 1, torch.Generator(), temperature=0)
            if saved.chars[new] != task.rule(context):
                wrong.add(context)
    return wrong


def test_the_settings_are_those_of_the_hand_set_model() -> None:
    settings = config.load(config.find("aab.yaml"), [], use_gpu=False)
    settings.model.vocab_size = 2  # which the text decides
    assert settings.model == handmade.one_head()[0]


def test_the_table(run: Path, plain: Callable, numbers: Callable) -> None:
    status, out, err = plain()
    assert (status, err) == (0, "")
    models = numbers()
    assert [m["label"] for m in models] == ["one-head", str(RUN), "untrained"]
    assert [m["kind"] for m in models] == ["handmade", "trained", "untrained"]
    assert out.split("\n")[0].split() == [m["label"] for m in models]
    keys = "parameters nonzero_parameters loss entropy_floor loss_after_two steps_right"
    expected = [[m[key] for m in models] for key in keys.split()]
    for part in ("task", "all"):
        expected += [[m[part]["right"] for m in models], [m[part]["worst_margin"] for m in models]]
    expected.append([m["attention_distance"] for m in models])
    for ending in ("aa", "ab", "ba", "bb"):
        expected.append([m["heads"][0]["to_b"][ending] for m in models])
    lines = out.split("\n\n")[0].splitlines()[1:]
    rows = [line.rsplit(maxsplit=3) for line in lines if "layer" not in line]
    for (_, *cells), values in zip(rows, expected, strict=True):
        for cell, value in zip(cells, values, strict=True):
            shown, _, total = cell.replace(",", "").partition("/")
            assert total in ("", "27", "12", "60")
            decimals = len(shown.partition(".")[2])
            assert float(shown) == pytest.approx(value, abs=0.501 * 10**-decimals)


def test_the_trained_model_has_learned_the_text(run: Path, numbers: Callable) -> None:
    by_hand, learned, untrained = numbers()
    assert learned["steps_right"] == by_hand["steps_right"] == 27
    assert learned["task"] | {"worst_margin": 1} == by_hand["task"]
    assert learned["entropy_floor"] < learned["loss"] < learned["entropy_floor"] + 0.01
    assert learned["loss_after_two"] < 0.01
    assert learned["parameters"] == by_hand["parameters"] == untrained["parameters"]
    assert untrained["loss"] == pytest.approx(np.log(2), rel=1e-6)
    assert untrained["steps_right"] == 0


def test_json_is_all_there_is(run: Path, plain: Callable) -> None:
    status, out, err = plain("--json")
    assert (status, err) == (0, "")

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    content = json.loads(out, parse_constant=refuse)
    assert set(content) == {"task", "picture", "models"}
    assert (content["task"], content["picture"]) == ("aab", str(RUN / "compare.png"))
    keys = """label kind learned parameters nonzero_parameters loss entropy_floor loss_after_two
        steps_right task all attention_distance heads"""
    for model in content["models"]:
        assert list(model) == keys.split()
        for part in ("task", "all"):
            assert list(model[part]) == ["total", "right", "worst_margin", "wrong"]
            assert len(model[part]["wrong"]) == model[part]["total"] - model[part]["right"]
        [head] = model["heads"]
        assert list(head) == ["layer", "head", "to_b"]
        assert list(head["to_b"]) == ["aa", "ab", "ba", "bb"]


def test_runs_and_files_in_any_number(run: Path, numbers: Callable) -> None:
    small = save("small.pt", block_size=3)
    models = numbers("--ckpt", RUN / "last.pt", small, RUN)
    labels = ["one-head", str(RUN / "last.pt"), "small.pt", str(RUN), "untrained"]
    assert [m["label"] for m in models] == labels
    last, best = (checkpoint.load(RUN / name).build() for name in ("last.pt", "best.pt"))
    for measured, model in ((models[1], last), (models[3], best)):
        column = Column(measured["label"], "trained", model, "ab")
        reference_column = Column("", "handmade", handmade.load("one-head").build(), "ab")
        assert measured["loss"] == measure(column, reference_column, AAB).loss
    assert [m["all"]["total"] for m in models] == [60, 60, 12, 60, 60]


def test_what_was_kept_of_a_run(home: Path, plain: Callable, numbers: Callable) -> None:
    """By their names alone, where they are of one run; otherwise one could not tell them apart."""
    files = [save(f"{run}/step_00000{n}.pt", seed=n) for run in "ab" for n in (2, 4, 6)]
    first = numbers("--ckpt", *files[:3])
    assert [m["label"] for m in first[1:-1]] == [path.name for path in files[:3]]
    assert "see a/compare.png" in plain("--ckpt", *files[:3]).out
    both = numbers("--ckpt", *files)
    assert [m["label"] for m in both[1:-1]] == [str(path) for path in files]
    for one, other in zip(first[1:-1], both[1:4], strict=True):
        assert {**one, "label": other["label"]} == other
    [_, alone, _] = numbers("--ckpt", files[1])
    assert alone == {**first[2], "label": "a/step_000004.pt"}


def test_what_was_kept_on_a_text(
    home: Path, tiny: Callable, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.text.draw", lambda *args: None)
    Path("text.txt").write_text(Path("text.txt").read_text() * 5)
    counts = ("memory.order=3", "memory.calibration_fraction=0.1", "data.val_fraction=0.1")
    assert tiny("train.keep_every=1", *counts, "model.block_size=16").status == 0
    files = sorted(Path("checkpoints/tiny").glob("step_*.pt"))
    ask = ("--handmade=ngram", "--data=text.txt", "--order=2", "--json", "--ckpt")
    found = json.loads(call(compare.main, *ask, *files).out)["models"][1:]
    labels = [path.name + more for path in files for more in ("", " and counts")]
    assert [m["label"] for m in found] == labels and len(files) == 3
    alone = json.loads(call(compare.main, *ask, files[1]).out)["models"][1:]
    assert [m["loss"] for m in alone] == [m["loss"] for m in found[2:4]]


@pytest.mark.parametrize(
    ("name", "block_size"), [("one-head", 8), ("new-head", 2), ("new-head", 3), ("two-head", 3)]
)
def test_any_block_size(
    name: str, block_size: int, home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "WIDEST", 600)
    save("model.pt", block_size=block_size)
    out = call(compare.main, "--ckpt", "model.pt", "--handmade", name, "--json").out
    by_hand, measured, untrained = json.loads(out)["models"]
    assert measured["all"]["total"] == 2 ** (block_size + 1) - 4
    assert by_hand["all"]["right"] == by_hand["all"]["total"] == untrained["all"]["total"]
    assert len(measured["heads"]) == 6
    assert imread("compare.png").shape[1] == 600


def test_two_head(run: Path, plain: Callable) -> None:
    content = json.loads(plain("--handmade", "two-head", "--json").out)
    by_hand, learned, untrained = content["models"]
    assert (content["task"], by_hand["label"]) == ("aabab", "two-head")
    assert [m["heads"].count(None) for m in content["models"]] == [0, 1, 0]
    assert by_hand["steps_right"] == 27 > learned["steps_right"]
    assert by_hand["attention_distance"] == 0 < learned["attention_distance"]
    floors = [m["entropy_floor"] for m in content["models"]]
    assert floors[0] == floors[2] == pytest.approx(floors[1] * 5 / 6)
    assert untrained["parameters"] == by_hand["parameters"]
    assert set(learned["all"]["wrong"]) == wrong_contexts(RUN, Task("aabab", both))


def test_more_heads_than_the_hand_set_model(plain: Callable, numbers: Callable) -> None:
    save("deep.pt")
    lines = plain("--ckpt", "deep.pt").out.split("\n\n")[0].splitlines()
    ends = [lines[0].index(label) + len(label) for label in ("one-head", "deep.pt", "untrained")]
    parts = zip([38, *ends], ends, strict=False)  # 38: before that stands what the row is
    cells = [[line[start:end].strip() for line in lines] for start, end in parts]
    by_hand, deep, untrained = numbers("--ckpt", "deep.pt")
    first = next(i for i, line in enumerate(lines) if "adds to the logit of b" in line)
    for column, measured in zip(cells, (by_hand, deep, untrained), strict=True):
        told = []
        for head in measured["heads"]:
            told.append(f"layer {head['layer']} head {head['head']}")
            told += [f"{value:+.2f}" for value in head["to_b"].values()]
        assert column[first:] == told + [""] * (30 - len(told))
    for i in range(6):
        title, *names = (line[:38].strip() for line in lines[first + 5 * i : first + 5 * i + 5])
        assert title == f"what head {i + 1} adds to the logit of b"
        assert names == ["after aa", "after ab", "after ba", "after bb"]


def test_a_head_stands_beside_the_one_it_is_matched_with(
    home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """new-head is the second head of two-head, alone."""
    checkpoint.save(Path("new-head.pt"), handmade.load("new-head"))
    argv = ("--ckpt", "new-head.pt", "--handmade", "two-head")
    with monkeypatch.context() as patch:
        patch.setattr(picture, "draw", lambda path, *args, **kinds: path)
        by_hand, alone, _ = json.loads(call(compare.main, *argv, "--json").out)["models"]
    assert alone["attention_distance"] == 0
    none, second = alone["heads"]
    assert none is None and (second["layer"], second["head"]) == (1, 1)
    for ending, value in by_hand["heads"][1]["to_b"].items():  # which writes 9, not 8
        assert second["to_b"][ending] == pytest.approx(8 / 9 * value, abs=1e-3)
    drawn = []
    monkeypatch.setattr(picture, "draw_pattern", lambda ax, *args: drawn.append(ax))
    rows = call(compare.main, *argv).out.split("\n\n")[0].splitlines()
    cells = [row.split()[2:] for row in rows if re.match("  after [ab]{2} ", row)]
    assert [len(row) for row in cells] == [2, 2, 2, 2, 3, 3, 3, 3]
    shown = [f"{value:+.2f}" for value in second["to_b"].values()]
    assert [row[1] for row in cells[4:]] == shown
    assert [ax.axison for ax in drawn[0].figure.axes] == [True, False, True, True, True, True]


@pytest.mark.parametrize(("name", "task"), [("one-head", AAB), ("two-head", Task("aabab", both))])
def test_wrong_contexts_by_what_never_occurs(name: str, task: Task, plain: Callable) -> None:
    save("model.pt", seed=3)
    out = plain("--ckpt", "model.pt", "--handmade", name).out
    [said, *groups] = out.split("\n\n")[1].splitlines()
    wrong = wrong_contexts(Path("model.pt"), task)
    assert said == f"model.pt is wrong in {len(wrong)} of 124 contexts"
    never = {"one-head": ["bb", "aaa", "bab"], "two-head": ["bb", "aaa", "aabaa", "babab"]}[name]
    found = {}
    for group in groups:
        line = r"  (\d+) (?:with (\w+), which never occurs in|of) the text: ([ab ]+)"
        count, part, contexts = re.fullmatch(line, group).groups()
        found[part] = contexts.split()
        assert len(found[part]) == int(count)
    assert len(found) == len(groups) > 2 and None in found
    assert sorted(context for contexts in found.values() for context in contexts) == sorted(wrong)
    for part, contexts in found.items():
        for context in contexts:  # the first of what never occurs, if there is one
            assert part == next((part for part in never if part in context), None)
            assert (context in task.word * 5) == (part is None)


def test_long_lists_are_cut(plain: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    save("model.pt", seed=3)
    whole = plain("--ckpt", "model.pt").out.split("\n\n")[1].splitlines()[1:]
    monkeypatch.setattr(table, "NAMED", 3)
    cut = plain("--ckpt", "model.pt").out.split("\n\n")[1].splitlines()[1:]
    assert len(cut) == len(whole)
    for short, long in zip(cut, whole, strict=True):
        head, _, names = long.partition(": ")
        names = names.split()
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        assert short == f"{head}: {' '.join(names[:3])}{more}"
    assert any("more" in line for line in cut)


def test_every_trained_model_is_told_of(run: Path, plain: Callable) -> None:
    save("model.pt", seed=3)
    checkpoint.save(Path("perfect.pt"), handmade.load("one-head"))
    parts = plain("--ckpt", RUN, "model.pt", "perfect.pt").out.split("\n\n")
    assert len(parts) == 5
    wrong = wrong_contexts(RUN, AAB)
    said, *groups = parts[1].splitlines()
    assert said == f"{RUN} is wrong in {len(wrong)} of 60 contexts"
    assert {name for group in groups for name in group.partition(": ")[2].split()} == wrong
    assert parts[2].startswith("model.pt is wrong in ")
    assert parts[3] == "perfect.pt is right in all 60 contexts"


def test_a_model_with_counts_stands_there_twice(home: Path, call: Callable) -> None:
    """Its heads are those of the GPT; what it answers is the mixture, worked out by hand here."""
    saved = checkpoint.load(save("model.pt", seed=3))
    text = "aab" * 20
    ids = np.array(["ab".index(char) for char in text])
    saved.counts, saved.shares = pack(count([ids], 2, 3), 2), [0.9, 0.8, 0.7]
    checkpoint.save(Path("model.pt"), saved)
    out = call(compare.main, "--json", "--ckpt", "model.pt", "--out", "out").out
    _, alone, mixed, _ = json.loads(out)["models"]
    assert (alone["label"], mixed["label"]) == ("model.pt", "model.pt and counts")
    for same in ("kind", "parameters", "nonzero_parameters", "attention_distance", "heads"):
        assert alone[same] == mixed[same]
    counts = Ngrams(count([ids], 2, 3), vocab_size=2)
    wrong, known = set(), ["a", "b"]
    for _ in range(2, 7):
        known = [context + char for context in known for char in "ab"]
        for context in known:
            net = np.exp(scores(saved.build(), "ab", context))
            idx = torch.tensor([["ab".index(char) for char in context]])
            counted, length = counts.probs(idx, last=1)
            share = saved.shares[length.item()]
            both = (1 - share) * net / net.sum() + share * counted[0, 0].numpy()
            wrong |= {context} if "ab"[both.argmax()] != AAB.rule(context) else set()
    assert set(mixed["all"]["wrong"]) == wrong != set(alone["all"]["wrong"])
    assert mixed["loss"] < alone["loss"]
    assert imread("out/compare.png").shape[1] > 1000


def test_a_run_that_began_with_the_hand_set_weights(
    run: Path, call: Callable, numbers: Callable
) -> None:
    kept = ("train.init_from=handmade:one-head", "optim.learning_rate=0", "train.max_steps=1")
    settings = ("--config=aab.yaml", "--device=cpu", "train.out_dir=kept")
    assert call(train.main, *settings, *kept).status == 0
    by_hand, same, _ = numbers("--ckpt", "kept")
    assert same == by_hand | {"label": "kept", "kind": "trained", "learned": "aab"}


def test_the_vocabulary_may_have_another_order(numbers: Callable) -> None:
    saved = checkpoint.load(save("model.pt"))
    for name in ("wte.weight", "lm_head.weight"):
        saved.weights[name] = saved.weights[name].flip(0)
    saved.chars = "ba"
    checkpoint.save(Path("turned.pt"), saved)
    _, one, other, _ = numbers("--ckpt", "model.pt", "turned.pt")
    assert set(one["all"]["wrong"]) == set(other["all"]["wrong"])
    assert one["heads"][0]["to_b"] == pytest.approx(other["heads"][0]["to_b"], abs=1e-5)


@pytest.fixture
def by_rule(home: Path, call: Callable) -> Path:
    """A model that was trained for some steps on the text of a rule: abc.yaml in a short window."""
    rule = (ROOT / "configs/rules/abc.yaml").read_text().replace("block_size: 8", "block_size: 6")
    Path("abc.yaml").write_text(rule)
    settings = "--config=aab.yaml --device=cpu data.dataset=rules:abc.yaml model.block_size=6"
    settings += " train.max_steps=40 train.eval_every=40 train.out_dir=trained"
    assert call(train.main, *settings.split()).status == 0
    return Path("trained")


def test_a_rule_of_three_letters(
    by_rule: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hand-set model is right everywhere; what the others get wrong is found here again."""
    measured, measure_all = [], compare.measure_all
    once = lambda *given: measured or measured.extend(measure_all(*given)) or measured  # noqa: E731
    monkeypatch.setattr(compare, "measure_all", once)
    ended = call(compare.main, "--handmade", "abc.yaml", "--ckpt", by_rule, "--json")
    content = json.loads(ended.out)
    hand, trained, untrained = content["models"]
    assert content["task"] == "abc.yaml" and ended.status == 0
    assert hand["all"] == {
        "total": 1089,
        "right": 1089,
        "worst_margin": hand["all"]["worst_margin"],
        "wrong": [],
    }
    assert [m["learned"] for m in content["models"]] == ["", "rules:abc.yaml", ""]
    rule = rules.read("abc.yaml")
    saved = checkpoint.load(checkpoint.locate(by_rule))
    model, wrong = saved.build(), set()
    for size in (2, 3, 4, 5):
        for letters in product("abc", repeat=size):
            idx = torch.tensor([["abc".index(char) for char in letters]])
            with torch.inference_mode():
                answer = "abc"[model(idx)[0, -1].argmax()]
            wrong |= set() if answer == rule.answer("".join(letters)) else {"".join(letters)}
    assert {context for context in trained["all"]["wrong"] if len(context) < 6} == wrong
    assert untrained["all"]["right"] < trained["all"]["right"]
    text = rules.text(rule)
    assert trained["task"]["total"] == len(
        {text[i : i + n] for n in range(2, 7) for i in range(len(text) - n + 1)}
    )
    drawn = imread(content["picture"])
    assert drawn.shape[0] > 1500 and drawn.shape[1] > 1000  # five heads below each other
    monkeypatch.setattr(picture, "draw", lambda path, *args, **kinds: path)
    out = call(compare.main, "--handmade", "abc.yaml", "--ckpt", by_rule).out
    lines = out.splitlines()
    assert re.fullmatch(r"the text that was learned +- +rules:abc.yaml +-", lines[1])
    assert not any("floor" in line or "repeated" in line or "adds" in line for line in lines)
    assert f"{by_rule} is wrong in " in out


def test_counts_as_weights_on_a_text(home: Path, call: Callable, tiny: Callable) -> None:
    """Losses by place and by character, against those of one window after the other."""
    Path("text.txt").write_text(Path("text.txt").read_text() * 5)
    settings = (
        "model.block_size=70",
        "memory.order=3",
        "memory.calibration_fraction=0.1",
        "data.val_fraction=0.1",
    )
    assert tiny("train.out_dir=trained", *settings).status == 0
    argv = ("--handmade", "ngram", "--data", "text.txt", "--order", "3", "--ckpt", "trained")
    ended = call(compare.main, *argv, "--json")
    content = json.loads(ended.out)
    assert content["task"] == "text.txt" and ended.status == 0
    hand, alone, both = content["models"]
    assert hand["label"] == "ngram of order 3" and both["label"] == "trained and counts"
    text = Path("text.txt").read_text()
    chars, saved = "".join(sorted(set(text))), checkpoint.load(checkpoint.locate(Path("trained")))
    val = torch.tensor([chars.index(char) for char in text[1800:]])
    models = handmade.load_ngrams("text.txt", 3).build(), saved.build(), mixture.load(saved)
    for found, model in zip((hand, alone, both), models, strict=True):
        rows, losses = range(0, len(val) - 64, 64), {}
        places = np.zeros(64)
        for start in rows:
            window = val[start : start + 65]
            with torch.inference_mode():
                logs = model(window[None, :-1])[0].double().log_softmax(-1)
            for place, target in enumerate(window[1:].tolist()):
                loss = -logs[place, target].item()
                places[place] += loss / len(rows)
                losses.setdefault(chars[target], []).append(loss)
        np.testing.assert_allclose(found["by_place"], places, rtol=1e-5)
        assert found["loss"] == pytest.approx(places.mean(), rel=1e-5)
        means = {char: np.mean(each) for char, each in losses.items()}
        assert found["by_char"] == pytest.approx(means, rel=1e-5)
    assert imread(content["picture"]).shape[1] > 1000
    out = call(compare.main, *argv).out
    assert "after 64 characters of the window" in out and "after 128" not in out
    assert f"{hand['loss']:.4f}" in out and "see trained/compare.png" in out
    assert ended.err == ""
    saved.settings["data"]["val_from"] = "spread"
    checkpoint.save(Path("trained/best.pt"), saved)
    ended = call(compare.main, *argv)
    assert (ended.status, ended.out) == (0, out)
    assert ended.err.startswith("trained validated on another part of this text, and may have")


def test_the_table_comes_before_the_picture(
    run: Path, home: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was measured is printed, whatever happens to the picture."""
    monkeypatch.setattr(Figure, "savefig", lambda *args, **options: 1 / 0)
    for argv, last in (([], " 60 contexts\n"), (["--json"], "\n}\n")):
        with pytest.raises(ZeroDivisionError):
            compare.main(argv)
        assert last in capsys.readouterr().out


def test_letters_that_are_hard_to_draw(home: Path, tiny: Callable, call: Callable) -> None:
    """Two dollar signs around what is no formula, and a letter that the font lacks."""
    Path("odd.txt").write_text("$^\u0915\x1b" * 200)
    named = ("data.dataset=odd.txt", "model.block_size=64", "data.val_fraction=0.1")
    assert tiny("train.out_dir=_$^$", *named).status == 0
    argv = ("--handmade", "ngram", "--data", "odd.txt", "--ckpt", "_$^$")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = call(compare.main, *argv)
    assert (ended.status, ended.err) == (0, "")
    assert "see _$^$/compare.png" in ended.out
    saved = checkpoint.load(Path("_$^$/best.pt"))
    order = [3, 1, 0, 2]
    saved.chars = "".join(saved.chars[i] for i in order)
    for name in ("wte.weight", "lm_head.weight"):
        saved.weights[name] = saved.weights[name][order]
    checkpoint.save(Path("_$^$/best.pt"), saved)
    assert call(compare.main, *argv) == ended  # in any order


def test_the_picture(run: Path, call: Callable) -> None:
    status, out, _ = call(compare.main)
    assert (status, re.search(SEE, out)[1]) == (0, str(RUN / "compare.png"))
    assert (RUN / "compare.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    before = imread(RUN / "compare.png")
    height, width, _ = before.shape
    assert 1000 < width < 2000 and 400 < height < width
    save("model.pt", n_layer=1, n_head=1, block_size=5)
    status, out, _ = call(compare.main, "--ckpt", "model.pt", "--out", "deep/er")
    assert (status, re.search(SEE, out)[1]) == (0, "deep/er/compare.png")
    assert [path.name for path in Path("deep/er").iterdir()] == ["compare.png"]
    other = imread("deep/er/compare.png")
    assert other.shape == before.shape
    assert (other != before).any(axis=2).mean() > 0.01
    assert (other != 1).any(axis=2).mean() > 0.2  # there is more than white


def test_the_picture_goes_to_the_first_run(run: Path, plain: Callable) -> None:
    Path("else").mkdir()
    save("else/model.pt")
    assert re.search(SEE, plain("--ckpt", "else/model.pt", RUN).out)[1] == "else/compare.png"
    assert re.search(SEE, plain("--ckpt", RUN, "else/model.pt").out)[1] == str(RUN / "compare.png")


def test_what_is_drawn_of_each_model(
    home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The heads nearest to those of the hand-set model, on a stretch of the text before a b."""
    save("model.pt", seed=6)
    drawn, answers = [], []
    monkeypatch.setattr(picture, "draw_pattern", lambda *args: drawn.append(args))
    monkeypatch.setattr(picture, "draw_answers", lambda *a, **kw: answers.append((*a, kw)))
    argv = ("--ckpt", "model.pt", "--handmade", "two-head", "--json")
    content = json.loads(call(compare.main, *argv).out)
    models = [handmade.load("two-head").build(), checkpoint.load(Path("model.pt")).build()]
    [context] = {context for *_, context in drawn}
    assert context + "b" in "aabab" * 3 and len(context) == 6
    idx = torch.tensor([["ab".index(char) for char in context]])
    assert len(drawn) == 6
    [(_, columns, asked)] = answers
    task, contexts = asked["task"], asked["contexts"]
    assert [column.label for column in columns] == ["two-head", "model.pt", "untrained"]
    assert task.word == "aabab"
    order = {"aa": 0, "ab": 1, "ba": 2, "bb": 3}
    every = ["".join(chars) for n in range(2, 6) for chars in product("ab", repeat=n)]
    assert sorted(contexts) == sorted(every)
    place = [(order[c[-2:]], c not in "aabab" * 3, len(c), c) for c in contexts]
    assert place == sorted(place)  # by ending, and what is in the text first
    for model, measured in zip(models, content["models"], strict=False):
        patterns = look(model, idx).pattern[0].unflatten(0, (-1, model.config.n_head))
        for head in measured["heads"][:2]:
            (ax, pattern, _), layer, number = drawn.pop(0), head["layer"], head["head"]
            assert ax.get_title() == f"{measured['label']}\nlayer {layer} head {number}"
            torch.testing.assert_close(pattern, patterns[layer - 1, number - 1])
    assert {head["layer"] for head in content["models"][1]["heads"][:2]} == {1, 2}


def test_a_pattern_is_drawn_as_numbers() -> None:
    ax = Figure().subplots()
    pattern = torch.tensor([[1, 0, 0], [0.25, 0.75, 0], [0.5, 0.125, 0.375]])
    picture.draw_pattern(ax, pattern, "aba")
    [image] = ax.images
    np.testing.assert_allclose(image.get_array(), pattern.numpy())
    assert image.get_clim() == (0, 1)
    shown = {text.get_position(): text.get_text() for text in ax.texts}
    expected = {(x, y): f"{pattern[y, x]:.2f}" for y in range(3) for x in range(y + 1)}
    assert shown == expected
    for labels in (ax.get_xticklabels(), ax.get_yticklabels()):
        assert [label.get_text() for label in labels] == ["a", "b", "a"]


def test_answers_are_drawn_as_probabilities() -> None:
    model = tiny_gpt(seed=3, vocab_size=2, bias=True, position="learned")
    contexts = ["aa", "ab", "ba", "bb", "aab", "baa", "bbaa", "ababab"]
    columns = [Column("model", "trained", model, "ab"), Column("turned", "trained", model, "ba")]
    ax = Figure().subplots()
    picture.draw_answers(ax, columns, task=AAB, contexts=contexts)
    rows = [[context.endswith("aa") for context in contexts]]
    for column in columns:
        logits = [scores(model, column.chars, context) for context in contexts]
        probs = reference.softmax(np.stack(logits))
        rows.append(probs[:, column.chars.index("b")])
    np.testing.assert_allclose(ax.images[0].get_array(), np.stack(rows), atol=1e-5)
    assert ax.images[0].get_clim() == (0, 1)
    wrong = {(x, y) for y in (1, 2) for x in range(8) if (rows[y][x] > 0.5) != rows[0][x]}
    assert {text.get_position() for text in ax.texts} == wrong != set()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["rule", "model", "turned"]
    assert [label.get_text() for label in ax.get_xticklabels()] == contexts
    bold = {label.get_text() for label in ax.get_xticklabels() if label.get_weight() == "bold"}
    assert bold == {"aa", "ab", "ba", "aab", "baa"}


def test_what_is_not_likelier_than_all_others_is_marked() -> None:
    """Of three letters, a tie is wrong, as it is in the table."""
    even = tiny_gpt(seed=3, vocab_size=3, block_size=8, bias=True, position="learned")
    rule, hand = rules.read("abc"), handmade.load("abc")
    contexts, ax = ["aa", "ab", "cb"], Figure().subplots()
    even.lm_head.weight.data.zero_()
    columns = [Column("hand", "handmade", hand.build(), "abc"), Column("even", "", even, "cba")]
    picture.draw_answers(ax, columns, task=rules.RuleTask(rule), contexts=contexts)
    assert {text.get_position() for text in ax.texts} == {(0, 2), (1, 2), (2, 2)}
    shown = ax.images[0].get_array()
    np.testing.assert_allclose(shown, [[1] * 3, [1] * 3, [1 / 3] * 3], atol=1e-5)


REFUSED = {
    "": "there is no checkpoint checkpoints/aab in ",
    "--ckpt gone": "there is no checkpoint gone in ",
    "--ckpt .": "has no best.pt or last.pt",
    "--ckpt text.txt": "text.txt is damaged or no checkpoint",
    "--ckpt good.pt text.txt": "text.txt is damaged or no checkpoint",
    "--ckpt words.pt": "words.pt is a model of 13 characters, and the comparison takes models of",
    "--ckpt xy.pt": "xy.pt is a model of 2 characters, and the comparison takes models of a and b",
    "--ckpt good.pt short.pt": "short.pt: 2 characters make 0 contexts of length 2 to 1",
    "--ckpt long.pt": "long.pt: 2 characters make 2,147,483,644 contexts of length 2 to 30",
    "--ckpt good.pt huge.pt": "huge.pt has weights too large to compute with",
    "--ckpt good.pt --handmade three-head": "'three-head'",
    "--ckpt good.pt --handmade abc": "models of a and b and c; train one with: python train.py --co"
    "nfig aab.yaml data.dataset=rules:abc model.block_size=8",
    "--ckpt good.pt --handmade ngram --data long.txt": "is a model of 2 characters, and the "
    "comparison takes models of b and c; train one with: python train.py --config tiny_shakespeare."
    "yaml data.dataset=long.txt",
    "--ckpt gone --handmade ngram --data long.txt": "train one with: python train.py --conf",
    "--handmade ngram --data gone": "data.dataset=gone is not tiny_shakespeare",
    "--handmade ngram --order 1": "--order",
    "--ckpt good.pt --out text.txt": "--out text.txt is no folder",
    "--ckpt": "--ckpt",
    "good.pt": "good.pt",
}


@pytest.mark.parametrize("line", REFUSED)
def test_refusals(line: str, home: Path, saved: Checkpoint, refusal: Callable) -> None:
    checkpoint.save(Path("words.pt"), saved)
    save("good.pt")
    save("xy.pt", chars="xy")
    save("short.pt", block_size=1)
    save("long.pt", block_size=30)
    huge = checkpoint.load(Path("good.pt"))
    huge.weights = {name: weight * 1e19 for name, weight in huge.weights.items()}
    checkpoint.save(Path("huge.pt"), huge)
    Path("long.txt").write_text("bc" * 1000)
    before = contents(Path())
    assert REFUSED[line] in refusal(compare.main, *line.split())
    assert contents(Path()) == before


def test_counts_are_asked_of_what_counts(refusal: Callable) -> None:
    message = refusal(compare.main, "--data", "my.txt", "--order", "3")
    assert "--data and --order go with --handmade ngram; add it" in message
