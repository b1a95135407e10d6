"""A text as ids, against Python's own decoding, and its windows, where each id is its position."""

import gzip
import hashlib
import io
import os
import random
import re
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from tqdm import tqdm

from data import aab, corpus, files, reading, tiny_shakespeare
from data.corpus import Batches, Corpus
from data.reading import Survey
from system.errors import Fault, UserError
from system.settings import DataConfig
from tests.helpers import ROOT
from tests.helpers.posix import needs_posix
from tests.helpers.runs import room_for

CPU = torch.device("cpu")
often = settings(max_examples=200, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder for all examples of a hypothesis test."""
    return tmp_path_factory.mktemp("texts")


def write(path: Path, content: str | bytes) -> Path:
    """A file with that content, to the byte."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def load(path: Path, block_size: int = 3, chars: str | None = None, **data: object) -> Corpus:
    """The corpus of a file or folder, its line ends as they are unless told otherwise."""
    config = DataConfig(**{"dataset": str(path), "normalize_newlines": False, **data})
    scratch = path.parent / "run" / "ids.bin"
    return corpus.load(config, block_size, CPU, chars=chars, scratch=scratch)


def text_of(loaded: Corpus) -> str:
    """What a corpus says."""
    return loaded.tokenizer.decode(torch.cat([loaded.train, loaded.val]))


@pytest.fixture
def tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read four bytes at a time."""
    monkeypatch.setattr(reading, "PIECE", 4)


# What is read

TEXT = "Ein Schäfer\r\nzählt: 10 €\r\0🐑🐑\n" * 2  # 58 characters


@pytest.mark.parametrize(("share", "val_size"), [(0.1, 5), (0.25, 14), (0.75, 43)])
def test_end_of_the_text_is_for_validation(
    tmp_path: Path, tiny_pieces: None, share: float, val_size: int
) -> None:
    loaded = load(write(tmp_path / "text", TEXT), val_fraction=share)
    assert loaded.tokenizer.decode(loaded.train) == TEXT[:-val_size]
    assert loaded.tokenizer.decode(loaded.val) == TEXT[-val_size:]
    assert loaded.tokenizer.chars == "".join(sorted(set(TEXT)))
    assert loaded.train.dtype == loaded.val.dtype == torch.uint8


def test_folder_is_its_texts_in_natural_order(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    order = ("B.txt", "b.txt", "chapter2.txt", "Chapter9/2.txt", "Chapter9/10.TXT")
    order += ("chapter10.txt", "chapter10 b.txt", "z/y/x.Txt")
    for name in (*reversed(order), "a.md", "txt"):
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        write(texts / name, f"\ufeff{name} \ufeff")  # of two byte order marks only the first
    loaded = load(texts)
    assert text_of(loaded) == "\n".join(f"{name} \ufeff" for name in order)
    assert loaded.notes[0] == "8 files"
    link = tmp_path / "link"
    link.symlink_to(texts)
    assert text_of(load(link)) == text_of(loaded)


@needs_posix
def test_what_is_left_out_of_a_folder_is_named(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    for name in ("a.txt", "._a.txt", ".git/b.txt", "in/__MACOSX/c.txt", "in/d.txt"):
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        write(texts / name, f"{name}\n" * 9)
    loaded = load(texts)
    assert text_of(loaded) == "a.txt\n" * 9 + "in/d.txt\n" * 9
    named = "._a.txt (hidden), .git/ (hidden), in/__MACOSX/ (made by macOS)"
    assert loaded.notes == [f"2 files, 3 left out: {named}"]
    os.mkfifo(texts / "in" / "pipe.txt")
    (texts / "loop").symlink_to(texts)
    (texts / "gone.txt").symlink_to("nowhere.txt")
    write(texts / "void.txt", "")
    found = files.find(str(texts))
    said = "2 files, 7 left out: ._a.txt (hidden), .git/ (hidden), "
    assert found.said() == said + "gone.txt (a link to nothing) and 4 more"
    (texts / ".git/b.txt").unlink()
    (texts / ".git").rmdir()
    (texts / "._a.txt").unlink()
    assert dict(files.find(str(texts)).left_out) == {
        "gone.txt": "a link to nothing",
        "in/__MACOSX/": "made by macOS",
        "in/pipe.txt": "no ordinary file",
        "loop/": "a link to a folder",
        "void.txt": "empty",
    }
    (texts / "a.txt").unlink()
    (texts / "in/d.txt").unlink()
    refused(
        texts, r"texts has no \.txt file; put .* \(0 files, 5 left out: gone\.txt \(a link to n"
    )


def test_a_flat_folder_is_read_as_it_was(tmp_path: Path) -> None:
    for name in ("b.txt", "a10.txt", "a2.txt", "B.txt", ".txt", "in/d.txt", "C.TXT"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, f"{name}\r")
    write(tmp_path / "c.txt", "\n")  # the second half of a line end
    config = DataConfig(dataset=str(tmp_path), folder="flat", normalize_newlines=True)
    assert "".join(reading.read(config)) == ".txt\nB.txt\na10.txt\na2.txt\nb.txt\n"


tricky = st.text(alphabet="ab\r\né€🐑\ufeff\0")


@often
@given(texts=st.lists(tricky, min_size=1, max_size=3), piece=st.integers(3, 9), lf=st.booleans())
@example(texts=["\ufeff\ufeffa\r", "\n\r"], piece=9, lf=True)
@example(texts=["", "a", "", "b\n", "\r", "c"], piece=3, lf=False)
def test_pieces_make_the_whole(folder: Path, texts: list[str], piece: int, lf: bool) -> None:
    for old in folder.iterdir():
        old.unlink()
    raws = [write(folder / f"{i}.txt", text).read_bytes() for i, text in enumerate(texts)]
    each = [raw.decode("utf-8-sig") for raw in raws]
    if lf:
        each = [text.replace("\r\n", "\n").replace("\r", "\n") for text in each]
    *before, last = [text for text in each if text] or [""]
    whole = "".join(text if text[-1] in "\r\n" else f"{text}\n" for text in before) + last
    assume(any(raws))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE", piece)  # a byte order mark is three bytes
        config = DataConfig(dataset=str(folder), normalize_newlines=lf)
        assert "".join(reading.read(config)) == whole
        about = reading.survey(config)
    assert about.chars == "".join(sorted(set(whole)))
    assert about.length == len(whole)
    assert about.sha256 == hashlib.sha256(whole.encode()).hexdigest()


@pytest.mark.parametrize("config", [{}, {"folder": "flat"}, {"normalize_newlines": False}])
def test_a_bar_grows_with_what_is_read(
    tmp_path: Path, tiny_pieces: None, monkeypatch: pytest.MonkeyPatch, config: dict
) -> None:
    for name, raw in (("a", TEXT.encode()), ("b", TEXT.encode("utf-16")), ("c", b"a" * 7)):
        write(tmp_path / f"{name}.txt", raw)
    bars = []

    def bar(what: str, total: int, unit: str) -> tqdm:
        bars.append(tqdm(total=total, file=io.StringIO()))
        return bars[-1]

    monkeypatch.setattr(reading, "bar", bar)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    load(tmp_path, **config)
    assert [(bar.n, bar.total, bar.disable) for bar in bars] == [(size, size, True)] * 2  # closed


LINE_ENDS = [  # as they are counted in a text
    ("a\r\n" * 1204, "1,204 Windows line ends"),
    ("a\r" * 99, "99 old Mac line ends"),
    ("a\r\na\n" + "a\n" * 99, "1 Windows line end"),
    ("a\r\r\na\n\r" + "a\n" * 99, "1 Windows line end and 2 old Mac line ends"),
]


@pytest.mark.parametrize(("text", "said"), LINE_ENDS)
def test_line_ends_of_other_systems(
    tmp_path: Path, tiny_pieces: None, text: str, said: str
) -> None:
    path, lf = write(tmp_path / "text", text), text.replace("\r\n", "\n").replace("\r", "\n")
    loaded = load(path, normalize_newlines=DataConfig().normalize_newlines)
    assert text_of(loaded) == lf
    kept = "; data.normalize_newlines=false keeps them"
    assert loaded.notes == [f"{said} read as \\n{kept}"]
    assert not any("read as" in note for note in load(path).notes)
    assert load(write(path, lf), normalize_newlines=True).notes == []
    config = DataConfig(dataset=str(write(path, text)))
    settled = corpus.load(config, 3, CPU, chars=None, scratch=path, settled=True)
    assert settled.notes == [f"{said} read as \\n"]


def test_normalized_newlines_reach_the_ids(tmp_path: Path, tiny_pieces: None) -> None:
    loaded = load(write(tmp_path / "text", TEXT), normalize_newlines=True)
    assert text_of(loaded) == "Ein Schäfer\nzählt: 10 €\n\0🐑🐑\n" * 2


def test_fingerprint_follows_the_text(tmp_path: Path) -> None:
    path = write(tmp_path / "text", TEXT)
    before = load(path).fingerprint
    assert before == hashlib.sha256(TEXT.encode()).hexdigest()
    assert load(path, chars="QX" + "".join(sorted(set(TEXT)))).fingerprint == before
    assert load(write(path, TEXT[:-1] + "e")).fingerprint != before


def test_fingerprint_notices_a_change_behind_the_first_piece(tmp_path: Path) -> None:
    text = "ab" * 600_000
    assert len(text) > reading.PIECE
    before = load(write(tmp_path / "text", text)).fingerprint
    assert load(write(tmp_path / "text", text[:-2] + "ba")).fingerprint != before


def test_fingerprint_notices_files_that_swap_their_names(tmp_path: Path) -> None:
    (texts := tmp_path / "texts").mkdir()
    a, b = write(texts / "a.txt", "Anna" * 20), write(texts / "b.txt", "Otto" * 20)
    before = load(texts).fingerprint
    for old, new in ((a, "c"), (b, "a.txt"), (texts / "c", "b.txt")):
        old.rename(texts / new)
    assert (a.read_bytes(), b.read_bytes()) == (b"Otto" * 20, b"Anna" * 20)
    assert load(texts).fingerprint != before


def test_large_vocabulary(tmp_path: Path) -> None:
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 257))) * 2
    loaded = load(write(tmp_path / "text", text), block_size=50)
    assert loaded.train.dtype == torch.int32
    assert text_of(loaded) == text


@needs_posix
@pytest.mark.parametrize("text", [TEXT, "".join(map(chr, range(0x4E00, 0x4E00 + 257)))])
def test_mapped_ids_are_equal_and_leave_no_file(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "text", text)
    scratch = tmp_path / "run" / "ids.bin"
    plain = load(path)
    assert plain.train.untyped_storage().filename is None
    for _ in range(2):
        mapped = load(path, map_above_mb=0)
        assert mapped.train.untyped_storage().filename == str(scratch)
        assert mapped.train.equal(plain.train)
        assert mapped.val.equal(plain.val)
        assert list(scratch.parent.iterdir()) == []
        write(scratch, b"left by a run that was killed")


@needs_posix
def test_mapped_ids_go_through_no_link(tmp_path: Path) -> None:
    outside = write(tmp_path / "outside", "mine")
    scratch = tmp_path / "run" / "ids.bin"
    scratch.parent.mkdir()
    scratch.symlink_to(outside)
    assert text_of(load(write(tmp_path / "text", TEXT), map_above_mb=0)) == TEXT
    assert outside.read_bytes() == b"mine"
    assert list(scratch.parent.iterdir()) == []


@pytest.fixture
def long_text(tmp_path: Path) -> Path:
    """A text with 370,080 bytes of ids, four for each."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + 257))) * 360
    return write(tmp_path / "text", text)


def no_room(text: Path, reason: str) -> None:
    """Check that mapping the ids of `long_text` is a Fault, and that nothing stays of them."""
    with pytest.raises(Fault) as caught:
        load(text, map_above_mb=0)
    assert str(caught.value) == (
        f"{text.parent / 'run' / 'ids.bin'} cannot hold the ids of the text: {reason}; "
        "it needs 0.4 MB of room, or raise data.map_above_mb"
    )
    assert not list(text.parent.glob("run/*"))


def test_no_room_for_mapped_ids(long_text: Path) -> None:
    for size in (0, 1, 200_000, 370_079):
        with room_for(size):
            no_room(long_text, "File too large")
    with room_for(370_080):
        assert len(load(long_text, map_above_mb=0).train) == 83_268


def test_no_folder_and_no_mapping_for_mapped_ids(
    long_text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write(long_text.with_name("run"), "a file where the folder should be")
    no_room(long_text, "File exists")
    run.unlink()

    def fail(*args: object, **kwargs: object) -> Tensor:
        raise RuntimeError("No such device")

    monkeypatch.setattr(torch, "from_file", fail)  # as on some network drives
    no_room(long_text, "No such device")


def test_given_vocabulary_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "text", "abba" * 20)
    assert load(path, chars="bxa").train[:4].tolist() == [2, 0, 0, 2]
    with pytest.raises(UserError, match=r"the text has 'b' \(U\+0062\) not among the 2 known to"):
        load(path, chars="xa")


def test_named_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert text_of(load(Path("aab"))) == "aab" * 200
    monkeypatch.setattr(tiny_shakespeare, "fetch", lambda: write(tmp_path / "ts", TEXT))
    assert text_of(load(Path("tiny_shakespeare"))) == TEXT


def test_rule_of_the_aab_task_is_its_text() -> None:
    text = aab.text(31)
    assert text == "aabaabaabaabaabaabaabaabaabaaba"
    assert [aab.rule(text[:i]) for i in range(2, 31)] == list(text[2:])
    assert set(text) == set(aab.LETTERS)


# What is left out, and what is validated on


def test_characters_that_come_seldom_are_left_out(tmp_path: Path, tiny_pieces: None) -> None:
    text = "abcd" * 15 + "€🐑€e" + "abcd" * 5
    path = write(tmp_path / "text", text)
    said = "2 of 7 distinct characters come once: 'e' (U+0065) and '🐑' (U+1F411)"
    assert load(path).notes == [f"{said}; data.min_count=2 leaves them out"]
    assert load(write(tmp_path / "mirror", text.replace("€", "")), min_count=1).notes
    for least, rare in ((2, "🐑e"), (3, "🐑e€")):
        loaded = load(path, min_count=least)
        kept = "".join(char for char in text if char not in rare)
        assert text_of(loaded) == kept
        assert len(loaded.val) == int(0.1 * len(kept))
        assert loaded.tokenizer.chars == "".join(sorted(set(kept)))
        assert loaded.fingerprint == hashlib.sha256(text.encode()).hexdigest()
        gone = len(text) - len(kept)
        assert loaded.notes[0].startswith(
            f"{gone} characters left out, which come less than {least}"
        )
        assert load(path, min_count=least, chars=loaded.tokenizer.chars).train.equal(loaded.train)
    refused(path, "not among", chars="abcd€e")
    refused(path, "has 0 characters", min_count=99)


def test_a_text_of_its_own_for_validation(tmp_path: Path, tiny_pieces: None) -> None:
    path, other = write(tmp_path / "text", "abc" * 9), write(tmp_path / "val", "bad\r\n" * 3)
    for place in (0, 1):
        loaded = load(
            path, val_dataset=str(other), normalize_newlines=True, min_count=3, map_above_mb=place
        )
        assert loaded.tokenizer.decode(loaded.train) == "abc" * 9
        assert loaded.tokenizer.decode(loaded.val) == "bad\n" * 3
        digests = [hashlib.sha256(text).hexdigest() for text in (b"abc" * 9, b"bad\n" * 3)]
        assert loaded.fingerprint == " ".join(digests)
        kept = "data.normalize_newlines=false keeps them"
        assert loaded.notes == [f"3 Windows line ends read as \\n; {kept}"]
    assert load(path, val_dataset=str(other), min_count=4, chars="cab").tokenizer.chars == "cab"
    short = r"text has 27 characters, and .*val 15: too few for model\.block_size=15"
    refused(path, short, block_size=15, val_dataset=str(other))
    refused(
        other, r"val has 15 characters, and .*text 27: too", block_size=15, val_dataset=str(path)
    )


def positions(loaded: Corpus) -> tuple[list[int], list[int]]:
    """The code points of what is trained and validated on."""
    return tuple(
        [ord(loaded.tokenizer.chars[i]) for i in ids] for ids in (loaded.train, loaded.val)
    )


@often
@given(
    length=st.integers(60, 900),
    share=st.floats(0.1, 0.8),
    block_size=st.integers(1, 5),
    piece=st.integers(3, 2000),
    mapped=st.booleans(),
)
def test_spread_validation(
    folder: Path, length: int, share: float, block_size: int, piece: int, mapped: bool
) -> None:
    """Of a text in which each character says where it stands."""
    text = "".join(map(chr, range(0x4E00, 0x4E00 + length)))
    (folder.parent / "spread").mkdir(exist_ok=True)
    path = write(folder.parent / "spread" / "text", text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE", piece)
        options = {"val_fraction": share, "map_above_mb": 0 if mapped else 1}
        train, val = positions(load(path, block_size, val_from="spread", **options))
        plain = positions(load(path, block_size, **options))
    assert sorted(train + val) == list(map(ord, text))
    assert (train, val) == (sorted(train), sorted(val))
    assert len(val) == len(plain[1]) == int(share * length)
    runs = [i for i in range(1, len(val)) if val[i] != val[i - 1] + 1]
    blocks = [b - a for a, b in zip([0, *runs], [*runs, len(val)], strict=True)]
    assert max(blocks) - min(blocks) <= 1
    assert len(blocks) == 1 or min(blocks) >= 4 * block_size
    if len(val) >= 8 * block_size <= len(train):
        assert len(blocks) > 1
        half = sum(place < 0x4E00 + length / 2 for place in val)
        assert abs(half / len(val) - 0.5) <= 0.5 / len(blocks) + 0.05


ENGLISH = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason "
    "and conscience and should act towards one another in a spirit of brotherhood.\n"
)
GERMAN = (
    "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und "
    "Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.\n"
)
PROGRAM = "".join(path.read_text("utf-8") for path in sorted(ROOT.glob("*/*.py")))
WORDS = sorted(set(re.findall("[a-z]{3,9}", PROGRAM)))
SHUFFLED = random.Random(1).sample(WORDS, len(WORDS))
UNLIKE = {
    "sorted names": "\n".join(WORDS),
    "few sorted names": "\n".join(sorted(SHUFFLED[:1000])),
    "two languages": ENGLISH * 60 + GERMAN * 30,
    "a last page in another": ENGLISH * 90 + GERMAN * 10,
}
ALIKE = {
    "shuffled names": "\n".join(SHUFFLED),
    "few shuffled names": "\n".join(SHUFFLED[:200]),
    "one language": GERMAN * 60,
    "a little of one language": GERMAN * 3,
    "a program": PROGRAM,
    "a page": (ROOT / "docs/training.md").read_text("utf-8"),
    "two languages by turns": (ENGLISH + GERMAN) * 30,
}


@pytest.mark.parametrize("name", [*UNLIKE, *ALIKE])
def test_an_end_that_is_unlike_the_rest(tmp_path: Path, name: str) -> None:
    text = {**UNLIKE, **ALIKE}[name]
    path, size = write(tmp_path / "text", text), int(len(text) * 0.1)
    line = f"the last {size:,} characters, for validation, are unlike those before; "
    said = [note for note in load(path, min_count=2).notes if "unlike" in note]
    wanted = [line + "data.val_from=spread takes them from all over the text"]
    assert said == (wanted if name in UNLIKE else [])
    assert not any("unlike" in note for note in load(path, val_from="spread").notes)
    assert not any("unlike" in note for note in load(path, val_dataset=str(path)).notes)


# What is refused

NOT_UTF8 = [
    (b"\xffabc", 0),
    (b"12\n45\n\n\xff", 7),
    (b"1\r\n4\r\n\xff", 6),
    (b"1\r3\r\xff", 4),
    (b"ab\xc3\xa9\xe9 caf\xc3\xa9", 4),
    (b"0123456789\x80", 10),  # in the third piece of four bytes
    (b"012\xf0\x9f\x90x", 3),  # a character begun in one piece and broken in the next
    (b"0123456\xe2\x82", 7),  # a final character cut off
    (b"\xef\xbb\xbfab\xff", 5),  # behind a byte order mark
]


@pytest.mark.parametrize(("raw", "offset"), NOT_UTF8)
def test_not_utf8_is_refused(tmp_path: Path, tiny_pieces: None, raw: bytes, offset: int) -> None:
    line = len(re.split(rb"\r\n|\r|\n", raw[:offset]))
    with pytest.raises(
        UserError, match=rf"text is not UTF-8 at byte offset {offset}, in line {line};"
    ):
        load(write(tmp_path / "text", raw))


@often
@given(raw=st.binary(max_size=13), piece=st.integers(1, 9))
@example(raw=b"\xf0\x9f\x90", piece=2)
def test_offset_is_that_of_the_whole_file(folder: Path, raw: bytes, piece: int) -> None:
    raw = b"a" + raw  # so that it begins as nothing else does
    path = write(folder / "raw", raw)
    try:
        raw.decode()
        wanted = None
    except UnicodeDecodeError as error:
        wanted = error.start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "PIECE", piece)
        try:
            list(reading.read_file(path))
            found = None
        except UserError as error:
            found = int(re.search(r"byte offset (\d+),", str(error))[1])
    assert found == wanted


