"""How much memory is free, by made-up files of the system."""

import math
from pathlib import Path

import pytest

from system.memory import free

MEMINFO = "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    9000 kB\n"
MACHINE = 9000 * 1024
NONE = str(2**63 - 4096)  # how the first version says that there is no limit


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def second(group: str, most: object, usage: int, inactive: int) -> dict[str, str]:
    """The files of a group of the second version."""
    top = f"sys/fs/cgroup/{group}"
    stat = f"anon 5\ninactive_file {inactive}\n"
    return {
        f"{top}/memory.max": f"{most}\n",
        f"{top}/memory.current": f"{usage}\n",
        f"{top}/memory.stat": stat,
    }


def first(group: str, most: object, usage: int, inactive: int) -> dict[str, str]:
    """The files of a group of the first version."""
    top = f"sys/fs/cgroup/memory/{group}"
    return {
        f"{top}/memory.limit_in_bytes": f"{most}\n",
        f"{top}/memory.usage_in_bytes": f"{usage}\n",
        f"{top}/memory.stat": f"inactive_file 1\ntotal_inactive_file {inactive}\n",
    }


V1, V2 = "9:name=systemd:/\n4:cpu,memory:/jobs/one\n0::/\n", "0::/jobs/one\n"
CASES = {
    "no limit": (V2, second("jobs/one", "max", 500, 0), MACHINE),
    "a limit": (V2, second("jobs/one", 4000, 3000, 700), 1700),
    "the limit of a group above": (
        V2,
        second("jobs/one", "max", 500, 0) | second("jobs", 8000, 7000, 0),
        1000,
    ),
    "the tightest of several": (V2, second("jobs/one", 400, 0, 0) | second("jobs", 900, 0, 0), 400),
    "a limit above what the machine has": (V2, second("jobs/one", 10**12, 0, 0), MACHINE),
    "a container that sees itself at the top": (V2, second("", 4000, 1000, 0), 3000),
    "more than the limit": (V2, second("jobs/one", 4000, 5000, 0), 0),
    "a usage that is not said": (V2, {"sys/fs/cgroup/jobs/one/memory.max": "4000"}, 0),
    "no limit in the first version": (V1, first("jobs/one", NONE, 500, 0), MACHINE),
    "a limit in the first version": (V1, first("jobs/one", 4000, 3000, 700), 1700),
    "a group above in the first version": (V1, first("jobs", 4000, 3000, 0), 1000),
    "groups that are of something else": ("3:cpuset:/jobs\n", first("jobs", 40, 3, 0), MACHINE),
    "lines that are none": ("nonsense\n\n", {}, MACHINE),
}


@pytest.mark.parametrize(("groups", "files", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_free(groups: str, files: dict, expected: float, tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": MEMINFO, "proc/self/cgroup": groups, **files})
    assert free(tmp_path) == expected


@pytest.mark.parametrize("meminfo", ["", "MemTotal: 16 kB\n", "MemAvailable:\n", "\0\n"])
def test_a_system_that_does_not_say(meminfo: str, tmp_path: Path) -> None:
    assert free(tmp_path) == math.inf
    assert free(write(tmp_path, {"proc/meminfo": meminfo})) == math.inf


def test_here() -> None:
    assert free() > 0
