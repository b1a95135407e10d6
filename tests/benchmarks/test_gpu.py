"""What only a GPU can tell, asked of a CPU at toy size: all parts, cut off and gone on with."""

import ast
import json
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from signal import SIGINT

import pytest
import torch

from benchmarks import bench, curve, gpu, right, sample_speed, time_to_loss, train_speed
from data.laws import Copying, Suffixes
from system.errors import Fault, UserError
from tests.helpers import ROOT
from tests.helpers.peer import SHAPE, Near, cells
from tests.helpers.runs import contents
from training.trainer import Trainer

CPU = torch.device("cpu")
SETTINGS = (
    *(f"model.{name}={value}" for name, value in SHAPE.items()),
    *("model.dropout=0.1", "memory.order=3", "memory.folds=3"),
    *("memory.calibration_fraction=0.05", "train.batch_size=4", "train.max_steps=2"),
    *("train.dtype=float32", "data.dataset=text.txt"),
)
BROAD = {
    "copying, window 9": (Copying("ab", 9), ["abbabaaba", "aaaaaaaab"]),
    "a pattern of 4": (Suffixes("ab", 4, "a", {"abba": "b"}), ["abba"]),
}
TOY = gpu.Plan(SETTINGS, seeds=(1, 2), steps=1, orders=(2, 3), broad=BROAD, rounds=1)


