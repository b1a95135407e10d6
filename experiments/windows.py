"""Windows of a task, and where the rule decides what comes next."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import torch
from torch import Tensor

from data.laws import Law
from data.tokenizer import CharTokenizer
from proof.proof import MOST, count_contexts

Data = Literal["own", "restarts", "every"]
DATA = get_args(Data)
OPEN = -100  # a target that the rule does not decide: torch's cross_entropy leaves it out
LENGTH = 60_000  # characters of a text of restarts
AGAIN = 600  # characters that a rule writes by itself, as the text aabaabaab... of data.aab has


@dataclass(frozen=True)
class Windows:
    """N windows of a task.

    idx: what is read, (N, T) ids as int16, as there may be millions
    targets: what has to follow each place, (N, T); OPEN where the rule does not decide that
    """

    idx: Tensor
    targets: Tensor

    def __post_init__(self) -> None:
        for name in ("idx", "targets"):
            object.__setattr__(self, name, getattr(self, name).short())

    def __len__(self) -> int:
        return len(self.idx)

    def asked(self) -> int:
        """How many places there are where the rule decides."""
        return int((self.targets != OPEN).sum())

    def some(self, rows: Tensor) -> "Windows":
        """Those that `rows` names or marks."""
        return Windows(self.idx[rows], self.targets[rows])

    def parts(self, rows: int) -> Iterator["Windows"]:
        """So many windows at a time."""
        for idx, targets in zip(self.idx.split(rows), self.targets.split(rows), strict=True):
            yield Windows(idx, targets)

    def batches(self, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
        """idx and targets of so many windows at a time, (B, T) each, as int64."""
        for part in self.parts(rows):
            yield part.idx.long(), part.targets.long()

    def with_others(self, others: "Windows") -> "Windows":
        """These, and others after them."""
        return Windows(torch.cat((self.idx, others.idx)), torch.cat((self.targets, others.targets)))

    def entropy(self) -> float:
        """The least mean loss, nats a character, of any model that sees the window alone."""
        nats, places = 0.0, 0
        for place in range(self.idx.shape[1]):
            known = self.targets[:, place] != OPEN
            before = map(tuple, self.idx[known, : place + 1].tolist())
            seen = Counter(zip(before, self.targets[known, place].tolist(), strict=True))
            of = Counter()
            for (context, _), n in seen.items():
                of[context] += n
            with_logs = torch.tensor([[n, of[context]] for (context, _), n in seen.items()])
            if len(with_logs):
                n, total = with_logs.double().T
                nats -= (n * (n / total).log()).sum().item()
                places += int(n.sum())
        return max(0.0, nats) / max(1, places)


@dataclass(frozen=True)
class Domain:
    """The contexts that a model is judged on, each at one place of a window.

    windows: targets where a context ends, OPEN elsewhere
    whole: whether these are all contexts of the rule; otherwise they are a seeded sample
    total: how many there are in all
    """

    windows: Windows
    whole: bool
    total: float


def answers(law: Law, contexts: Iterator[str]) -> Tensor:
    """The ids of what follows each of N contexts, (N,)."""
    ids = {char: i for i, char in enumerate(law.chars)}
    return torch.tensor([ids[law.answer(context)] for context in contexts])


def all_windows(law: Law) -> Windows:
    """Every window there is, in the order of its characters' ids, with every answer."""
    V, T = len(law.chars), law.block_size
    ids = torch.arange(V**T)
    idx = torch.stack([ids // V ** (T - 1 - t) % V for t in range(T)], dim=1)  # (V^T, T)
    targets = torch.empty_like(idx)
    for t in range(T):
        each = answers(law, map("".join, product(law.chars, repeat=t + 1)))  # (V^(t + 1),)
        targets[:, t] = each.repeat_interleave(V ** (T - 1 - t))
    return Windows(idx, targets)


def drawn(law: Law, n: int, seed: int) -> Windows:
    """n windows of random characters, with every answer."""
    T, draw = law.block_size, random.Random(seed)
    texts = ["".join(draw.choices(law.chars, k=T)) for _ in range(n)]
    encode = CharTokenizer(law.chars).encode
    targets = [answers(law, (text[: t + 1] for t in range(T))) for text in texts]
    return Windows(torch.stack([encode(text).long() for text in texts]), torch.stack(targets))


def few(law: Law) -> bool:
    """Whether each context can be tried."""
    return count_contexts(law.chars, law.block_size, shortest=1) <= MOST


def of_contexts(law: Law, contexts: list[str]) -> Windows:
    """A window for each context, which ends anywhere in it; what is behind does not matter."""
    T, encode = law.block_size, CharTokenizer(law.chars).encode
    idx = torch.zeros(len(contexts), T, dtype=torch.long)
    targets = torch.full_like(idx, OPEN)
    ends = torch.tensor([len(context) - 1 for context in contexts])
    for row, context in enumerate(contexts):
        idx[row, : len(context)] = encode(context).long()
    targets[torch.arange(len(contexts)), ends] = answers(law, iter(contexts))
    return Windows(idx, targets)


def of_text(law: Law, text: str) -> Windows:
    """All windows of a text, with what follows in it."""
    ids = CharTokenizer(law.chars).encode(text).long()
    windows = ids.unfold(0, law.block_size + 1, 1)
    return Windows(windows[:, :-1], windows[:, 1:])


def own(law: Law) -> Windows:
    """What the rule writes by itself after its first character."""
    text = law.chars[0]
    while len(text) < AGAIN + law.block_size:
        text += law.answer(text[-law.block_size :])
    return of_text(law, text)


def restarts(law: Law, seed: int) -> Windows:
    """Windows that begin with some random characters, and which the rule writes on."""
    draw, encode, T = random.Random(seed), CharTokenizer(law.chars).encode, law.block_size
    n = LENGTH // (T + 1)
    ids, begun = torch.empty(n, T + 1, dtype=torch.long), torch.empty(n, 1, dtype=torch.long)
    for row in range(n):
        begun[row] = size = draw.randint(1, T)
        text = "".join(draw.choices(law.chars, k=size))
        while len(text) <= T:
            text += law.answer(text)
        ids[row] = encode(text).long()
    decided = torch.arange(1, T + 1) >= begun  # (n, T)
    return Windows(ids[:, :-1], ids[:, 1:].where(decided, OPEN))


def coverage(windows: Windows, domain: Domain) -> float:
    """The share of a domain's contexts that occur in some windows."""

    def contexts(of: Windows) -> set[bytes]:
        ends = (of.targets != OPEN).nonzero().tolist()
        rows = of.idx.to(torch.int32).numpy()
        return {rows[row, : place + 1].tobytes() for row, place in ends}

    asked = contexts(domain.windows)
    return len(asked & contexts(windows)) / len(asked)
