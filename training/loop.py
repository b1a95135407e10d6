"""The loop of a run: update, evaluate, save, until it is done or a signal comes."""

import math
import sys
import time
from pathlib import Path

import torch
from tqdm import tqdm

from generate import generate
from mixture import Mixture
from model import GPT
from system import checkpoint
from system.checkpoint import BEST, LAST
from system.interrupt import Stop
from system.output import in_one_line
from training import evaluation, kept, metrics
from training.board import Board
from training.trainer import Trainer

SAMPLE_CHARACTERS = 300
LINE_TEMPERATURE, LINE_SECONDS = 0.8, 5.0  # as sample.py has it; after that, a line ends
READ_EVERY = 20  # steps between looks at the loss on a GPU, which has to wait for them


def fit(trainer: Trainer, folder: Path, board: Board, stop: Stop) -> None:
    """Update, evaluate and save until the run is done or a signal came to any process of it."""
    progress, train, world = trainer.progress, trainer.config.train, trainer.world
    read_every = 1 if trainer.device.type == "cpu" else READ_EVERY
    hidden = None if world.leads else True  # None: where there is no terminal
    bar = tqdm(
        total=train.max_steps, initial=progress.step, unit="step", disable=hidden, leave=False
    )
    val_loss, signal = progress.best_loss, 0
    if counts_are_first(trainer):
        evaluate_and_keep(trainer, folder, board, bar)
        val_loss = progress.best_loss
    with bar:
        while not (trainer.done() or signal):
            if progress.over(train):
                hand_over(trainer, folder, board, bar)
            trainer.update()
            evaluate = progress.step % train.eval_every == 0 or progress.step == progress.end(train)
            if evaluate:
                val_loss = evaluate_and_keep(trainer, folder, board, bar)
            elif progress.step % read_every == 0:
                loss = trainer.pause()
                val = f"{val_loss:.3f}" if val_loss < math.inf else "-"
                speed = f"{trainer.chars_per_second():,.0f} characters/s"
                bar.set_postfix_str(f"train {loss:.3f} val {val} {speed}", refresh=False)
            bar.update(progress.step - bar.n)
            if evaluate or progress.step % read_every == 0 or world.size == 1:
                signal = int(world.largest(stop.signal, trainer.device))
        if signal:
            stop.signal = signal
            trainer.pause()
            keep(trainer, folder)


def counts_are_first(trainer: Trainer) -> bool:
    """Whether an evaluation comes before the next step: it shows what counting alone can do."""
    return trainer.memory is not None and trainer.progress.best_loss == math.inf


def hand_over(trainer: Trainer, folder: Path, board: Board, bar: tqdm) -> None:
    """Begin the next generation, and say so.

    Until it is saved, a resumed run comes here again, and begins it in the same way.
    """
    if trainer.progress.loss_count:  # its end has moved to before where it stands
        evaluate_and_keep(trainer, folder, board, bar)
    trainer.succeed()
    generations = f"generation {trainer.progress.generation} of {trainer.config.train.generations}"
    bar.write(f"{generations} begins; {taught(trainer)}", file=sys.stdout)


def taught(trainer: Trainer) -> str:
    """Which GPTs teach, and how much, in words; nothing where none does."""
    if not trainer.teachers:
        return ""
    train, before = trainer.config.train, trainer.progress.generation - 1
    name = f"generation {before}" if before else train.teacher
    sizes = " and ".join(f"{model.parameter_count():,}" for model in trainer.teachers)
    counts = "; counts do not teach" if trainer.config.memory.teach else ""
    return f"{100 * train.teach:g}% of each target comes from {name} ({sizes} parameters){counts}"


def evaluate_and_keep(trainer: Trainer, folder: Path, board: Board, bar: tqdm) -> float:
    """Evaluate, print, show and save what was found; the val_loss."""
    train, step = trainer.config.train, trainer.progress.step
    before = trainer.progress.best_loss
    record = evaluation.measure(trainer)
    bar.write(describe(record, train.max_steps, evaluation.whole(trainer)), file=sys.stdout)
    keep(trainer, folder, record, better=record["val_loss"] < before)
    board.log(record)
    if train.tensorboard and trainer.world.leads:
        board.text(write(trainer, trainer.writer()), step)
    if train.sample_characters and trainer.world.leads:
        bar.write(f"       {in_one_line(write_line(trainer))}", file=sys.stdout)
    return record["val_loss"]


