"""Train a character-level GPT on a text.

    python train.py --config tiny_shakespeare.yaml                       the main job
    python train.py --config tiny_shakespeare.yaml data.dataset=my.txt   a text of your own
    python train.py --config tiny_shakespeare.yaml train.minutes=10      what ten minutes allow
    python train.py --config tiny_shakespeare.yaml --resume              go on where it stopped

All settings are listed at the end. Ctrl-C saves and ends.
"""

from system.commandline import begin

if __name__ == "__main__":
    begun = begin()  # before the imports, which take most of a second

import argparse
import contextlib
import io
import shlex
import sys
from pathlib import Path

import torch

import mixture
from system import checkpoint, config, device, memory
from system.checkpoint import BEST, LAST
from system.commandline import Parser, run
from system.errors import UserError
from system.files import alone_in
from system.interrupt import Stop
from system.output import forgive_output, harmless, unbroken
from training import budget, metrics, parallel
from training.board import Board, open_board
from training.board import check as check_board
from training.estimate import by_heart, estimate, steps_left
from training.loop import fit, taught, write
from training.parallel import World
from training.start import find_run, open_folder, prepare
from training.trainer import Trainer

WITHOUT_GPU = "go on with --resume {} --device cpu, or start anew with --overwrite --device cpu"


def parser() -> Parser:
    """The command line of train.py."""
    p = Parser(prog="train.py", about=__doc__, settings=config.names(), epilog=config.describe())
    p.add_argument("--config", metavar="NAME", help="a settings file, or its name in configs/")
    run_to_resume = "go on with a run: its folder, or a file in it; default: --config's or newest"
    p.add_argument("--resume", nargs="?", const="", metavar="PATH", help=run_to_resume)
    p.add_argument("--from-best", action="store_true", help=f"resume from {BEST}, not {LAST}")
    p.add_argument("--overwrite", action="store_true", help="start anew in the run folder")
    p.add_argument("--allow-data-change", action="store_true", help="resume on a changed text")
    p.add_argument("--dry-run", action="store_true", help="only say what the run would take")
    p.add_argument(
        "--device", choices=device.CHOICES, default="auto", help="where to compute; default: auto"
    )
    sizes = "whether the cpu: section of the settings file counts; default: as the device is"
    p.add_argument("--cpu-section", choices=("auto", "yes", "no"), default="auto", help=sizes)
    p.add_argument("overrides", nargs="*", metavar="section.key=value", help="change a setting")
    return p


def finish(trainer: Trainer, folder: Path) -> None:
    """Draw the losses, write a sample with the best weights, and say how to write more."""
    picture = metrics.plot(folder)
    best = mixture.load(checkpoint.load(checkpoint.locate(folder))).to(trainer.device)
    print(f"\n{''.join(harmless([write(trainer, best)]))}\n")
    if trainer.progress.step < trainer.config.train.max_steps:
        print(f"ended early: no better val_loss in {trainer.progress.stale} evaluations")
    print(f"best val_loss {trainer.progress.best_loss:.4f}{f', see {picture}' if picture else ''}")
    name = shlex.quote(folder.as_posix())
    print(f"write more with: python sample.py --ckpt {name}")
    print(f"look inside with: python look.py --ckpt {name}")


def open_run(trainer: Trainer, folder: Path, *, resume: bool) -> Board:
    """Begin to write into the run's folder, and open its board; one process does it for all."""
    if not trainer.world.leads:
        return Board()
    settings = trainer.config
    open_folder(trainer, folder, resume=resume)
    wanted, step = settings.train.tensorboard, trainer.progress.step
    return open_board(folder, wanted, settings.to_dict(), step)


