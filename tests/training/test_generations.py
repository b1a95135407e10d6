"""Several generations in one run: where each ends, what it begins with, and that it goes on."""

import itertools
import re
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.axes import Axes

import train
from data import corpus
from data.corpus import Batches, mix
from model import GPT, GPTConfig
from system import checkpoint, config
from system.checkpoint import BEST, LAST
from system.settings import TrainConfig
from tests.helpers.runs import RUN, exact, forge, records, sha256
from training import estimate, metrics, timing
from training.optim import schedule
from training.progress import Progress
from training.teacher import Teacher
from training.trainer import Trainer

CPU = torch.device("cpu")
TWO = ("train.generations=2",)  # of 5 steps each
END = {"at": "training.trainer.Trainer.update", "after": True, "signals": [signal.SIGTERM]}
MEMORY = ("memory.order=3", "memory.calibration_fraction=0.2")
TAUGHT = (*MEMORY, "memory.teach=0.3", "memory.folds=3")


def content(folder: str | Path = RUN, name: str = LAST) -> dict[str, Any]:
    """What a run saved."""
    return torch.load(Path(folder) / name)


def stands(folder: str | Path = RUN, name: str = LAST) -> tuple[int, int, int]:
    """The step that a run stands at, its generation, and the step at which that began."""
    progress = content(folder, name)["progress"]
    return progress["step"], progress["generation"], progress["began"]


# Where a generation ends

ENDS = [  # settings, and the steps at which generations end
    ({"max_steps": 10}, [10]),
    ({"max_steps": 10, "first_share": 0.3}, [10]),
    ({"max_steps": 10, "generations": 2}, [5, 10]),
    ({"max_steps": 11, "generations": 2}, [6, 11]),  # round(5.5) is 6
    ({"max_steps": 10, "generations": 2, "first_share": 0.3}, [3, 10]),
    ({"max_steps": 10, "generations": 3, "first_share": 0.4}, [4, 7, 10]),
    ({"max_steps": 10, "generations": 3, "first_share": 1e-9}, [1, 5, 10]),  # round(4.5) is 4
    ({"max_steps": 10, "generations": 3, "first_share": 0.999}, [8, 9, 10]),
    ({"max_steps": 4, "generations": 4, "first_share": 0.5}, [1, 2, 3, 4]),
    ({"max_steps": 1, "generations": 1}, [1]),
]


@pytest.mark.parametrize(("settings", "ends"), ENDS)
def test_the_steps_are_split(settings: dict[str, Any], ends: list[int]) -> None:
    wanted, progress, found = TrainConfig(**settings), Progress(), []
    for step in range(1, wanted.max_steps + 1):
        progress.step = step
        assert progress.done(wanted) == (step == wanted.max_steps)
        assert progress.over(wanted) == (step in ends)
        if progress.over(wanted):
            found.append(progress.end(wanted))
            progress.advance()
    assert found == ends


LATER = [  # generation, where it began, settings, where it ends
    (2, 5, {"max_steps": 20, "generations": 2}, 20),
    (2, 5, {"max_steps": 21, "generations": 3}, 13),
    (1, 0, {"max_steps": 20, "generations": 2}, 10),
    (2, 5, {"max_steps": 20, "generations": 1}, 20),  # never gone back from
    (3, 8, {"max_steps": 20, "generations": 2, "first_share": 0.1}, 20),
    (2, 5, {"max_steps": 3}, 6),  # the run is then over, whatever this is
]


@pytest.mark.parametrize(("generation", "began", "settings", "end"), LATER)
def test_other_settings_later(
    generation: int, began: int, settings: dict[str, Any], end: int
) -> None:
    progress = Progress(step=6, generation=generation, began=began)
    assert progress.end(TrainConfig(**settings)) == end


# What it begins with


