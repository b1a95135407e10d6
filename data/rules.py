"""Rule files, and the task that a rule is: its text, and what continues it. See `data.laws`."""

import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.addition import Addition
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from system import config
from system.errors import UserError, looked_in

EXAMPLES = config.CONFIGS / "rules"
LENGTH, SEED = 60_000, 1  # of the text that a rule writes to be learned
KINDS: tuple[type[Law], ...] = (Suffixes, Copying, Machine, Addition)


@dataclass(frozen=True)
class RuleTask:
    """What `aab.Task` is, for a rule: its text, and what continues it."""

    law: Law
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

    def contexts(self, most: int) -> list[str] | None:
        """Those that the rule is about, or so many drawn from them, the short ones first; None
        where it is about every context there is."""
        domain = self.law.domain()
        if domain is None:
            return None
        numbers = range(len(domain))
        if len(domain) > most:
            numbers = random.Random(SEED).sample(numbers, most)
        return sorted((domain[i] for i in numbers), key=lambda context: (len(context), context))

    def share(self, most: int) -> str:
        """How many of the contexts that the rule is about, where it is not about every context
        there is, are among those of `contexts`."""
        size = len(self.law.domain() or ())
        return f"each of {size:,}" if size <= most else f"{most:,} drawn of {size:,}"

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


def read(name: str) -> Law:
    """The rule in the file `name`. Raises UserError, one sentence, when it is none."""
    path = find(name)
    try:
        return parse(config.read_yaml(path, holds="keys such as chars:"))
    except (ValueError, config.ConfigError) as error:
        said = str(error).removeprefix(f"{path}: ")
        raise UserError(said if said.startswith(str(path)) else f"{path}: {said}") from None


def write(rule: Law) -> str:
    """The content of a file with this rule."""
    return "\n".join([*rule.lines(), ""])


def parse(content: dict[str, Any]) -> Law:
    """The rule that a file with this `content` describes. Raises ValueError or ConfigError."""
    known = dict.fromkeys(key for kind in KINDS for key in (*kind.needs, *kind.may))
    for key in content:
        if key not in known:
            near = config.nearest(key, tuple(known))
            raise ValueError(f"{config.show(key)} is no key of a rule; {near}")
    kind = next((kind for kind in reversed(KINDS) if kind.mark in content), Suffixes)
    if missing := next((key for key in kind.needs if key not in content), None):
        others = ", ".join(other.mark for other in KINDS[1:])
        raise ValueError(
            f"{missing} is missing; a rule has {', '.join(kind.needs)}, or one of {others}"
        )
    if surplus := next((key for key in content if key not in (*kind.needs, *kind.may)), None):
        raise ValueError(f"{surplus} and {kind.mark} exclude each other; keep one")
    return kind.parse(content)


def text(rule: Law, length: int = LENGTH, seed: int = SEED) -> str:
    """The first characters of the text that is made of `rule` to be learned: `Law.stretch`."""
    draw, written = random.Random(seed), ""
    while len(written) < length:
        written += rule.stretch(draw)
    return written[:length]
