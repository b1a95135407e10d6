"""The grams of a text as sorted numbers: sorted once, whatever parts of it are counted later."""

from collections.abc import Sequence, Set

import numpy as np

LARGEST = np.iinfo(np.int64).max
TABLE = 1 << 22  # numbers up to which a table says which are there; beyond, sorting does


class Grams:
    """What begins at each place of a text: `order` characters, or as many as are left.

    The text can be counted without some of its parts, as if it ended where they begin. So a gram
    that goes from one part into another is kept as a whole and cut, each with a label that says in
    which countings it is.

    keys: (n,) int64, sorted: grams as numbers to the base vocab_size + 1, whose digits are 1 + the
        ids, and 0 after the end
    labels, times: (n,) which of `kinds` each is, and how often it is there
    kinds: the parts that a gram lies in, and the part before which it was cut; None if it was not
    tables: by k, numbers of k digits; in keys the place in the table stands for these
    """

    def __init__(
        self,
        pieces: Sequence[np.ndarray],
        parts: Sequence[np.ndarray],
        vocab_size: int,
        order: int,
    ) -> None:
        """pieces: ids, each (N,), between which no gram goes; parts: of each, (N,) uint8."""
        self.base, self.order = vocab_size + 1, min(order, max(map(len, pieces), default=0))
        self.kinds: list[tuple[frozenset[int], int | None]] = []
        self.tables: dict[int, np.ndarray] = {}
        digits, labels = self.labelled(pieces, parts)
        keys = self.numbers(digits)
        keys *= len(self.kinds)
        keys += labels[: len(keys)]
        del digits, labels
        keys.sort()
        first = np.flatnonzero(changes(keys))
        self.times = np.diff(first, append=len(keys)).astype(np.int32)
        keys = keys[first]
        self.keys = keys // len(self.kinds)
        self.labels = (keys - self.keys * len(self.kinds)).astype(np.uint16)

    def labelled(
        self, pieces: Sequence[np.ndarray], parts: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """The digits of all pieces, then those of what was cut; and the labels, each (N,)."""
        order, found = self.order, {(frozenset[int](), -1): 0}  # the label of what is not counted

        def label_of(inside: np.ndarray, stop: int | None = None) -> int:
            return found.setdefault((frozenset(inside.tolist()), stop), len(found))

        end, never = np.zeros(order, np.min_scalar_type(self.base)), np.zeros(order, np.uint16)
        digits, labels, cuts = [], [], [(end, never)]
        for piece, part in zip(pieces, parts, strict=True):
            named = np.zeros(256, np.uint16)
            for name in np.flatnonzero(np.bincount(part)):
                named[name] = label_of(name[None])
            text, label = np.add(piece, 1, dtype=end.dtype, casting="unsafe"), named[part]
            borders = np.flatnonzero(part[1:] != part[:-1]) + 1
            near = np.unique(borders[:, None] - np.arange(1, order))
            for place in near[near >= 0]:
                inside = part[place : place + order]
                label[place] = label_of(inside)
                for k in np.flatnonzero(inside[1:] != inside[:-1]) + 1:
                    cut, its = end.copy(), never.copy()
                    cut[:k], its[0] = text[place : place + k], label_of(inside[:k], int(inside[k]))
                    cuts.append((cut, its))
            digits += [text, end]
            labels += [label, never]
        self.kinds = list(found)
        cut_digits, cut_labels = zip(*cuts, strict=True)
        return np.concatenate([*digits, *cut_digits]), np.concatenate([*labels, *cut_labels])

    def numbers(self, digits: np.ndarray) -> np.ndarray:
        """`order` digits from each place on as one number, or less where that would be too long."""
        n = len(digits) - self.order + 1
        keys, bound = digits[:n].astype(np.int64), self.base
        for k in range(1, self.order):
            long = bound * self.base > LARGEST // len(self.kinds)
            if long or (not self.tables and bound * self.base > TABLE):
                self.tables[k], keys = ranked(keys, bound)
                bound = len(self.tables[k])
            keys *= self.base
            keys += digits[k : k + n]
            bound *= self.base
        return keys

    def split(self, keys: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys of k digits without their last one, and that one, less 1: -1 is no character."""
        above = keys // self.base
        last = keys - above * self.base - 1
        return (self.tables[k - 1][above] if k - 1 in self.tables else above), last

    def without(self, parts: Set[int], order: int) -> tuple[np.ndarray, np.ndarray, int]:
        """The keys of the text without `parts`, sorted, each once; how often each is there; and how
        many digits they have, `order` or as many as the longest gram."""
        counted = [
            parts.isdisjoint(lies) and (stop is None or stop in parts) for lies, stop in self.kinds
        ]
        there = np.array(counted)[self.labels]
        keys, times, k = self.keys[there], self.times[there], self.order
        while k > 0:
            above, last = self.split(keys, k)
            if k <= order and (last >= 0).any():
                break
            keys, k = above, k - 1
        first = np.flatnonzero(changes(keys))
        return keys[first], np.add.reduceat(times, first, dtype=np.int32), k


def changes(values: np.ndarray) -> np.ndarray:
    """Where in (n,) another value begins, (n,)."""
    begins = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    return begins


def ranked(numbers: np.ndarray, bound: int) -> tuple[np.ndarray, np.ndarray]:
    """The `numbers` below `bound` that are there, sorted, and the place of each among them."""
    if bound > TABLE:
        return np.unique(numbers, return_inverse=True)
    there = np.zeros(bound, bool)
    there[numbers] = True
    place = there.cumsum() - 1
    return np.flatnonzero(there), np.take(place, numbers, out=numbers, mode="clip")
