"""Which files a text is: one, those of a folder, or those of a list."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data import tiny_shakespeare
from system.errors import UserError, looked_in

ENDING = ".txt"
NAMED = 3  # files left out that are named; the others are counted


@dataclass
class Found:
    """The files of a text in their order, and what was left out: its name and why."""

    files: list[Path] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def said(self) -> str:
        """How many files there are, and which were left out, as in `4 files, 1 left out: ...`."""
        count = f"{len(self.files):,} file{'s' * (len(self.files) != 1)}"
        if not self.left_out:
            return count
        named = [f"{name} ({why})" for name, why in self.left_out[:NAMED]]
        more = len(self.left_out) - NAMED
        return (
            f"{count}, {len(self.left_out):,} left out: {', '.join(named)}"
            f"{f' and {more:,} more' if more > 0 else ''}"
        )


def find(dataset: str | list[str], *, flat: bool = False, setting: str = "data.dataset") -> Found:
    """The file, or the .txt files of a folder, or those of a list of files and folders.

    `flat` takes of a folder what stands in it, in the order of the names. Otherwise those of the
    folders below it are taken too, in natural order, but nothing hidden. A UserError says
    which `setting` names what cannot be read.
    """
    if dataset == "tiny_shakespeare":
        return Found([tiny_shakespeare.fetch()])
    if isinstance(dataset, str):
        name = f"{setting}={dataset[:200]} is not tiny_shakespeare, not aab, and"
        return find_at(dataset, f"{name} no file or folder to read", flat=flat)
    found = Found()
    for name in dataset:
        inner = find_at(name, f"{name[:200]} is no file or folder to read", flat=flat)
        found.left_out += inner.left_out
        for file in inner.files:
            if file in found.files:
                found.left_out.append((str(file), "given twice"))
            else:
                found.files.append(file)
    return found


def find_at(name: str, absent: str, *, flat: bool) -> Found:
    """The files at a path. Raises UserError, with the sentence `absent` where nothing is there."""
    path = Path(name)
    try:
        path = path.expanduser()
        mode = path.stat().st_mode
    except (OSError, ValueError, RuntimeError) as error:
        reason = getattr(error, "strerror", error)
        if isinstance(error, FileNotFoundError):
            reason += looked_in(path)
        raise UserError(f"{absent} ({reason}); give the path of a UTF-8 text") from None
    if stat.S_ISREG(mode):
        return Found([path])
    if not stat.S_ISDIR(mode):
        raise UserError(f"{path} is no ordinary file; copy the text into one")
    try:
        if flat:
            found = Found(sorted(file for file in path.glob("*.txt") if file.is_file()))
        else:
            found = below(path)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}; mend that") from None
    if not found.files:
        raise UserError(
            f"the folder {path} has no .txt file; put the text there as UTF-8"
            f"{f' ({found.said()})' if found.left_out else ''}"
        )
    check_links(found.files, path)
    return found


def below(folder: Path) -> Found:
    """The .txt files of a folder and of those below it, in natural order. Raises OSError."""
    found = Found()
    for place, folders, names in os.walk(folder, onerror=reraise):
        folders[:] = [name for name in folders if not leave(folder, Path(place, name), found)]
        for name in names:
            path = Path(place, name)
            if name.lower().endswith(ENDING) and not leave(folder, path, found):
                found.files.append(path)
    found.files.sort(key=lambda file: natural(file.relative_to(folder)))
    found.left_out.sort()
    return found


def reraise(error: OSError) -> None:
    """A folder that cannot be listed is no folder without files."""
    raise error


def leave(folder: Path, path: Path, found: Found) -> bool:
    """Whether a file or folder below `folder` is left out, which is noted in `found`."""
    mode = path.stat().st_mode if path.exists() else 0
    why, is_folder = "", stat.S_ISDIR(mode)
    if path.name.startswith("."):
        why = "hidden"
    elif path.name == "__MACOSX":
        why = "made by macOS"
    elif is_folder and path.is_symlink():  # it could lead round in a circle
        why = "a link to a folder"
    elif not mode:
        why = "a link to nothing"
    elif not (is_folder or stat.S_ISREG(mode)):
        why = "no ordinary file"
    elif not is_folder and not path.stat().st_size:
        why = "empty"
    if why:
        found.left_out.append((path.relative_to(folder).as_posix() + "/" * is_folder, why))
    return bool(why)


def natural(path: Path) -> list[tuple[list[str | int], str]]:
    """What to sort paths by, so that chapter2 comes before chapter10, whatever the case."""
    return [(list(words(part)), part) for part in path.with_suffix("").parts]


def words(name: str) -> Iterator[str | int]:
    """`chapter10b` as `chapter`, 10, `b`: texts and numbers by turns."""
    for i, word in enumerate(re.split("([0-9]+)", name.casefold())):
        yield int(word) if i % 2 else word


def check_links(files: list[Path], folder: Path) -> None:
    """Raise UserError where one of `files` is a link that leads out of `folder`."""
    home = folder.resolve()
    for file in files:
        if not (target := file.resolve()).is_relative_to(home):
            raise UserError(f"{file} leads out of {folder}, to {target}; copy the text into it")
