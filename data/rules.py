"""Rules of what follows a text: by the patterns that it ends in, or by copying. And their files.

    chars: abc            chars: abc
    block_size: 8         block_size: 8
    default: a            copy: 1
    rules:
      aabaab: c
      aa: b

Left, the answer of the longest pattern that fits, or the default. Right, what followed the last
character the last time it came, or that character where it is new. `handmade` turns both into
weights.
"""

import dataclasses
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from system import config
from system.errors import UserError, looked_in

Compiled = Literal["gelu_tanh", "relu2"]  # the activations in which a unit can be switched on
EXAMPLES = config.CONFIGS / "rules"
LENGTH, SEED = 60_000, 1  # of the text that a rule writes to be learned
NAMED = {'"': '\\"', "\\": "\\\\", "\\U0000000a": "\\n", "\\U00000009": "\\t"}
KEYS = ("chars", "block_size", "default", "rules", "copy", "activation")


def check(chars: str, block_size: int) -> None:
    """Raise ValueError unless these can be a vocabulary and a window."""
    if not chars:
        raise ValueError("chars is empty; name the characters, such as chars: abc")
    if twice := next((c for i, c in enumerate(chars) if c in chars[:i]), None):
        raise ValueError(f"chars has {twice!r} twice; keep one")
    if not 2 <= block_size <= 4096:
        raise ValueError(f"block_size must lie between 2 and 4096, not {block_size}")


@dataclass(frozen=True)
class Suffixes:
    """The longest of the patterns that a text ends in decides what follows.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    default: the answer where no pattern fits
    rules: pattern -> answer
    activation: of the feed-forward that this is compiled to

    Raises ValueError, one sentence, when they do not fit together.
    """

    chars: str
    block_size: int
    default: str
    rules: Mapping[str, str]
    activation: Compiled = "relu2"

    def __post_init__(self) -> None:
        check(self.chars, self.block_size)
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


@dataclass(frozen=True)
class Copying:
    """What followed the last character the last time it came, or that character where it is new.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    """

    chars: str
    block_size: int

    def __post_init__(self) -> None:
        check(self.chars, self.block_size)

    def answer(self, context: str) -> str:
        """What follows `context`, of which only the window counts."""
        context = context[-self.block_size :]
        before = context.rfind(context[-1], 0, len(context) - 1)
        return context[-1] if before < 0 else context[before + 1]


Rule = Suffixes | Copying


@dataclass(frozen=True)
class RuleTask:
    """What `aab.Task` is, for a rule: its text, and what continues it."""

    law: Rule
    word = None
    endings = ()

    @property
    def letters(self) -> str:
        """The vocabulary."""
        return self.law.chars

    def rule(self, context: str) -> str:
        """What follows `context`."""
        return self.law.answer(context)

    def text(self) -> str:
        """What a model is trained on."""
        return text(self.law)

    def windows(self, size: int) -> list[str]:
        """Stretches of `size` characters, side by side, of a text that nobody was trained on."""
        unseen = text(self.law, length=200 * size, seed=SEED + 1)
        return [unseen[start : start + size] for start in range(0, len(unseen), size)]

    def entropy_floor(self, block_size: int) -> None:
        """Not known: how much of the random stretches a model can tell."""

    def never(self) -> list[str]:
        """Any stretch may occur where the text is random."""
        return []


def is_path(name: str) -> bool:
    """Whether `name` may be the path of a rule file, and not only the name of an example."""
    return name.endswith((".yaml", ".yml"))


def find(name: str) -> Path:
    """The rule file `name`: a path, or the name of an example. Raises UserError."""
    places = [Path(name)] if is_path(name) else []
    if Path(name).name == name:
        places.append(EXAMPLES / f"{name.removesuffix('.yaml')}.yaml")
    for path in places:
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
            return path
    where = looked_in(name) if is_path(name) else ""
    raise UserError(f"there is no rule file {config.show(name)}{where}; {available()}")


