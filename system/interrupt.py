"""What Ctrl-C and SIGTERM do: end a command at once, or a training run once it has saved."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(BaseException):
    """SIGTERM came. Like a KeyboardInterrupt it is no Exception, which much code would swallow."""


def quiet() -> None:
    """Let Ctrl-C end the process without a traceback while torch is imported: it takes seconds."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextlib.contextmanager
def handled(handler: Callable[[int, object], None]) -> Iterator[None]:
    """While this context lasts, `handler` is called on Ctrl-C and SIGTERM.

    A signal that is ignored stays so, as Ctrl-C is by a command in the background of a script.
    """
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number in SIGNALS:
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number in SIGNALS:
            signal.signal(number, before[number])


def end(number: int, frame: object) -> NoReturn:
    """Raise an exception, so that files are closed and removed on the way out."""
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


class Stop:
    """The first Ctrl-C or SIGTERM is noted and read between steps; the second ends at once."""

    def __init__(self) -> None:
        self.signal = 0

    def note(self, number: int, frame: object) -> None:
        self.signal = number
        for each in SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """While this context lasts, signals are noted."""
        return handled(self.note)
