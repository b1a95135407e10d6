"""Which operations of torch run on which devices, by the table that is installed with torch."""

from functools import cache
from pathlib import Path
from typing import Any

import torchgen
import yaml

TABLE = Path(torchgen.__file__).parent / "packaged" / "ATen" / "native" / "native_functions.yaml"


@cache
def table() -> dict[str, dict[str, Any]]:
    """What torch's table says of each operation, by its name, such as `add.Tensor`."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where it is there
    entries = yaml.load(TABLE.read_text("utf-8"), Loader=loader)
    made = {name.strip(): {} for entry in entries for name in entry.get("autogen", "").split(",")}
    return made | {entry["func"].partition("(")[0]: entry for entry in entries}


@cache
def kernels(name: str) -> frozenset[str]:
    """The backends with a kernel of their own for an operation. Raises KeyError if there is none.

    Those of a structured one stand where it is delegated to. Those that torchgen makes of others
    have none.
    """
    entry = table()[name]
    dispatch = table()[entry.get("structured_delegate", name)].get("dispatch", {})
    return frozenset(key.strip() for keys in dispatch for key in keys.split(","))


def runs_on(backend: str, name: str) -> bool:
    """Whether a backend, such as MPS, has an operation: as its own, or as one made of others."""
    found = kernels(name)
    return not found or backend in found or any(key.startswith("Composite") for key in found)
