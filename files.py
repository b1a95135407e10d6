"""Files that are there whole or not at all, whatever happens meanwhile."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from errors import Fault


def write_whole(path: Path, content: bytes | memoryview | Callable[[BinaryIO], object]) -> Path:
    """Write a temporary file in the folder of `path`, then move it into place.

    `content` is the bytes, or a function that writes them to the open file.

    A reader sees the old file or the whole new one, also after a crash or a power cut.
    Raises Fault where the file cannot be written; the old one is then untouched.
    """
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            content(file) if callable(content) else file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
        return path
    except OSError as error:
        raise Fault(
            f"{path} could not be written: {error.strerror or error}; "
            "make room, or make the folder writable"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable too, where the system can (Windows cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
