"""Sums: what comes after `=` in a line with two numbers, digit by digit.

    addition: {digits: 3}                        321+654=9750
    addition: {digits: 3, order: ordinary}       123+456=0579

Both lines say 123 + 456 = 579. Operands have so many digits, the sum one more, and a line end
follows. The lowest digit comes first, or, in the ordinary order, the highest.
"""

import random
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args, overload

import torch
from torch import Tensor

from data.laws import Law
from system import config
from system.errors import UserError

CHARS = "\n+0123456789="  # in the order of their code points, as a text's vocabulary is
ZERO, PLUS, EQUALS, END = (CHARS.index(char) for char in "0+=\n")
Order = Literal["reversed", "ordinary"]
MOST = {"reversed": 18, "ordinary": 3}  # digits: sums below 2^63; what float32 can tell apart


@dataclass(frozen=True)
class Addition(Law):
    """The digits of the sum of two numbers, and then the end of the line.

    digits: of each number
    order: which digit comes first, the lowest (reversed) or the highest (ordinary)

    The rule is about what follows `=`, where a line and the part of the sum that it has are right.
    A window begins where a line does. Raises ValueError.
    """

    digits: int
    order: Order = "reversed"
    mark = "addition"
    needs = ("addition",)
    chars = CHARS

    def __post_init__(self) -> None:
        most = MOST[self.order]
        if not 1 <= self.digits <= most:
            raise ValueError(
                f"digits must lie between 1 and {most} in {self.order} order, not {self.digits}"
            )

    @property
    def block_size(self) -> int:
        """Characters of a line without its end."""
        return 3 * self.digits + 3

    @property
    def decided(self) -> slice:
        """The places of a line at which the rule says what comes next: `=` and those behind it."""
        return slice(2 * self.digits + 1, self.block_size)

    @property
    def pairs(self) -> int:
        """How many pairs of numbers there are."""
        return 10 ** (2 * self.digits)

    def written(self, number: int, digits: int) -> str:
        """A number as a line has it."""
        text = f"{number:0{digits}}"
        return text[::-1] if self.order == "reversed" else text

    def line(self, a: int, b: int) -> str:
        """The line that adds a and b, with its end."""
        n = self.digits
        return f"{self.written(a, n)}+{self.written(b, n)}={self.written(a + b, n + 1)}\n"

    def answer(self, context: str) -> str:
        """What follows the line that `context` ends in, whatever is written of its sum so far.

        Before `=` that is what the form of a line asks for, and 0 for the digits of the numbers,
        which nothing decides; so it is after what is no line.
        """
        n, line = self.digits, context[-self.block_size :].rpartition("\n")[2]
        found = re.fullmatch(f"([0-9]{{{n}}})(?:([+])([0-9]{{{n}}})(?:(=)([0-9]*))?)?", line)
        if not found:
            return "0"
        first, plus, second, equals, said = found.groups()
        if not equals:
            return "=" if plus else "+"
        a, b = (int(self.written(int(text), n)) for text in (first, second))
        total = self.written(a + b, n + 1)
        return total[len(said)] if len(said) <= n else "\n"

    def domain(self) -> Sequence[str]:
        """Every line, cut at each place that is decided; made when it is asked for."""
        return Contexts(self)

    def extent(self) -> str:
        """What a proof of all that the rule is about is a proof of, in words."""
        digits = f"{self.digits} digit{'s' * (self.digits > 1)}"
        many = f"{self.pairs:,}" if self.digits < 7 else f"10^{2 * self.digits}"
        return f"all {many} pairs of {digits}"

    def sums(self, a: Tensor, b: Tensor) -> Tensor:
        """The ids of the lines, with their ends, that add the numbers a and b, int64 (N,) each:
        (N, block_size + 1)."""
        n, marks = self.digits, torch.full((len(a), 1), PLUS)
        return torch.cat(
            (
                *(self.digits_of(a, n), marks, self.digits_of(b, n), marks - PLUS + EQUALS),
                *(self.digits_of(a + b, n + 1), marks - PLUS + END),
            ),
            dim=1,
        )

    def digits_of(self, numbers: Tensor, digits: int) -> Tensor:
        """The ids of the digits of numbers (N,) in the order of a line, (N, digits)."""
        powers = 10 ** torch.arange(digits)
        found = numbers[:, None] // powers % 10 + ZERO
        return found if self.order == "reversed" else found.flip(1)

    def numbered(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The numbers a and b of pairs, which are counted from 0 on, (N,)."""
        return pairs // 10**self.digits, pairs % 10**self.digits

    def every_line(self, rows: int) -> Iterator[Tensor]:
        """The ids of the lines of all pairs, so many at a time: (rows, block_size + 1)."""
        for start in range(0, self.pairs, rows):
            pairs = torch.arange(start, min(start + rows, self.pairs))
            yield self.sums(*self.numbered(pairs))

    def carries(self, a: Tensor, b: Tensor) -> Tensor:
        """How many digits in a row hand on a one, at most, where a and b are added: (N,)."""
        carry = run = longest = torch.zeros_like(a)
        for place in range(self.digits):
            column = a // 10**place % 10 + b // 10**place % 10 + carry
            carry = (column >= 10).long()
            run = (run + 1) * carry
            longest = longest.maximum(run)
        return longest

    def stretch(self, draw: random.Random) -> str:
        """A line of any two numbers."""
        return self.line(*(draw.randrange(10**self.digits) for _ in range(2)))

    def within(self, window: int) -> Self:
        """The rule itself. Raises UserError where `window` is another than its own."""
        if window != self.block_size:
            raise UserError(
                f"a window of {window} does not fit sums of {self.digits} digits, whose lines take "
                f"{self.block_size}; take {self.block_size}, or change digits in the rule file"
            )
        return self

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The rule that a file with this `content` describes. Raises ValueError or ConfigError."""
        asked, keys = content["addition"], ("digits", "order")
        if not isinstance(asked, dict):
            raise ValueError(f"addition is such as {{digits: 3}}, not {config.show(asked)}")
        if strange := next((key for key in asked if key not in keys), None):
            near = config.nearest(strange, keys)
            raise ValueError(f"{config.show(strange)} is no key of addition; {near}")
        if "digits" not in asked:
            raise ValueError("addition has no digits; give them, as in addition: {digits: 3}")
        order = asked.get("order", "reversed")
        if order not in get_args(Order):
            raise ValueError(f"order is one of {', '.join(get_args(Order))}")
        return cls(config.coerce(asked["digits"], int, "digits"), order)

    def lines(self) -> list[str]:
        """The lines of its file."""
        order = f", order: {self.order}" if self.order != "reversed" else ""
        return [f"addition: {{digits: {self.digits}{order}}}"]


class Contexts(Sequence[str]):
    """Every context about which a rule of sums says something: the lines of all pairs in turn, each
    cut at every place that is decided.

    Where there are more than a sequence can have, some are left out all along it.
    """

    def __init__(self, rule: Addition) -> None:
        self.rule, self.total = rule, rule.pairs * (rule.digits + 2)

    def __len__(self) -> int:
        return min(self.total, sys.maxsize)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        numbers = range(len(self))[index]
        return self.context(numbers) if isinstance(index, int) else list(map(self.context, numbers))

    def context(self, number: int) -> str:
        """The context that comes at this place."""
        rule = self.rule
        pair, place = divmod(number * self.total // len(self), rule.digits + 2)
        line = rule.line(*divmod(pair, 10**rule.digits))
        return line[: rule.decided.start + place + 1]
