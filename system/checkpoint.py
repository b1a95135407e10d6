"""The only place that saves or loads a model: atomic, safe, versioned.

A checkpoint is one file of plain containers and tensors:

    format       the number of this layout
    model        the fields of GPTConfig
    chars        the vocabulary, in the order of its ids
    weights      the state dict of the model
    settings     the sections of the run's Config
    fingerprint  sha256 of the text; ELSEWHERE where another program learned from it; empty where
                 nobody trained the model
    optimizer    what the optimizer remembers
    progress     where the run stands: step, generation, best_loss, ...
    counts       the counts beside the model, as data.counts.pack has them: they hold stretches of
                 the text
    shares       of the counts in the mixture
    teachers     the GPTs that teach this one, each as its `model` and `weights`: a run goes on with
                 them alone
    sha256       of all of the above, so that damage is noticed
"""

import dataclasses
import hashlib
import io
import math
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from model import GPT, GPTConfig
from system.errors import UserError, looked_in
from system.files import write_whole

FORMAT = 4
READ = (2, 3, 4)  # 3: model has shift, which is 0 in those before; counts; 4: there are teachers
RUNS = Path("checkpoints")
LAST, BEST = "last.pt", "best.pt"
ELSEWHERE = "elsewhere"


@dataclass
class Checkpoint:
    """A model, its vocabulary, and the run that made it. Tensors are on the CPU once loaded."""

    model: GPTConfig
    chars: str
    weights: dict[str, Tensor]
    settings: dict[str, dict[str, Any]]
    fingerprint: str
    optimizer: list[dict[int, dict[str, Tensor]]]
    progress: dict[str, int | float]
    counts: list[dict[str, Tensor]] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    teachers: list[dict[str, Any]] = field(default_factory=list)

    def build(self) -> GPT:
        """The model alone, with its weights, in evaluation mode; mixture.load adds the counts."""
        model = GPT(self.model)
        model.load_state_dict(self.weights, strict=True)
        return model.eval()


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to `path` whole or not at all. Raises Fault where that fails."""
    write_whole(path, lambda file: write(file, checkpoint))


def write(file: BinaryIO, checkpoint: Checkpoint) -> None:
    """Write `checkpoint` to an open file."""
    fields = {f.name: getattr(checkpoint, f.name) for f in dataclasses.fields(checkpoint)}
    content = {"format": FORMAT, **fields, "model": dataclasses.asdict(checkpoint.model)}
    content["sha256"] = sha256(content)
    torch.save(content, file)


def sha256(content: Any) -> str:
    """A hash of plain containers and tensors to the last bit."""
    digest = hashlib.sha256()
    for part in parts(content):
        digest.update(part)
    return digest.hexdigest()


def parts(content: Any) -> Iterator[bytes | np.ndarray]:
    """All that `content` says, in an order that only depends on that.

    Raises TypeError for anything else.
    """
    if isinstance(content, Tensor):
        yield f"{content.dtype} {content.shape} {content.stride()} {content.requires_grad}".encode()
        yield content.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
    elif isinstance(content, dict | list):
        yield f"{type(content).__name__} {len(content)} ".encode()
        for key in content if isinstance(content, dict) else range(len(content)):
            yield f"{key!r}: ".encode()
            yield from parts(content[key])
    elif content is None or isinstance(content, str | int | float):
        yield f"{content!r}, ".encode()
    else:
        raise TypeError(f"{type(content)} is not plain")


def load(path: Path) -> Checkpoint:
    """Read the checkpoint at `path`, a file. Never runs code from it. Raises UserError."""
    return unpack(path, read(path))


def read(path: Path) -> dict[str, Any]:
    """What the file `path` of torch.save holds, whoever wrote it: plain containers and tensors.

    Never runs code from it. Raises UserError.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device could be read for ever
            raise UserError(f"{path} is no ordinary file; {other(path)}")
        raw = path.read_bytes()
    except FileNotFoundError:
        hint = other(path) if path.parent.is_dir() and path.name in (LAST, BEST) else runs()
        raise UserError(f"there is no checkpoint {path}{looked_in(path)}; {hint}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; {other(path)}") from None
    try:
        with warnings.catch_warnings(action="ignore"):
            content = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes can make it raise anything
        raise UserError(f"{path} is damaged or no checkpoint; {other(path)}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is no checkpoint; {other(path)}")
    return content


def unpack(path: Path, content: dict[str, Any]) -> Checkpoint:
    """The checkpoint that `content` of the file `path` is. Raises UserError."""
    if not isinstance(content.get("format"), int):
        raise UserError(f"{path} is no checkpoint; {other(path)}")
    if content["format"] not in READ:
        raise UserError(
            f"{path} is of format {content['format']} and not {FORMAT}; use the version that wrote "
            "it"
        )
    try:
        return restore(content)
    except Exception as error:  # so can what someone put together
        raise UserError(f"{path} is damaged; {other(path)}") from error


