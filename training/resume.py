"""What a run that goes on starts from: which run it is, its settings, and where its text is now."""

import argparse
import contextlib
import dataclasses
import itertools
import os
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from data import reading, rules
from data.reading import RULES
from exchange import models
from system import checkpoint, config, lists
from system.checkpoint import BEST, LAST, RUNS, Checkpoint
from system.errors import UserError, looked_in
from system.settings import LARGEST_INT, Config, DataConfig

KEPT = ("model", "data", "memory")  # sections that a run keeps, but for what may be elsewhere
FREE = ("data.dataset", "data.val_dataset", "data.map_above_mb")
FIXED = (  # what it keeps of other sections
    "optim.optimizer",
    "train.teacher",
    "train.eval_characters",  # which best_loss is of
)
MOST = 100  # combinations of places that are read to find the right one


def saved_name(args: argparse.Namespace) -> str:
    """Which checkpoint of its run folder a run goes on from. Raises UserError."""
    named = Path(args.resume).name if os.path.isfile(args.resume) else ""  # noqa: PTH113
    if args.from_best and named == LAST:
        raise UserError(f"--from-best goes on from {BEST}, not from {args.resume}; leave one out")
    return BEST if args.from_best or named == BEST else LAST


def find_folder(args: argparse.Namespace, configured: Path | None) -> Path:
    """The folder of the run to go on with: of `--resume PATH`, of train.out_dir, or the newest.

    configured: the folder of --config, where that was given. Raises UserError.
    """
    named = {}
    out_dir = config.parse_overrides(args.overrides).get("train", {}).get("out_dir")
    if args.resume:
        named[f"--resume {args.resume}"] = folder_of(args.resume)
    if configured:
        named[f"--config {args.config}"] = configured
    elif out_dir:
        named[f"train.out_dir={out_dir}"] = Path(out_dir)
    if len({folder.resolve() for folder in named.values()}) > 1:
        first, other = named
        raise UserError(
            f"{first} and {other} name two runs; a run goes on in its own folder, so leave one out"
        )
    folder = next(iter(named.values()), None) or checkpoint.newest_run()
    if folder is None:
        raise UserError(
            f"{RUNS.absolute()}/ has no {LAST} to resume; name one with --resume PATH, or "
            "start one without --resume"
        )
    name = saved_name(args)
    if not (folder / name).is_file():
        raise UserError(f"{folder} has no {name} to resume; {instead_of(folder, name)}")
    return folder


def folder_of(name: str) -> Path:
    """The run folder that `name` is, or is a file in. Raises UserError."""
    path = Path(name)
    if os.path.exists(name) and models.is_foreign(path):  # noqa: PTH110
        raise UserError(
            f"{name} was trained by another program, whose run cannot go on here; start a run "
            f"with its weights, with train.init_from={shlex.quote(name)}"
        )
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        return path
    if not os.path.isfile(name):  # noqa: PTH113
        raise UserError(f"there is no run {name}{looked_in(name)}; {checkpoint.runs()}")
    if path.suffix == ".pt" and path.name not in (LAST, BEST):
        raise UserError(
            f"a run goes on from {LAST} or {BEST} of its folder, and {name} is neither; put it "
            f"into a folder of its own as {LAST}, or start a new run with its weights, with "
            f"train.init_from={shlex.quote(name)}"
        )
    return path.parent


def instead_of(folder: Path, name: str) -> str:
    """The end of a message: what to do where `folder` has no checkpoint of this `name`."""
    if name == LAST and (folder / BEST).is_file():
        return f"{BEST} is there, from which --from-best goes on"
    inside = sorted(path.parent for path in folder.glob(f"*/{LAST}"))
    if inside:
        return f"name one of {', '.join(map(str, inside[:9]))}"
    return "start the run without --resume"


