"""What was predicted of experiment.py's twins before any was trained, and whether it held."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """One row: written down before the runs, and judged after them.

    about: the experiments, arms and texts that it is about
    """

    rule: str
    said: str
    about: tuple[tuple[str, str, str], ...]
    verdict: str


PREDICTIONS = (
    Prediction(
        "aab, own text",
        "55 to 59 of 60 right; the hand's algorithm in 0 of 5",
        (("aab", "same", "own"),),
        "",
    ),
    Prediction(
        "abc, random beginnings",
        "97 to 99 % right",
        (("abc", "same", "restarts"), ("abc", "roomier", "restarts")),
        "",
    ),
    Prediction(
        "abc, every context",
        "proved in at least 4 of 5",
        (("abc", "same", "every"), ("abc", "roomier", "every")),
        "",
    ),
    Prediction(
        "copy, 2 layers",
        "a plateau, then a jump: proved in at least 4 of 5",
        (("copy", "same", "every"), ("copy", "roomier", "every")),
        "",
    ),
    Prediction(
        "copy, 1 layer",
        "never above its frequency guess and what seven distances memorize",
        (("copy-layers-1", "same", "every"), ("copy-layers-1", "roomier", "every")),
        "",
    ),
    Prediction(
        "addition of 3 digits",
        "roomier 5 of 5 in 5,000 to 50,000 steps; the same shape 2 to 5 of 5",
        (("addition", "roomier", "every"), ("addition", "same", "every")),
        "",
    ),
    Prediction(
        "parity of 8",
        "at least 3 of 5 with every context, which are few enough to memorize",
        (("parity-8", "same", "every"), ("parity-8", "roomier", "every")),
        "",
    ),
    Prediction(
        "parity of 16",
        "0 to 1 of 5, the loss at .693 to the end",
        (("parity", "same", "every"), ("parity", "roomier", "every")),
        "",
    ),
    Prediction(
        "set by hand, not blurred",
        "stays, as the gradient is zero, or is thrown out",
        (
            ("aab", "blurred 1", "every"),
            ("aab", "blurred 1", "own"),
            ("copy", "blurred 1", "every"),
            ("parity", "blurred 1", "every"),
        ),
        "",
    ),
    Prediction(
        "set by hand, blurred, with noise",
        "back to a proof in 5 of 5 up to noise of .1, lost near .3",
        (
            ("abc", "noisy 0.1", "every"),
            ("abc", "noisy 0.3", "every"),
            ("copy", "noisy 0.1", "every"),
            ("copy", "noisy 0.3", "every"),
            ("parity", "noisy 0.1", "every"),
            ("parity", "noisy 0.3", "every"),
        ),
        "",
    ),
    Prediction(
        "attention fixed by hand",
        "proved in under 500 steps, 5 of 5",
        tuple((rule, "attention by hand", "every") for rule in ("aab", "abc", "copy", "parity")),
        "",
    ),
    Prediction(
        "attention fixed at random",
        "fails on copy, partly on suffixes",
        tuple((rule, "attention at random", "every") for rule in ("aab", "abc", "copy")),
        "",
    ),
    Prediction(
        "feed-forward fixed by hand",
        "the hardest arm, 0 to 2 of 5",
        tuple((rule, "feed-forward by hand", "every") for rule in ("aab", "abc", "copy", "parity")),
        "",
    ),
    Prediction(
        "tictactoe, own text",
        "all games of its own text right; loses or errs in some of the rest",
        (("tictactoe", "same", "own"), ("tictactoe", "roomier", "own")),
        "",
    ),
)
