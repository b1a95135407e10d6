"""What is saved comes back bit for bit; whatever else is in a file gets one sentence."""

import contextlib
import dataclasses
import os
import pickle
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import exact
from tiny import tiny_gpt

import checkpoint
from checkpoint import BEST, LAST, RUNS, Checkpoint
from errors import Fault, UserError


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
    torch.save(change(torch.load(tmp_path / LAST)), tmp_path / LAST)
    assert message(tmp_path / LAST).endswith("name another file")
    checkpoint.save(tmp_path / BEST, saved)
    assert message(tmp_path / LAST).endswith(f"try {tmp_path / BEST}")
    (tmp_path / LAST).rename(tmp_path / "mine.pt")
    checkpoint.save(tmp_path / LAST, saved)
    assert message(tmp_path / "mine.pt").endswith(f"try {tmp_path / LAST}")


def test_another_format(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / BEST, saved)
    torch.save({**torch.load(tmp_path / BEST), "format": 2}, tmp_path / BEST)
    assert "format" in message(tmp_path / BEST)


def test_cut_files(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / LAST, saved)
    checkpoint.save(tmp_path / BEST, saved)
    whole = (tmp_path / LAST).read_bytes()
    for size in (0, 1, 2, 4, 100, len(whole) // 2, len(whole) - 100, len(whole) - 1):
        (tmp_path / LAST).write_bytes(whole[:size])
        assert message(tmp_path / LAST).endswith(f"try {tmp_path / BEST}")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_that_are_no_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "some.pt"
    for byte in range(256):
        path.write_bytes(bytes([byte]) + b"nd so it goes.\n")
        assert message(path).endswith("name another file")


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read" in message(tmp_path)
    assert "there is no checkpoint" in message(tmp_path / BEST)


class Bomb:
    """A pickle that makes a file when it is loaded carelessly."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return Path.touch, (self.marker,)


def test_code_in_a_file_is_not_run(saved: Checkpoint, tmp_path: Path) -> None:
    marker, path = tmp_path / "boom", tmp_path / BEST
    saved.progress["step"] = Bomb(marker)
    checkpoint.save(path, saved)
    message(path)
    path.write_bytes(pickle.dumps(Bomb(marker), protocol=2))
    message(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())
    assert marker.exists()  # it was a bomb


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow past `size` bytes, as on a disk that is nearly full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


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


def test_loading_needs_no_compiler(saved: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model.pt", saved)
    code = "import sys, checkpoint, pathlib; checkpoint.load(pathlib.Path(sys.argv[1]))"
    code += "; sys.exit('torch._dynamo' in sys.modules)"  # importing it takes longer than the rest
    root = Path(checkpoint.__file__).parent
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], cwd=root, check=True)


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