def examples() -> list[str]:
    """The names of the rule files that come along."""
    return sorted(path.stem for path in EXAMPLES.glob("*.yaml"))


def available() -> str:
    """The end of a message: which rule files there are."""
    return f"configs/rules/ has {', '.join(examples())}"


def read(name: str) -> Rule:
    """The rule in the file `name`. Raises UserError, one sentence, when it is none."""
    path = find(name)
    try:
        return parse(config.read_yaml(path, holds="keys such as chars:"))
    except (ValueError, config.ConfigError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise UserError(said if said.startswith(str(path)) else f"{path}: {said}") from None


def within(rule: Rule, window: int) -> Rule:
    """The same rule for a window of so many places. Raises UserError where a pattern is longer."""
    if isinstance(rule, Suffixes) and window < rule.longest:
        raise UserError(
            f"a window of {window} is shorter than the longest pattern of the rule, of "
            f"{rule.longest} characters; take {rule.longest} or more"
        )
    return dataclasses.replace(rule, block_size=window)


def quoted(text: str) -> str:
    """A text between quotation marks, as both YAML and Python read it."""
    plain = (char if char.isprintable() else f"\\U{ord(char):08x}" for char in text)
    return '"' + "".join(NAMED.get(char, char) for char in plain) + '"'


def write(rule: Rule) -> str:
    """The content of a file with this rule."""
    lines = [f"chars: {quoted(rule.chars)}", f"block_size: {rule.block_size}"]
    if isinstance(rule, Copying):
        return "\n".join([*lines, "copy: 1", ""])
    lines += [f"default: {quoted(rule.default)}", "rules:"]
    lines += [f"  {quoted(pattern)}: {quoted(answer)}" for pattern, answer in rule.rules.items()]
    lines += [f"activation: {rule.activation}"] if rule.activation != "relu2" else []
    return "\n".join([*lines, ""])


def parse(content: dict[str, Any]) -> Rule:
    """The rule that a file with this `content` describes. Raises ValueError or ConfigError."""
    for key in content:
        if key not in KEYS:
            raise ValueError(f"{config.show(key)} is no key of a rule; {config.nearest(key, KEYS)}")
    kind = ("copy",) if "copy" in content else ("default", "rules")
    if missing := next((key for key in ("chars", "block_size", *kind) if key not in content), None):
        raise ValueError(f"{missing} is missing; a rule has {', '.join(KEYS[:4])}, or copy: 1")
    chars = config.coerce(content["chars"], str, "chars")
    block_size = config.coerce(content["block_size"], int, "block_size")
    if "copy" in content:
        if surplus := next((k for k in ("default", "rules", "activation") if k in content), None):
            raise ValueError(f"{surplus} and copy exclude each other; keep one")
        if content["copy"] != "1":
            raise ValueError(f"copy is 1, not {config.show(content['copy'])}")
        return Copying(chars, block_size)
    rules = content["rules"]
    if not isinstance(rules, dict) or not all(isinstance(v, str) for v in rules.values()):
        raise ValueError(f"rules holds lines such as aa: b, not {config.show(rules)}")
    activation = content.get("activation", "relu2")
    if activation not in get_args(Compiled):
        raise ValueError(f"activation is one of {', '.join(get_args(Compiled))}")
    default = config.coerce(content["default"], str, "default")
    return Suffixes(chars, block_size, default, rules, activation)


def text(rule: Rule, length: int = LENGTH, seed: int = SEED) -> str:
    """A text that `rule` writes, with a stretch of random characters now and then.

    A rule alone soon goes round in a circle and never meets most contexts. So after two windows by
    the rule comes one of random characters, which no model can foresee. The rule writes one
    character more, so that windows side by side, as in evaluation, begin anywhere in all this.
    """
    draw, written = random.Random(seed), ""
    while len(written) < length:
        written += "".join(draw.choices(rule.chars, k=rule.block_size))
        for _ in range(2 * rule.block_size + 1):
            written += rule.answer(written[-rule.block_size :])
    return written[:length]
