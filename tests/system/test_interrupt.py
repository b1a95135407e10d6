"""Which signals there are, which of them mean one, and who hears them."""

import importlib.util
import os
import signal

import pytest

from system import interrupt
from system.interrupt import Stop, Terminated, end, handled
from tests.helpers.posix import HUP

INT, TERM = signal.SIGINT, signal.SIGTERM
NOTED = [  # seconds and signals, and the second one that ends at once
    ([(0, INT)], None),
    ([(5, HUP), (5, HUP), (5.05, HUP)], None),  # the shell of a terminal that closes
    ([(5, TERM), (5, TERM)], None),  # timeout
    ([(5, HUP), (5.05, TERM)], None),  # torchrun, in a terminal that closes
    ([(5, INT), (6.9, INT)], None),
    ([(5, INT), (7, INT)], INT),
    ([(5, INT), (6, INT), (7.5, INT)], INT),
    ([(5, HUP), (5.05, TERM), (9, TERM)], TERM),
]


@pytest.mark.parametrize(("signals", "second"), NOTED)
def test_signals_that_come_together_are_one(
    signals: list[tuple[float, int]], second: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, done = [], []
    monkeypatch.setattr(signal, "signal", lambda number, handler: done.append((number, handler)))
    monkeypatch.setattr(signal, "raise_signal", lambda number: done.append(number))
    stop = Stop(speaks=False, clock=lambda: seconds[-1])
    for moment, number in signals:
        assert done == []
        seconds.append(moment)
        stop.note(number, None)
    assert stop.signal == signals[0][1]
    assert done == ([] if second is None else [(second, signal.SIG_DFL), second])


def test_a_signal_of_another_process_is_not_the_first_of_this_one() -> None:
    stop = Stop(speaks=False, clock=lambda: 5)
    stop.signal = INT  # what the processes agree on, which torchrun then sends to each
    stop.note(TERM, None)
    assert stop.signal == TERM


@pytest.mark.parametrize(("speaks", "terminal"), [(True, True), (False, True), (True, False)])
def test_a_person_is_told(speaks: bool, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    monkeypatch.setattr(os, "isatty", lambda handle: terminal)
    monkeypatch.setattr(os, "write", lambda handle, text: said.append((handle, text.decode())))
    stop = Stop(speaks=speaks)
    stop.note(INT, None)
    stop.note(INT, None)
    assert said == [(2, f"\n{interrupt.HINT}\n")] * (speaks and terminal)


def test_a_terminal_that_is_gone_is_told_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "isatty", lambda handle: True)
    monkeypatch.setattr(os, "write", gone)
    Stop().note(HUP, None)


def test_who_hears_a_signal() -> None:
    before = [signal.getsignal(number) for number in interrupt.SIGNALS]
    with handled(end):
        for number, error in ((INT, KeyboardInterrupt), (TERM, Terminated), (HUP, Terminated)):
            with pytest.raises(error):
                signal.raise_signal(number)
        stop = Stop(speaks=False)
        with stop.listening():
            assert stop.signal == 0
        assert signal.getsignal(HUP) is end  # after a run that went on to its end
        with stop.listening():
            signal.raise_signal(HUP)
        signal.raise_signal(TERM)  # while a run that was stopped tidies up
    assert stop.signal == HUP
    assert before == [signal.getsignal(number) for number in interrupt.SIGNALS]


@pytest.mark.parametrize("number", interrupt.SIGNALS)
def test_an_ignored_signal_stays_ignored(number: int) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with handled(end), Stop().listening():
            signal.raise_signal(number)
            assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_the_signals_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(interrupt.SIGNALS) == {INT, TERM, HUP}
    monkeypatch.delattr(signal, "SIGHUP")
    monkeypatch.setattr(signal, "SIGBREAK", 21, raising=False)
    spec = importlib.util.spec_from_file_location("on_windows", interrupt.__file__)
    on_windows = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(on_windows)
    assert on_windows.SIGNALS == (INT, TERM, 21)
