"""Rules of what follows a text. What all kinds have, and two of them: patterns, and copying.

    chars: abc            chars: abc
    block_size: 8         block_size: 8
    default: a            copy: 1
    rules:
      aabaab: c
      aa: b

Left, the answer of the longest pattern that fits, or the default. Right, what followed the last
character the last time it came, or that character where it is new. `handmade` turns each kind into
weights.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, get_args

from data import tictactoe
from system import config
from system.errors import UserError

Compiled = Literal["gelu_tanh", "relu2"]  # the activations in which a unit can be switched on
GAME = ("turn", "board")  # the keys that say that, and how, a rule takes turns
NAMED = {'"': '\\"', "\\": "\\\\", "\\U0000000a": "\\n", "\\U00000009": "\\t"}


def quoted(text: str) -> str:
    """A text between quotation marks, as both YAML and Python read it."""
    plain = (char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return '"' + "".join(NAMED.get(char, char) for char in plain) + '"'


def check(chars: str, block_size: int) -> None:
    """Raise ValueError unless these can be a vocabulary and a window."""
    if not chars:
        raise ValueError("chars is empty; name the characters, such as chars: abc")
    if twice := next((c for i, c in enumerate(chars) if c in chars[:i]), None):
        raise ValueError(f"chars has {twice!r} twice; keep one")
    if not 2 <= block_size <= 4096:
        raise ValueError(f"block_size must lie between 2 and 4096, not {block_size}")


class Law:
    """What all kinds of rules have.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    mark: the key that says that a file is of this kind
    needs, may: all keys that its file has, and those that it may have beside them
    turn: how many characters it writes where it takes turns with a person; 0 where it does not
    board: the squares a side of the board on which its text is a game; 0 where it is none
    """

    mark: ClassVar[str]
    needs: ClassVar[tuple[str, ...]]
    may: ClassVar[tuple[str, ...]] = ()
    chars: str
    block_size: int
    turn: int = 0
    board: int = 0

    def answer(self, context: str) -> str:
        """What follows `context`, of which only the last `block_size` characters count."""
        raise NotImplementedError

    def domain(self) -> Sequence[str] | None:
        """The contexts that the rule is about; None where it is about every context there is."""
        return None

    def extent(self) -> str:
        """What a proof of all that the rule is about is a proof of, in words."""
        return f"all {len(self.chars)}^{self.block_size} contexts"

    def stretch(self, draw: random.Random) -> str:
        """A part of the text that is made of this rule to be learned, up to where chance has a say.

        A rule alone soon goes round in a circle and never meets most contexts. So before two
        windows by the rule comes one of random characters, which no model can foresee. The rule
        writes one character more, so that windows side by side, as in evaluation, begin anywhere
        in all this.
        """
        written = "".join(draw.choices(self.chars, k=self.block_size))
        for _ in range(2 * self.block_size + 1):
            written += self.answer(written[-self.block_size :])
        return written

    def within(self, window: int) -> Self:
        """The same rule for a window of so many places. Raises UserError where it needs more."""
        return dataclasses.replace(self, block_size=window)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The rule that a file with this `content` describes, which has the keys of this kind
        and no others. Raises ValueError or ConfigError."""
        raise NotImplementedError

    def lines(self) -> list[str]:
        """The lines of its file."""
        return [f"chars: {quoted(self.chars)}", f"block_size: {self.block_size}"]


def sizes(content: dict[str, Any]) -> tuple[str, int]:
    """The vocabulary and the window that a file with this `content` names."""
    chars = config.coerce(content["chars"], str, "chars")
    return chars, config.coerce(content["block_size"], int, "block_size")