def keep(
    trainer: Trainer,
    folder: Path,
    record: dict[str, int | float] | None = None,
    *,
    better: bool = False,
) -> None:
    """Save where the run stands, and the `record` of an evaluation; one process does it for all.

    better: than all before, so that it is the best checkpoint too
    """
    if not trainer.world.leads:
        return
    train, step = trainer.config.train, trainer.progress.step
    if record:
        metrics.append(folder, record)
    if record and kept.is_kept(train, step):
        checkpoint.save(kept.file_of(folder, step), trainer.checkpoint())
    if better:
        checkpoint.save(folder / BEST, trainer.checkpoint())
    checkpoint.save(folder / LAST, trainer.checkpoint())


def describe(record: dict[str, int | float], max_steps: int, whole: int) -> str:
    """One evaluation as a line of text, and another one where it read more at the end of a run.

    whole: characters of the validation split; of how many a loss is, is said where it is of fewer
    """
    train_loss, seconds = record["train_loss"], record["seconds"]
    line = (
        f"step {record['step']:>{len(str(max_steps))}}/{max_steps}  "
        f"train_loss {'-' if train_loss is None else f'{train_loss:.4f}'}  "
        f"{validated(record, '', whole)}  {record['chars_per_second']:,} characters/s  "
        f"{seconds:.0f} s"
    )
    if "final_val_loss" not in record:
        return line
    read = "all" if record["final_val_characters"] == whole else "more"
    return f"{line}\n{read} of the validation text  {validated(record, 'final_', 0)}"


def validated(record: dict[str, int | float], kind: str, whole: int) -> str:
    """The validation losses of a record whose names begin with `kind`, as words of a line."""
    val_loss, trained = record[f"{kind}val_loss"], record.get(f"{kind}val_loss_trained")
    count = record[f"{kind}val_characters"]
    return (
        f"val_loss {val_loss:.4f} ({metrics.bpc(val_loss):.3f} bpc)"
        f"{'' if trained is None else f'  val_loss_trained {trained:.4f}'}"
        f"{'' if count == whole else f'  of {count:,} characters'}"
    )


def write(trainer: Trainer, model: GPT | Mixture) -> str:
    """A text of SAMPLE_CHARACTERS by `model`, which has the vocabulary of the run."""
    return draw(trainer, model, SAMPLE_CHARACTERS)


def write_line(trainer: Trainer) -> str:
    """The beginning of what sample.py would write now, with the seed of the run.

    It is `train.sample_characters` long, or shorter where so many take a large model LINE_SECONDS.
    """
    characters, most = trainer.config.train.sample_characters, LINE_SECONDS
    return draw(trainer, trainer.writer(), characters, temperature=LINE_TEMPERATURE, seconds=most)


def draw(
    trainer: Trainer,
    model: GPT | Mixture,
    characters: int,
    *,
    temperature: float = 1.0,
    seconds: float = math.inf,
) -> str:
    """A text by `model` of so many characters, one or more; of fewer when the seconds are over.

    The dice are its own, and the same each time: no update depends on what was drawn.
    """
    tokenizer, train = trainer.corpus.tokenizer, trainer.config.train
    generator = torch.Generator(trainer.device).manual_seed(train.seed)
    idx = tokenizer.encode(tokenizer.default_prompt)[None].long().to(trainer.device)
    end, drawn = time.perf_counter() + seconds, []
    kinds = {"temperature": temperature, "dtype": trainer.dtype}
    for new in generate(model, idx, characters, generator, **kinds):
        drawn.append(new)
        if time.perf_counter() >= end:
            break
    return tokenizer.decode(torch.stack(drawn, dim=1)[0])
