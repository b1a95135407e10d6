"""Train a character-level GPT on a text.

python train.py --config tiny_shakespeare.yaml                       the main job
python train.py --config tiny_shakespeare.yaml data.dataset=my.txt   a text of your own
python train.py --config tiny_shakespeare.yaml --resume              go on where it stopped
"""

import argparse
import contextlib
import dataclasses
import math
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from tqdm import tqdm

import checkpoint
import config
import device
import handmade
import metrics
from checkpoint import BEST, LAST, RUNS, Checkpoint
from data import corpus
from errors import Parser, UserError, run
from files import write_whole
from generate import generate
from model import GPT
from settings import Config
from trainer import Trainer

SETTINGS = "config.yaml"
SAMPLE_CHARACTERS = 300
READ_EVERY = 20  # steps between looks at the loss on a GPU, which has to wait for them


def parser() -> Parser:
    """The command line of train.py."""
    p = Parser(prog="train.py", description=__doc__, epilog=config.describe())
    p.add_argument("--config", metavar="NAME|PATH", help="a settings file, or its name in configs/")
    p.add_argument("--resume", action="store_true", help="go on with the run in the run folder")
    p.add_argument("--overwrite", action="store_true", help="start anew in the run folder")
    p.add_argument("--allow-data-change", action="store_true", help="resume on a changed text")
    p.add_argument("--device", choices=device.CHOICES, default="auto", help="default: auto")
    p.add_argument("overrides", nargs="*", metavar="section.key=value", help="change a setting")
    return p


def fresh_settings(args: argparse.Namespace, *, use_gpu: bool) -> tuple[Config, Path]:
    """The settings and the folder of a run that `args` describes. Raises UserError."""
    if args.config is None:
        raise UserError(f"--config NAME is missing; {config.available()}")
    path = config.find(args.config)
    settings = config.load(path, args.overrides, use_gpu=use_gpu)
    return settings, Path(settings.train.out_dir or RUNS / path.stem)


def resumed_settings(args: argparse.Namespace, *, use_gpu: bool) -> tuple[Config, Path, Checkpoint]:
    """The settings of the run to resume, with the changes asked for, its folder and last save.

    The settings file only says which run is meant: a run goes on with the settings it had.
    """
    overrides = config.parse_overrides(args.overrides)
    if args.config:
        _, folder = fresh_settings(args, use_gpu=use_gpu)
    elif out_dir := overrides.get("train", {}).get("out_dir"):
        folder = Path(out_dir)
    else:
        folder = checkpoint.newest_run()
    if folder is None or not (folder / LAST).is_file():
        where = folder or f"{RUNS}/"
        raise UserError(f"{where} has no {LAST} to resume; start the run without --resume")
    saved = checkpoint.load(folder / LAST)
    before = config.build(saved.settings)
    after = config.build(saved.settings, overrides)
    changed = [name for name in ("model", "data") if getattr(before, name) != getattr(after, name)]
    if before.optim.optimizer != after.optim.optimizer:
        changed.append("optim.optimizer")
    if changed:
        raise UserError(
            f"a resumed run keeps its {' and '.join(changed)} settings; "
            "start a new run for others, with train.init_from if the weights should be kept"
        )
    return after, folder, saved


def start_from(settings: Config, overrides: list[str]) -> Checkpoint | None:
    """What `train.init_from` names; its structure becomes that of the run."""
    name = settings.train.init_from
    if name is None:
        return None
    if name.startswith(handmade.PREFIX):
        source = handmade.load(name.removeprefix(handmade.PREFIX))
    else:
        source = checkpoint.load(checkpoint.locate(Path(name)))
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


def prepare(args: argparse.Namespace) -> tuple[Trainer, Path]:
    """Everything a run needs, checked before anything on disk changes. Raises UserError."""
    place = device.pick(args.device)
    device.keep_memory()
    use_gpu = place.type != "cpu"
    if args.resume and args.overwrite:
        raise UserError("--resume and --overwrite exclude each other; choose one")
    if args.resume:
        settings, folder, saved = resumed_settings(args, use_gpu=use_gpu)
        source = saved
    else:
        settings, folder = fresh_settings(args, use_gpu=use_gpu)
        saved, source = None, start_from(settings, args.overrides)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is no folder; choose another one with train.out_dir=FOLDER")
        if folder.is_dir() and any(folder.iterdir()) and not args.overwrite:
            raise UserError(
                f"{folder} is not empty; go on with --resume, start anew with --overwrite, or "
                "choose another folder with train.out_dir=FOLDER"
            )
    text = corpus.load(
        settings.data,
        settings.model.block_size,
        place,
        chars=source.chars if source else None,
        scratch=folder / "ids.bin",
    )
    if saved and saved.fingerprint != text.fingerprint and not args.allow_data_change:
        raise UserError("the text changed since the run began; --allow-data-change goes on with it")
    torch.manual_seed(settings.train.seed)
    settings.model = dataclasses.replace(settings.model, vocab_size=len(text.tokenizer.chars))
    model = GPT(settings.model)
    if source:
        model.load_state_dict(source.weights, strict=True)
    trainer = Trainer(model.to(place), text, settings, place)
    if saved:
        trainer.resume(saved)
    return trainer, folder