def restore(content: dict[str, Any]) -> Checkpoint:
    """The checkpoint that `content` of this format holds. Raises whatever, if it is damaged."""
    if content.pop("sha256") != sha256(content):
        raise ValueError("the content is not what was saved")
    del content["format"]
    checkpoint = Checkpoint(**{**content, "model": GPTConfig(**content["model"])})
    check(checkpoint)
    return checkpoint


class ShapesOnly(TorchFunctionMode):
    """Leaves out random values and ranges, which take a second of imports on the meta device."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = kwargs or {}
        if func.__name__ in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        if func.__name__ == "arange":  # of positions, which are in no checkpoint
            return torch.empty(0, device="cpu")
        return func(*args, **kwargs)


def check(checkpoint: Checkpoint) -> None:
    """Raise ValueError unless the parts of `checkpoint` fit together and are finite."""
    for name, kind in get_type_hints(Checkpoint).items():
        if not isinstance(getattr(checkpoint, name), get_origin(kind) or kind):
            raise ValueError(f"{name} is of another type")
    check_weights(checkpoint.model, checkpoint.weights)
    if not len(checkpoint.chars) == len(set(checkpoint.chars)) == checkpoint.model.vocab_size:
        raise ValueError("the vocabulary does not fit the model")
    if len(checkpoint.shares) != len(checkpoint.counts):
        raise ValueError("the shares do not fit the counts")
    if not all(isinstance(share, float) and 0 <= share <= 1 for share in checkpoint.shares):
        raise ValueError("the shares are no shares")
    for teacher in checkpoint.teachers:
        model = GPTConfig(**teacher["model"])
        if teacher.keys() != {"model", "weights"} or model.vocab_size != len(checkpoint.chars):
            raise ValueError("a teacher is of another vocabulary, or more than a model")
        check_weights(model, teacher["weights"])
    progress = checkpoint.progress
    if not all(math.isfinite(n) or n > 0 for n in progress.values()):
        raise ValueError("the progress has numbers that are none")
    step, began = progress["step"], progress.get("began", 0)
    whole = all(isinstance(n, int) for n in (step, began, progress.get("generation", 1)))
    if not (whole and 0 <= began <= step):
        raise ValueError("the progress stands nowhere")


def check_weights(model: GPTConfig, weights: dict[str, Tensor]) -> None:
    """Raise ValueError unless `weights` are those of such a `model`, and finite."""
    if model.n_layer * model.n_head > len(weights):
        raise ValueError("there are too few weights")  # said here, before a model is built
    with torch.device("meta"), ShapesOnly():
        expected = GPT(model).state_dict()
    shapes = {name: weight.shape for name, weight in weights.items()}
    if shapes != {name: weight.shape for name, weight in expected.items()}:
        raise ValueError("the weights do not fit the model")
    if not all(weight.isfinite().all() for weight in weights.values()):
        raise ValueError("the weights are not finite")


def other(path: Path) -> str:
    """What to try in place of a checkpoint that cannot be used."""
    twin = path.with_name(BEST if path.name == LAST else LAST)
    if not twin.is_file():
        return "name another file"
    return f"try {twin}, which --ckpt and --resume take"


def runs() -> str:
    """The end of a message: which runs there are, some of them where there are many."""
    names = {path.parent.name for name in (LAST, BEST) for path in RUNS.glob(f"*/{name}")}
    listed = ", ".join(sorted(names)[:9]) or "none"
    return f"name a run folder or a file; of runs {RUNS}/ has {listed}"


def is_in_runs(folder: Path) -> bool:
    """Whether `folder` really is one of RUNS, which neither `..` nor a link leads out of."""
    return folder.resolve().parent == RUNS.resolve()


def newest_run() -> Path | None:
    """The run folder that saved last; None when there is no run."""
    saved = [p for name in (LAST, BEST) for p in RUNS.glob(f"*/{name}") if is_in_runs(p.parent)]
    return max(saved, key=lambda file: file.stat().st_mtime).parent if saved else None


def locate(path: Path | None) -> Path:
    """The file to sample from: `path`, the best one of a run folder, or of the newest run."""
    folder = path or newest_run()
    if folder is None:
        raise UserError(
            f"there is no run in {RUNS.absolute()} yet; "
            "train one with: python train.py --config tiny_shakespeare.yaml"
        )
    if not folder.is_dir():
        return folder
    for name in (BEST, LAST):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"the folder {folder} has no {BEST} or {LAST}; name a run folder or a file")
