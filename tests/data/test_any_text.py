"""Any bytes through the commands: they train and write, or they are refused in one sentence."""

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import sample
import train
from data import reading
from data.reading import Survey
from data.tokenizer import CharTokenizer
from system import checkpoint
from system.settings import DataConfig
from tests.helpers.faults import Processes
from tests.helpers.fuzz import drawn
from tests.helpers.posix import needs_posix

FUZZ = int(os.environ.get("FUZZ", "60"))  # examples of each kind
WINDOW, SHARE = 3, 0.25
ONE_STEP = (
    *(f"model.block_size={WINDOW}", "model.n_layer=1", "model.n_head=1", "model.n_embd=4"),
    *(f"data.val_fraction={SHARE}", "train.max_steps=1", "train.eval_every=1", "--overwrite"),
)
BEST = Path("checkpoints/tiny/best.pt")
SIZE = 12_000_000  # characters of a large text: 24 MB in UTF-8, 48 MB as ids

OTHERS = {  # how files of other kinds begin, by their specifications
    b"%PDF-": "a PDF, no text; ",
    b"\x1f\x8b": "a gzip archive, no text; ",
    b"PK\x03\x04": "a zip archive, no text; ",
    b"\xd0\xcf\x11\xe0": "an Office document, no text; ",
    b"\x89PNG": "a PNG picture, no text; ",
    b"\xff\xd8\xff": "a JPEG picture, no text; ",
}


def refusal_of(raw: bytes, *, lf: bool = False) -> str | None:
    """Why a file of these bytes cannot be trained on, in the words of the message."""
    if raw.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "text is UTF-32;"
    for beginning, kind in OTHERS.items():
        if raw.startswith(beginning):
            return f"text is {kind}"
    try:
        text = text_of(raw, lf=lf)
    except UnicodeDecodeError as error:
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "text is UTF-16, but broken at byte offset "
        return f"text is not UTF-8 at byte offset {error.start}, in line "
    short = int(len(text) * SHARE) <= WINDOW
    return f"text has {len(text)} characters" if short else None


def text_of(raw: bytes, *, lf: bool = False) -> str:
    """What a file of these bytes says."""
    marked = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = raw.decode("utf-16" if marked else "utf-8").removeprefix("\ufeff" * (not marked))
    return text.replace("\r\n", "\n").replace("\r", "\n") if lf else text


@pytest.fixture
def try_bytes(tiny: Callable, call: Callable) -> Callable[..., str]:
    """Train on bytes, write with the model, check both; the reason of a refusal, or `trained`."""

    def try_bytes(raw: bytes, *, lf: bool = False, mapped: bool = False) -> str:
        Path("text").write_bytes(raw)
        reading = (f"data.normalize_newlines={lf}", f"data.map_above_mb={0 if mapped else 1}")
        status, out, err = tiny(*ONE_STEP, "data.dataset=text", *reading)
        if reason := refusal_of(raw, lf=lf):
            assert (status, out, err.count("\n")) == (2, "", 1)
            assert err.startswith("train.py: ") and reason in err
            return reason
        assert (status, err) == (0, "")
        text = text_of(raw, lf=lf)
        val_size = int(len(text) * SHARE)
        sizes = f"{len(text) - val_size:,} characters to train on, {val_size:,} to validate"
        assert f"text   {sizes}, {len(set(text))} distinct\n" in out
        check_written(text, call)
        return "trained"

    return try_bytes


def check_written(text: str, call: Callable) -> None:
    """Write with the newest model, which was trained on `text`."""
    saved = checkpoint.load(BEST)
    tokenizer = CharTokenizer(saved.chars)
    assert saved.fingerprint == hashlib.sha256(text.encode()).hexdigest()
    assert tokenizer.chars == "".join(sorted(set(text)))
    assert tokenizer.decode(tokenizer.encode(text)) == text
    prompt = text[-5:]  # longer than the window
    ended = call(sample.main, "--device", "cpu", "--max-new-tokens", "7", f"--prompt={prompt}")
    assert ended.status == 0 and ended.err.startswith(f"{BEST}, step 1; seed 1, ")
    assert len(ended.out) == 5 + 7 + 1
    assert ended.out.startswith(prompt) and ended.out.endswith("\n")
    assert set(ended.out[:-1]) <= set(text)


