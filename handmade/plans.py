"""How a finite-state machine is built: what texts do, and the layers and columns for it.

`handmade.machines` says what these are for, and turns them into weights.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product

import torch
from torch import Tensor

from data.machines import Machine
from handmade.parts import MOST_WEIGHTS, Columns
from model import GPTConfig

ACTIVATION = "gelu_tanh"
MOST = 255  # functions; with more, even a window of two would have more than MOST_WEIGHTS
PLAIN = 64  # layers times places times one-hots up to which units need no pairs
LONG = 8  # characters of a text that can name a function
Function = tuple[int, ...]  # for each state, in the order of the rule's, the number of the next


def functions(rule: Machine) -> dict[Function, str]:
    """What texts do, each with the first of the shortest texts that does it; or MOST and more."""
    states = list(rule.states)
    letters = {c: [states.index(rule.edges[state][c]) for state in states] for c in rule.chars}
    found: dict[Function, str] = {}
    new = [(tuple(function), char) for char, function in letters.items()]
    while new and len(found) <= MOST:
        longer = []
        for function, text in new:
            if function not in found:
                found[function] = text
                longer += [
                    (tuple(after[state] for state in function), text + char)
                    for char, after in letters.items()
                ]
        new = longer
    return found


@dataclass(frozen=True)
class Plan:
    """How a machine is built. Nothing large is made for it.

    rule: the machine
    found: what texts do, each with a text that does it; None where a place has a one-hot for each
        state in place of one for what its text does
    """

    rule: Machine
    found: dict[Function, str] | None

    @cached_property
    def strides(self) -> list[int]:
        """The characters of a stretch in each layer."""
        found = [1]
        while found[-1] * self.rule.radix < self.rule.block_size:
            found.append(found[-1] * self.rule.radix)
        return found

    @property
    def pairs(self) -> bool:
        """Whether units come in pairs."""
        return len(self.strides) * self.rule.block_size * self.one_hot[0] > PLAIN

    @cached_property
    def texts(self) -> list[str]:
        """What the columns of a one-hot are called: a text that does the same, or a state."""
        if self.found is None:
            return list(self.rule.states)
        texts = self.found.values()
        return [text if len(text) <= LONG else f"#{i}" for i, text in enumerate(texts)]

    def slots(self, name: str) -> list[str]:
        """The one-hots that `name`, such as last1, is made of."""
        return [name] if self.found else [f"{name} from {state}" for state in self.rule.states]

    def blocks(self, layer: int) -> dict[int, list[int]]:
        """The places of the window by how many stretches of the layer they have before them."""
        stride, found = self.strides[layer], {}
        for t in range(self.rule.block_size):
            found.setdefault(min(self.rule.radix, t // stride + 1), []).append(t)
        return found

    @cached_property
    def heads(self) -> list[int]:
        """How many heads of each layer have places to look at."""
        T, radix = self.rule.block_size, self.rule.radix
        return [min(radix, (T - 1) // stride + 1) - 1 for stride in self.strides]

    def copied(self, layer: int) -> list[tuple[str, int]]:
        """What each of a layer's heads copies to: a name, and how many places back it looks."""
        distances = [k * self.strides[layer] for k in range(1, self.heads[layer] + 1)]
        return [(f"back{distance}", distance) for distance in distances]

    def written(self, layer: int) -> str:
        """The name that a layer's units write to."""
        last = layer == len(self.strides) - 1
        return "out" if last else f"last{self.strides[layer + 1]}"

    def read(self) -> Tensor:
        """What the embedding of each character writes, (V, C)."""
        states, written = (
            list(self.rule.states),
            torch.zeros(self.config.vocab_size, self.columns.total),
        )
        for v, char in enumerate(self.rule.chars):
            function = tuple(states.index(self.rule.edges[state][char]) for state in states)
            hot = [list(self.found).index(function)] if self.found else function
            for slot, i in zip(self.slots("last1"), hot, strict=True):
                written[v, self.columns[slot][i]] = 1
        return written

    @property
    def one_hot(self) -> tuple[int, int]:
        """How many one-hots tell what a text does, and the columns of each."""
        Q = len(self.rule.states)
        return (1, len(self.found)) if self.found else (Q, Q)

    @cached_property
    def config(self) -> GPTConfig:
        """The structure of the model."""
        V, T, (n, size) = len(self.rule.chars), self.rule.block_size, self.one_hot
        units = sum(size**b for b in range(1, self.rule.radix + 1)) if self.found else n**3 + n**2
        return GPTConfig(
            vocab_size=V,
            block_size=T,
            n_layer=len(self.strides),
            n_head=self.rule.radix - 1,
            n_embd=T + V + n * size * (sum(self.heads) + len(self.strides)),
            head_size=max(T, n * size),
            ffn_size=units * (1 + self.pairs),
            bias=True,
            position="learned",
            activation=ACTIVATION,
        )

    @property
    def size(self) -> int:
        """The model's number of weights."""
        c = self.config
        C, channels = c.n_embd, c.n_head * c.head_size
        attention = 3 * channels * (C + 1) + (channels + 1) * C
        layer = 4 * C + attention + c.ffn_size * (C + 1) + (c.ffn_size + 1) * C
        return (2 * c.vocab_size + c.block_size + 2) * C + c.n_layer * layer

    @cached_property
    def columns(self) -> Columns:
        """The residual stream."""
        sizes, joined = {}, {}
        for layer in range(len(self.strides)):
            for name in (f"last{self.strides[layer]}", *(to for to, _ in self.copied(layer))):
                joined[name] = self.slots(name)
                sizes |= dict.fromkeys(joined[name], self.one_hot[1])
            sizes |= {} if layer else {"place": self.rule.block_size}
        columns = Columns(**sizes, out=len(self.rule.chars))
        columns.joined |= joined
        columns.whats |= {slot: self.texts for slots in joined.values() for slot in slots}
        return columns

    @cached_property
    def start(self) -> int:
        """The number of the state that the window begins in."""
        return list(self.rule.states).index(self.rule.start)

    @cached_property
    def after(self) -> Tensor:
        """The function of two stretches by those of the first and of the second, (M, M)."""
        number = {function: i for i, function in enumerate(self.found)}
        return torch.tensor(
            [
                [number[tuple(then[state] for state in first)] for then in self.found]
                for first in self.found
            ]
        )

    @cached_property
    def names(self) -> list[str]:
        """What each unit asks for, the earliest first; of a pair, the second is taken off."""
        found = []
        for blocks in self.blocks(0):
            words = blocks if self.found else blocks + 1
            found += ["·".join(each) for each in product(self.texts, repeat=words)]
        return [*found, *(f"less {name}" for name in found)] if self.pairs else found


def plan_of(rule: Machine) -> Plan:
    """How `rule` is built. Raises ValueError when it would be too large."""
    found = functions(rule)
    few = found if len(found) <= MOST else None
    wanted = Plan(rule, few)
    if few and wanted.size <= MOST_WEIGHTS:
        return wanted
    radices = [radix for radix in range(2, rule.radix) if few and len(few) ** radix <= MOST_WEIGHTS]
    fitting = [r for r in radices if Plan(replace(rule, radix=r), few).size <= MOST_WEIGHTS]
    too_large = f"more than {MOST_WEIGHTS:,}"
    if fitting:
        raise ValueError(
            f"with radix {rule.radix} the model would have {too_large} weights; take radix "
            f"{fitting[-1]}"
        )
    by_states = Plan(replace(rule, radix=2), None)
    if by_states.size > MOST_WEIGHTS:
        raise ValueError(
            f"the model would have {by_states.size:,} weights, {too_large}; take a smaller "
            "block_size or fewer states"
        )
    if rule.radix > 2:
        raise ValueError(
            f"radix {rule.radix} takes a unit for all that texts can do to {len(rule.states)} "
            "states, which is too much; take radix 2, which does with less"
        )
    return by_states
