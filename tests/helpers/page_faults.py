"""How many pages the system has to hand over for a large tensor, told by the process that asks."""

import torch

from system import device


def main(argv: list[str]) -> int:
    """Print the page faults of taking 256 MB once as many were freed, which `keep` has kept."""
    import resource  # here, because Windows has none

    if argv == ["keep"]:
        device.keep_memory()
    torch.zeros(1 << 26)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros((1 << 26) - 4096)  # smaller: an aligned block of the same size may not fit again
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    return 0
