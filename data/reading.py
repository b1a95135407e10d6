"""The text of a run, read piece by piece and never held whole: it may be larger than the memory."""

import codecs
import hashlib
import io
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data import aab, rules
from data.files import Found, find
from data.tokenizer import CODE_POINTS, code_points
from system.errors import UserError
from system.settings import DataConfig

PIECE = 1 << 20  # bytes read at a time
BUILT_IN = ("tiny_shakespeare", "aab")  # texts that are no files of the user's
RULES = "rules:"  # of a rule file's name, where a path could stand too


@dataclass
class Survey:
    """What a first pass over a text has found.

    chars: its distinct characters, sorted; length: in characters
    sha256: of the text as it is read
    found: the files that it is in
    """

    chars: str = ""
    length: int = 0
    sha256: str = ""
    found: Found = field(default_factory=Found)


def survey(config: DataConfig) -> Survey:
    """Read the text once. Raises UserError where it cannot be read."""
    about = Survey()
    seen = np.zeros(CODE_POINTS, dtype=bool)
    digest = hashlib.sha256()
    for piece in read_text(config, about):
        seen[code_points(piece)] = True
        about.length += len(piece)
        digest.update(piece.encode())
    about.chars = "".join(map(chr, np.flatnonzero(seen)))
    about.sha256 = digest.hexdigest()
    return about


def read_text(config: DataConfig, about: Survey | None = None) -> Iterator[str]:
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
    about.found = find(config.dataset, flat=flat)
    texts = map(read_file, about.found.files)
    if flat:  # the files are one text, also where a line end is begun in one and ended in another
        texts = [itertools.chain.from_iterable(texts)]
    yield from join(with_newlines(text) if config.normalize_newlines else text for text in texts)


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


def with_newlines(pieces: Iterable[str]) -> Iterator[str]:
    r"""`pieces` of a text with \n for each of its line ends."""
    decoder = io.IncrementalNewlineDecoder(None, translate=True)
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode("", final=True)


def read_file(path: Path) -> Iterator[str]:
    """The text of a UTF-8 file in pieces, without its byte order mark. Raises UserError."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0  # bytes that earlier pieces took
    try:
        with path.open("rb") as file:
            while piece := file.read(PIECE):
                waiting = len(decoder.getstate()[0])
                text = decoder.decode(piece)
                yield text.removeprefix("\ufeff") if done == 0 else text
                done += len(piece)
            waiting = len(decoder.getstate()[0])
            decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        offset = done - waiting + error.start
        raise UserError(
            f"{path} is not UTF-8 at byte offset {offset}; save it as UTF-8, for example with "
            f"iconv -f ENCODING -t UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; mend that") from None
