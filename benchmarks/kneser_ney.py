"""Kneser-Ney in plain dictionaries, for the tables of `data.ngrams` to be held against."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

Gram = tuple[int, ...]


class KneserNey:
    """Interpolated modified Kneser-Ney, one character at a time."""

    def __init__(self, pieces: Sequence[Sequence[int]], V: int, order: int) -> None:
        self.V, self.raw = V, []
        for k in range(1, order + 1):
            grams = Counter(
                tuple(piece[i : i + k]) for piece in pieces for i in range(len(piece) - k + 1)
            )
            if grams:
                self.raw.append(grams)
        self.counts = []
        for k, grams in enumerate(self.raw, start=1):
            if k < len(self.raw):
                before = defaultdict(set)
                for gram in self.raw[k]:
                    before[gram[1:]].add(gram[0])
                grams = {gram: len(before[gram]) for gram in grams}
            self.counts.append(dict(grams))
        self.off = [self.discounts(list(grams.values())) for grams in self.counts]

    @staticmethod
    def discounts(counts: list[int]) -> list[float]:
        n1, n2, n3, n4 = (counts.count(c) for c in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return [0, 0.5, 1, 1.5]
        y = n1 / (n1 + 2 * n2)
        found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return [0, *(d if d > 0 else c / 2 for c, d in enumerate(found, start=1))]

    def prob(self, w: int, h: Gram) -> float:
        shorter = self.prob(w, h[1:]) if h else 1 / self.V
        counts, off = self.counts[len(h)], self.off[len(h)]
        followers = [counts.get((*h, v), 0) for v in range(self.V)]
        if not any(followers):
            return shorter
        own = [max(c - off[min(c, 3)], 0) / sum(followers) for c in followers]
        return own[w] + (1 - sum(own)) * shorter

    def known(self, seen: Gram) -> int:
        longest = min(len(seen), len(self.raw) - 1)
        return max(k for k in range(longest + 1) if not k or seen[-k:] in self.raw[k - 1])

    def probs(self, rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, V) and (B, T)."""
        p = np.zeros((len(rows), len(rows[0]), self.V))
        known = np.zeros(p.shape[:2], int)
        for b, row in enumerate(rows):
            for t in range(len(row)):
                seen = tuple(row[: t + 1])
                known[b, t] = self.known(seen)
                context = seen[len(seen) - min(len(seen), len(self.raw) - 1) :]
                p[b, t] = [self.prob(w, context) for w in range(self.V)]
        return p, known
