"""A run small enough for a test, and what to compare runs by."""

import contextlib
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import UserError
from tests.helpers.posix import skip_without_posix
from training.trainer import Trainer

SETTINGS = """
model: {block_size: 8, n_layer: 1, n_head: 2, n_embd: 8, dropout: 0.1}
data: {dataset: text.txt, val_fraction: 0.25}
optim: {learning_rate: 0.03, warmup_steps: 2}
train: {seed: 68, max_steps: 10, batch_size: 4, grad_accum: 2, eval_every: 4, dtype: float32,
  sample_characters: 5}
"""  # 68: each evaluation is the best so far
TEXT = "".join(random.Random(1).choices("abcdefg \n", k=400))  # nothing to learn but by heart
RUN = Path("checkpoints/tiny")


def exact(value: Any) -> Any:
    """`value` with its tensors as bytes, so that == means equal bit for bit."""
    if isinstance(value, torch.Tensor):
        about = (str(value.dtype), value.shape, value.stride(), value.requires_grad)
        return *about, value.detach().numpy().tobytes()
    if isinstance(value, dict):
        return {key: exact(item) for key, item in value.items()}
    return [exact(item) for item in value] if isinstance(value, list) else value


def records(folder: Path) -> list[dict[str, float]]:
    """The evaluations of a run."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def state(folder: Path) -> dict[str, Any]:
    """Everything that a run made, but for where it did and how fast."""
    measured = records(folder)
    for record in measured:
        del record["seconds"], record["chars_per_second"]
    saves = {name: torch.load(folder / name) for name in ("best.pt", "last.pt")}
    for save in saves.values():
        for name in ("out_dir", "max_steps"):  # a run may be longer after it was resumed
            del save["settings"]["train"][name]
        del save["progress"]["seconds"], save["sha256"]
    return {"metrics": measured, **exact(saves)}


def sha256(folder: Path) -> str:
    """What stands for `state` to the last bit."""
    return hashlib.sha256(repr(state(folder)).encode()).hexdigest()


def forge(path: Path, content: Any) -> None:
    """Write `content` to `path` as somebody would who wants it to be taken for a checkpoint."""
    if isinstance(content, dict):
        content.pop("sha256", None)
        content["sha256"] = checkpoint.sha256(content)
    torch.save(content, path)


def after(step: int, act: Callable[[Trainer], None]) -> Callable[[Trainer], None]:
    """A `Trainer.update` that acts once `step` updates are made."""
    update = Trainer.update

    def update_and_act(trainer: Trainer) -> None:
        update(trainer)
        if trainer.progress.step == step:
            act(trainer)

    return update_and_act


def contents(folder: Path) -> dict[Path, bytes]:
    """Every file under `folder`, to the last byte."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow past `size` bytes, as on a disk that is nearly full."""
    skip_without_posix()
    import resource

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def flip_bytes(saved: Checkpoint, path: Path, *, times: int, seed: int) -> None:
    """Save to `path` and flip a byte, `times` times: each is refused, or says what was saved."""
    checkpoint.save(path, saved)
    whole, rng, refused = path.read_bytes(), random.Random(seed), 0
    for _ in range(times):
        place = rng.randrange(len(whole))
        flipped = bytes([whole[place] ^ rng.randrange(1, 256)])
        path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
        try:
            loaded = checkpoint.load(path)
        except UserError as error:
            refused += 1
            assert str(error).startswith(str(path)) and "\n" not in str(error)
        else:  # the byte says nothing, such as one that fills a gap
            assert exact(vars(loaded) | {"model": 0}) == exact(vars(saved) | {"model": 0})
            assert loaded.model == saved.model
    assert refused > 0.1 * times
