"""Checkpoints that a run keeps on its way: step_001200.pt, of every few evaluations.

Which they are follows from the step alone, so that a run that was stopped keeps the same ones.
"""

import re
from pathlib import Path

from system.settings import TrainConfig

NAMES, NAME = "step_*.pt", re.compile(r"step_(\d{6,})\.pt")


def file_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of `step` is kept; such names sort by step up to a million."""
    return folder / f"step_{step:06}.pt"


def is_kept(train: TrainConfig, step: int) -> bool:
    """Whether the evaluation after `step` updates is one of those that are kept."""
    return train.keep_every > 0 and step % (train.keep_every * train.eval_every) == 0


def count(train: TrainConfig, standing: int, steps: int) -> int:
    """How many are kept in the next `steps` steps of a run that stands at `standing`."""
    every = train.keep_every * train.eval_every
    return (standing + steps) // every - standing // every if every else 0


def forget(folder: Path, after: int) -> None:
    """Remove those of later steps than `after`, which the run in `folder` is about to repeat."""
    for path in folder.glob(NAMES):
        found = NAME.fullmatch(path.name)
        if found and int(found[1]) > after:
            path.unlink()