def resumed_settings(args: argparse.Namespace, folder: Path) -> tuple[Config, Checkpoint]:
    """The settings of the run in `folder`, with the changes asked for, and its last save.

    Raises UserError.
    """
    saved = checkpoint.load(folder / saved_name(args))
    before = {  # of runs that knew no other
        "data": {"folder": "flat"},
        "memory": {"characters": 50_000_000},
        "train": {"eval_characters": LARGEST_INT},
    }
    for section, settings in before.items():
        saved.settings[section] = settings | saved.settings.get(section, {})
    changes = config.parse_overrides(args.overrides)
    over = {"train": {"minutes": None}}  # those that it began with are no longer its own
    before, after = (config.build(saved.settings, over, layer) for layer in ({}, changes))
    asked = {*changes.get("train", {})}
    after.train.limit(asked, asked)
    kept = []
    for name in (f"{section}.{key}" for section in changes for key in changes[section]):
        section, _, key = name.partition(".")
        old, new = (getattr(getattr(each, section), key) for each in (before, after))
        fixed = (section in KEPT and name not in FREE) or name in FIXED
        fixed |= name == "data.val_dataset" and None in (old, new)
        if fixed and old != new:
            kept.append(f"{name}={'null' if old is None else old}")
    if kept:
        raise UserError(
            f"a resumed run keeps {' and '.join(kept)}; leave the change out, or start a new run, "
            "with train.init_from if the weights should be kept"
        )
    if after.train.out_dir is not None:  # the folder may have moved
        after.train.out_dir = folder.as_posix()
    return after, saved


def locate_text(
    args: argparse.Namespace, data: DataConfig, folder: Path, sha256: str
) -> DataConfig:
    """`data` with the paths at which the text of the run in `folder` is now.

    The settings hold the path as it was given. A relative one is looked for in the current folder,
    then in the run's folder and those above it, so that it is found from anywhere, and after all
    of them were moved or copied. If there are several, it is the one of this `sha256`. Raises
    UserError where there is none.
    """
    for key, known in zip(("dataset", "val_dataset"), sha256.split(), strict=False):
        data = dataclasses.replace(data, **{key: where_now(args, data, key, folder, known)})
    return data


def where_now(
    args: argparse.Namespace, data: DataConfig, key: str, folder: Path, sha256: str
) -> str | list[str]:
    """Where the text of the setting data.`key` is now. Raises UserError."""
    dataset = getattr(data, key)
    names = [dataset] if isinstance(dataset, str) else dataset
    places = [places_of(args, f"data.{key}", name, names, folder) for name in names]
    several = itertools.islice(itertools.product(*places), MOST)
    found = [each[0] if names == [dataset] else [*each] for each in several]
    for each in found if len(found) > 1 else ():
        with contextlib.suppress(UserError):  # it cannot be read, so it is another one
            alone = dataclasses.replace(data, dataset=each, val_dataset=None)
            if reading.survey(alone).sha256 == sha256:
                return each
    return found[0]


def places_of(
    args: argparse.Namespace, setting: str, dataset: str, names: list[str], folder: Path
) -> list[str]:
    """Where what the `setting` calls `dataset`, one of `names`, may be now. Raises UserError."""
    kind = RULES if dataset.startswith(RULES) else ""
    name = dataset.removeprefix(kind)
    if dataset in reading.BUILT_IN or (kind and not rules.is_path(name)):
        return [dataset]
    bases = [Path(), *above(folder)] if not is_absolute(name) else [Path()]
    paths = [f"{kind}{path}" for path in there(name, bases + [rules.EXAMPLES] * bool(kind))]
    if not paths:
        where = "" if len(bases) == 1 else f", neither in {Path.cwd()} nor in {folder} or above it"
        run = folder / BEST if saved_name(args) == BEST else folder
        now = ["PATH" if each == dataset else each for each in names]
        remedy = f"{setting}={lists.write(now) if len(now) > 1 else 'PATH'}"
        raise UserError(
            f"{setting}={dataset[:200]} is not there{where}; say where the text is now: "
            f"--resume {shlex.quote(str(run))} {shlex.quote(remedy)}"
        )
    return paths


def above(folder: Path) -> list[Path]:
    """A folder and those that it is in, by their names: no link is followed."""
    own = Path(os.path.abspath(folder))  # noqa: PTH100 - Path.absolute keeps each ..
    return [own, *own.parents]


def there(name: str, bases: Iterable[Path]) -> Iterator[Path]:
    """The paths, each once, at which something called `name` is, as seen from `bases`."""
    seen = set()
    for base in bases:
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):  # given on Windows
            path = base / os.path.expanduser(spelled)  # noqa: PTH111 - this one raises nothing
            if os.path.exists(path) and path.resolve() not in seen:  # noqa: PTH110 - likewise
                seen.add(path.resolve())
                yield path


def is_absolute(name: str) -> bool:
    """Whether `name` is an absolute path, on this system or another, or one from someone's home."""
    kinds = (PurePosixPath, PureWindowsPath)
    return name.startswith("~") or any(kind(name).is_absolute() for kind in kinds)