ARCHIVE = "with 7-Zip on Windows and gunzip elsewhere"
PROSE = "Ein schöner Satz, naïve Wörter.\n" * 3
GREEK, CHINESE = "Μῆνιν ἄειδε θεὰ\n" * 9, "天地玄黃宇宙洪荒\n" * 9


def zipped(name: str, content: str) -> bytes:
    """A zip archive of one file, as Python writes it."""
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


FOREIGN = {
    "gz": (gzip.compress(PROSE.encode()), f"a gzip archive, no text; unpack .*, {ARCHIVE}"),
    "pdf": (b"%PDF-1.4\n" + PROSE.encode(), "a PDF, no text; .* pdftotext"),
    "zip": (zipped("a.txt", PROSE), "a zip archive, no text; unpack it and give the text in it"),
    "docx": (zipped("[Content_Types].xml", PROSE), r"an Office document, .* plain text \(\.txt\)"),
    "odt": (zipped("mimetype", "application/vnd.oasis.opendocument.text"), "an Office document"),
    "epub": (zipped("mimetype", "application/epub+zip"), r"an e-book \(EPUB\), no text"),
    "doc": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" * 9, "an Office document, no text"),
    "png": (b"\x89PNG\r\n\x1a\n\0\0\0", "a PNG picture, no text; take a text"),
    "jpg": (b"\xff\xd8\xff\xe0\0\x10JFIF", "a JPEG picture, no text"),
    "utf-32": (PROSE.encode("utf-32"), "UTF-32; .* Notepad .* iconv -f UTF-32 -t UTF-8 .*text"),
    **{
        f"{codec} {text[0]}": (text.encode(codec), f"{kind}.*; .* iconv -f {codec.upper()} -t")
        for kind, codec in (
            *(("UTF-32", "utf-32le"), ("UTF-32", "utf-32be")),
            *(("UTF-16 without", "utf-16le"), ("UTF-16 without", "utf-16be")),
        )
        for text in (PROSE, GREEK, CHINESE, PROSE.replace("ö", "o").replace("ï", "i"))
    },
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_utf8_is_named(tmp_path: Path, kind: str) -> None:
    raw, sentence = FOREIGN[kind]
    refused(write(tmp_path / "text", raw), f"text is {sentence}")


NO_FOREIGN = [
    "\0" * 99,
    "a\0\0b" * 20,
    "ab\0" * 20,
    "\0\0\0a",
    "PK\n" * 20,
    "PDF\n" * 20,
    "a\0" * 7,
]


@pytest.mark.parametrize("text", [*NO_FOREIGN, PROSE, GREEK, CHINESE])
def test_a_utf8_text_is_taken_for_nothing_else(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "text", text)
    assert "".join(reading.read_file(path)) == text


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_mark_is_read(tmp_path: Path, tiny_pieces: None, codec: str) -> None:
    text = f"{PROSE}🐑{GREEK}\r\n{CHINESE}"
    raw = f"\ufeff{text}".encode(codec)
    loaded = load(write(tmp_path / "text", raw))
    assert text_of(loaded) == text
    assert loaded.notes[0] == "UTF-16, read as such: text"
    assert loaded.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    line = 1 + len(text.splitlines())
    sentence = rf"UTF-16, but broken at byte offset {len(raw)}, in line {line}; mend"
    refused(
        write(tmp_path / "text", raw + "\ud800a".encode(codec, "surrogatepass")),
        "is UTF-16, but broken",
    )
    refused(write(tmp_path / "text", raw + b"a"), sentence)


def test_a_home_folder_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.txt", TEXT)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.find("~/mine.txt").files == [tmp_path / "mine.txt"]


@pytest.mark.parametrize("map_above_mb", [0, 1])
@pytest.mark.parametrize(("change", "reason"), [("a" * 9, "changed while"), ("é", "not among")])
def test_text_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, reason: str, map_above_mb: int
) -> None:
    path, survey = write(tmp_path / "text", "ab" * 20), reading.survey

    def survey_and_change(config: DataConfig) -> Survey:
        found = survey(config)
        write(path, "ab" * 20 + change)
        return found

    monkeypatch.setattr(reading, "survey", survey_and_change)
    with pytest.raises(UserError, match=reason):
        load(path, map_above_mb=map_above_mb)
    assert not list(tmp_path.glob("run/*"))


