"""What follows what in a text, counted: interpolated Kneser-Ney, to any order.

The probability of a character after a context is a part that the context was counted with, and a
rest that goes to the context without its first character:

    p(w | h) = max(c(hw) - D, 0) / c(h) + rest(h) * p(w | h without its first character)

The longest contexts have plain counts; for a shorter gram c is the number of different characters
that were seen before it (Kneser & Ney 1995). D takes one of three values, for grams counted once,
twice and more often (Chen & Goodman 1998, modified Kneser-Ney).

`data.counts` counts; here the tables of all orders become one, which is asked.
"""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.counts import Counts

DENSE = 1 << 20  # probabilities after the contexts of a length that are kept whole


def discounts(counts: np.ndarray) -> np.ndarray:
    """What is taken off a gram that counts 0, 1, 2, and 3 or more; (4,).

    Chen & Goodman 1998, equation 17. Half of the count where there is nothing to estimate it from,
    or where the estimate would leave nothing to characters that were not seen.
    """
    n = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].astype(float)  # of 1, 2, 3, 4
    half = np.array([0.5, 1.0, 1.5])
    if not n.all():
        return np.array([0.0, *half])
    y = n[0] / (n[0] + 2 * n[1])
    found = np.array([c - (c + 1) * y * n[c] / n[c - 1] for c in (1, 2, 3)])
    return np.array([0.0, *np.where(found > 0, found, half)])


def smooth(level: Counts, contexts: int, vocab_size: int) -> tuple[np.ndarray, ...]:
    """What each gram adds to the probability of its last character, (n,), what each context leaves
    to the shorter one, and how many grams go on with it, each (contexts,)."""
    counts, context = level.counts.astype(float), level.codes // vocab_size
    off = discounts(level.counts)[np.minimum(level.counts, 3)]
    total = np.bincount(context, weights=counts, minlength=contexts)
    taken = np.bincount(context, weights=off, minlength=contexts)
    counts -= off
    counts /= np.maximum(total, 1)[context]
    rest = np.where(total > 0, taken / np.maximum(total, 1), 1.0)
    return counts, rest, np.bincount(context, minlength=contexts)