def test_a_first_generation_is_a_run_of_its_own(tiny: Callable) -> None:
    tiny("train.max_steps=5", "train.out_dir=first")
    ended = tiny(*TWO)
    assert f"run    {RUN}, 10 steps, 1.1 epochs of 9.0 steps, generation 1 of 2\n" in ended.out
    lines = [line[:10] for line in ended.out.splitlines() if re.match("step|gener", line)]
    assert lines == ["step  4/10", "step  5/10", "generation", "step  8/10", "step 10/10"]
    begins = "generation 2 of 2 begins; 50% of each target comes from generation 1 (936 parameters)"
    assert f"\n{begins}\n" in ended.out and "teach " not in ended.out
    measured, first = records(RUN), records(Path("first"))
    assert [(r["step"], r["generation"]) for r in measured] == [(4, 1), (5, 1), (8, 2), (10, 2)]
    for record, alone in zip(measured, first, strict=False):
        for name in alone.keys() - {"seconds", "chars_per_second"}:
            assert record[name] == alone[name]
    [teacher] = content()["teachers"]
    finished = content("first")
    assert exact(teacher["weights"]) == exact(finished["weights"])
    assert teacher["model"] == finished["model"]
    assert stands() == (10, 2, 5)
    assert content(name=BEST)["progress"]["best_loss"] == min(r["val_loss"] for r in measured)


def begun(settings: list[str], generation: int) -> dict:
    """The first weights of a later generation."""
    fields = config.load(Path("tiny.yaml"), settings, use_gpu=False).model.__dict__
    torch.manual_seed(mix(68, "generation", generation))
    return GPT(GPTConfig(**fields | {"vocab_size": 9})).state_dict()


def test_each_generation_begins_anew(tiny: Callable) -> None:
    settings = ["train.generations=3", "model.tie_weights=true"]
    frozen = ("optim.learning_rate=0", "train.max_steps=6")
    tiny(*settings, *frozen)
    saved = content()
    assert exact(saved["weights"]) == exact(dict(begun(settings, 3)))
    [teacher] = saved["teachers"]  # the one before, and none of those before that
    assert exact(teacher["weights"]) == exact(dict(begun(settings, 2)))
    assert {state["step"].item() for state in saved["optimizer"][0].values()} == {2.0}
    assert exact(dict(begun(settings, 2))) != exact(dict(begun(settings, 3)))


def test_the_learning_rate_begins_anew(tiny: Callable) -> None:
    tiny(*TWO, "train.first_share=0.4", "train.eval_every=1", "optim.decay=linear")
    optim = config.load(Path("tiny.yaml"), ["optim.decay=linear"], use_gpu=False).optim
    wanted = [schedule(n, 4, optim) for n in range(4)] + [schedule(n, 6, optim) for n in range(6)]
    rates = [record["learning_rate"] / 0.03 for record in records(RUN)]
    assert rates == pytest.approx(wanted)
    assert wanted[:2] == wanted[4:6] == pytest.approx([1 / 3, 2 / 3])  # of the warm-up


