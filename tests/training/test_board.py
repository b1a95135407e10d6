"""What a run shows in TensorBoard, read back with TensorBoard's own reader; and how it fails."""

import errno
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

from system import config
from system.errors import UserError
from system.settings import Config
from tests.helpers.runs import contents, room_for
from training import board
from training.board import Board, TensorBoard, open_board

SETTINGS = config.build({"train": {"seed": 31, "out_dir": "runs/*é*"}}).to_dict()
RECORD = {
    "seconds": 2.5,
    "train_loss": 1.75,
    "val_loss": 1.625,
    "learning_rate": 0.03125,
    "chars_per_second": 12_345,
    "grad_norm": 0.875,
}  # powers of two, but for one count: TensorBoard keeps float32


@pytest.fixture(autouse=True)
def writers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event files sort as they were opened, also within a second, and the hook is put back.

    In the name of an event file, the host comes after the second.
    """
    names = (f"host{i:03}" for i in itertools.count())
    monkeypatch.setattr(socket, "gethostname", lambda: next(names))
    monkeypatch.setattr(threading, "excepthook", threading.__excepthook__)  # not pytest's


def open_at(folder: Path, step: int = 0) -> Board:
    return open_board(folder, True, SETTINGS, step)


def record(step: int, **changes: float) -> dict:
    return {"step": step, **RECORD, **changes}


def shown(folder: Path) -> EventAccumulator:
    """All events of the run folder, as TensorBoard sees them."""
    return EventAccumulator(str(folder / "tensorboard"), {"tensors": 0}).Reload()


def tags(folder: Path) -> list[str]:
    return sorted(shown(folder).Tags()["tensors"])


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    events = shown(folder).Tensors(name)
    assert shown(folder).SummaryMetadata(name).plugin_data.plugin_name == "scalars"
    return [(event.step, event.tensor_proto.float_val[0]) for event in events]


def texts(folder: Path, name: str) -> list[tuple[int, str]]:
    events = shown(folder).Tensors(f"{name}/text_summary")
    return [(event.step, event.tensor_proto.string_val[0].decode()) for event in events]


def test_each_name_of_a_record_is_a_curve(tmp_path: Path) -> None:
    b = open_at(tmp_path)
    for step in (4, 8):
        b.log(record(step, val_loss=step / 16))
    b.close()
    assert tags(tmp_path) == sorted([*RECORD, "settings/text_summary"])
    assert curve(tmp_path, "val_loss") == [(4, 0.25), (8, 0.5)]
    for name in RECORD.keys() - {"val_loss"}:
        assert curve(tmp_path, name) == [(4, RECORD[name]), (8, RECORD[name])]


def test_texts_are_shown_as_they_are(tmp_path: Path) -> None:
    b = open_at(tmp_path)
    b.text("ROMEO:\n# no *heading*\n```\n\n<b>é\n", 8)
    b.close()
    sample = "    ROMEO:\n    # no *heading*\n    ```\n    \n    <b>é\n    "
    assert texts(tmp_path, "sample") == [(8, sample)]


def test_the_settings_are_shown_once_as_a_settings_file(tmp_path: Path) -> None:
    b = open_at(tmp_path / "run")
    b.log(record(4))
    b.close()
    [(step, text)] = texts(tmp_path / "run", "settings")
    lines = text.split("\n")
    assert step == 1 and all(line.startswith("    ") for line in lines)
    (tmp_path / "again.yaml").write_text("\n".join(line[4:] for line in lines))
    again = config.load(tmp_path / "again.yaml", [], use_gpu=True)
    assert again == config.build(SETTINGS) != Config()


def test_what_was_measured_is_there_before_the_end(tmp_path: Path) -> None:
    b = open_at(tmp_path)
    b.log(record(4))
    assert curve(tmp_path, "val_loss") == [(4, 1.625)]
    b.close()
    b.close()
    b.log(record(8))
    b.text("late", 8)
    assert curve(tmp_path, "val_loss") == [(4, 1.625)]


def test_a_resumed_run_shows_no_step_twice(tmp_path: Path) -> None:
    first = open_at(tmp_path)
    for step in (4, 8, 9, 12):
        first.log(record(step, val_loss=1.0))
        first.text("first", step)
    first.close()
    for _ in range(2):  # the second time at the same step
        second = open_at(tmp_path, 8)
        for step in (9, 10, 12):
            second.log(record(step, val_loss=2.0))
            second.text("second", step)
        second.close()
    assert curve(tmp_path, "val_loss") == [(4, 1), (8, 1), (9, 2), (10, 2), (12, 2)]
    assert [step for step, _ in texts(tmp_path, "sample")] == [4, 8, 9, 10, 12]
    assert [step for step, _ in texts(tmp_path, "settings")] == [1, 9]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_new_run_shows_nothing_of_the_one_before(tmp_path: Path, wanted: bool) -> None:
    first = open_at(tmp_path)
    first.log(record(4))
    first.close()
    (tmp_path / "tensorboard" / "notes.txt").write_text("mine")
    (tmp_path / "events.out.tfevents.1").write_text("elsewhere")
    open_board(tmp_path, wanted, SETTINGS).close()
    if wanted:
        assert tags(tmp_path) == ["settings/text_summary"]
    assert len(list(tmp_path.glob("*/events*"))) == wanted
    assert {"notes.txt", "events.out.tfevents.1"} <= {path.name for path in contents(tmp_path)}


def test_an_empty_folder_is_not_left_behind(tmp_path: Path) -> None:
    open_at(tmp_path).close()
    open_board(tmp_path, False, SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_a_resumed_run_without_a_board_keeps_what_was_shown(tmp_path: Path) -> None:
    first = open_at(tmp_path)
    first.log(record(4))
    first.close()
    open_board(tmp_path, False, SETTINGS, 4).close()
    assert curve(tmp_path, "val_loss") == [(4, 1.625)]


def test_a_board_that_is_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    b = open_board(tmp_path, False, SETTINGS)
    b.log(record(4))
    b.text("sample", 4)
    b.close()
    assert list(tmp_path.iterdir()) == []
    methods = {name for name in vars(Board) if not name.startswith("_")}
    assert methods == {"log", "text", "close"} <= vars(TensorBoard).keys()


def test_an_absent_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for attempt in (lambda: open_at(tmp_path), lambda: board.check(tmp_path, True)):
        with pytest.raises(UserError, match=r"pip install -r requirements-tensorboard\.txt") as e:
            attempt()
        assert "\n" not in str(e.value) and "train.tensorboard=false" in str(e.value)
    board.check(tmp_path, False)
    assert list(tmp_path.iterdir()) == []


def test_no_tensorboard_is_imported_unless_it_is_wanted(tiny_process: Callable) -> None:
    assert tiny_process(without=["tensorboard"]).status == 0


@pytest.mark.parametrize("step", [0, 8])
@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_nothing_goes_through_a_link(tmp_path: Path, target: str, step: int) -> None:
    first = open_at(tmp_path / "first")
    first.close()
    (tmp_path / "first" / "tensorboard").rename(tmp_path / "elsewhere")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").symlink_to(tmp_path / target)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=rf"run/tensorboard is a link, to .*{target}; remove it"):
        open_at(tmp_path / "run", step)
    open_board(tmp_path / "run", False, SETTINGS, step)
    assert contents(tmp_path) == before and len(before) == 1
    assert not (tmp_path / "nowhere").exists()


def use(b: Board) -> None:
    """Log for a while, more than any queue holds, and close."""
    for step in range(1, 30):
        b.log(record(step))
        b.text("sample", step)
    b.close()


def test_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    b = open_at(tmp_path)
    b.log(record(4))
    [file] = tmp_path.glob("tensorboard/*")
    with room_for(file.stat().st_size + 10):
        use(b)
    out, err = capsys.readouterr()
    reason = f"[Errno {errno.EFBIG}] {os.strerror(errno.EFBIG)}"
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"warning: TensorBoard failed ({reason}") and "without it" in err
    assert curve(tmp_path, "val_loss") == [(4, 1.625)]


@pytest.mark.parametrize("room", [0, 20, 100])
def test_a_disk_full_from_the_start(tmp_path: Path, room: int, capsys: pytest.CaptureFixture):
    with room_for(room):
        use(open_at(tmp_path))
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and err.startswith("warning: TensorBoard failed (")


def test_a_folder_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    use(open_at(tmp_path))
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and "File exists" in err
    assert (tmp_path / "tensorboard").read_text() == "a file"


def failing(*args: object, **options: object) -> None:
    raise RuntimeError("no more\nof this")


FAILURES = {
    "opening": "torch.utils.tensorboard.SummaryWriter.__init__",
    "adding": "torch.utils.tensorboard.SummaryWriter.add_scalar",
    "flushing": "torch.utils.tensorboard.SummaryWriter.flush",
    "closing": "torch.utils.tensorboard.SummaryWriter.close",
    "writing, in the thread": "tensorboard.summary.writer.record_writer.RecordWriter.write",
    "flushing, in the thread": "tensorboard.summary.writer.record_writer.RecordWriter.flush",
}


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_writer_costs_one_line(
    name: str,
    early: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    threads = threading.active_count()
    if early:
        monkeypatch.setattr(FAILURES[name], failing)
        use(open_at(tmp_path))
    elif name != "opening":
        b = open_at(tmp_path)
        b.log(record(4))
        monkeypatch.setattr(FAILURES[name], failing)
        use(b)
    out, err = capsys.readouterr()
    line = "warning: TensorBoard failed (no more of this); going on without it\n"
    assert (out, err) == ("", "" if name == "opening" and not early else line)
    if not early:  # a writer that was never there cannot end its thread
        assert threading.active_count() == threads


def test_a_signal_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    b = open_at(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(b.writer, "flush", lambda: signal.raise_signal(signal.SIGINT))
        b.log(record(4))
    b.close()
    assert curve(tmp_path, "val_loss") == [(4, 1.625)]


def test_other_threads_still_tell_what_ended_them(tmp_path: Path) -> None:
    told: list[Callable] = []
    threading.excepthook = lambda failed: told.append(failed.exc_type)
    open_at(tmp_path).close()
    thread = threading.Thread(target=failing)
    thread.start()
    thread.join()
    assert told == [RuntimeError]
