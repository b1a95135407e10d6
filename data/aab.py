"""The a/b task: the text `aabaabaab...` and the rule that continues it; and a second one like it.

A rule is a total function: it says what follows any text of a and b, also one that never occurs.
"""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

LETTERS = "ab"

Rule = Callable[[str], str]


def text(length: int = 600, word: str = "aab") -> str:
    """The first `length` characters of `word` repeated."""
    return (word * (length // len(word) + 1))[:length]


def rule(context: str) -> str:
    """What follows `context`: `b` exactly when its last two are `aa`. Continues aabaabaab..."""
    return "b" if context.endswith("aa") else "a"


def third_back(context: str) -> str:
    """`b` exactly when the last and the one three places before it are `a`. Continues aababaabab...

    A context too short to have that place is followed by `b` when all of it is `a`.
    """
    if len(context) < 4:
        return "b" if set(context) == {"a"} else "a"
    return "b" if context[-4] == context[-1] == "a" else "a"


def both(context: str) -> str:
    """What the two rules decide together: the second, or the first where the context is short.

    A lone `a` counts as `aa`. Continues aababaabab...
    """
    return rule("a" + context) if len(context) < 4 else third_back(context)


@dataclass(frozen=True)
class Task:
    """A text, which is `word` repeated for ever, and a rule that continues it.

    says is the rule in words. `data.rules.RuleTask` is one, too, whose text is not repeated and has
    no word.
    """

    word: str
    rule: Rule
    says: str = ""
    letters = LETTERS
    endings = ("aa", "ab", "ba", "bb")  # of contexts, by which what a head does is told

    def text(self, length: int = 600) -> str:
        """The first `length` characters."""
        return text(length, self.word)

    def windows(self, size: int) -> list[str]:
        """Every stretch of `size` characters that occurs, each equally often."""
        line = self.text(size + len(self.word))
        return [line[start : start + size] for start in range(len(self.word))]

    def entropy_floor(self, block_size: int) -> float:
        """Least mean loss, nats per character, of any model that fills its context with the text.

        It is above zero because the first characters do not say yet where in the text they are.
        """
        windows, nats = self.windows(block_size + 1), 0.0
        for place in range(1, block_size + 1):
            before = Counter(window[:place] for window in windows)
            after = Counter(window[: place + 1] for window in windows)
            nats -= sum(n * math.log(n / before[seen[:-1]]) for seen, n in after.items())
        return nats / len(windows) / block_size

    def contexts(self, most: int) -> None:
        """Every context counts. See `data.rules.RuleTask.contexts`."""

    def never(self) -> list[str]:
        """What never occurs in the text, though all shorter parts of it do, the shortest first."""
        sizes = range(1, len(self.word) + 2)
        occurs = {""}.union(*map(self.windows, sizes))
        candidates = ("".join(letters) for n in sizes for letters in product(LETTERS, repeat=n))
        return [c for c in candidates if c not in occurs and {c[1:], c[:-1]} <= occurs]


AAB = Task("aab", rule, "`b` follows where the text ends in `aa`, and `a` otherwise.")
ALIKE = "`b` follows where the last character and the one three places before it are both `a`"
THIRD_BACK = Task(
    "aabab", third_back, f"{ALIKE}, or where there are only two or three and all are; else `a`."
)
BOTH = Task(
    "aabab", both, f"{ALIKE}, or where there are only two or three and the last two are; else `a`."
)
