"""What is saved comes back bit for bit; whatever else is in a file gets one sentence."""

import dataclasses
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import compare
import sample
import train
from system import checkpoint
from system.checkpoint import BEST, LAST, RUNS, Checkpoint
from system.errors import Fault, UserError
from system.versions import SAFE, numbers
from tests.helpers.faults import Processes
from tests.helpers.posix import needs_posix
from tests.helpers.runs import exact, flip_bytes, forge, room_for
from tests.helpers.tiny import tiny_gpt

FUZZ = int(os.environ.get("FUZZ", "100"))  # bytes to flip


def types(value: Any) -> set[type]:
    """The types of everything in `value`."""
    inside = [*value, *value.values()] if isinstance(value, dict) else value
    nested = map(types, inside) if isinstance(value, dict | list) else ()
    return {type(value)}.union(*nested)


def message(path: Path) -> str:
    """The one sentence with which `path` is refused."""
    with pytest.raises(UserError) as error:
        checkpoint.load(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    return str(error.value)


def test_everything_comes_back(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    loaded = checkpoint.load(tmp_path / BEST)
    for field in dataclasses.fields(Checkpoint):
        assert exact(getattr(loaded, field.name)) == exact(getattr(saved, field.name)), field.name


def test_the_file_is_plain(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    content = torch.load(tmp_path / BEST, weights_only=True)
    assert types(content) <= {dict, list, str, int, float, bool, type(None), torch.Tensor}


@pytest.mark.parametrize("tied", [False, True])
def test_the_model_built_is_the_model_saved(saved: Checkpoint, tmp_path: Path, tied: bool) -> None:
    model = tiny_gpt(bias=True, dropout=0.5, tie_weights=tied)
    saved.model, saved.weights = model.config, model.state_dict()
    checkpoint.save(tmp_path / BEST, saved)
    loaded = checkpoint.load(tmp_path / BEST)
    built = loaded.build()
    idx = torch.tensor([[12, 0, 3, 3, 7], [1, 2, 4, 0, 9]])
    assert torch.equal(built(idx), model.eval()(idx))  # with dropout still on it would not be
    wte, lm_head = loaded.weights["wte.weight"], loaded.weights["lm_head.weight"]
    assert (wte.data_ptr() == lm_head.data_ptr()) == tied
    assert (built.wte.weight is built.lm_head.weight) == tied


def teacher(**changes: object) -> dict[str, Any]:
    """A GPT as a checkpoint carries it that is taught by it, with `changes` of what it holds."""
    model = tiny_gpt(seed=3, n_layer=1, position="learned", tie_weights=True)
    return {"model": vars(model.config), "weights": dict(model.state_dict()), **changes}


def test_teachers_come_back(saved: Checkpoint, tmp_path: Path) -> None:
    saved.teachers = [teacher(), {"model": vars(saved.model), "weights": saved.weights}]
    checkpoint.save(tmp_path / BEST, saved)
    content = torch.load(tmp_path / BEST, weights_only=True)
    assert types(content) <= {dict, list, str, int, float, bool, type(None), torch.Tensor}
    assert exact(checkpoint.load(tmp_path / BEST).teachers) == exact(saved.teachers)


TEACHERS: dict[str, Callable[[], list]] = {
    "no dict": lambda: [1],
    "no weights": lambda: [{"model": teacher()["model"]}],
    "no model": lambda: [{"weights": teacher()["weights"]}],
    "more": lambda: [teacher(more=1)],
    "weights that are none": lambda: [teacher(weights=[1])],
    "a weight that is none": lambda: [teacher(weights={**teacher()["weights"], "ln_f.weight": 1})],
    "a weight too few": lambda: [teacher(weights={"wte.weight": torch.zeros(13, 7)})],
    "not finite": lambda: [
        teacher(weights={**teacher()["weights"], "ln_f.weight": torch.full((7,), torch.nan)})
    ],
    "another shape": lambda: [teacher(model={**teacher()["model"], "n_embd": 9})],
    "an impossible model": lambda: [teacher(model={**teacher()["model"], "dropout": 2.0})],
    "too large a model": lambda: [teacher(model={**teacher()["model"], "n_layer": 10**9})],
    "another vocabulary": lambda: [
        {"model": vars(other.config), "weights": dict(other.state_dict())}
        for other in [tiny_gpt(vocab_size=12)]
    ],
    "the second": lambda: [teacher(), teacher(model={})],
}


@pytest.mark.parametrize("teachers", TEACHERS.values(), ids=TEACHERS.keys())
def test_forged_teachers_are_refused(
    teachers: Callable[[], list], saved: Checkpoint, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    forge(tmp_path / BEST, {**torch.load(tmp_path / BEST), "teachers": teachers()})
    assert message(tmp_path / BEST).endswith(" is damaged; name another file")


CONTENTS: dict[str, Callable[[dict], Any]] = {
    "no dict": lambda content: [content],
    "no format": lambda content: {k: v for k, v in content.items() if k != "format"},
    "a key too few": lambda content: {k: v for k, v in content.items() if k != "chars"},
    "a key too many": lambda content: {**content, "more": 1},
    "no weights": lambda content: {**content, "weights": None},
    "a weight too few": lambda content: {
        **content,
        "weights": {k: v for k, v in content["weights"].items() if k != "ln_f.weight"},
    },
    "a weight too many": lambda content: {
        **content,
        "weights": {**content["weights"], "more": torch.zeros(1)},
    },
    "another shape": lambda content: {
        **content,
        "weights": {**content["weights"], "ln_f.weight": torch.zeros(9)},
    },
    "another structure": lambda content: {**content, "model": {**content["model"], "n_layer": 1}},
    "an impossible structure": lambda content: {
        **content,
        "model": {**content["model"], "n_head": 0},
    },
    "an unknown structure": lambda content: {**content, "model": {**content["model"], "more": 1}},
    "another vocabulary": lambda content: {**content, "chars": "ab"},
    "a character twice": lambda content: {**content, "chars": "aa" + content["chars"][2:]},
    "no step": lambda content: {**content, "progress": {}},
    "a weight that is not finite": lambda content: {
        **content,
        "weights": {**content["weights"], "ln_f.weight": content["weights"]["ln_f.weight"] / 0},
    },
}


@pytest.mark.parametrize("change", CONTENTS.values(), ids=CONTENTS.keys())
def test_another_content(change: Callable[[dict], Any], saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / LAST, saved)
    forge(tmp_path / LAST, change(torch.load(tmp_path / LAST)))
    assert message(tmp_path / LAST).endswith("name another file")
    checkpoint.save(tmp_path / BEST, saved)
    assert message(tmp_path / LAST).endswith(
        f"try {tmp_path / BEST}, which --ckpt and --resume take"
    )
    (tmp_path / LAST).rename(tmp_path / "mine.pt")
    checkpoint.save(tmp_path / LAST, saved)
    assert message(tmp_path / "mine.pt").endswith(
        f"try {tmp_path / LAST}, which --ckpt and --resume take"
    )


def test_a_forged_content_that_is_right(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    forge(tmp_path / BEST, torch.load(tmp_path / BEST))
    assert checkpoint.load(tmp_path / BEST).chars == saved.chars


@pytest.mark.parametrize("number", [1, 5, -1])
def test_another_format(number: int, saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    torch.save({**torch.load(tmp_path / BEST), "format": number}, tmp_path / BEST)
    sentence = f"is of format {number} and not {checkpoint.FORMAT}; use the version that wrote it"
    assert message(tmp_path / BEST).endswith(sentence)


@pytest.mark.parametrize("number", [2, 3])
def test_the_formats_before(number: int, saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    content = torch.load(tmp_path / BEST)
    del content["teachers"]
    if number == 2:
        del content["model"]["shift"]
    forge(tmp_path / BEST, {**content, "format": number})
    assert exact(vars(checkpoint.load(tmp_path / BEST))) == exact(vars(saved))


def test_cut_files(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / LAST, saved)
    checkpoint.save(tmp_path / BEST, saved)
    whole = (tmp_path / LAST).read_bytes()
    sizes = [0, 1, 2, 4, *range(100, len(whole), len(whole) // 60), len(whole) - 1]
    assert len(sizes) >= 64
    for size in sizes:
        (tmp_path / LAST).write_bytes(whole[:size])
        assert message(tmp_path / LAST).endswith(
            f"try {tmp_path / BEST}, which --ckpt and --resume take"
        )


def test_flipped_bytes(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    flip_bytes(saved, tmp_path / LAST, times=FUZZ, seed=1)


@pytest.mark.parametrize("name", ["blocks.0.attn.heads.2.key.weight", "blocks.1.ln_2.weight"])
def test_every_bit_of_a_weight_counts(saved: Checkpoint, tmp_path: Path, name: str) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    raw = bytearray((tmp_path / BEST).read_bytes())
    weights = saved.weights[name].numpy().tobytes()
    start = raw.index(weights)
    for place in range(start, start + len(weights)):
        raw[place] ^= 1 << place % 8
        (tmp_path / BEST).write_bytes(raw)
        assert " is damaged" in message(tmp_path / BEST)
        raw[place] ^= 1 << place % 8


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    for byte in range(256):
        path.write_bytes(bytes([byte]) + b"nd so it goes.\n")
        assert message(path).endswith("name another file")


@needs_posix
def test_what_is_no_file(tmp_path: Path) -> None:
    assert "there is no checkpoint" in message(tmp_path / BEST)
    os.mkfifo(tmp_path / LAST)  # of which a reader would wait for ever
    for path in (tmp_path, tmp_path / LAST, Path(os.devnull)):
        assert f"{path} is no ordinary file" in message(path)
    assert "cannot be read" in message(tmp_path / ("x" * 300))


class Bomb:
    """A pickle that makes a file when it is loaded carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def torch_script(path: Path) -> None:
    """A file in which torch keeps code, not weights."""
    torch.jit.script(torch.nn.Linear(1, 1)).save(path)


FORGERIES = {
    "an unknown progress": lambda content: content["progress"].update(more=1),
    "a step that is a text": lambda content: content["progress"].update(step="1"),
    "a step that is none": lambda content: content["progress"].update(step=float("inf")),
    "half a generation": lambda content: content["progress"].update(generation=1.5),
    "a generation to come": lambda content: content["progress"].update(began=2),
    "one that began at no step": lambda content: content["progress"].update(began=float("inf")),
    "one that began before": lambda content: content["progress"].update(began=-1),
    "another optimizer": lambda content: content.update(optimizer=[{}, {}, {}]),
    "a memory of another shape": lambda content: content.update(
        optimizer=[{0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}]
    ),
    "an unknown setting": lambda content: content["settings"]["train"].update(more=1),
    "settings that are none": lambda content: content.update(settings=[1]),
    "too large a model": lambda content: content["model"].update(n_layer=10**9),
}


@pytest.mark.parametrize("change", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_forged_run_is_refused(
    change: Callable[[dict], Any], tiny: Callable, refusal: Callable
) -> None:
    assert tiny("train.max_steps=1").status == 0
    last = RUNS / "tiny" / LAST
    content = torch.load(last)
    change(content)
    forge(last, content)
    refusal(train.main, "--resume", "--device=cpu")


FORCES = ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
COMMANDS = [
    (train.main, "--resume --device=cpu --config=tiny.yaml"),
    (train.main, "--resume --from-best --device=cpu"),
    (train.main, "--device=cpu --config=tiny.yaml train.out_dir=new train.init_from={best}"),
    (train.main, "--device=cpu --config=tiny.yaml train.out_dir=new train.init_from={folder}"),
    (sample.main, "--ckpt --device=cpu"),
    (sample.main, "--ckpt {best} --device=cpu"),
    (compare.main, "--ckpt {folder}"),
]


@pytest.mark.parametrize("forces", [[], FORCES[:1], FORCES], ids=len)
@pytest.mark.parametrize(("main", "line"), COMMANDS)
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_code_in_a_file_is_not_run(
    main: Callable,
    line: str,
    forces: list[str],
    saved: Checkpoint,
    home: Path,
    refusal: Callable,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in forces:
        monkeypatch.setenv(name, "1")
    marker, folder = home / "boom", RUNS / "tiny"
    best = folder / BEST
    checkpoint.save(best, saved)
    content = torch.load(best, weights_only=True) if len(forces) < 2 else {"format": 2}
    bomb = Bomb(marker)
    bombs: dict[str, Callable[[Path], object]] = {
        "inside": lambda path: torch.save({**content, "progress": {"step": bomb}}, path),
        "alone": lambda path: torch.save(bomb, path),
        "old format": lambda path: torch.save(bomb, path, _use_new_zipfile_serialization=False),
        "bare": lambda path: path.write_bytes(pickle.dumps(bomb, protocol=2)),
        "script": torch_script,
    }
    for make in bombs.values():
        for name in (LAST, BEST):
            make(folder / name)
        assert " is damaged or no checkpoint; " in refusal(main, *line.format(**locals()).split())
        assert not marker.exists()
    assert not Path("new").exists()


@pytest.mark.skipif(numbers(torch.__version__) < SAFE, reason="this torch believes such a file")
def test_a_tensor_longer_than_its_file_is_not_read(tmp_path: Path) -> None:
    """Its values would be whatever stands behind it in memory."""
    path = tmp_path / BEST
    torch.save({"format": checkpoint.FORMAT, "weights": torch.arange(77.0)}, path)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w") as file:
        for name, part in parts.items():
            one, most = b"K" + bytes([77]), b"J" + (77_000_000).to_bytes(4, "little")
            file.writestr(name, part.replace(one, most) if name.endswith("data.pkl") else part)
    assert message(path).endswith(" is damaged or no checkpoint; name another file")


def test_the_bomb_is_one(tmp_path: Path) -> None:
    torch.save(Bomb(tmp_path / "boom"), tmp_path / BEST)
    torch.load(tmp_path / BEST, weights_only=False)
    assert (tmp_path / "boom").exists()


def test_a_failed_save_leaves_the_old_file(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / LAST
    checkpoint.save(path, saved)
    before = path.read_bytes()
    for size in (0, 10, 100, len(before) // 2, len(before) - 1):
        with room_for(size), pytest.raises(Fault, match=f"{LAST} could not be written: File too"):
            checkpoint.save(path, saved)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]
    with room_for(len(before)):
        checkpoint.save(path, saved)


def touch(path: Path, time: int) -> Path:
    """An empty file that was last changed at `time`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (time, time))
    return path


def test_loading_needs_no_compiler(saved: Checkpoint, tmp_path: Path, processes: Processes) -> None:
    checkpoint.save(tmp_path / "model.pt", saved)
    slow = ["torch._dynamo"]  # importing it takes longer than the rest
    argv = ("--ckpt=model.pt", "--max-new-tokens=1", "--device=cpu")
    assert processes.run("sample", *argv, cwd=tmp_path, without=slow).status == 0


def test_locate(home: Path) -> None:
    with pytest.raises(UserError, match=r"no run .* python train\.py --config"):
        checkpoint.locate(None)
    old_last, old_best = touch(RUNS / "old" / LAST, 30), touch(RUNS / "old" / BEST, 10)
    new_last = touch(RUNS / "new" / LAST, 40)
    touch(RUNS / "newer" / "config.yaml", 50)
    assert checkpoint.locate(None) == new_last
    assert checkpoint.locate(RUNS / "new") == new_last
    assert checkpoint.locate(RUNS / "old") == old_best
    assert checkpoint.locate(old_last) == old_last
    touch(old_last, 60)
    assert checkpoint.locate(None) == old_best
    with pytest.raises(UserError, match=r"newer has no best\.pt or last\.pt"):
        checkpoint.locate(RUNS / "newer")
