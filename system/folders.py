"""Folders that are written whole: beside their place, then moved to it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from system.errors import Fault, UserError
from system.files import replace, sync_folder


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Raise UserError where `folder` is not to be written to."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder} is no folder; name one, or a path where none is yet")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--to {folder} is not empty; name another folder, or say --overwrite")


@contextlib.contextmanager
def beside(folder: Path, key: str) -> Iterator[Path]:
    """A new folder beside `folder`, whose files are moved there if this context ends well.

    key: the file without which nobody takes the folder for whole. While files of other content may
    be there it is not, and it is moved last. Files of other names stay as they are.

    Raises Fault where that fails.
    """
    folder = folder.resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        for left in folder.parent.glob(f".{folder.name}.*.tmp"):  # of processes that were killed
            shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(parents=True)
        yield temporary
        folder.mkdir(exist_ok=True)
        (folder / key).unlink(missing_ok=True)
        sync_folder(folder)
        for path in temporary.iterdir():
            if path.name != key:
                replace(path, folder / path.name)
        sync_folder(folder)
        replace(temporary / key, folder / key)
        sync_folder(folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise Fault(
            f"{folder} could not be written: {error.strerror or error}; it needs a place that can "
            "be written to"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