@dataclass(frozen=True)
class Suffixes(Law):
    """The longest of the patterns that a text ends in decides what follows.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    default: the answer where no pattern fits
    rules: pattern -> answer
    activation: of the feed-forward that this is compiled to
    turn, board: see `Law`; on a board of 3 the text is tic-tac-toe, as `data.tictactoe` has it

    Raises ValueError, one sentence, when they do not fit together.
    """

    chars: str
    block_size: int
    default: str
    rules: Mapping[str, str]
    activation: Compiled = "relu2"
    turn: int = 0
    board: int = 0
    mark = "rules"
    needs = ("chars", "block_size", "default", "rules")
    may = ("activation", "turn", "board")

    def __post_init__(self) -> None:
        check(self.chars, self.block_size)
        if self.turn < 0:
            raise ValueError(f"turn must be 1 or more, not {self.turn}")
        if self.board:
            tictactoe.check(self.chars, self.block_size, self.board)
        if not self.rules:
            raise ValueError("there are no rules to compile; give at least one, such as aa: b")
        if len(self.default) != 1 or self.default not in self.chars:
            default, chars = config.show(self.default), config.show(self.chars)
            raise ValueError(f"default {default} is none of the chars {chars}")
        for pattern, answer in self.rules.items():
            if not pattern:
                raise ValueError("a rule has an empty pattern; default is for what always fits")
            named = f"rule {config.show(pattern)}"
            if len(answer) != 1:
                raise ValueError(f"{named} answers {config.show(answer)}; give one character")
            if strange := next((c for c in (*pattern, answer) if c not in self.chars), None):
                raise ValueError(f"{named} has {strange!r}, which is not among the chars; add it")
            if len(pattern) > self.block_size:
                raise ValueError(
                    f"{named} has {len(pattern)} characters, and block_size is "
                    f"{self.block_size}; shorten the one or raise the other"
                )

    @cached_property
    def longest(self) -> int:
        """Characters of the longest pattern."""
        return max(map(len, self.rules))

    def answer(self, context: str) -> str:
        """What follows `context`, of which no pattern is longer than the window."""
        context = context[-self.longest :]
        ends = (context[start:] for start in range(len(context)))
        return next((self.rules[end] for end in ends if end in self.rules), self.default)

    def answers(self, contexts: list[str]) -> list[str]:
        """What follows each of the contexts."""
        return [self.answer(context) for context in contexts]

    def domain(self) -> Sequence[str] | None:
        """Where this plays, the games that it can come to have to go on with."""
        return tictactoe.positions(self.answers) if self.board else None

    def stretch(self, draw: random.Random) -> str:
        """Where this plays, a game against moves at random; otherwise as for any rule."""
        return tictactoe.random_game(draw, self.answers) if self.board else super().stretch(draw)

    def within(self, window: int) -> Self:
        """The same rule for a window of so many places. Raises UserError."""
        if window < self.longest:
            raise UserError(
                f"a window of {window} is shorter than the longest pattern of the rule, of "
                f"{self.longest} characters; take {self.longest} or more"
            )
        return dataclasses.replace(self, block_size=window)

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The rule that a file with this `content` describes. Raises ValueError or ConfigError."""
        chars, block_size = sizes(content)
        rules = content["rules"]
        if not isinstance(rules, dict) or not all(isinstance(v, str) for v in rules.values()):
            raise ValueError(f"rules holds lines such as aa: b, not {config.show(rules)}")
        activation = content.get("activation", "relu2")
        if activation not in get_args(Compiled):
            raise ValueError(f"activation is one of {', '.join(get_args(Compiled))}")
        default = config.coerce(content["default"], str, "default")
        game = {key: config.coerce(content.get(key, 0), int, key) for key in GAME}
        return cls(chars, block_size, default, rules, activation, **game)

    def lines(self) -> list[str]:
        """The lines of its file."""
        lines = super().lines() + [f"{key}: {n}" for key in GAME if (n := getattr(self, key))]
        lines += [f"default: {quoted(self.default)}", "rules:"]
        lines += [f"  {quoted(key)}: {quoted(answer)}" for key, answer in self.rules.items()]
        return lines + ([f"activation: {self.activation}"] if self.activation != "relu2" else [])


@dataclass(frozen=True)
class Copying(Law):
    """What followed the last character the last time it came, or that character where it is new.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    """

    chars: str
    block_size: int
    mark = "copy"
    needs = ("chars", "block_size", "copy")

    def __post_init__(self) -> None:
        check(self.chars, self.block_size)

    def answer(self, context: str) -> str:
        """What follows `context`, of which only the window counts."""
        context = context[-self.block_size :]
        before = context.rfind(context[-1], 0, len(context) - 1)
        return context[-1] if before < 0 else context[before + 1]

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The rule that a file with this `content` describes. Raises ValueError or ConfigError."""
        if content["copy"] != "1":
            raise ValueError(f"copy is 1, not {config.show(content['copy'])}")
        return cls(*sizes(content))

    def lines(self) -> list[str]:
        """The lines of its file."""
        return [*super().lines(), "copy: 1"]
