"""What a run starts from: its settings, its folder, its weights and its text, all checked."""

import argparse
import dataclasses
import math
import os
from pathlib import Path

import torch

import handmade
from data import corpus, reading
from data.corpus import Corpus
from exchange import models
from model import GPT
from system import checkpoint, config, lists
from system.checkpoint import BEST, LAST, RUNS, Checkpoint
from system.errors import UserError, name_all
from system.files import clear_temporary, write_whole
from system.settings import Config, DataConfig
from training import kept, metrics
from training.counting import settle
from training.newcomers import widened
from training.predecessor import Packed, take
from training.resume import find_folder, locate_text, resumed_settings
from training.trainer import Trainer

SETTINGS, TRIAL = "config.yaml", ".trial.pt"  # the latter is a save that was only timed


def fresh_settings(args: argparse.Namespace, *, use_gpu: bool) -> tuple[Config, Path]:
    """The settings and the folder of a run that `args` describes. Raises UserError."""
    if args.config is None:
        raise UserError(f"--config NAME is missing; {config.available()}")
    path = config.find(args.config)
    settings = config.load(path, args.overrides, use_gpu=use_gpu)
    folder = Path(settings.train.out_dir or RUNS / path.stem)
    if not (settings.train.out_dir or checkpoint.is_in_runs(folder)):
        raise UserError(f"{folder} leads out of {RUNS}/; name a folder with train.out_dir=FOLDER")
    return settings, folder


def find_run(args: argparse.Namespace, *, use_gpu: bool) -> tuple[Config | None, Path]:
    """The settings of a new run, or None for one to resume, which has its own; and its folder.

    In resuming, the settings file only says which run is meant. Raises UserError.
    """
    if args.resume is None:
        return fresh_settings(args, use_gpu=use_gpu)
    configured = None
    if args.config:
        _, configured = fresh_settings(args, use_gpu=use_gpu)
        path = config.find(args.config)
        if path.name == SETTINGS and path.with_name(LAST).is_file():  # that of a run means the run
            configured = path.parent
    return None, find_folder(args, configured)


def start_from(settings: Config, overrides: list[str]) -> Checkpoint | None:
    """What `train.init_from` names; its structure becomes that of the run. Raises UserError."""
    name = settings.train.init_from
    if name is None:
        return None
    source = find_model(name)
    asked = config.parse_overrides(overrides).get("model", {})
    wanted = dataclasses.replace(source.model, dropout=settings.model.dropout)
    for field in asked:
        if getattr(settings.model, field) != getattr(wanted, field):
            raise UserError(
                f"model.{field}={asked[field]} does not fit {name}, which has "
                f"{getattr(wanted, field)}; leave it out"
            )
    settings.model = wanted
    return source


def find_model(name: str) -> Checkpoint:
    """The model called `name`: of a checkpoint, of a run folder, or handmade:NAME."""
    if name.startswith(handmade.PREFIX):
        return handmade.load(name.removeprefix(handmade.PREFIX))
    return models.load(models.locate(Path(name)))


def newcomers(source: Checkpoint | None, settings: Config) -> str:
    """The characters of the text that are new to a model which was trained on another one.

    A hand-set model keeps the characters that it was made for.
    """
    if source is None or not source.fingerprint:
        return ""
    found = reading.take_stock(settings.data).chars
    return "".join(char for char in found if char not in source.chars)


def with_newcomers(source: Checkpoint, new: str, text: Corpus, name: str) -> tuple[Checkpoint, str]:
    """The model of `source`, called `name`, with the characters `new`, and a line about that."""
    wider, cost = widened(source, new, text.train)
    return wider, (
        f"new    {name_all(list(new))} to {name}, which gets {cost:.1g} nats worse at the "
        "characters that it knows, before the first step"
    )


