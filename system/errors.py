"""What a user sees when something is wrong: one sentence and an exit status, no traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from system.interrupt import Terminated, end, handled


class UserError(Exception):
    """Something the user can mend: one sentence that names the value and the remedy. Exit 2."""

    status = 2


class Fault(UserError):
    """Something that went wrong although the input was good, such as a full disk. Exit 1."""

    status = 1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence too, and which knows `--debug`."""

    def __init__(self, **kwargs) -> None:
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what there is")


def run(
    command: Callable[[argparse.Namespace], int], parser: Parser, argv: list[str] | None
) -> int:
    """Parse `argv` (default: the command line), call `command`, and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        with handled(end):
            status = command(parser.parse_intermixed_args(argv))
            sys.stdout.flush()
        return status
    except UserError as error:
        if "--debug" in argv:
            raise
        return tell(parser, str(error), error.status)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated:
        return 128 + signal.SIGTERM
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (MemoryError, RuntimeError) as error:
        if "--debug" in argv or not out_of_memory(error):
            raise
        remedy = "make the batch, the model or the number of samples smaller"
        return tell(parser, f"there is not enough memory; {remedy}", Fault.status)
    except OSError as error:  # a path or a disk that nothing above foresaw
        if "--debug" in argv:
            raise
        where = f"{str(error.filename)[:200]}: " if error.filename else ""
        remedy = "check the path, its permissions and the room on the disk"
        return tell(parser, f"{where}{error.strerror or error}; {remedy}", Fault.status)


def out_of_memory(error: Exception) -> bool:
    """Whether `error` says so, as Python's, torch's on a GPU or, in words only, on a CPU."""
    named = type(error).__name__ in ("MemoryError", "OutOfMemoryError")
    return named or "can't allocate memory" in str(error)


def forgive_output() -> None:
    """Let no output end a command: what cannot be shown is escaped, what is closed takes all."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def tell(parser: Parser, message: str, status: int) -> int:
    """Print an error as one line, and return the exit status."""
    print(f"{parser.prog}: {message}".replace("\n", " "), file=sys.stderr)
    return status