class Ngrams(nn.Module):
    """Counts of a text as a model: what comes after the last `order` - 1 characters.

    The grams are the nodes of a tree, in which each hangs below the one without its last character.
    Node 0 stands for all that was not seen. Then come the empty gram of each text, the grams of one
    character, those of two, and so on. A gram that may be a context has a place in `rest`, too.

    starts: where the nodes of each length begin
    codes: (n + 1,) `node above * vocab_size + last character` of each gram, sorted, and an end
    kept: (n,) what each gram adds to the probability of its last character
    first: (contexts + 1,) where the grams below each node begin among them
    rest: (contexts,) what is left for the shorter context
    whole: (short contexts, V) the distribution after each that is short enough

    Several texts may be asked, each a list of Counts: which one is said for each window. Raises
    ValueError where they do not have the same orders, or not what `count` makes.
    """

    def __init__(self, *texts: Sequence[Counts], vocab_size: int) -> None:
        super().__init__()
        if len({*map(len, texts)}) != 1 or not texts[0]:
            raise ValueError("there are no counts, or not of the same orders")
        self.vocab_size, self.order = vocab_size, len(texts[0])
        sizes = [sum(len(text[k].codes) for text in texts) for k in range(self.order)]
        self.starts = [1, *itertools.accumulate(sizes, initial=1 + len(texts))]
        n, contexts = sum(sizes), self.starts[self.order]
        codes, kept = np.full(n + 1, np.iinfo(np.int64).max), np.empty(n, np.float32)
        rest, first = np.ones(contexts, np.float32), np.zeros(contexts + 1, np.int64)
        gram, node = 0, self.starts[0]
        for k in range(self.order):
            for text in texts:
                grams = slice(gram, gram + len(text[k].codes))
                above = slice(node, node + (len(text[k - 1].codes) if k else 1))
                codes[grams] = text[k].codes + node * vocab_size
                kept[grams], rest[above], first[1:][above] = smooth(
                    text[k], above.stop - node, vocab_size
                )
                gram, node = grams.stop, above.stop
        np.cumsum(first, out=first)
        buffers = {"codes": codes, "kept": kept, "first": first, "rest": rest}
        for name, values in buffers.items():
            self.register_buffer(name, torch.from_numpy(values), persistent=False)
        whole = [torch.zeros(1, vocab_size)]
        for k, (_, longer) in enumerate(self.distributions(), start=1):
            whole.append(longer)
            if (self.starts[k + 1] - self.starts[k]) * vocab_size > DENSE:
                break
        self.whole_lengths = len(whole) - 1
        self.register_buffer("whole", torch.cat(whole), persistent=False)

    def grams(self, k: int) -> tuple[Tensor, Tensor]:
        """Those of k characters in one text after the other: the places of the ones without their
        last character among those of k - 1, and their last characters, each (N,)."""
        start, end = (node - self.starts[1] for node in self.starts[k : k + 2])
        codes = self.codes[start:end]
        return codes // self.vocab_size - self.starts[k - 1], codes % self.vocab_size

    def distributions(self) -> Iterator[tuple[Tensor, Tensor]]:
        """What comes after all contexts of 0, 1, ... characters: without their first character, and
        with it, each (N, V)."""
        starts, V = self.starts, self.vocab_size
        suffix = torch.arange(starts[0], starts[1])
        longer = torch.full((len(suffix), V), 1 / V)
        for k in range(self.order):
            if k > 0:
                above, last = self.grams(k)
                # it hangs, as its last character, below the suffix of the node above
                suffix = self.find(suffix[above], last) if k > 1 else suffix[above]
                if (suffix == 0).any():
                    raise ValueError("there are grams whose ends were not counted")
            shorter = longer[suffix - starts[max(0, k - 1)]]
            longer = self.extend(shorter.clone(), torch.arange(starts[k], starts[k + 1])[:, None])
            yield shorter, longer

    def find(self, above: Tensor, last: Tensor) -> Tensor:
        """The nodes of the characters `last` below the nodes `above`; 0 where there is none."""
        codes = torch.add(last, above, alpha=self.vocab_size)
        places = torch.searchsorted(self.codes, codes)
        there = self.codes.index_select(0, places.flatten()).view(places.shape)
        return torch.where(there == codes, places + self.starts[1], 0)

    def extend(self, p: Tensor, nodes: Tensor) -> Tensor:
        """From p (N, V) after shorter contexts to that after longer and longer ones.

        nodes: (N, L), the longest first; 0 where there is none. p is overwritten.
        """
        (N, L), V, flat = nodes.shape, self.vocab_size, nodes.flatten()
        rest = self.rest.index_select(0, flat).view(N, L)
        left = rest.cumprod(dim=1)  # by a context and all longer ones, (N, L)
        start = self.first.index_select(0, flat)
        below = self.first.index_select(0, flat + 1) - start
        row = torch.repeat_interleave(below)  # which of the N * L contexts each gram is below
        entry = torch.arange(len(row), device=p.device)
        entry += (start + below - below.cumsum(0)).index_select(0, row)
        adds = F.pad(left[:, :-1], (1, 0), value=1.0).flatten().index_select(0, row)
        adds *= self.kept.index_select(0, entry)
        place = torch.arange(N, device=p.device)[:, None] - nodes  # codes count from their node on
        cell = (place * V).flatten().index_select(0, row)
        cell += self.codes.index_select(0, entry)
        p = p.mul_(left[:, -1:]).flatten()
        if p.device.type == "cpu":  # each of the two adds in the same order on every run there
            p.index_add_(0, cell, adds)
        else:
            p.index_put_((cell,), adds, accumulate=True)
        return p.view(N, V)

    def follow(self, nodes: Tensor, last: Tensor) -> Tensor:
        """The contexts one character on: nodes (..., L), the longest first, last (...)."""
        longer = self.find(nodes[..., 1:], last[..., None])
        return torch.cat((longer, nodes[..., -1:]), dim=-1)

    def contexts(self, idx: Tensor, before: Tensor) -> Tensor:
        """The nodes of the contexts that end at each place of idx (B, T) -> (B, T, L).

        before: (B, L) those before the first place. The longest come first.
        """
        T, L = idx.shape[1], before.shape[1]
        if T < L:  # place by place, all lengths at once
            steps = itertools.accumulate(idx.unbind(dim=1), self.follow, initial=before)
            return torch.stack(list(steps)[1:], dim=1)
        found = [before[:, -1:].expand(-1, T)]  # all places at once, length by length
        for k in range(1, L):
            above = torch.cat((before[:, L - k, None], found[-1][:, :-1]), dim=1)
            found.append(self.find(above, idx))
        return torch.stack(found[::-1], dim=-1)

    def begin(self, B: int, longest: int, text: Tensor | None = None) -> Tensor:
        """The contexts before any character, (B, L), for contexts of up to `longest` characters.

        text: (B,) which of the texts is asked; None means the first
        """
        nodes = self.codes.new_zeros(B, min(self.order, longest + 1))
        nodes[:, -1] = self.starts[0] if text is None else self.starts[0] + text
        return nodes

    def after(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """What comes after contexts (B, t, L), and how long the longest is: (B, t, V), (B, t)."""
        B, t, L = nodes.shape
        flat, n = nodes.flatten(0, 1), max(0, L - self.whole_lengths)
        p = self.whole.index_select(0, flat[:, n:].amax(dim=1))  # longer ones have higher numbers
        p = self.extend(p, flat[:, :n]) if n else p
        return p.view(B, t, -1), (nodes > 0).sum(dim=-1) - 1

    def probs(
        self, idx: Tensor, last: int = 0, text: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """What comes after each place of idx (B, T), by what is in its own window only.

        Returns probabilities (B, t, V), and how long a context was known, (B, t). t is T, or
        `last` if that is not 0. text: (B,) which of the texts is asked; None means the first.
        """
        idx = idx[:, -(last + max(0, self.order - 2)) :] if last else idx
        nodes = self.contexts(idx, self.begin(*idx.shape, text))
        return self.after(nodes[:, -last:])

    def likelihood(self, idx: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """As `probs`, but of the characters `targets` (B, T) alone, (B, T), to the last bit.

        What this takes does not grow with the vocabulary.
        """
        nodes = self.contexts(idx, self.begin(*idx.shape))  # (B, T, L)
        n = max(0, nodes.shape[-1] - self.whole_lengths)
        p, sparse = self.whole[nodes[..., n:].amax(dim=-1), targets], nodes[..., :n]
        left = self.rest[sparse].cumprod(dim=-1)
        grams = self.find(sparse, targets[..., None])
        kept = torch.where(grams > 0, self.kept[(grams - self.starts[1]).clamp(min=0)], 0)
        adds = kept * F.pad(left[..., :-1], (1, 0), value=1.0)
        if n:
            p = p * left[..., -1]
        for add in adds.unbind(dim=-1):  # in the order of `extend`
            p = p + add
        return p, (nodes > 0).sum(dim=-1) - 1

    def log_probs(self, idx: Tensor) -> Tensor:
        """The logarithm of `probs`, idx (B, T) -> (B, T, V)."""
        return self.probs(idx)[0].log()