def test_the_batches_are_counted_through(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(batches: Batches, step: int, device: torch.device) -> tuple:
        asked.append(step)
        return original(batches, step, device)

    original = Batches.__call__
    monkeypatch.setattr(Batches, "__call__", note)
    tiny(*TWO)
    assert asked == [*range(10)]


def test_a_later_generation_learns_from_the_one_before(tiny: Callable) -> None:
    for share, folder in ((1, "one"), (0.5, "half")):
        tiny(*TWO, f"train.teach={share}", f"train.out_dir={folder}", "train.max_steps=2")
    one, half = (content(folder) for folder in ("one", "half"))
    assert exact(one["teachers"]) == exact(half["teachers"])
    assert exact(one["weights"]) != exact(half["weights"])


def test_counts_teach_the_first_alone(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, pull = [], Teacher.pull

    def note(teacher: Teacher, *args: object, **options: object) -> torch.Tensor:
        asked.append(1)
        return pull(teacher, *args, **options)

    monkeypatch.setattr(Teacher, "pull", note)
    ended = tiny(*TWO, *TAUGHT)
    assert len(asked) == 5 * 2  # steps, and parts of a batch
    assert "from generation 1 (936 parameters); counts do not teach\n" in ended.out
    assert len(content()["counts"]) == 3
    assert [r["step"] for r in records(RUN)] == [0, 4, 5, 8, 10]


def test_with_a_teacher_and_weights_to_start_from(tiny: Callable) -> None:
    tiny("train.out_dir=first")
    given = ("train.teacher=first", "train.init_from=first", "optim.learning_rate=0")
    tiny(*TWO, *given, "train.max_steps=4")
    source = {name: content("first", BEST)[name] for name in ("model", "weights")}
    one = content(name=BEST)
    assert stands(name=BEST) == (2, 1, 0)  # its weights, which stay, are the best
    assert exact(one["teachers"]) == exact([source])
    assert exact(one["weights"]) == exact(source["weights"])
    [teacher] = content()["teachers"]
    assert exact(teacher["weights"]) == exact(source["weights"])  # of the first generation
    assert exact(content()["weights"]) == exact(dict(begun([], 2)))


def test_the_best_of_all_generations_is_kept(tiny: Callable) -> None:
    tiny(*TWO, "train.first_share=0.8")
    losses = [record["val_loss"] for record in records(RUN)]
    assert losses[-1] > losses[1] and stands(name=BEST) == (8, 1, 0)
    assert content()["progress"]["best_loss"] == min(losses)
    assert content()["progress"]["lowest"] == losses[-1]


def test_patience_is_of_each_generation(tiny: Callable) -> None:
    settings = ("train.patience=2", "train.eval_every=1", "train.max_steps=300")
    ended = tiny(*settings, *TWO)
    assert ended.status == 0 and "ended early: no better val_loss in 2 evaluations" in ended.out
    for generation, group in itertools.groupby(records(RUN), lambda r: r["generation"]):
        losses = [record["val_loss"] for record in group]
        stale = [n - losses.index(min(losses[: n + 1])) for n in range(len(losses))]
        assert stale[-1] == 2 and max(stale[:-1]) < 2, generation
    assert generation == 2 and stands()[2] < 100


def test_a_compiler_compiles_each(tiny: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def compiler(model: torch.nn.Module) -> Callable:
        compiled.append(model)
        return lambda idx: model(idx)

    tiny(*TWO, "train.out_dir=plain")
    monkeypatch.setattr(torch, "compile", compiler)
    tiny(*TWO, "train.compile=true")
    assert len(compiled) == len({id(model) for model in compiled}) == 2
    assert exact(content()["weights"]) == exact(content("plain")["weights"])


# Going on


@pytest.mark.parametrize(
    ("settings", "stops"),
    [((), (2, 3, 4, 6, 7)), ((*TAUGHT, "optim.optimizer=muon"), (3, 5))],
)
def test_a_resumed_run(
    settings: tuple[str, ...], stops: tuple[int, ...], tiny: Callable, tiny_process: Callable
) -> None:
    settings = (*settings, "train.generations=3", "train.max_steps=9")
    tiny(*settings, "train.out_dir=whole")
    whole = sha256(Path("whole"))
    for nth in stops:  # 3 and 6 are the ends of generations
        folder = f"train.out_dir={nth}"
        assert tiny_process(*settings, folder, **END, nth=nth).status == 143
        assert stands(str(nth))[:2] == (nth, -(-nth // 3))
        assert tiny("--resume", folder).status == 0
        assert sha256(Path(str(nth))) == whole


KILLS = {
    "before it begins": {"at": "training.trainer.Trainer.succeed"},
    "after it has begun": {"at": "training.trainer.Trainer.succeed", "after": True},
    "before its first step": {"at": "training.trainer.Trainer.update", "nth": 4},
    "after its first step": {"at": "training.trainer.Trainer.update", "nth": 4, "after": True},
    "with the best saved, and not the last": {
        "at": "system.checkpoint.save",
        "nth": 4,  # the first is that of the start, the next are best.pt and last.pt of step 2
        "after": True,
    },
    "with all saved": {"at": "system.checkpoint.save", "nth": 5, "after": True},
}


def test_kill_9_between_generations(tiny: Callable, tiny_process: Callable) -> None:
    settings = (*TWO, "train.max_steps=6", "train.eval_every=2")  # so one ends at 3
    tiny(*settings, "train.out_dir=whole")
    for place, (name, kill) in enumerate(KILLS.items()):
        folder = f"train.out_dir={place}"
        killed = tiny_process(*settings, folder, **kill, signals=[signal.SIGKILL])
        assert killed.status == -signal.SIGKILL
        assert stands(str(place)) == (2 if "and not" in name else 3, 1, 0), name
        assert tiny("--resume", folder).status == 0
        assert sha256(Path(str(place))) == sha256(Path("whole")), name


def test_the_best_of_an_earlier_generation_is_gone_on_from(tiny: Callable) -> None:
    tiny(*TWO, "train.first_share=0.8")
    before = sha256(RUN)
    assert stands(name=BEST)[:2] == (8, 1)
    assert tiny("--resume", "--from-best").status == 0
    assert sha256(RUN) == before


LONGER = [  # more settings to resume with after 10 steps of two generations: where it then stands
    (("train.max_steps=10",), (10, 2, 5)),
    (("train.max_steps=14",), (14, 2, 5)),
    (("train.max_steps=7",), (10, 2, 5)),
    (("train.max_steps=15", "train.generations=3"), (15, 3, 10)),
    (("train.max_steps=25", "train.generations=3"), (25, 3, 15)),
    (("train.generations=3",), (10, 2, 5)),
    (("train.max_steps=12", "train.generations=1"), (12, 2, 5)),
]


def test_other_settings_to_go_on_with(tiny: Callable, call: Callable) -> None:
    tiny(*TWO)
    for place, (settings, stand) in enumerate(LONGER):
        folder = shutil.copytree(RUN, str(place))
        ended = call(train.main, "--device=cpu", "--resume", folder, *settings)
        assert ended.status == 0 and stands(folder) == stand, settings


def test_a_finished_run_gets_another_generation(tiny: Callable) -> None:
    tiny()
    finished = content()
    more = ("--resume", "train.generations=2", "train.max_steps=20")
    ended = tiny(*more)
    assert "generation 2 of 2 begins; " in ended.out
    [teacher] = content()["teachers"]
    assert exact(teacher["weights"]) == exact(finished["weights"])
    assert stands() == (20, 2, 10)
    steps = [(record["step"], record.get("generation")) for record in records(RUN)]
    assert steps == [(4, None), (8, None), (10, None), (12, 2), (16, 2), (20, 2)]


def test_a_generation_whose_end_has_moved_is_evaluated_before_it_teaches(
    tiny: Callable, tiny_process: Callable
) -> None:
    assert tiny_process(*TWO, "train.max_steps=20", **END, nth=6).status == 143
    assert tiny("--resume", "train.max_steps=9").status == 0  # it should have ended at 4
    steps = [(record["step"], record["generation"]) for record in records(RUN)]
    assert steps == [(4, 1), (6, 1), (8, 2), (9, 2)] and stands() == (9, 2, 6)


def test_a_run_from_before_generations(tiny: Callable) -> None:
    """Its patience goes on, too."""
    settings = ("train.eval_every=1", "train.max_steps=300")
    tiny(*settings, "train.patience=3")
    steps = stands()[0]
    for name in (LAST, BEST):
        old = content(name=name)
        for field in ("generation", "began", "lowest"):
            del old["progress"][field]
        for field in ("teacher", "teach", "generations", "first_share"):
            del old["settings"]["train"][field]
        del old["teachers"]
        forge(RUN / name, {**old, "format": 3})
    assert content()["progress"]["stale"] == 3
    assert tiny("--resume", "train.patience=4").status == 0
    losses = [record["val_loss"] for record in records(RUN)]
    assert stands()[0] == steps + 1 or min(losses[steps:]) < min(losses[:steps])
    assert content()["progress"]["lowest"] == content()["progress"]["best_loss"] == min(losses)


# Several processes


def test_several_processes(tiny_process: Callable, tiny_processes: Callable) -> None:
    exactly = ("model.dropout=0", "train.batch_size=8", "optim.learning_rate=0.003", *TWO)
    tiny_process(*exactly, "train.out_dir=alone")
    first, other = tiny_processes(2, *exactly, "train.out_dir=shared")
    assert (first.status, first.err, other) == (0, "", (0, "", ""))
    losses = [
        [record[name] for record in records(Path(folder)) for name in ("train_loss", "val_loss")]
        for folder in ("alone", "shared")
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    assert tiny_processes(2, *exactly, **END, nth=5)[0].status == 143  # between generations
    assert tiny_processes(2, "--resume")[0].status == 0
    assert sha256(RUN) == sha256(Path("shared"))


# What is foretold, and shown


def make(*overrides: str) -> Trainer:
    """The Trainer of tiny.yaml with some changes."""
    settings = config.load(Path("tiny.yaml"), list(overrides), use_gpu=False)
    text = corpus.load(settings.data, 8, CPU, chars=None, scratch=Path("ids"))
    settings.model.vocab_size = 9
    return Trainer(GPT(settings.model), text, settings, CPU)


def test_room_for_the_teacher_is_counted(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SECONDS", 0)
    wide = ("model.n_embd=96",)
    said = {}
    for name, settings in {"one": wide, "two": (*wide, *TWO)}.items():
        said[name] = estimate.estimate(make(*settings), time.perf_counter())
    weights = re.search(r"(\S+) kB weights", said["two"])[1]
    assert f" optimizer, {weights} kB teachers (counted)" in said["two"]
    assert "in the next generation" in said["two"]
    assert "teachers" not in said["one"] and "generation" not in said["one"]
    trainer = make(*wide, *TWO)
    trainer.succeed()
    trainer.update()
    checkpoint.save(Path("last.pt"), trainer.checkpoint())
    found = [re.search(r"two checkpoints of (\S+) (.B)", lines) for lines in said.values()]
    sizes = [float(each[1]) * {"kB": 1e3, "MB": 1e6}[each[2]] for each in found]
    size = Path("last.pt").stat().st_size
    assert sizes[1] == pytest.approx(size, rel=0.1) and sizes[0] < 0.8 * size


def test_the_picture_parts_the_generations(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, curves = [], []
    original = Axes.plot
    monkeypatch.setattr(Axes, "axvline", lambda ax, x, **style: lines.append(x))
    monkeypatch.setattr(
        Axes, "plot", lambda ax, *args, **style: (curves.append(args), original(ax, *args, **style))
    )
    losses = {"train_loss": 1.0, "val_loss": 2.0, "val_loss_trained": 3.0}
    for step, generation in ((0, 1), (10, 1), (20, 2), (30, 2), (40, 3)):
        place = {"step": step, "generation": generation, "seconds": step / 4}
        metrics.append(Path(), place | losses)
    metrics.plot(Path())
    assert lines == [10, 30, 2.5, 7.5]
    trained, val, alone, _ = curves[:4]
    assert trained == ([0, 10, None, 20, 30, None, 40], [1, 1, None, 1, 1, None, 1])
    assert val == (trained[0], [2, 2, None, 2, 2, None, 2])
    assert alone == ([10, None, 20, 30, None, 40], [3, None, 3, 3, None, 3], "--")
