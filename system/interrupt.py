"""What Ctrl-C and other signals do: end a command at once, or a training run once it has saved."""

from __future__ import annotations  # see system/versions.py

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NoReturn

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # of a closed terminal; Windows' Ctrl-Break
SIGNALS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
TOGETHER = 2  # seconds
HINT = "saving after this step; Ctrl-C again, in two seconds or later, ends at once"


class Terminated(BaseException):
    """Signal `number` came. Like KeyboardInterrupt no Exception, which much code would swallow."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def quiet() -> None:
    """Let Ctrl-C end the process without a traceback while torch is imported: it takes seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def handle(handler: Callable[[int, object], None]) -> dict[int, object]:
    """From now on `handler` is called on each of SIGNALS; what was called before.

    A signal that is ignored stays so: Ctrl-C by a command in the background of a script, SIGHUP
    after nohup.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    return before


def restore(before: dict[int, object]) -> None:
    """Undo what `handle` did."""
    for number, handler in before.items():
        signal.signal(number, handler)


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """While this context lasts, `handler` is called on each of SIGNALS."""
    before = handle(handler)
    try:
        yield
    finally:
        restore(before)


def end(number: int, frame: object) -> NoReturn:
    """Raise an exception, so that files are closed and removed on the way out."""
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)


class Stop:
    """The first signal is noted and read between steps; one that comes later ends at once.

    Later than two seconds, that is. A terminal that closes, timeout and torchrun each send several
    signals, not always the same, and mean one.

    signal: the number to end with; 0 as long as there is none
    speaks: whether this process tells a person at a terminal, out of those that share the work
    """

    def __init__(self, *, speaks: bool = True, clock: Callable[[], float] = time.monotonic) -> None:
        self.signal, self.first = 0, math.inf
        self.speaks, self.clock = speaks, clock

    def note(self, number: int, frame: object) -> None:
        """Handle signal `number`."""
        now = self.clock()
        if self.first == math.inf:
            self.signal, self.first = number, now
            self.hint()
        elif now - self.first >= TOGETHER:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def hint(self) -> None:
        """Say what happens, past sys.stderr: the signal may have interrupted a print."""
        with contextlib.suppress(OSError):
            if self.speaks and os.isatty(2):
                os.write(2, f"\n{HINT}\n".encode())

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this context lasts, signals are noted; where one was, until the command ends."""
        before = handle(self.note)
        try:
            yield
        finally:
            if not self.signal:
                restore(before)
