"""A command line: how it is read, what --help shows, how a command begins and ends."""

from __future__ import annotations  # see system/versions.py

import argparse
import gc
import math
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import NoReturn

from system import versions
from system.errors import Fault, UserError
from system.interrupt import Terminated, end, handled, quiet
from system.output import arranged
from system.words import Words

GONE = 141  # 128 + SIGPIPE, which Windows does not have


def begin() -> float:
    """Prepare a process for the imports of a command, which take most of a second; when that was.

    Ends it where they would fail, as `versions.check` says. Ctrl-C ends it without a traceback. No
    garbage is looked for among what torch defines, neither now nor when the process ends, which
    would be a fifth of the time (benchmarks/README.md).
    `run` ends this state. The time is that of time.perf_counter, in seconds.
    """
    begun = time.perf_counter()
    quiet()
    versions.check()
    gc.disable()
    return begun


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence too, and which knows `--debug`.

    about: what the command does, and examples of it; --help begins with that
    settings: those that words such as train.seed=2 may change
    """

    def __init__(self, *, about: str = "", settings: Sequence[str] = (), **kwargs) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )
        self.about, self.settings = about, settings
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def format_help(self) -> str:
        return f"{self.about.strip()}\n\n{super().format_help()}".lstrip()

    def parse_intermixed_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Read options and other words, which may stand in any order. Raises UserError."""
        args = sys.argv[1:] if args is None else args
        return self.parse_args(Words(self, self.settings, args).sorted(), namespace)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what there is")


def bounded(kind: type, low: float, high: float = math.inf) -> Callable[[str], int | float]:
    """A reader of command-line numbers which refuses those below `low` or above `high`."""

    def read(text: str) -> int | float:
        value = kind(text)
        if not low <= value <= high:  # NaN is refused too
            upper = "" if high == math.inf else f" and at most {high:g}"
            raise argparse.ArgumentTypeError(f"must be at least {low:g}{upper}, not {text}")
        return value

    read.__name__ = "whole number" if kind is int else "number"  # argparse's messages say it
    return read


def only_one(args: argparse.Namespace, *names: str) -> None:
    """Raise UserError where more than one of the options `names` is given, those not None."""
    given = [f"--{name.replace('_', '-')}" for name in names if vars(args)[name] is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} exclude each other; give one")


def run(
    command: Callable[[argparse.Namespace], int],
    parser: Parser,
    argv: list[str] | None,
    begun: float | None = None,
) -> int:
    """Parse `argv` (default: the command line), call `command`, and return the exit status.

    begun: what `begin` returned; the command finds it in its arguments, as `begun`
    """
    begun = time.perf_counter() if begun is None else begun
    argv = sys.argv[1:] if argv is None else argv
    if not gc.isenabled():  # since `begin`; what the imports made is no garbage until the end
        gc.freeze()
        gc.enable()
    with arranged():
        return outcome(command, parser, argv, begun)


def outcome(
    command: Callable[[argparse.Namespace], int], parser: Parser, argv: list[str], begun: float
) -> int:
    """The exit status of `command` called with `argv`; what ended it is told in one line."""
    try:
        with handled(end):
            args = parser.parse_intermixed_args(argv)
            args.begun = begun
            status = command(args)
            print(end="", flush=True)
        return status
    except UserError as error:
        if "--debug" in argv:
            raise
        return tell(parser, str(error), error.status)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as error:
        return 128 + error.number
    except BrokenPipeError:  # the reader, such as head, has seen enough
        return GONE
    except (MemoryError, RuntimeError, TypeError) as error:
        if "--debug" in argv or not (message := fault(error)):
            raise
        return tell(parser, message, Fault.status)
    except OSError as error:  # a path or a disk that nothing above foresaw
        if "--debug" in argv:
            raise
        where = f"{str(error.filename)[:200]}: " if error.filename else ""
        remedy = "check the path, its permissions and the room on the disk"
        return tell(parser, f"{where}{error.strerror or error}; {remedy}", Fault.status)


def fault(error: Exception) -> str:
    """One sentence, if `error` says what the machine has not: memory, or a GPU that can do this."""
    from system import device  # here, because torch takes its time, and has been imported by now

    if out_of_memory(error):
        remedy = "make the batch, the model or the number of samples smaller"
        return f"there is not enough memory; {remedy}"
    said = device.refused(error)
    return f"{said}; use --device cpu" if said else ""


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says so, as Python's, torch's on a GPU or, in words only, elsewhere."""
    named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    words = ("can't allocate memory", "out of memory")  # a CPU; an Apple chip, a driver
    return named or any(word in str(error) for word in words)


def tell(parser: Parser, message: str, status: int) -> int:
    """Print an error as one line, and return the exit status."""
    print(f"{parser.prog}: {message}".replace("\n", " "), file=sys.stderr)
    return status
