"""Whether a text is long enough for the windows of a run, and which settings fit a shorter one."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from system import lists
from system.errors import UserError
from system.settings import DataConfig

SMALL = 100_000  # characters; configs/small.yaml is for texts of fewer
SMALL_STEPS = 120  # its train.max_steps
GOOD = 8  # characters in a window, for which the shares may be changed, too
VAL_FRACTIONS, CALIBRATION_FRACTIONS = (0.2, 0.5), (0.05, 0.1, 0.2, 0.5)  # beside those given


@dataclass(frozen=True)
class Cut:
    """How a text is cut, by its length.

    length, val_length: of the text, and of one of its own to validate on; None without one
    val_fraction: share of the text that is validated on, where that has none of its own
    calibration_fraction: share of the training split for calibration; 0 where nothing is counted
    """

    length: int
    val_length: int | None
    block_size: int
    val_fraction: float
    calibration_fraction: float

    @property
    def train_size(self) -> int:
        """Characters in the training split."""
        if self.val_length is not None:
            return self.length
        return self.length - int(self.length * self.val_fraction)

    @property
    def apart(self) -> int:
        """How many of these, the first, are set apart for calibration."""
        return int(self.train_size * self.calibration_fraction)

    def fits(self) -> bool:
        """Whether both splits hold a window, and calibration has two characters."""
        val_size = self.length - self.train_size if self.val_length is None else self.val_length
        shortest = min(val_size, self.train_size - self.apart)
        return shortest > self.block_size and (self.apart >= 2 or not self.calibration_fraction)

    def needed(self) -> int:
        """The length of a text that fits, and is hardly longer than it must be."""
        own, window, apart = self.val_length, self.block_size + 1, self.calibration_fraction
        least = max(window / (1 - apart), 2 / apart if apart else 0)
        if own is None:
            least = max(window / self.val_fraction, least / (1 - self.val_fraction))
        longer = (
            replace(self, length=length, val_length=None if own is None else length)
            for length in itertools.count(math.floor(least))
        )
        return next(cut.length for cut in longer if cut.fits())  # rounding can take one away

    def others(self, *, fixed: bool) -> Iterator["Cut"]:
        """Cuts of the same text by other settings, the fewest changes first; not all of them fit.

        fixed: whether block_size is that of a model which is there
        """
        smaller = [] if fixed else [1 << n for n in range(self.block_size.bit_length())][::-1]
        own, counted = self.val_length is not None, self.calibration_fraction
        for val, apart, block_size in itertools.product(
            (self.val_fraction, *(() if own else VAL_FRACTIONS)),
            (counted, *(CALIBRATION_FRACTIONS if counted else ()), 0.0),
            (self.block_size, *(size for size in smaller if size < self.block_size)),
        ):
            yield replace(self, val_fraction=val, calibration_fraction=apart, block_size=block_size)

    def worth(self) -> tuple[bool, int]:
        """What makes a cut better than another: counts, and a window that is not too short."""
        return self.calibration_fraction > 0, min(self.block_size, GOOD)

    def changes(self, before: "Cut") -> str:
        """The settings that make this cut of that `before`, as words of a command line."""
        words = {
            f"model.block_size={self.block_size}": self.block_size != before.block_size,
            f"data.val_fraction={self.val_fraction}": self.val_fraction != before.val_fraction,
        }
        if self.calibration_fraction != before.calibration_fraction:
            counted = f"memory.calibration_fraction={self.calibration_fraction}"
            words[counted if self.calibration_fraction else "memory.order=0 memory.teach=0"] = True
        return " ".join(word for word, changed in words.items() if changed)


def cut(wanted: Cut, data: DataConfig, *, fixed: bool, settled: bool) -> Cut:
    """`wanted`, where it fits. Raises UserError where it does not, with settings that do.

    fixed, settled: whether block_size, or any setting, cannot be changed any more
    """
    if wanted.fits():
        return wanted
    own, counted = wanted.val_length is not None, wanted.calibration_fraction
    has = f"{lists.write(data.dataset)} has {wanted.length:,} characters"
    if own:
        has += f", and {lists.write(data.val_dataset)} {wanted.val_length:,}"
    shares = [] if own else [f"data.val_fraction={wanted.val_fraction}"]
    shares += [f"memory.calibration_fraction={counted}"] if counted else []
    settings = f"model.block_size={wanted.block_size} with {' and '.join(shares)}"
    others = [] if settled else [each for each in wanted.others(fixed=fixed) if each.fits()]
    best = max(others, key=Cut.worth, default=None)
    remedy = "take a longer text"
    if best:
        remedy = f"add {best.changes(wanted)} to the command, or {remedy}"
    elif not fixed:
        remedy = f"no settings train on so few; {remedy}"
    if best and not fixed and wanted.length < SMALL:
        remedy += f"; --config small.yaml is for texts under {SMALL:,} characters"
    raise UserError(
        f"{has}: too few for {settings.removesuffix(' with ')}, which take {wanted.needed():,}"
        f"{' of either' if own else ''}; {remedy}"
    )
