"""A model from wherever it was saved: by train.py, by nanoGPT, or as a folder of Hugging Face's."""

from pathlib import Path

from exchange import folder, nanogpt
from system import checkpoint
from system.checkpoint import BEST, LAST, Checkpoint


def locate(path: Path | None) -> Path:
    """The file of the model `path`, a run folder or a file, or of the newest run for None.

    It is `path` itself where that is a folder of Hugging Face's. Raises UserError.
    """
    if path is not None and folder.is_one(path):
        return path
    runs = path is None or any((path / name).is_file() for name in (BEST, LAST))
    if not runs and (path / nanogpt.FILE).is_file():
        return path / nanogpt.FILE
    return checkpoint.locate(path)


def load(path: Path) -> Checkpoint:
    """The model at `path`, which `locate` found. Never runs code from there. Raises UserError."""
    if folder.is_one(path):
        return folder.checkpoint_of(path)
    content = checkpoint.read(path)
    if nanogpt.is_one(content):
        return nanogpt.checkpoint_of(path, content)
    return checkpoint.unpack(path, content)


def is_foreign(path: Path) -> bool:
    """Whether another program trained the model `path`, by the names of files."""
    if folder.is_one(path) or path.name == nanogpt.FILE:
        return True
    return (path / nanogpt.FILE).is_file() and not (path / LAST).is_file()


def home(path: Path) -> Path:
    """The folder that the model `path` is in, or is. Raises UserError."""
    found = locate(path)
    return found if found.is_dir() else found.parent


def label(path: Path) -> str:
    """What to call the model at `path`, which `locate` found: its folder, or a file's own name."""
    if path.is_dir():
        return path.resolve().name
    own = path.name not in (BEST, LAST, nanogpt.FILE)
    return path.stem if own else path.resolve().parent.name
