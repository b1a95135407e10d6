"""The a/b task: the text `aabaabaab...`, and the rule that continues it."""

LETTERS = "ab"


def text(length: int = 600) -> str:
    """The first `length` characters of `aab` repeated."""
    return ("aab" * (length // 3 + 1))[:length]


def rule(context: str) -> str:
    """What follows `context`, any text of a and b: `b` exactly when its last two are `aa`."""
    return "b" if context.endswith("aa") else "a"
