"""What a user sees when something is wrong: one sentence and an exit status, no traceback."""

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn


class UserError(Exception):
    """Something the user can mend: one sentence that names the value and the remedy. Exit 2."""

    status = 2


class Fault(UserError):
    """Something that went wrong although the input was good, such as a full disk. Exit 1."""

    status = 1


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence too, and which knows `--debug`."""

    def __init__(self, **kwargs) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; --help lists what there is")


def run(
    command: Callable[[argparse.Namespace], int], parser: Parser, argv: list[str] | None
) -> int:
    """Parse `argv` (default: the command line), call `command`, and return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    try:
        return command(parser.parse_args(argv))
    except UserError as error:
        if "--debug" in argv:
            raise
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return error.status
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
