"""Files that are there whole or not at all, whatever happens meanwhile; folders with one writer."""

import contextlib
import io
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from system.errors import Fault, UserError

try:
    import fcntl
except ImportError:  # this is Windows, which has other locks
    import msvcrt

    fcntl = None

LOCK = ".lock"
LOCKED = 1 << 30  # the place in it that Windows locks, far from what it says
PAUSES = (0.01, 0.1, 0.5, 1, 2)  # seconds between attempts where another process is in the way


@contextlib.contextmanager
def telling(path: Path, size: int) -> Iterator[None]:
    """Turn what keeps `size` bytes from being written to `path` into a Fault."""
    try:
        yield
    except OSError as error:
        raise Fault(
            f"{path} could not be written: {error.strerror or error}; it needs {size:,} bytes of "
            "room, in a folder that can be written to"
        ) from error


def write_whole(
    path: Path,
    content: bytes | Callable[[BinaryIO], object],
    examine: Callable[[Path], object] | None = None,
) -> Path:
    """Write a temporary file in the folder of `path`, then move it into place.

    content: the bytes, or a function that writes them to an open file
    examine: it is given the temporary file; where it raises, `path` stays as it is

    A reader sees the old file or the whole new one, also after a crash or a power cut.
    Raises Fault where the file cannot be written; the old one is then untouched.
    """
    if callable(content):  # into memory, so that what can fail below is the disk alone
        buffer = io.BytesIO()
        content(buffer)
        content = buffer.getbuffer()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with telling(path, len(content)):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.unlink(missing_ok=True)
            with temporary.open("xb") as file:  # never through a link that was put there
                file.write(content)
                file.flush()
                sync(file.fileno())
        if examine is not None:
            examine(temporary)
        with telling(path, len(content)):
            replace(temporary, path)
            sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


def append_line(path: Path, line: str) -> None:
    """Add `line` to the file at `path`, for good. Raises Fault; half of it may then be there."""
    content = f"{line}\n".encode()
    with telling(path, len(content)), path.open("ab") as file:
        file.write(content)
        file.flush()
        sync(file.fileno())


def replace(temporary: Path, path: Path) -> None:
    """Move `temporary` to `path`. Raises OSError.

    Windows refuses while another process has the old file open, as a virus scanner or a reader has
    for a moment; there it is tried for some seconds.
    """
    for pause in () if fcntl else PAUSES:
        with contextlib.suppress(PermissionError):
            temporary.replace(path)
            return
        time.sleep(pause)
    temporary.replace(path)


def sync(handle: int) -> None:
    """Have what was written to an open file or folder outlast a power cut. Raises OSError."""
    os.fsync(handle)
    if hasattr(fcntl, "F_FULLFSYNC"):  # macOS, where fsync leaves it in the memory of the drive
        with contextlib.suppress(OSError):  # not every file system has it
            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable too, where the system can (Windows cannot)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            sync(handle)
        finally:
            os.close(handle)


def clear_temporary(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left beside it."""
    for left in path.parent.glob(f".{path.name}.*.tmp"):
        left.unlink(missing_ok=True)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """While this context lasts, `folder` is held against other processes; it is made if need be.

    The system lets go of it when the process ends, however that happens. Raises UserError where
    another process holds it, or where nothing can be written to it.
    """
    try:
        made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        handle = hold(folder / LOCK)
    except OSError as error:
        raise UserError(
            f"the run folder {folder} cannot be used: {error.strerror or error}; choose another "
            "with train.out_dir=FOLDER"
        ) from None
    try:
        yield
    finally:
        if not fcntl:  # Windows removes no open file, and so none that another process holds by now
            os.close(handle)
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()  # while it is still held: `hold` tells why that is safe
            if made:
                folder.rmdir()  # unless something was saved
        if fcntl:
            os.close(handle)


def hold(path: Path) -> int:
    """Lock the file at `path` and write the number of this process into it; its open handle.

    Raises UserError when another process has it, OSError when there can be no such file.
    """
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if not lock(handle, path.parent):
            holder = os.read(handle, 20).decode() or "that is starting"
            os.close(handle)
            raise UserError(
                f"{path.parent} is in use by process {holder}; wait until it ends, or choose "
                "another folder with train.out_dir=FOLDER"
            )
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                with contextlib.suppress(OSError):  # on a full disk it holds just as well
                    os.ftruncate(handle, 0)
                    os.write(handle, str(os.getpid()).encode())
                return handle
        os.close(handle)  # its holder removed the file as it left; there is a newer one or none


def lock(handle: int, folder: Path) -> bool:
    """Whether the open file is now this process's; where the system has no locks, it is."""
    try:
        if fcntl:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            lock_on_windows(handle)
    except BlockingIOError:
        return False
    except OSError as error:  # as on some network file systems
        reason = f"{folder} cannot be held against other runs ({error.strerror})"
        print(f"warning: {reason}; start no second one there", file=sys.stderr)
    return True


def lock_on_windows(handle: int) -> None:
    """Lock one byte behind the end of an open file. Raises BlockingIOError where it is locked.

    No other process could read what is locked, and a refused one reads who holds the file.
    """
    os.lseek(handle, LOCKED, os.SEEK_SET)
    try:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from None
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