def open_folder(trainer: Trainer, folder: Path, *, resume: bool) -> None:
    """Make the run folder what the run is about to go on from, before the first step."""
    checkpoint.save(folder / LAST, trainer.checkpoint())  # if this fails, all is as it was
    if resume:
        metrics.rewind(folder, trainer.progress.step)
    else:
        for name in (BEST, metrics.METRICS, metrics.PICTURE):
            (folder / name).unlink(missing_ok=True)
    write_whole(folder / SETTINGS, config.to_yaml(trainer.config).encode())


class Stop:
    """The first Ctrl-C or SIGTERM is noted and read between steps; the second ends at once."""

    def __init__(self) -> None:
        self.signal = 0

    def note(self, number: int, frame: object) -> None:
        self.signal = number
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """While this context lasts, signals are noted."""
        before = {n: signal.signal(n, self.note) for n in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def describe(record: dict[str, int | float], max_steps: int) -> str:
    """One evaluation as a line of text."""
    val_loss = record["val_loss"]
    return (
        f"step {record['step']:>{len(str(max_steps))}}/{max_steps}  "
        f"train_loss {record['train_loss']:.4f}  val_loss {val_loss:.4f} "
        f"({metrics.bpc(val_loss):.3f} bpc)  {record['chars_per_second']:,} characters/s  "
        f"{record['seconds']:.0f} s"
    )


def fit(trainer: Trainer, folder: Path, stop: Stop) -> None:
    """Update, evaluate and save until the run is done or a signal came."""
    progress, train = trainer.progress, trainer.config.train
    read_every = 1 if trainer.device.type == "cpu" else READ_EVERY
    bar = tqdm(total=train.max_steps, initial=progress.step, unit="step", disable=None, leave=False)
    val_loss = progress.best_loss
    with bar:
        while not (trainer.done() or stop.signal):
            trainer.update()
            if progress.step % train.eval_every == 0 or progress.step == train.max_steps:
                record = trainer.measure()
                val_loss = record["val_loss"]
                bar.write(describe(record, train.max_steps), file=sys.stdout)
                metrics.append(folder, record)
                if progress.stale == 0:
                    checkpoint.save(folder / BEST, trainer.checkpoint())
                checkpoint.save(folder / LAST, trainer.checkpoint())
            elif progress.step % read_every == 0:
                loss = trainer.pause()
                val = f"{val_loss:.3f}" if val_loss < math.inf else "-"
                speed = f"{trainer.chars_per_second():,.0f} characters/s"
                bar.set_postfix_str(f"train {loss:.3f} val {val} {speed}", refresh=False)
            bar.update(progress.step - bar.n)
        if stop.signal:
            trainer.pause()
            checkpoint.save(folder / LAST, trainer.checkpoint())


def finish(trainer: Trainer, folder: Path) -> None:
    """Draw the losses, write a sample with the best weights, and say how to write more."""
    picture = metrics.plot(folder)
    saved = checkpoint.load(checkpoint.locate(folder))
    tokenizer = trainer.corpus.tokenizer
    model = saved.build().to(trainer.device)
    start = tokenizer.encode(tokenizer.default_prompt)
    generator = torch.Generator(trainer.device).manual_seed(trainer.config.train.seed)
    idx = start[None].long().to(trainer.device)
    steps = generate(model, idx, SAMPLE_CHARACTERS, generator, dtype=trainer.dtype)
    ids = torch.stack(list(steps), dim=1)[0]
    print(f"\n{tokenizer.decode(ids)}\n")
    if trainer.progress.step < trainer.config.train.max_steps:
        print(f"ended early: no better val_loss in {trainer.progress.stale} evaluations")
    print(f"best val_loss {trainer.progress.best_loss:.4f}{f', see {picture}' if picture else ''}")
    print(f"write more with: python sample.py --ckpt {shlex.quote(str(folder))}")


def introduce(trainer: Trainer, folder: Path) -> None:
    """Say what is about to be trained, on what, where."""
    text, dtype = trainer.corpus, str(trainer.dtype).removeprefix("torch.")
    print(f"model  {trainer.model.parameter_count():,} parameters, {trainer.device.type}, {dtype}")
    print(
        f"text   {len(text.train):,} characters to train on, {len(text.val):,} to validate, "
        f"{len(text.tokenizer.chars)} distinct"
    )
    print(f"run    {folder}")


def command(args: argparse.Namespace) -> int:
    """Train as `args` say; 130 or 143 when a signal ended it."""
    trainer, folder = prepare(args)
    open_folder(trainer, folder, resume=args.resume)
    introduce(trainer, folder)
    stop = Stop()
    with stop.listening():
        fit(trainer, folder, stop)
    if stop.signal:
        print(f"stopped at step {trainer.progress.step} and saved; go on with --resume")
        return 128 + stop.signal
    finish(trainer, folder)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
