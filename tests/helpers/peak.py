"""How much memory it takes to train on a large text, told by the process that does it."""

import re
from pathlib import Path

import train


def peak() -> int:
    """The most memory that this process has had, in bytes.

    ru_maxrss would begin with that of the process which started this one.
    """
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def main(argv: list[str]) -> int:
    """Train on the text `small`, then on `large`, and print how many bytes more that took."""
    settings = ["--device=cpu", "--config=tiny.yaml", *argv, "model.block_size=64"]
    train.main([*settings, "data.val_fraction=0.99", "data.dataset=small"])
    before = peak()
    status = train.main([*settings, "data.val_fraction=0.001", "data.dataset=large"])
    print(peak() - before)
    return status