FRAGMENTS = [
    *(
        "The quick ",
        "naïve nai\u0308ve",
        "Ωμέγα ",
        "Привет, ",
        "שָׁלוֹם ",
        "नमस्ते ",
        "สวัสดี",
        "漢字かな",
    ),
    *("👩\u200d👩\u200d👧", "🏳️\u200d🌈", "👍🏽", "🇩🇪", "\u200e\u202e", "z\u0351\u036b\u0343"),
    *("\r\n", "\r", "\n", "\n\r", "\0", "\x1a\x1b[0m", "\x85", "\u2028\u2029", "\x0b\x0c\x1c"),
    *("\ufeff", "\ufffe\uffff", "\ufffd", "\U0010ffff", "\ue000", "\x7f\x80", "--", "'\"\\", "\t"),
]
BROKEN = [
    *(
        b"\xed\xa0\xbd",
        b"\xed\xb0\x91",
        b"\xed\xa0\xbd\xed\xb0\x91",
        b"\xc0\x80",
        b"\xf4\x90\x80\x80",
    ),
    *(b"\xff\xfe", b"\xfe\xff", b"\x80", b"\xe2\x82", b"\xf0\x9f\x90", b"\xf8\x88\x80\x80\x80"),
]
texts = st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=6), max_size=20).map("".join)
pieces = st.sampled_from([*BROKEN, *(fragment.encode() for fragment in FRAGMENTS)])
KINDS = {
    "texts": texts.map(str.encode),
    "bytes": st.lists(pieces | st.binary(max_size=6), max_size=8).map(b"".join),
    "other": st.builds(str.encode, texts, st.sampled_from(["utf-16", "utf-32", "utf-8-sig"])),
}


@pytest.mark.parametrize("kind", KINDS)
def test_any_bytes_train_or_are_refused(kind: str, try_bytes: Callable) -> None:
    seen = Counter()

    @drawn(FUZZ)
    @given(raw=KINDS[kind], lf=st.booleans(), mapped=st.booleans())
    @example(raw=b"\xff\xd8\xff", lf=False, mapped=False)  # a JPEG picture
    def check(raw: bytes, lf: bool, mapped: bool) -> None:
        seen[re.sub(r"\d+", "N", try_bytes(raw, lf=lf, mapped=mapped))] += 1

    check()
    ends = {"trained", "text has N characters"}
    if kind == "bytes":
        ends = {"text has N characters", "text is not UTF-N at byte offset N, in line "}
        seen.pop("trained", None)  # few are long enough
    if kind == "other":
        ends |= {"text is UTF-N;"}
    for rare in ("UTF-N, but broken at byte offset ", *OTHERS.values()):
        seen.pop(f"text is {rare}", None)
    assert seen.keys() == ends or FUZZ < 30  # few examples need not meet every end
    print(f"{kind}: {dict(seen)}")


SHORT = "".join(FRAGMENTS)[: 4 * WINDOW + 3]
LONG = SHORT + "a"  # one character makes the difference
NAMED = {
    "nothing": (b"", "text has 0 characters"),
    "a byte order mark": (b"\xef\xbb\xbf", "text has 0 characters"),
    "one character": ("é".encode(), "text has 1 characters"),
    "a line end": (b"\r\n", "text has 2 characters"),
    "one too few for a window": (SHORT.encode(), f"text has {len(SHORT)} characters"),
    "just enough for a window": (LONG.encode(), "trained"),
    "one distinct character": (b"a" * 99, "trained"),
    "only line ends": (b"\n" * 99, "trained"),
    "only NUL": (b"\0" * 99, "trained"),
    "everything": ("".join(FRAGMENTS).encode() * 3, "trained"),
    "UTF-8 with a mark": ("née\n".encode("utf-8-sig") * 9, "trained"),
    "UTF-16": (("née\n" * 9).encode("utf-16"), "trained"),
    "Latin-1": ("née\n".encode("latin-1") * 9, "text is not UTF-8 at byte offset 1, in line "),
    "Latin-1 behind a mark": (
        b"\xef\xbb\xbfn\xe9e",
        "text is not UTF-8 at byte offset 4, in line ",
    ),
    "a broken end": (b"a" * 99 + b"\xf0\x9f\x90", "text is not UTF-8 at byte offset 99, in line "),
    "a surrogate": (b"a" * 99 + b"\xed\xa0\x80", "text is not UTF-8 at byte offset 99, in line "),
}


@pytest.mark.parametrize("name", NAMED)
def test_named_texts(name: str, try_bytes: Callable) -> None:
    raw, end = NAMED[name]
    assert try_bytes(raw) == end


