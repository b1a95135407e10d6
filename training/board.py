"""What a run measures, shown in TensorBoard while it goes on, for those who want that."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from system import config
from system.errors import UserError

FOLDER, EVENTS = "tensorboard", "events.out.tfevents.*"


class Board:
    """Where a run shows what it measures. This one shows it nowhere."""

    def log(self, record: dict[str, int | float]) -> None:
        """Add an evaluation, as it stands in metrics.jsonl: each name a curve over the steps."""

    def text(self, sample: str, step: int) -> None:
        """Add a text that the model wrote after `step` updates."""

    def close(self) -> None:
        """Write what is waiting to be written, and end."""


class TensorBoard(Board):
    """Event files in `folder`. What fails there costs one line on stderr, and never the run."""

    def __init__(self, folder: Path, settings: str, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here: it takes a second, or is absent

        self.writer: SummaryWriter | None = None
        overlook_worker()
        with self.forgiven():
            self.writer = SummaryWriter(str(folder), purge_step=step + 1 if step else None)
        self.attempt(lambda writer: writer.add_text("settings", verbatim(settings), step + 1))

    def log(self, record: dict[str, int | float]) -> None:
        """Add an evaluation: each name a curve over the steps."""

        def add(writer: Any) -> None:
            for name, value in record.items():
                if name != "step" and value is not None:
                    writer.add_scalar(name, value, record["step"])

        self.attempt(add)

    def text(self, sample: str, step: int) -> None:
        """Add a text that the model wrote after `step` updates."""
        self.attempt(lambda writer: writer.add_text("sample", verbatim(sample), step))

    def close(self) -> None:
        """End the writer; what is logged afterwards goes nowhere."""
        with self.forgiven():
            if self.writer is not None:
                self.writer.close()
        self.writer = None

    def attempt(self, add: Callable[[Any], object]) -> None:
        """Let `add` do something with the writer, if there still is one, and see it written."""
        with self.forgiven():
            if self.writer is not None:
                add(self.writer)
                self.writer.flush()  # a run that is killed has shown all that it measured

    @contextlib.contextmanager
    def forgiven(self) -> Iterator[None]:
        """Turn what fails into a warning, and be silent from then on."""
        try:
            yield
        except Exception as error:  # whatever it is, training is worth more
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            warning = f"warning: TensorBoard failed ({reason}); going on without it"
            writer, self.writer = self.writer, None
            with contextlib.suppress(OSError):  # stderr may lead to the same full disk
                print(warning, file=sys.stderr)
            with contextlib.suppress(Exception):
                writer.file_writer.close()  # ends its thread even where nothing can be written


def overlook_worker() -> None:
    """Keep tracebacks of TensorBoard's own thread off stderr; `flush` raises what ended it."""
    earlier = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if not type(failed.thread).__module__.startswith("tensorboard."):
            earlier(failed)

    threading.excepthook = hook


def verbatim(text: str) -> str:
    """Markdown that shows `text` as it is, line by line."""
    return "    " + text.replace("\n", "\n    ")


def check(folder: Path, wanted: bool) -> None:
    """Raise UserError where a board is wanted in the run folder `folder` and cannot be had."""
    if not wanted:
        return
    place = folder / FOLDER
    if place.is_symlink():
        raise UserError(
            f"{place} is a link, to {place.readlink()}; remove it, or set train.tensorboard=false"
        )
    try:
        import torch.utils.tensorboard  # noqa: F401
    except Exception as error:  # absent, or at odds with what else is installed
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"train.tensorboard=true needs the package tensorboard ({reason}); install it with "
            "pip install -r requirements-tensorboard.txt, or set train.tensorboard=false"
        ) from None


def forget(folder: Path) -> None:
    """Remove the event files of an earlier run in `folder`: nothing else, and through no link."""
    place = folder / FOLDER
    if place.is_symlink() or not place.is_dir():
        return
    with contextlib.suppress(OSError):  # where nothing can be removed, the writer says so
        for file in place.glob(EVENTS):
            file.unlink()
        place.rmdir()  # unless something else is in it


def open_board(
    folder: Path, wanted: bool, settings: dict[str, dict[str, Any]], step: int = 0
) -> Board:
    """The board of the run in `folder`, which goes on from `step`; not `wanted`, an idle one.

    What an earlier run has shown there, or this one after `step`, is forgotten. `settings` are the
    sections of the run's Config. Raises UserError as `check` does.
    """
    check(folder, wanted)
    if step == 0:
        forget(folder)
    if not wanted:
        return Board()
    return TensorBoard(folder / FOLDER, config.to_yaml(config.build(settings)), step)
