"""What a test takes that Windows does not have, and is skipped without."""

import os
import signal

import pytest

POSIX = os.name == "posix"
HUP = getattr(signal, "SIGHUP", 1)  # of a terminal that closes
REASON = "this system is not POSIX: no fork, no kill, no limits, no pipes in folders"

needs_posix = pytest.mark.skipif(not POSIX, reason=REASON)


def skip_without_posix() -> None:
    """The same, for a fixture or a helper."""
    if not POSIX:
        pytest.skip(REASON)


def is_root() -> bool:
    """Whether this user may read and write everything."""
    return POSIX and os.geteuid() == 0
