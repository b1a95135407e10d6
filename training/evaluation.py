"""What a run is worth where it stands: its losses on the validation split, and the record of it.

An evaluation costs what `train.eval_characters` says, however long the text is. The last one of a
run also reads more, as much as a tenth of the run allows.
"""

import itertools

import torch

from analysis.scoring import nats_of
from data.windows import eval_windows, rows_at_once
from system.device import autocast
from training.trainer import Trainer

SHARE = 0.3  # of the characters trained on, as many as are read in a tenth of that time
WIDER = 10  # times eval_characters that the last evaluation reads where not all


def losses(trainer: Trainer, window: int | None = None) -> tuple[float, float, int]:
    """val_loss and val_loss_trained, nats per character, and of how many characters they are.

    The first is that of what writes text, with counts if there are any, the second that of the
    trained model alone. The split is cut into windows of `window` characters, by default of
    block_size. The shares of the counts are estimated anew before that, on text that is in neither
    split.
    """
    calibrate(trainer)
    return read(trainer, trainer.config.train.eval_characters, window)


def calibrate(trainer: Trainer) -> None:
    """Estimate the shares of the counts anew, if there are any."""
    if trainer.memory:
        trainer.memory.calibrate(trainer.model, trainer.corpus.calibration)


@torch.inference_mode()
def read(trainer: Trainer, most: int, window: int | None = None) -> tuple[float, float, int]:
    """As `losses`, of about `most` characters of the split, with the shares as they are.

    Each process of a run reads its part of them.
    """
    model, memory, world, device = trainer.model, trainer.memory, trainer.world, trainer.device
    window = window or model.config.block_size
    rows = rows_at_once(window, model.config.vocab_size)
    mixed, trained, count = 0.0, 0.0, 0
    model.eval()
    pieces = eval_windows(trainer.corpus.val, window, rows, most)
    for idx, targets in itertools.islice(pieces, world.rank, None, world.size):
        idx, targets = idx.to(device), targets.to(device)
        with autocast(device, trainer.dtype):
            logits = model(idx)
            loss = nats_of(logits, targets).mean().item()
        trained += loss * targets.numel()
        both = memory.loss(logits, idx, targets) if memory else loss
        mixed += both * targets.numel()
        count += targets.numel()
    model.train()
    mixed, trained, count = world.sum(mixed, trained, count, device=device)
    return mixed / count, trained / count, int(count)


def whole(trainer: Trainer) -> int:
    """The characters of the validation split that can be predicted: all but the first."""
    return len(trainer.corpus.val) - 1


def read_each_time(trainer: Trainer) -> int:
    """About how many characters of the split an evaluation reads."""
    return min(trainer.config.train.eval_characters, whole(trainer))


def read_at_the_end(trainer: Trainer, step: int) -> int:
    """About how many characters the last evaluation reads beside the others, after `step` steps.

    All, where that takes less than a tenth of the time of the steps; if not, as many as do, up to
    WIDER times `eval_characters`; none, where an evaluation reads as many anyway. What it takes is
    told by counting, not by a clock: training on a character takes as long as reading three, or
    longer. So all processes agree, and a run that was resumed with one that was not.
    """
    each, batches = read_each_time(trainer), trainer.batches
    allowed = int(SHARE * step * batches.batch_size * batches.block_size)
    if allowed <= each or each == whole(trainer):
        return 0
    return whole(trainer) if whole(trainer) <= allowed else min(allowed, WIDER * each)


def measure(trainer: Trainer) -> dict[str, int | float | None]:
    """Evaluate, note whether this is the best so far, and return the record of it.

    At the end of a run, what is read beyond that has figures of its own: `val_loss` means the same
    in all records of a run. Raises Fault when a loss is not finite.
    """
    progress = trainer.progress
    train_loss = trainer.pause() if progress.loss_count else None
    val_loss, val_loss_trained, characters = losses(trainer)
    trainer.check_finite(torch.tensor(val_loss))
    trainer.forget_losses()
    progress.note(val_loss)
    several = trainer.config.train.generations > 1
    record = {
        "step": progress.step,
        **({"generation": progress.generation} if several else {}),
        "seconds": round(progress.seconds, 3),
        "train_loss": train_loss,
        "val_loss": val_loss,
        **({"val_loss_trained": val_loss_trained} if trainer.memory else {}),
        "val_characters": characters,
        "learning_rate": trainer.learning_rate(),
        "grad_norm": trainer.grad_norm.item(),
        "chars_per_second": round(trainer.chars_per_second()),
    }
    return record | (at_the_end(trainer) if trainer.done() else {})


def at_the_end(trainer: Trainer) -> dict[str, int | float]:
    """The figures of what the last evaluation reads beside, with `final_` before their names."""
    most = read_at_the_end(trainer, trainer.progress.step)
    if not most:
        return {}
    val_loss, val_loss_trained, characters = read(trainer, most)
    return {
        "final_val_loss": val_loss,
        **({"final_val_loss_trained": val_loss_trained} if trainer.memory else {}),
        "final_val_characters": characters,
    }
