"""The bar for those who wait: on a terminal, not at once, of one process, and gone at the end."""

import io
import sys

import pytest

from system import bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, patience: float) -> str:
    """What a bar writes to `stream` in three updates."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(bar, "PATIENCE", patience)
    with bar.bar("reading", 3 << 20, "B") as progress:
        progress.mininterval = 0
        for _ in range(3):
            progress.update(1 << 20)
    return stream.getvalue()


def test_a_bar_is_for_a_person_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    written = shown(monkeypatch, Terminal(), 0)
    assert "reading: 100%" in written and "3.15M/3.15M" in written
    assert written.endswith("\r") and not written.rstrip("\r").rpartition("\r")[2].strip()
    assert shown(monkeypatch, Terminal(), 99) == ""
    assert shown(monkeypatch, io.StringIO(), 0) == ""
    monkeypatch.setenv("RANK", "0")
    assert shown(monkeypatch, Terminal(), 0)
    monkeypatch.setenv("RANK", "1")
    assert shown(monkeypatch, Terminal(), 0) == ""
