"""A checkout of nanoGPT in outline, for all benchmarks that have a peer."""

from pathlib import Path

import pytest

from data import tiny_shakespeare
from tests.helpers.peer import PEER, TEXT


@pytest.fixture
def peer(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkout, and a short text in place of Tiny Shakespeare."""
    for name, source in PEER.items():
        (home / "peer" / name).parent.mkdir(parents=True, exist_ok=True)
        (home / "peer" / name).write_text(source)
    (home / "text.txt").write_text(TEXT)
    monkeypatch.setattr(tiny_shakespeare, "fetch", lambda: home / "text.txt")
    return home / "peer"