def introduce(trainer: Trainer, folder: Path, planned: str) -> None:
    """Say what is about to be trained, on what, where, and what was `planned` of a budget."""
    text, dtype = trainer.corpus, str(trainer.dtype).removeprefix("torch.")
    place = f"{trainer.world.size} x " * (trainer.world.size > 1) + trainer.device.type
    print(f"model  {trainer.model.parameter_count():,} parameters, {place}, {dtype}")
    print(
        f"text   {len(text.train):,} characters to train on, {len(text.val):,} to validate, "
        f"{len(text.tokenizer.chars)} distinct"
    )
    for note in text.notes:
        print(f"       {note}")
    step = trainer.progress.step
    onward = f" from step {step:,} on" if step else ""
    train, generation = trainer.config.train, trainer.progress.generation
    which = f", generation {generation} of {train.generations}" if train.generations > 1 else ""
    print(f"run    {folder}{onward}, {steps_left(trainer)}{which}")
    if advice := by_heart(trainer):
        print(f"       {advice}")
    if planned:
        print(f"time   {planned}")
    if by := taught(trainer):
        print(f"teach  {by}")


def is_for_gpu(args: argparse.Namespace, place: torch.device, world: World) -> bool:
    """Whether settings are taken without the cpu section of their file, by all processes alike.

    Where a GPU takes them with it, because it is small, that is said.
    """
    if args.cpu_section != "auto":
        return args.cpu_section == "no"
    large = not world.largest(not device.is_large(place), place)
    if large or place.type == "cpu" or args.resume is not None or not args.config:
        return large
    if "cpu" in config.read_yaml(config.find(args.config)):
        print(
            f"sizes  those of the cpu: section, because this GPU has {device.cores(place)} cores, "
            f"fewer than {device.LARGE}; --cpu-section no takes the others"
        )
    return False


def check(args: argparse.Namespace) -> None:
    """Raise UserError where options do not go together."""
    if args.resume is not None and args.overwrite:
        raise UserError("--resume and --overwrite exclude each other; choose one")
    if args.resume is None and args.from_best:
        raise UserError("--from-best goes with --resume; add it")
    if args.resume is not None and args.cpu_section != "auto":
        raise UserError("--cpu-section is for new runs; leave it out")


def command(args: argparse.Namespace) -> int:
    """Train as `args` say; 128 and the number of the signal when one ended it."""
    forgive_output()
    place = device.pick(args.device)
    check(args)
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(parallel.join(place))
        if not world.leads:
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        use_gpu = is_for_gpu(args, place, world)
        free = world.smallest(memory.free() / world.size, place)
        with world.one_first():  # it fetches the text, and says what is wrong
            settings, folder = find_run(args, use_gpu=use_gpu)
            if world.leads and not args.dry_run:
                stack.enter_context(alone_in(folder))
            trainer = prepare(args, settings, folder, place, rank=world.rank, free=free)
        device.keep_memory()  # from the first step on: what counting took is given back before
        stack.callback(trainer.disconnect)
        trainer.connect(world)
        if args.dry_run:
            print(estimate(trainer, args.begun))
            return 0
        if world.leads:
            check_board(folder, trainer.config.train.tensorboard)
        planned = budget.plan(trainer, folder, args.begun)
        name = shlex.quote(str(folder))
        stack.enter_context(device.saying(WITHOUT_GPU.format(name)))
        stack.enter_context(unbroken("stdout"))  # from here on, files are what counts
        stop = Stop(speaks=world.leads)
        with stop.listening():
            board = open_run(trainer, folder, resume=args.resume is not None)
            stack.callback(board.close)
            introduce(trainer, folder, planned)
            fit(trainer, folder, board, stop)
            if stop.signal:
                step = trainer.progress.step
                print(f"stopped at step {step} and saved; go on with --resume {name}")
                return 128 + stop.signal
        if world.leads:
            finish(trainer, folder)
    return 0


def main(argv: list[str] | None = None, begun: float | None = None) -> int:
    """Run the command line `argv` and return the exit status; `begun` is what `begin` returned."""
    return run(command, parser(), argv, begun)


if __name__ == "__main__":
    sys.exit(main(begun=begun))
