"""What is set for the whole process."""

import subprocess
import sys

import pytest

from tests.helpers import ROOT

FAULTS = """
import resource, sys, torch
from system import device
if sys.argv[1] == "keep":
    device.keep_memory()
torch.zeros(1 << 26)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros((1 << 26) - 4096)  # smaller: an aligned block of the same size may just not fit again
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
def test_memory_is_kept() -> None:
    def page_faults(how: str) -> int:
        command = [sys.executable, "-c", FAULTS, how]
        return int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout)

    assert page_faults("keep") * 10 < page_faults("leave")  # of 256 MB, 65,536 pages