@pytest.fixture
def toy(peer: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout; sides and runs in this process, a file of tests that are soon done."""

    def near(folder: Path, side: str, every: int, *options: str) -> dict:
        if side == "nanogpt":
            points = [{"seconds": 3, "total_seconds": 5, "val_loss": 1.4, "memory_mb": 1234.5}]
            return {"startup_seconds": 2, "points": points}
        return curve.ours(curve.Clock(0.0), every, str(folder), *options).result()

    for module in (bench, sample_speed):
        monkeypatch.setattr(module, "Side", Near)
    monkeypatch.setattr(time_to_loss, "curve", near)
    monkeypatch.setattr(torch, "compile", lambda model: lambda *args: model(*args))
    monkeypatch.setattr(train_speed, "PEAK_SIZE", 8)
    for module in (train_speed, sample_speed):
        monkeypatch.setattr(module, "SHAPES", {"baby": SHAPE})
    monkeypatch.setattr(sample_speed, "JOBS", {"1 x 7": (1, 7)})
    parrot = sample_speed.our_side
    monkeypatch.setattr(sample_speed, "their_side", lambda *args: parrot(*args[:2], "half"))
    monkeypatch.setattr(right.rules, "examples", lambda: ["aab", "abc"])
    tests = "def test_a_gpu(): pass\ndef test_gpu_too(): assert 0, 'wrong'\ndef test_cpu(): pass\n"
    Path("test_toy.py").write_text(tests)
    monkeypatch.setattr(right, "TESTS", (str(Path("test_toy.py").resolve()),))
    return peer


def measured(peer: Path | None, part: int | None = None) -> tuple[int, dict]:
    """The exit status and the results of one call."""
    status = gpu.measure(TOY, CPU, peer, Path("out"), part)
    return status, json.loads(Path("out/gpu.json").read_text())


def test_all_parts(toy: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(toy)
    status, result = measured(toy)
    assert status == 0 and contents(toy) == before
    found, out = result["found"], capsys.readouterr().out
    assert list(found) == list(gpu.PARTS)
    assert {name for part in result["seconds"].values() for name in part} == {
        *("tests", "twice", "float32", "TF32", "seed 1", "seed 2", "nanoGPT", "beside nanoGPT")
    }
    assert (found[gpu.CHECKS]["tests"]["passed"], found[gpu.CHECKS]["tests"]["failed"]) == (1, 1)
    assert "AssertionError: wrong" in found[gpu.CHECKS]["tests"]["said"]
    assert [made["off"] for made in found[gpu.CHECKS]["twice"]] == [0] * 5
    for each in found[gpu.BY_HAND].values():
        totals = [done["total"] for done in each["rules"].values()]
        assert totals == [60, 124, 124, 62, 9840, 18, 4]
        assert all(done["right"] == done["total"] for done in each["rules"].values())
        assert all(0 < held["off"] < 1e-4 for held in each["n-grams"].values())
    for seed in TOY.seeds:
        steps = [point["step"] for point in found[gpu.RUNS][f"seed {seed}"]["points"]]
        assert steps == [0, 1, 2]
    sides = found[gpu.TRAINING]["beside nanoGPT"]["sides"]
    expected = ["ours", "ours, compiled", "ours, nanoGPT's structure", "ours, Muon"]
    expected += ["ours, Muon, compiled", "nanoGPT", "nanoGPT, compiled"]
    assert list(sides) == expected
    assert list(found[gpu.WRITING]["beside nanoGPT"]["seconds"]["1 x 7"]) == [
        *("ours", "ours, --window half", "nanoGPT")
    ]
    text = Path("out/gpu.md").read_text()
    assert text in out and text.count("\n### ") == 5 and "not measured" not in text
    assert "| made twice from the same seed" in text and "| 2 " in text
    assert sorted(path.name for path in Path("out").iterdir()) == ["gpu.json", "gpu.md"]


def test_parts_one_by_one(toy: Path, capsys: pytest.CaptureFixture) -> None:
    """What is there is not measured again; what is not, says so."""
    _, result = measured(None, part=3)
    out = capsys.readouterr().out
    assert "part 3  runs with the shipped settings: 0 of 2 done\n" in out
    assert "part 4  nanoGPT's run: needs --nanogpt PATH\n" in out
    assert out.count("\n\nnot measured\n") == 4 and list(result["found"]) == [gpu.RUNS]
    assert measured(toy, part=3) == (0, result)  # to the last second
    assert "part 3  runs with the shipped settings: 2 of 2 done\n" in capsys.readouterr().out
    _, more = measured(toy, part=4)
    assert more["found"] == {**result["found"], gpu.PEER: more["found"][gpu.PEER]}
    [table] = re.findall(r"^\| seconds to(?:.+\n)+", capsys.readouterr().out, re.MULTILINE)
    assert cells(table)[1] == ["nanoGPT", "5.0", "5.0", "-", "5.0", "1,234"]


class Work:
    """Parts of two measurements each, which take a second, leave files and tell what was made.

    stop: the measurement that is cut off, or fails, and how
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made: list[str] = []
        self.stop: dict[str, BaseException] = {}
        monkeypatch.setattr(gpu, "parts", lambda *args: self.parts())
        monkeypatch.setattr(gpu, "describe", lambda found: [json.dumps(found)])

    def parts(self) -> gpu.Parts:
        return {
            part: {f"{part}, {n}": partial(self.measure, f"{part}, {n}") for n in (1, 2)}
            for part in gpu.PARTS
        }

    def measure(self, name: str) -> str:
        folder = Path("out/gpu", name)
        folder.mkdir(parents=True, exist_ok=True)
        if name in self.stop:
            raise self.stop.pop(name)
        (folder / "file").touch()
        self.made.append(name)
        return f"result of {name}"


def test_cut_off_and_gone_on_with(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a measurement, whose files stay; and before the files of one that is done are removed."""
    work = Work(monkeypatch)
    names = [name for part in work.parts().values() for name in part]
    work.stop = {names[3]: KeyboardInterrupt(), names[8]: KeyboardInterrupt()}
    for cut in (3, 8):
        with pytest.raises(KeyboardInterrupt):
            measured(None)
        kept = json.loads(Path("out/gpu.json").read_text())["found"]
        assert [name for part in kept.values() for name in part] == work.made == names[:cut]
        assert [path.name for path in Path("out/gpu").iterdir()] == [names[cut]]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(gpu.shutil, "rmtree", lambda *args, **kind: os.kill(os.getpid(), SIGINT))
        measured(None)
    status, result = measured(None)
    assert status == 0 and work.made == names
    assert result["found"] == {
        part: {name: f"result of {name}" for name in measurements}
        for part, measurements in work.parts().items()
    }
    assert all(0 < took < 9 for part in result["seconds"].values() for took in part.values())


def test_what_fails_is_said_and_tried_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    work = Work(monkeypatch)
    names = [name for part in work.parts().values() for name in part]
    work.stop = {names[4]: Fault("a child died")}
    status, result = measured(None)
    assert status == 1 and work.made == [name for name in names if name != names[4]]
    assert names[4] not in result["found"][gpu.RUNS]
    assert capsys.readouterr().err == f"{gpu.RUNS}: {names[4]} failed: a child died\n"
    status, result = measured(None)
    assert status == 0 and work.made[-1] == names[4] and len(work.made) == len(names)


def test_a_side_that_was_left_out_is_tried_again(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(torch, "compile", lambda model: 1 / 0)
        status, result = measured(None, part=5)
    left_out = result["found"][gpu.TRAINING]["ours alone"]["left_out"]
    assert status == 1 and list(left_out) == ["ours, compiled", "ours, Muon, compiled"]
    status, result = measured(None, part=5)
    assert status == 0 and not result["found"][gpu.TRAINING]["ours alone"]["left_out"]
    assert "part 5  speed of training: 0 of 1 done\n" in capsys.readouterr().out
    assert measured(None, part=5) == (0, result)
    assert "part 5  speed of training: 1 of 1 done\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"machine": {"torch": "1.0"}, "seconds": {}, "found": {}}', "with torch 1.0, and here"),
        (
            f'{{"machine": {{"gpu": "Titan", "torch": "{torch.__version__}"}}, '
            '"seconds": {}, "found": {}}',
            "with gpu Titan, and here is None; choose another folder with --out DIR",
        ),
        ('{"machine": {}, "seconds": {}}', "out/gpu.json is none of this benchmark's files"),
        ("[1]", "out/gpu.json is none of this benchmark's files"),
        ("{", "out/gpu.json is none of this benchmark's files; move it away"),
    ],
)
def test_results_of_other_machines_are_not_mixed(home: Path, content: str, said: str) -> None:
    Path("out").mkdir()
    Path("out/gpu.json").write_text(content)
    with pytest.raises(UserError, match=re.escape(said)):
        measured(None)
    assert Path("out/gpu.json").read_text() == content


@pytest.mark.parametrize(
    ("line", "said"),
    {
        "": "python -m benchmarks.time_to_loss",
        "--device cpu": "this measures a GPU, and the device is a CPU",
        "--device cuda": "--device cuda is not available",
        "--nanogpt gone": "--nanogpt gone has no ",
        "--part 7": "--part is one of 1, 2, 3, 4, 5, 6, not '7'",
        "--part x": "--part is a whole number, not 'x'",
    }.items(),
)
def test_refusals(peer: Path, line: str, said: str, call: Callable) -> None:
    before = contents(Path())
    status, out, err = call(gpu.main, "--out=out", *line.split())
    assert (status, out, err.count("\n"), contents(Path())) == (2, "", 1, before)
    assert err.startswith("python -m benchmarks.gpu: ") and said in err


def test_a_part_that_needs_a_checkout(toy: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(UserError, match=r"^part 4 is nanoGPT's run; name a .* --nanogpt PATH$"):
        measured(None, part=4)
    assert capsys.readouterr().out == "" and not Path("out").exists()


def test_on_a_gpu_all_of_it_is_measured(
    peer: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a GPU pretended: the shipped settings, three seeds, and the options of the command."""
    asked = []
    monkeypatch.setattr(gpu.device, "pick", lambda name: torch.device({"auto": "mps"}.get(name)))
    monkeypatch.setattr(gpu, "measure", lambda *args: asked.append(args) or 0)
    assert call(gpu.main, "--nanogpt", "peer", "--out", "out", "--part", 3).status == 0
    [(plan, *rest)] = asked
    assert (plan.settings, plan.seeds, plan.orders) == ((), (1, 2, 3), (2, 3, 4, 5))
    assert rest == [torch.device("mps"), Path("peer"), Path("out"), 3]
    windows = {rule.block_size for rule, _ in plan.broad.values()}
    assert windows == {130, 256, 2048, 3000}
    for rule, texts in plan.broad.values():
        assert {len(text) for text in texts} == {rule.block_size}
    [(rule, [text])] = [each for each in plan.broad.values() if isinstance(each[0], Suffixes)]
    assert rule.answer(text) == "b" and rule.answer(text[1:]) == "a"


def test_times_to_levels_by_hand() -> None:
    def run(*points: tuple[float, float]) -> dict:
        return {
            "points": [
                {"seconds": x, "total_seconds": x + 10, "val_loss": loss, "memory_mb": 1000 + x}
                for x, loss in points
            ]
        }

    first, second = run((0, 1.6), (5, 1.478), (9, 1.40)), run((0, 1.5), (7, 1.45), (8, 1.39))
    header, *rows = cells(gpu.level_table({"a": [first, second], "b": [run((3, 1.4))]}))
    assert header[1:] == ["1.478", "1.421", "1.391", "the end", "peak GPU memory, MB"]
    assert rows == [
        ["a", "16.0", "18.5", "-", "18.5", "1,009"],
        ["of these in training", "6.0", "8.5", "-", "8.5", "1,009"],
        ["b", "13.0", "13.0", "-", "13.0", "1,003"],
        ["of these in training", "3.0", "3.0", "-", "3.0", "1,003"],
    ]
    bare = {"points": [{"seconds": 1, "total_seconds": 2, "val_loss": 9}]}
    assert cells(gpu.level_table({"c": [bare]}))[1] == ["c", "-", "-", "-", "2.0", "-"]


@pytest.mark.parametrize("name", BROAD)
def test_wrong_weights_are_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, texts = BROAD[name]
    compiled = right.handmade.compiled

    def changed(rule: Copying | Suffixes) -> tuple:
        config, chars, weights = compiled(rule)
        weights["lm_head.weight"] = weights["lm_head.weight"].flip(0)
        return config, chars, weights

    assert right.tried(rule, texts, CPU).wrong == []
    monkeypatch.setattr(right.handmade, "compiled", changed)
    found = right.tried(rule, texts, CPU)
    sizes = enumerate(map(len, texts), start=1)
    places = [f"place {end + 1} of text {n}" for n, size in sizes for end in range(size)]
    assert found.right == 0 and found.wrong == places and found.worst_margin < -0.99


def test_precision_of_products_is_put_back() -> None:
    before = torch.get_float32_matmul_precision()
    with pytest.raises(KeyError), right.products("float32"):
        assert torch.get_float32_matmul_precision() == "highest"
        with right.products("TF32"):
            assert torch.get_float32_matmul_precision() == "high"
        assert torch.get_float32_matmul_precision() == "highest"
        raise KeyError
    assert torch.get_float32_matmul_precision() == before


def test_tables_of_what_is_wrong() -> None:
    done = {"total": 9840, "right": 9839, "worst_margin": -0.25, "wrong": ["aab"]}
    fine = {"total": 60, "right": 60, "worst_margin": 0.75, "wrong": []}
    held = {"loss": 2.5, "loss of the counts": 2.25, "off": 0.0123}
    found = {"float32": {"rules": {"abc": fine}, "n-grams": {"2": held}}}
    found["TF32"] = {"rules": {"abc": done}, "n-grams": {"2": held}}
    rules, counts = right.hand_tables(found)
    ok = ["60 of 60", "+0.7500", "-"]
    assert cells(rules)[1] == ["abc", *ok, "9,839 of 9,840", "-0.2500", "aab"]
    assert cells(counts)[1] == ["2", "2.2500", "2.5000", "1e-02", "2.5000", "1e-02"]
    assert right.hand_tables({}) == []
    table = right.repeat_table([{"what": "a", "off": 0.0}, {"what": "b", "off": 0.0012}])
    assert cells(table)[1:] == [["a", "equal bits"], ["b", "1e-03"]]


def test_unequal_runs_are_told(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = iter(range(1, 9))

    def update(trainer: Trainer) -> None:  # one that is never the same
        with torch.no_grad():
            trainer.model.lm_head.weight[0, 0] = next(draw)

    monkeypatch.setattr(Trainer, "update", update)
    found = right.repeated("cpu", SETTINGS, 1)
    assert [made["off"] > 0 for made in found] == [True, True, True, True, False]
    assert found[0]["off"] == found[2]["off"] == 1


def test_tests_that_cannot_run(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("test_toy.py").write_text("import nothing_of_this_name")
    with pytest.raises(Fault, match=r"^the tests did not run: .*nothing_of_this_name"):
        right.tested()
    monkeypatch.setattr(right.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Fault, match=r"pip install -r requirements-dev\.txt$"):
        right.tested()


def test_every_test_that_waits_for_a_gpu_is_found() -> None:
    waiting = set()
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        source = path.read_text("utf-8")
        tree = ast.parse(source if "cuda.is_available" in source else "")
        for node in ast.walk(tree):
            marks = map(ast.unparse, getattr(node, "decorator_list", ()))
            if any("skipif(not torch.cuda.is_available()" in mark for mark in marks):
                waiting.add((str(path.relative_to(ROOT)), "gpu" in node.name))
    assert waiting == {(path, True) for path in right.TESTS}