@pytest.mark.parametrize(("lf", "chars"), [(False, "\n\rab"), (True, "\nab")])
def test_line_ends_are_kept_unless_told_otherwise(
    lf: bool, chars: str, try_bytes: Callable
) -> None:
    assert try_bytes(b"a\r\nb\r" * 9, lf=lf) == "trained"
    assert checkpoint.load(BEST).chars == chars


@needs_posix
def test_what_is_no_text_is_refused(tiny: Callable, refusal: Callable) -> None:
    Path("folder/inner.txt").mkdir(parents=True)
    os.mkfifo("pipe")  # of which a reader would wait for ever
    os.mkfifo("folder/pipe.txt")
    for name, reason in {
        "folder": "the folder folder has no .txt file; put the text there",
        "pipe": "pipe is no ordinary file; copy the text into one",
        "gone": "data.dataset=gone is not tiny_shakespeare",
        os.fsdecode(b"\xff"): r"'\udcff'",
    }.items():
        argv = ("--config", "tiny.yaml", f"data.dataset={name}")
        assert reason in refusal(train.main, *argv)
    assert not any(path.is_file() for path in Path("checkpoints").rglob("*"))


@pytest.mark.parametrize("name", ["texts", "texts/b.txt"])
def test_what_vanishes_while_it_is_read(
    name: str, tiny: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, or a file in it, between the first pass and the second; the old run is kept."""
    Path("texts").mkdir()
    for file in ("a", "b"):
        Path(f"texts/{file}.txt").write_text("ab\n" * 99)
    tiny(*ONE_STEP, "data.dataset=texts")
    before, survey = BEST.read_bytes(), reading.survey

    def survey_and_remove(config: DataConfig) -> Survey:
        found = survey(config)
        shutil.rmtree(name) if Path(name).is_dir() else Path(name).rename("elsewhere")
        return found

    monkeypatch.setattr(reading, "survey", survey_and_remove)
    argv = ("--device=cpu", "--config", "tiny.yaml", *ONE_STEP, "data.dataset=texts")
    message = refusal(train.main, *argv)
    assert "(No such file" in message if name == "texts" else "changed while it was" in message
    assert BEST.read_bytes() == before


def test_a_folder_that_may_not_be_listed(
    home: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("texts/in").mkdir(parents=True)
    scandir = os.scandir

    def locked(path: str) -> object:
        if Path(path).name == "in":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    message = refusal(train.main, "--config", "tiny.yaml", "data.dataset=texts")
    assert f"{Path('texts/in')} cannot be read: Permission denied" in message


def test_text_that_may_not_be_read(home: Path, refusal: Callable) -> None:
    Path("text.txt").chmod(0)
    if os.access("text.txt", os.R_OK):
        pytest.skip("this user may read everything")
    message = refusal(train.main, "--config", "tiny.yaml")
    assert "text.txt cannot be read: Permission denied" in message


def test_more_characters_than_two_bytes_can_number(tiny: Callable, call: Callable) -> None:
    text = "".join(chr(i) for i in range(65_537 + 2048) if not 0xD800 <= i <= 0xDFFF)
    assert len(text) == len(set(text)) == 65_537
    Path("text").write_bytes(text.encode())
    # of each evaluated character there are 65,537 scores: evaluate few
    ended = tiny(
        *ONE_STEP, "data.dataset=text", "data.val_fraction=0.001", "data.normalize_newlines=false"
    )
    assert (ended.status, ended.err) == (0, "")
    check_written(text, call)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's /proc")
def test_a_large_text_stays_out_of_memory(home: Path, processes: Processes) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not tell the most memory that a process has had")
    alphabet = "".join(map(chr, range(0x100, 0x100 + 300)))  # of ids that take four bytes
    Path("small").write_text(alphabet * 41, encoding="utf-8")  # as much to validate
    Path("large").write_text(alphabet * (SIZE // 300), encoding="utf-8")
    grown = {}
    for megabytes in (1, 1024):
        apart = (f"data.map_above_mb={megabytes}", f"train.out_dir=run{megabytes}")
        ended = processes.run("tests.helpers.peak", *ONE_STEP, *apart, cwd=home)
        assert (ended.status, ended.err) == (0, "")
        grown[megabytes] = int(ended.out.splitlines()[-1])
    print(f"peak memory grew by {grown} for {4 * SIZE} bytes of ids")
    assert 4 * SIZE < grown[1024] < 1.5 * 4 * SIZE  # held, and once
    assert grown[1] < grown[1024] / 2
