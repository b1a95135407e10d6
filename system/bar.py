"""A bar that grows while a person waits."""

import os

from tqdm import tqdm

PATIENCE = 2  # seconds without one


def bar(what: str, total: int | None, unit: str) -> tqdm:
    """On the terminal that stderr is, for `what` takes longer than PATIENCE; gone at the end.

    Of several processes that torchrun makes, one has it.
    """
    hidden = None if os.environ.get("RANK", "0") == "0" else True  # None: where no terminal is
    return tqdm(
        desc=what,
        total=total,
        unit=unit,
        unit_scale=True,
        delay=PATIENCE,
        leave=False,
        disable=hidden,
    )
