"""A text as ids: encoded, split, and cut into the windows that training and evaluation see."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from data import account, reading, split
from data.length import Cut, cut
from data.reading import Stock, take_stock
from data.tokenizer import CharTokenizer, UnknownCharacters
from system import lists
from system.errors import Fault, UserError
from system.settings import DataConfig


@dataclass
class Corpus:
    """A text, ready for training.

    tokenizer: its vocabulary, sorted, or the one it was encoded with
    train, val: ids (N,), uint8 where the vocabulary allows, otherwise int32
    calibration: ids before the two, which neither net nor counts learn from; often none
    fingerprint: sha256 of the text, to notice on resuming that it changed
    notes: lines that say what was done with the text
    """

    tokenizer: CharTokenizer
    train: Tensor
    val: Tensor
    fingerprint: str
    calibration: Tensor
    notes: list[str] = field(default_factory=list)


def load(
    config: DataConfig,
    block_size: int,
    device: torch.device,
    *,
    chars: str | None,
    scratch: Path,
    calibration_fraction: float = 0.0,
    settled: bool = False,
) -> Corpus:
    """Read, encode and split the text of `config`.

    The first `calibration_fraction` of the training split is set apart: what comes last is most
    like what is validated on, and would be missed.

    `settled` is whether the settings of the text cannot be changed any more.
    `chars` is the vocabulary to keep to; None takes the text's own. Ids larger than
    `config.map_above_mb` go to the file `scratch` and are memory-mapped; others go to `device`.
    Raises UserError when the text cannot be read, is too short or has other characters.
    """
    stock = take_stock(config)
    length = stock.length + stock.val_length
    own = None if config.val_dataset is None else stock.val_length
    wanted = Cut(stock.length, own, block_size, config.val_fraction, calibration_fraction)
    train_size = cut(wanted, config, fixed=chars is not None, settled=settled).train_size
    tokenizer = CharTokenizer(chars) if chars else CharTokenizer.from_text(stock.chars)
    try:
        tokenizer.encode(stock.chars)
    except UnknownCharacters as error:
        raise UserError(
            f"the text has {error} to the model; take them out, or train a new model on it"
        ) from None
    tally = np.zeros((2, len(tokenizer.chars)), dtype=np.int64)  # of training, and of validation
    pieces = tallied(ordered(config, stock, tokenizer, train_size, block_size), tally, train_size)
    pieces = counted(pieces, length, lists.write(config.dataset))
    if length * tokenizer.dtype.itemsize <= config.map_above_mb << 20:
        ids = hold(pieces, torch.empty(length, dtype=tokenizer.dtype, device=device))
    else:
        ids = map_file(pieces, scratch, length, tokenizer.dtype)
    calibration, train = ids[:train_size].split((wanted.apart, train_size - wanted.apart))
    notes = account.of(config, stock, tally, settled=settled)
    return Corpus(tokenizer, train, ids[train_size:], stock.fingerprint, calibration, notes)


def encoded(config: DataConfig, tokenizer: CharTokenizer, rare: str) -> Iterator[Tensor]:
    """The ids of a text in pieces, without its `rare` characters."""
    without = dict.fromkeys(map(ord, rare))
    for piece in reading.read(config):
        yield tokenizer.encode(piece.translate(without) if without else piece)


def ordered(
    config: DataConfig, stock: Stock, tokenizer: CharTokenizer, train_size: int, block_size: int
) -> Iterator[Tensor]:
    """The ids in pieces, first those to train on, then those to validate on.

    A text whose validation is spread is read twice for that, because it may not fit into memory.
    """
    if config.val_from == "end":
        for each in filter(None, (config, reading.validation(config))):
            yield from encoded(each, tokenizer, stock.rare)
        return
    val_size = stock.length - train_size
    count = split.count_of(stock.length, val_size, block_size)
    places = split.blocks(stock.length, val_size, count)
    for each in (split.outside(stock.length, places), places):
        yield from split.inside(encoded(config, tokenizer, stock.rare), each)


def tallied(pieces: Iterable[Tensor], tally: np.ndarray, size: int) -> Iterator[Tensor]:
    """`pieces` of ids; how often each comes among the first `size` and after is put in `tally`."""
    done = 0
    for piece in pieces:
        here = max(0, size - done)
        for row, part in zip(tally, (piece[:here], piece[here:]), strict=True):
            row += torch.bincount(part, minlength=len(row)).numpy()
        done += len(piece)
        yield piece


def counted(pieces: Iterable[Tensor], length: int, name: str) -> Iterator[Tensor]:
    """`pieces` of the text `name`. Raises UserError unless they are `length` ids together."""
    done = 0
    for piece in pieces:
        done += len(piece)
        if done > length:
            break
        yield piece
    if done != length:
        raise UserError(f"{name} changed while it was read; try again")


def hold(pieces: Iterable[Tensor], ids: Tensor) -> Tensor:
    """`ids`, filled with `pieces`, which are as many."""
    done = 0
    for piece in pieces:
        ids[done : done + len(piece)] = piece
        done += len(piece)
    return ids


def map_file(pieces: Iterable[Tensor], scratch: Path, length: int, dtype: torch.dtype) -> Tensor:
    """The ids of `pieces`, of which `length` are expected, in one tensor that lives on disk.

    Its file goes with it. Raises Fault when the disk has no room or files cannot be mapped.
    """
    try:
        scratch.parent.mkdir(parents=True, exist_ok=True)
        scratch.unlink(missing_ok=True)  # left by a run that was killed, or a link to elsewhere
        with scratch.open("xb") as file:
            for piece in pieces:
                file.write(piece.numpy().data)
            size = file.tell() // dtype.itemsize
        ids = torch.from_file(str(scratch), shared=True, size=size, dtype=dtype)
    except (OSError, RuntimeError) as error:  # torch raises the second
        raise Fault(
            f"{scratch} cannot hold the ids of the text: {getattr(error, 'strerror', error)}; "
            f"it needs {length * dtype.itemsize / 1e6:,.1f} MB of room, or raise data.map_above_mb"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()  # a mapping keeps it alive, and nothing stays behind
    return ids


class Batches:
    """The training windows of every step, as a pure function of (seed, step).

    An epoch starts at a random offset and cuts the text into windows side by side, which then
    come in random order: no character comes twice before all have come once.
    """

    def __init__(self, ids: Tensor, batch_size: int, block_size: int, seed: int) -> None:
        self.ids, self.seed = ids, seed
        self.batch_size, self.block_size = batch_size, block_size
        self.windows = max(1, len(ids) // block_size - 1)  # in an epoch, wherever it starts
        self.epoch, self.starts = -1, torch.empty(0, dtype=torch.long)

    def window_starts(self, epoch: int) -> Tensor:
        """Where the windows of an epoch begin, in their order, (windows,)."""
        if epoch != self.epoch:
            generator = torch.Generator().manual_seed(mix(self.seed, "epoch", epoch))
            slack = len(self.ids) - 1 - self.windows * self.block_size
            offset = torch.randint(min(slack, self.block_size - 1) + 1, (1,), generator=generator)
            starts = torch.randperm(self.windows, generator=generator)  # may be large, so in place
            self.epoch, self.starts = epoch, starts.mul_(self.block_size).add_(offset)
        return self.starts

    def starts_of(self, step: int) -> Tensor:
        """Where in the text the windows of `step` begin, (B,)."""
        wanted = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        epochs, places = wanted // self.windows, wanted % self.windows
        return torch.cat([self.window_starts(int(e))[places[epochs == e]] for e in epochs.unique()])

    def __call__(self, step: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """The idx and targets of `step`, both (B, T) int64 on `device`."""
        span = torch.arange(self.block_size + 1)
        at = self.starts_of(step)[:, None] + span  # (B, T + 1)
        place = self.ids.device
        at = at.to(place, non_blocking=place.type == "cuda")  # others read `at` when it is gone
        window = self.ids[at].to(device, torch.long)
        return window[:, :-1], window[:, 1:]


def mix(*parts: int | str) -> int:
    """One seed out of several parts, so that neighbouring ones have nothing in common."""
    digest = hashlib.sha256(" ".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
