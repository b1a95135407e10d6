"""The text of a run, read piece by piece and never held whole: it may be larger than the memory."""

import codecs
import contextlib
import dataclasses
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm

from data import aab, foreign, rules
from data.files import Found, find
from data.tokenizer import CODE_POINTS, code_points
from system.bar import bar
from system.errors import UserError
from system.settings import DataConfig

PIECE = 1 << 20  # bytes read at a time
BUILT_IN = ("tiny_shakespeare", "aab")  # texts that are no files of the user's
RULES = "rules:"  # of a rule file's name, where a path could stand too


@dataclass
class Survey:
    """What a first pass over a text has found.

    counts: how often each character comes, by its code point
    sha256: of the text as it is read
    found: the files that it is in
    crlf, cr: line ends of Windows, and of old Macs, that were read as \\n
    utf16: names of the files that were UTF-16
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(CODE_POINTS, dtype=np.int64))
    sha256: str = ""
    found: Found = field(default_factory=Found)
    crlf: int = 0
    cr: int = 0
    utf16: list[str] = field(default_factory=list)

    @property
    def chars(self) -> str:
        """The distinct characters, sorted."""
        return self.that_come(1, int(self.counts.max()))

    @property
    def length(self) -> int:
        """Of the text, in characters."""
        return int(self.counts.sum())

    def that_come(self, least: int, most: int) -> str:
        """The distinct characters that come so often, sorted."""
        found = (least <= self.counts) & (self.counts <= most) & (self.counts > 0)
        return "".join(map(chr, np.flatnonzero(found)))


@dataclass
class Stock:
    """What is known of the texts of a run before they are encoded.

    texts: the text, and the one of its own to validate on, if there is one
    chars, rare: the characters that are kept, and those that come too seldom, each sorted
    length, val_length: of the two texts, in characters that are kept
    """

    texts: list[Survey]
    chars: str
    rare: str
    length: int
    val_length: int = 0

    @property
    def fingerprint(self) -> str:
        """The sha256 of the text, and behind a blank that of the one to validate on."""
        return " ".join(text.sha256 for text in self.texts)


def take_stock(config: DataConfig) -> Stock:
    """Read the texts of a run once. Raises UserError where one cannot be read."""
    texts = [survey(each) for each in (config, validation(config)) if each]
    both = Survey(sum(text.counts for text in texts))
    kept = both.counts >= config.min_count
    lengths = [int(text.counts[kept].sum()) for text in texts]
    most = int(both.counts.max())
    rare = both.that_come(1, config.min_count - 1)
    return Stock(texts, both.that_come(config.min_count, most), rare, *lengths)


def survey(config: DataConfig) -> Survey:
    """Read the text once. Raises UserError where it cannot be read."""
    about = Survey()
    digest = hashlib.sha256()
    for piece in read(config, about):
        counts = np.bincount(code_points(piece))
        about.counts[: len(counts)] += counts
        digest.update(piece.encode())
    about.sha256 = digest.hexdigest()
    return about


def read(config: DataConfig, about: Survey | None = None) -> Iterator[str]:
    """The text of the dataset in pieces; what was found of it is noted in `about`.

    Files of a folder or of a list are joined with a line end where one has none. Raises UserError.
    """
    about = about or Survey()
    if config.dataset == "aab":
        yield aab.text()
        return
    if isinstance(config.dataset, str) and config.dataset.startswith(RULES):
        yield rules.text(rules.read(config.dataset.removeprefix(RULES)))
        return
    flat = config.folder == "flat"
    setting = "data.dataset" if config.val_dataset != config.dataset else "data.val_dataset"
    about.found = find(config.dataset, flat=flat, setting=setting)
    with bar("reading", size_of(about.found.files), "B") as progress:
        texts = (read_file(path, about, progress) for path in about.found.files)
        if flat:  # the files are one text, also where a line end is in two of them
            texts = [itertools.chain.from_iterable(texts)]
        if config.normalize_newlines:
            texts = (with_newlines(text, about) for text in texts)
        yield from join(texts)


def size_of(files: Iterable[Path]) -> int | None:
    """The bytes of all files together; None where one has vanished, as reading it will say."""
    with contextlib.suppress(OSError):
        return sum(file.stat().st_size for file in files)
    return None


def validation(config: DataConfig) -> DataConfig | None:
    """The settings with the text of its own to validate on as dataset; None without one."""
    if config.val_dataset is None:
        return None
    return dataclasses.replace(config, dataset=config.val_dataset)


def join(texts: Iterable[Iterator[str]]) -> Iterator[str]:
    """Texts one after the other, each in its own lines."""
    latest = "\n"
    for text in texts:
        begun = False
        for piece in filter(None, text):
            if not begun and latest not in "\r\n":
                yield "\n"
            yield piece
            begun, latest = True, piece[-1]


def with_newlines(pieces: Iterable[str], about: Survey) -> Iterator[str]:
    r"""`pieces` of a text with \n for each of its line ends; what that changes is counted."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in itertools.chain(pieces, (None,)):
        before, text = piece or "", decoder.decode(piece or "", final=piece is None)
        if text != before:  # counting takes longer than all else
            returns, added = before.count("\r"), text.count("\n") - before.count("\n")
            about.crlf += returns - added  # a \r alone adds a \n, one before a \n adds none
            about.cr += added
        yield text


def read_file(
    path: Path, about: Survey | None = None, progress: tqdm | None = None
) -> Iterator[str]:
    """The text of a file in pieces: UTF-8, or UTF-16 with a byte order mark, which is left out.

    A file of UTF-16 is noted in `about`. Raises UserError where it is neither.
    """
    done = 0  # bytes in earlier pieces
    try:
        with path.open("rb") as file:
            encoding = encoding_of(path, file.read(foreign.HEAD))
            file.seek(0)
            if about and encoding != "utf-8":
                about.utf16.append(path.name)
            decoder = codecs.getincrementaldecoder(encoding)()
            while True:
                piece = file.read(PIECE)
                waiting = len(decoder.getstate()[0])
                try:
                    text = decoder.decode(piece, final=not piece)
                except UnicodeDecodeError as error:
                    offset = done - waiting + error.start
                    line = 1 + line_ends(file, encoding, offset)
                    raise UserError(foreign.broken(path, encoding, offset, line)) from None
                if not piece:
                    return
                yield text.removeprefix("\ufeff") if done == 0 else text
                done += len(piece)
                if progress is not None:
                    progress.update(len(piece))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; mend that") from None


def encoding_of(path: Path, head: bytes) -> str:
    """What a file that begins with `head` is written in. Raises UserError where it is no text."""
    if refusal := foreign.refusal(path, head):
        raise UserError(refusal)
    marks = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
    return marks.get(head[:2], "utf-8")


def line_ends(file: BinaryIO, encoding: str, size: int) -> int:
    """How many line ends the first `size` bytes of a file have, if it has one kind of them."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    feeds = returns = 0
    file.seek(0)
    while piece := file.read(min(PIECE, size)):
        size -= len(piece)
        text = decoder.decode(piece)
        feeds += text.count("\n")
        returns += text.count("\r")
    return max(feeds, returns)