def refused(dataset: Path | str, reason: str, **options: object) -> None:
    """Check that the dataset is refused for that reason."""
    with pytest.raises(UserError, match=reason):
        load(Path(dataset), **options)


@needs_posix
def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    refused(write(tmp_path / "empty", ""), r"empty has 0 characters: .*model\.block_size=3")
    refused(write(tmp_path / "mark", "\ufeff"), "mark has 0 characters")
    refused(tmp_path / "gone.txt", r"gone\.txt is not .* no file or folder to read \(No such file")
    refused("First Citizen: " * 20, r"no file or folder to read \(File name too long\)")
    refused(tmp_path, r"has no \.txt file; put the text there")
    refused("/dev/null", "no ordinary file; copy the text into one")


@needs_posix
def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "pipe is no ordinary file")


def test_folder_holds_what_it_gives(tmp_path: Path) -> None:
    (texts := tmp_path / "texts").mkdir()
    write(texts / "a.txt", "a" * 30)
    (texts / "b.txt").symlink_to("a.txt")
    (tmp_path / "link").symlink_to(texts)
    for folder in (texts, tmp_path / "link", texts / ".." / "texts"):
        assert text_of(load(folder)) == "a" * 30 + "\n" + "a" * 30
    outside = write(tmp_path / "texts.txt", "secret " * 20)
    for target in (outside, Path("../texts.txt"), tmp_path / "link2"):
        (tmp_path / "link2").unlink(missing_ok=True)
        (tmp_path / "link2").symlink_to(outside)
        (texts / "c.txt").unlink(missing_ok=True)
        (texts / "c.txt").symlink_to(target)
        refused(texts, f"texts/c.txt leads out of .*texts, to {outside}; copy the text into it")


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "locked", TEXT)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    refused(path, "locked cannot be read: Permission denied")


