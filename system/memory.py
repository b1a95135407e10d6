"""How much memory is free, as far as the system says."""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

UNLIMITED = 1 << 60  # bytes from which a limit is none

# of a cgroup: its limit, what it uses, and what of that the system takes back when it is needed
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
V2 = ("memory.max", "memory.current", "inactive_file")


def free(root: Path = Path("/")) -> float:
    """Bytes that this process may still take: of the machine, and of each cgroup it is in.

    Infinite where nothing says so: on macOS, on Windows. `root` is the top of the file system.
    """
    found = [available(root / "proc/meminfo")]
    for line in read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found += left(root / "sys/fs/cgroup", path, V2)
        elif "memory" in controllers.split(","):
            found += left(root / "sys/fs/cgroup/memory", path, V1)
    return min(found)


def available(meminfo: Path) -> float:
    """Bytes that the machine has without pushing anything out to the disk."""
    return 1024 * fields(meminfo).get("MemAvailable:", math.inf)


def left(top: Path, path: str, names: tuple[str, str, str]) -> Iterator[float]:
    """What a cgroup and those above it leave, each; a container may see itself at the top."""
    limit, usage, reclaimable = names
    inside = PurePosixPath(path.lstrip("/"))
    for group in (inside, *inside.parents):
        most = number(read(top / group / limit))
        if most < UNLIMITED:
            back = fields(top / group / "memory.stat").get(reclaimable, 0)
            yield max(0.0, most - number(read(top / group / usage)) + back)


def fields(path: Path) -> dict[str, float]:
    """The lines of a file, each a name and a number."""
    lines = (line.split() for line in read(path).splitlines())
    return {line[0]: number(line[1]) for line in lines if len(line) > 1}


def number(text: str) -> float:
    """A whole number; what is none, such as `max`, is no limit."""
    return int(text) if text.strip().isdecimal() else math.inf


def read(path: Path) -> str:
    """What is in a file of the system; nothing where there is none."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        return ""
