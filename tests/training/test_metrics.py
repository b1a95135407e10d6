"""Records survive a crash and a resume, and become a picture."""

import math
from pathlib import Path

import matplotlib.image
import pytest

from system.errors import UserError
from training import metrics


def record(step: int) -> dict[str, float]:
    """An evaluation at `step`, whose losses JSON has to keep to the last bit."""
    return {"step": step, "seconds": step / 7, "train_loss": 1 / (step + 1), "val_loss": 0.1 + 0.2}


def test_records_come_back(tmp_path: Path) -> None:
    assert metrics.read(tmp_path) == []
    for step in (10, 20):
        metrics.append(tmp_path, record(step))
    assert metrics.read(tmp_path) == [record(10), record(20)]


def test_a_line_cut_anywhere_is_left_out(tmp_path: Path) -> None:
    for step in (10, 20):
        metrics.append(tmp_path, record(step))
    path = tmp_path / metrics.METRICS
    first, last = path.read_text().splitlines()
    for cut in range(len(last) + 1):
        path.write_text(f"{first}\n{last[:cut]}")
        assert metrics.read(tmp_path) == [record(10)]


@pytest.mark.parametrize("line", [b"nonsense\n", b'{"a": 1}\n', b"[]\n", b"\xff\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, line: bytes) -> None:
    metrics.append(tmp_path, record(10))
    path = tmp_path / metrics.METRICS
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(UserError, match=r"metrics\.jsonl is damaged; move it away"):
        metrics.read(tmp_path)


def test_rewind(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        metrics.append(tmp_path, record(step))
    with (tmp_path / metrics.METRICS).open("a") as file:
        file.write('{"step": 4')
    metrics.rewind(tmp_path, 20)
    assert metrics.read(tmp_path) == [record(10), record(20)]
    metrics.append(tmp_path, record(25))
    assert metrics.read(tmp_path)[2:] == [record(25)]


def test_plot(tmp_path: Path) -> None:
    assert metrics.plot(tmp_path) is None
    metrics.append(tmp_path, record(10))
    first = metrics.plot(tmp_path).read_bytes()
    assert first.startswith(b"\x89PNG\r\n\x1a\n")
    metrics.append(tmp_path, record(20))
    picture = metrics.plot(tmp_path)
    assert picture == tmp_path / metrics.PICTURE and picture.read_bytes() != first
    pixels = matplotlib.image.imread(picture)
    assert pixels.ndim == 3 and pixels.std() > 0


def test_bits() -> None:
    assert metrics.bpc(math.log(2)) == 1
    assert math.isclose(metrics.bpc(math.log(256)), 8)
