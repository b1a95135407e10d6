"""How often inputs are drawn, each of which may take its time."""

import os

from hypothesis import HealthCheck, settings


def drawn(examples: int) -> settings:
    """So many examples, or FUZZ of the environment, which then are others each time."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize="FUZZ" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
