"""A talk: a beginning is typed, the model writes on, again and again."""

import argparse
import contextlib
import itertools
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from data import tictactoe
from data.laws import Law
from data.tictactoe import END
from system.commandline import bounded
from system.errors import UserError, show
from writing import output
from writing.prompts import encode, meant
from writing.samples import SEEDS, Writer, following

SEED, TEMPERATURE = bounded(int, 0, SEEDS - 1), bounded(float, 0, 1e6)
REMEDY = "leave that out, or begin the talk with --unknown skip"
BEGIN = (
    "Type a beginning and press Enter. Each line is a fresh beginning; an empty one is the default."
)
PLAY = "Type your turn and press Enter. Each line goes on from all that stands so far."
HELP = """\
  :more             go on with the latest text
  :keep             from now on, each line goes on from all that stands so far; once more: no longer
  :temperature 0.5  change the temperature; 0 always takes the likeliest character
  :seed 3           the seed of the next text; it counts up from text to text
  :help             this
A line that ends in a backslash goes on in the next. :: begins a line with a colon.
Ctrl-C stops the text. The end of the input, Ctrl-D (on Windows Ctrl-Z and Enter), ends the talk."""


class Lines:
    """The lines of standard input, typed by a person, with line editing, or from a pipe.

    Raises UserError where there is no standard input.
    """

    def __init__(self) -> None:
        if sys.stdin is None:
            raise UserError("--interactive has no standard input to read; leave it open")
        self.person, self.offset = sys.stdin.isatty(), 0
        self.edited = self.person and sys.stdout.isatty()
        if self.edited:
            with contextlib.suppress(ImportError):  # Windows' terminal edits lines by itself
                import readline  # noqa: F401 - from now on `input` edits lines and has a history

    def read(self, ready: str = "> ") -> str | None:
        """The next line without its end, None after the last. Raises UserError if it is no text."""
        if self.edited:
            try:
                return input(ready)
            except EOFError:
                print()
                return None
        if self.person:
            print(end=ready, file=sys.stderr, flush=True)
        raw = sys.stdin.buffer.readline()
        try:
            line = raw.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"standard input is not UTF-8 at byte offset {self.offset + error.start}; "
                "pipe UTF-8 text into it"
            ) from None
        line = line if self.offset else line.removeprefix("\ufeff")
        self.offset += len(raw)
        return line.removesuffix("\n").removesuffix("\r") if raw else None


class Talk:
    """The state of a talk: what stands so far, as ids (T,), and how the next text is written."""

    def __init__(self, writer: Writer, args: argparse.Namespace, rule: Law | None = None) -> None:
        self.writer, self.lines = writer, Lines()
        self.seed, self.unknown, self.with_prompt = args.seed, args.unknown, not args.no_prompt
        self.turns, self.board = bool(rule and rule.turn), bool(rule and rule.board)
        begun = END if self.turns and rule and END in rule.chars else ""  # of the first line
        self.stands, self.keep = writer.tokenizer.encode(begun).long(), self.turns

    def run(self) -> None:
        """Answer each line until they end. A person's Ctrl-C ends a text or a line only."""
        if self.lines.person:
            say(f"{self.wanted()}; :help lists what else there is")
        while True:
            try:
                line = self.read()
                if line is None:
                    return
                self.answer(line)
            except KeyboardInterrupt:
                if not self.lines.person:
                    raise
                print()

    def wanted(self) -> str:
        """What a person is to type."""
        if self.board:
            return f"{tictactoe.board('')}\nyou are X: type a square"
        return "type your turn" if self.turns else "type a beginning"

    def read(self) -> str | None:
        """The next line, joined with those in which it goes on."""
        line = self.lines.read()
        while line is not None and goes_on(line):
            more = self.lines.read("... ")
            line = f"{line[:-1]}\n{more or ''}"
        return line

    def answer(self, line: str) -> None:
        """Write on from `line`, or obey it; what is wrong with it is said."""
        try:
            if line.startswith(":") and not line.startswith("::"):
                self.obey(*line[1:].strip().partition(" ")[::2])
            else:
                typed = meant(line.removeprefix(":"), self.writer.tokenizer)
                self.write(typed, self.stands if self.keep else self.stands[:0])
        except UserError as error:
            say(str(error))

    def write(self, typed: str, before: Tensor) -> None:
        """Write on from what was typed, after the ids `before`. Raises UserError."""
        tokenizer = self.writer.tokenizer
        if not typed and not len(before):
            typed = tokenizer.default_prompt
        begun = encode(typed, "the line", tokenizer, self.unknown, REMEDY) if typed else before[:0]
        self.append(torch.cat((before, begun)), tokenizer.decode(begun) if self.with_prompt else "")
        if self.board and tictactoe.over(self.game()):
            self.append(self.stands)  # the model ends the line
        print()
        if self.board and self.lines.person:
            self.show_board()

    def append(self, idx: Tensor, shown: str = "") -> None:
        """Show a text and what the model writes after the ids idx (T,). They stand from now on."""
        [sample] = self.writer.write([idx], self.seed)
        self.seed = following(self.seed)
        try:
            output.show(itertools.chain([shown], sample.text))
        finally:
            self.stands = torch.cat((idx, torch.tensor(sample.text.ids, dtype=torch.long)))

    def game(self, before: int = 0) -> str:
        """The line that is being written, or one that stands so many before it."""
        lines = self.writer.tokenizer.decode(self.stands).split(END)
        return lines[-1 - before] if before < len(lines) else ""

    def show_board(self) -> None:
        """Tell the person how the game stands, or has ended."""
        game = self.game() or self.game(before=1)
        say(tictactoe.board(game))
        if not self.game():
            say(f"{tictactoe.told(game) or 'the line has ended'}; a new game begins")

    def obey(self, name: str, value: str) -> None:
        """Do what the command `name` says. Raises UserError."""
        match name, value.strip():
            case "help", "":
                say(f"{PLAY if self.turns else BEGIN}\n{HELP}")
            case "more", "":
                self.write("", self.stands)
            case "keep", "":
                self.keep = not self.keep
                how = "goes on from all that stands so far" if self.keep else "is a fresh beginning"
                say(f"each line {how}")
            case "temperature", value:
                if value:
                    self.writer.temperature = number(TEMPERATURE, name, value)
                say(f"temperature {self.writer.temperature:g}")
            case "seed", value:
                if value:
                    self.seed = number(SEED, name, value)
                say(f"the next text has seed {self.seed}")
            case "help" | "more" | "keep", _:
                raise UserError(f":{name} takes no value; type :{name} alone")
            case _:
                raise UserError(
                    f"{show(':' + name)} is no command; :help lists them, "
                    "and :: begins a line with a colon"
                )


def goes_on(line: str) -> bool:
    """Whether a line ends in a backslash; two of them are one that is meant."""
    return (len(line) - len(line.rstrip("\\"))) % 2 == 1


def number(read: Callable[[str], int | float], name: str, value: str) -> int | float:
    """The value of a command. Raises UserError."""
    try:
        return read(value)
    except argparse.ArgumentTypeError as error:
        raise UserError(f":{name} {error}") from None
    except ValueError:
        raise UserError(f":{name} takes a {read.__name__}, not {show(value)}") from None


def say(message: str) -> None:
    """Tell the person, past the text."""
    print(message, file=sys.stderr, flush=True)