def check_unchanged(before: str, now: str, data: DataConfig) -> None:
    """Raise UserError unless the fingerprints of the texts of a run are the same."""
    if before == now:
        return
    only_val = before.split()[0] == now.split()[0]
    name = data.val_dataset if only_val else lists.write(data.dataset)
    raise UserError(
        f"the text {name} changed since the run began, or is another one; --allow-data-change "
        "goes on with it"
    )


def find_teachers(names: str | None, chars: str) -> list[Packed]:
    """What `train.teacher` names, for a text of the vocabulary `chars`. Raises UserError.

    Commas part several names, unless a comma is in the one name of what is there.
    """
    if names is None:
        return []
    alone = os.path.exists(names)  # noqa: PTH110 - Path.exists raises where a name is too long
    each = [names] if alone else [name.strip() for name in names.split(",")]
    if not all(each):
        raise UserError(f"train.teacher={names} has an empty name between commas; take one out")
    return [take(find_model(name), name, chars) for name in each]


def prepare(
    args: argparse.Namespace,
    settings: Config | None,
    folder: Path,
    place: torch.device,
    *,
    rank: int = 0,
    free: float = math.inf,
) -> Trainer:
    """Everything a run needs, checked before anything in `folder` changes. Raises UserError.

    free: bytes of memory, the same in all processes of a run
    """
    new, said = "", ""
    if settings is None:
        settings, saved = resumed_settings(args, folder)
        source = saved
    else:
        saved, source = None, start_from(settings, args.overrides)
        fresh = args.overwrite or args.dry_run
        if not fresh and any(path.name[0] != "." for path in folder.glob("*")):
            raise UserError(
                f"{folder} is not empty; go on with --resume, start anew with --overwrite, or "
                "choose another folder with train.out_dir=FOLDER"
            )
        new = newcomers(source, settings)
    data = locate_text(args, settings.data, folder, saved.fingerprint) if saved else settings.data
    text = corpus.load(
        data,
        settings.model.block_size,
        place,
        chars=source.chars + new if source else None,
        scratch=folder / f".ids.{rank}.bin",
        calibration_fraction=settings.memory.calibration_fraction if settings.memory.order else 0.0,
        settled=saved is not None,
    )
    if saved and not args.allow_data_change:
        check_unchanged(saved.fingerprint, text.fingerprint, data)
    if source and new:
        source, said = with_newcomers(source, new, text, settings.train.init_from)
    chars = text.tokenizer.chars
    teachers = saved.teachers if saved else find_teachers(settings.train.teacher, chars)
    if settings.memory.order:
        settle(settings.memory, text, free, settled=saved is not None)
    torch.manual_seed(settings.train.seed)
    settings.model = dataclasses.replace(settings.model, vocab_size=len(chars))
    model = GPT(settings.model)
    if source:
        model.load_state_dict(source.weights, strict=True)
    trainer = Trainer(model.to(place), text, settings, place, teachers=teachers)
    if saved:
        trainer.resume(saved)
    if said:  # now that nothing can be wrong any more
        print(said)
    return trainer


def open_folder(trainer: Trainer, folder: Path, *, resume: bool) -> None:
    """Make the run folder what the run is about to go on from, before the first step."""
    for name in (LAST, BEST, SETTINGS, TRIAL, kept.NAMES, metrics.METRICS, metrics.PICTURE):
        clear_temporary(folder / name)
    (folder / TRIAL).unlink(missing_ok=True)
    checkpoint.save(folder / LAST, trainer.checkpoint())  # if this fails, all is as it was
    kept.forget(folder, after=trainer.progress.step if resume else -1)
    if resume:
        metrics.rewind(folder, trainer.progress.step)
    else:
        (folder / metrics.METRICS).unlink(missing_ok=True)
    if trainer.progress.best_loss == math.inf:  # what is there is of a run before this one
        for name in (BEST, metrics.PICTURE):
            (folder / name).unlink(missing_ok=True)
    write_whole(folder / SETTINGS, config.to_yaml(trainer.config).encode())