def test_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        list(reading.read_file(tmp_path))


# Training windows: the ids are positions, so that a window says where it is

shapes = {
    "block_size": st.integers(1, 12),
    "extra": st.integers(1, 60),
    "batch_size": st.integers(1, 9),
    "seed": st.integers(0, 2**31 - 1),
}


def batches_of(block_size: int, extra: int, batch_size: int, seed: int) -> Batches:
    """Batches over positions, of which there are `extra` more than fit into one window."""
    return Batches(
        torch.arange(block_size + extra, dtype=torch.int32), batch_size, block_size, seed
    )


@often
@given(step=st.integers(0, 10**6), **shapes)
@example(step=0, block_size=7, extra=1, batch_size=5, seed=3)
def test_window_is_a_stretch_of_the_text(step: int, **shape: int) -> None:
    batches = batches_of(**shape)
    idx, targets = batches(step, CPU)
    B, T = shape["batch_size"], shape["block_size"]
    assert idx.dtype == targets.dtype == torch.int64
    assert idx.shape == targets.shape == (B, T)
    assert torch.equal(idx, idx[:, :1] + torch.arange(T))
    assert torch.equal(targets, idx + 1)
    assert idx.min() >= 0
    assert targets.max() < len(batches.ids)


def windows_of(batches: Batches, epoch: int) -> Tensor:
    """The targets of an epoch, a row for each window."""
    first, last = epoch * batches.windows, (epoch + 1) * batches.windows
    B = batches.batch_size
    steps = range(first // B, (last - 1) // B + 1)
    rows = torch.cat([batches(step, CPU)[1] for step in steps])
    return rows[first - steps[0] * B :][: batches.windows]


@often
@given(epoch=st.integers(0, 20), **shapes)
def test_no_character_twice_in_an_epoch(epoch: int, **shape: int) -> None:
    batches = batches_of(**shape)
    targets = windows_of(batches, epoch).flatten()
    assert len(targets.unique()) == len(targets)
    left_out = len(batches.ids) - 1 - len(targets)
    assert left_out < 2 * shape["block_size"]


def test_batch_depends_on_seed_and_step_only() -> None:
    def fresh() -> Batches:
        return batches_of(block_size=5, extra=58, batch_size=4, seed=2)  # 11 windows

    used = fresh()
    for step in (7, 0, 3, 7, 2):
        for found, wanted in zip(used(step, CPU), fresh()(step, CPU), strict=True):
            assert torch.equal(found, wanted)


def test_epochs_and_seeds_differ() -> None:
    orders = []
    for seed in (1, 2):
        batches = batches_of(block_size=5, extra=500, batch_size=4, seed=seed)
        orders += [tuple(windows_of(batches, epoch)[:, 0].tolist()) for epoch in range(8)]
    assert len(set(orders)) == 16
    assert {order[0] % 5 for order in orders} == set(range(5))  # epochs start anywhere
    assert all(list(order) != sorted(order) for order in orders)
