"""Whether Python and its packages will do, found out before a command imports them."""

from __future__ import annotations  # an old Python has to get as far as the sentence about it

import importlib.util
import platform
import re
import sys
from pathlib import Path

from system.errors import UserError

PYTHON, TORCH = (3, 11), (2, 6)  # the oldest that will do, as in pyproject.toml
SAFE = (2, 10)  # the oldest torch whose reader of checkpoints has no hole that is known
PACKAGES = {"torch": "torch", "numpy": "numpy", "tqdm": "tqdm", "yaml": "pyyaml"}
PACKAGES["matplotlib"] = "matplotlib"  # by the module that is imported


def check() -> None:
    """End the process with one sentence and status 2 where something is missing or too old.

    Warns of a torch that runs all, but lets a made-up checkpoint read and write foreign memory.
    """
    wrong = complaint()
    if wrong:
        print(f"{Path(sys.argv[0]).name}: {wrong}", file=sys.stderr)
        sys.exit(UserError.status)
    version = torch_version()
    if version is not None and numbers(version) < SAFE:
        print(
            f"warning: a checkpoint could run code in torch {version} (CVE-2026-24747); open none "
            f"of others, or {install(SAFE)}",
            file=sys.stderr,
        )


def complaint() -> str | None:
    """What is missing or too old, and what to do; None where nothing is.

    Nothing is imported for it: that takes a second, and fails where something is wrong.
    """
    if sys.version_info[:2] < PYTHON:
        return (
            f"Python {platform.python_version()} is too old; handmade-gpt needs {dotted(PYTHON)} "
            "or newer: install it, and start the command with it"
        )
    missing = [package for module, package in PACKAGES.items() if find(module) is None]
    version = torch_version()
    old = version is not None and numbers(version) < TORCH
    if (old or "torch" in missing) and (sys.platform, platform.machine()) == ("darwin", "x86_64"):
        return (
            f"handmade-gpt needs torch {dotted(TORCH)} or newer, and there is none for Intel Macs; "
            "take another machine, or on an Apple chip a Python that is built for arm64"
        )
    if missing:
        return (
            f"handmade-gpt needs {', '.join(missing)}, not installed for this Python: "
            f"pip install {' '.join(missing)}"
        )
    if old:
        return (
            f"torch {version} is too old; handmade-gpt needs {dotted(TORCH)} or newer: "
            f"{install(TORCH)}"
        )
    return None


def install(oldest: tuple[int, ...]) -> str:
    """The command that installs a newer torch; the quotation marks are those of every shell."""
    return f'pip install "torch>={dotted(oldest)}"'


def dotted(version: tuple[int, ...]) -> str:
    """(3, 11) -> 3.11"""
    return ".".join(map(str, version))


def numbers(version: str) -> tuple[int, ...]:
    """The first two numbers of a version, such as 2.6.0a0+df5bbc09d1.nv24.11 -> (2, 6)"""
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def find(module: str) -> Path | None:
    """The file of a module or package that could be imported; a folder of that name is none."""
    spec = importlib.util.find_spec(module)
    return Path(spec.origin) if spec and spec.origin else None


def torch_version() -> str | None:
    """The version of torch as its own file has it, which takes no time; None where it has none."""
    init = find("torch")
    try:
        text = init.with_name("version.py").read_text(encoding="utf-8") if init else ""
    except OSError:
        return None
    found = re.search(r"^__version__ = ['\"](\d+\.\d+[^'\"]*)", text, re.MULTILINE)
    return found.group(1) if found else None
