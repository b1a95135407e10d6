"""Finite-state machines: each character changes the state, and the state says what comes next.

    chars: ab
    block_size: 16
    machine:
      start: even
      states: {even: a, odd: b}
      edges:
        even: {a: even, b: odd}
        odd: {a: odd, b: even}

The window begins in `start`. The state after its last character writes what `states` says. `radix`
beside these changes how the machine is built, and not what it says: `handmade.machines`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from data.laws import Law, check, quoted, sizes
from system import config

NEEDS, MAY = ("start", "states", "edges"), ("radix",)  # keys of machine


def one_of(state: str, states: Sequence[str], what: str) -> None:
    """Raise ValueError unless `state`, which `what` names, is one of the `states`."""
    if state not in states:
        near = config.nearest(state, tuple(states)) if len(state) < 60 else "name one of states"
        raise ValueError(f"{what} {config.show(state)}, which is no state; {near}")


def mapping(value: Any, what: str, example: str) -> dict[str, Any]:
    """`value` as keys and values. Raises ValueError, which shows an `example`, where it is none."""
    if not isinstance(value, dict) or not value:
        raise ValueError(f"{what} holds {example}, not {config.show(value)}")
    return value


@dataclass(frozen=True)
class Machine(Law):
    """The state that the window leads to decides what follows.

    chars: the vocabulary, in the order of its ids
    block_size: places of the window
    start: the state before the first character
    states: state -> what it writes next
    edges: state -> character -> the state that comes then
    radix: how many stretches of text a layer joins

    Raises ValueError, one sentence, when they do not fit together.
    """

    chars: str
    block_size: int
    start: str
    states: Mapping[str, str]
    edges: Mapping[str, Mapping[str, str]]
    radix: int = 2
    mark = "machine"
    needs = ("chars", "block_size", "machine")

    def __post_init__(self) -> None:
        check(self.chars, self.block_size)
        for state, answer in self.states.items():
            if not state:
                raise ValueError("a state has an empty name; give it one, such as off")
            if len(answer) != 1 or answer not in self.chars:
                said, chars = config.show(answer), config.show(self.chars)
                raise ValueError(
                    f"state {config.show(state)} writes {said}; give one of the chars {chars}"
                )
        one_of(self.start, tuple(self.states), "start is")
        for state in self.edges:
            one_of(state, tuple(self.states), "edges has")
        for state in self.states:
            self.check_edges(state)
        if not 2 <= self.radix <= self.block_size:
            raise ValueError(
                f"radix must lie between 2 and block_size, {self.block_size}, not {self.radix}"
            )

    def check_edges(self, state: str) -> None:
        """Raise ValueError unless each character leads from `state` to another."""
        named = f"state {config.show(state)}"
        if state not in self.edges:
            raise ValueError(f"{named} has no edges; say in edges where each character leads")
        edges = self.edges[state]
        if missing := next((char for char in self.chars if char not in edges), None):
            raise ValueError(f"{named} has no edge for {missing!r}; say in edges where it leads")
        for char, to in edges.items():
            if len(char) != 1 or char not in self.chars:
                strange = config.show(char)
                raise ValueError(
                    f"{named} has an edge for {strange}, which is none of the chars; add it there"
                )
            one_of(to, tuple(self.states), f"the edge of {named} for {char!r} leads to")

    def answer(self, context: str) -> str:
        """What follows `context`, of which only the window counts."""
        state = self.start
        for char in context[-self.block_size :]:
            state = self.edges[state][char]
        return self.states[state]

    def within(self, window: int) -> Self:
        """The same machine for a window of so many places, which the radix is at most."""
        return dataclasses.replace(self, block_size=window, radix=min(self.radix, window))

    @classmethod
    def parse(cls, content: dict[str, Any]) -> Self:
        """The machine that a file with this `content` describes. Raises ValueError or
        ConfigError."""
        chars, block_size = sizes(content)
        machine = mapping(content["machine"], "machine", "keys such as start: off")
        for key in machine:
            if key not in (*NEEDS, *MAY):
                near = config.nearest(key, (*NEEDS, *MAY))
                raise ValueError(f"{config.show(key)} is no key of machine; {near}")
        if missing := next((key for key in NEEDS if key not in machine), None):
            raise ValueError(f"machine has no {missing}; it has {', '.join(NEEDS)}")
        states = mapping(machine["states"], "states", "lines such as off: a")
        for state, answer in states.items():
            config.coerce(answer, str, f"what state {config.show(state)} writes")
        edges = mapping(machine["edges"], "edges", "lines such as off: {a: on, b: off}")
        for state, each in edges.items():
            what = f"edges of {config.show(state)}"
            for char, to in mapping(each, what, "pairs such as a: on").items():
                config.coerce(to, str, f"the edge of state {config.show(state)} for {char!r}")
        start = config.coerce(machine["start"], str, "start")
        radix = config.coerce(machine.get("radix", 2), int, "radix")
        return cls(chars, block_size, start, states, edges, radix)

    def lines(self) -> list[str]:
        """The lines of its file."""
        lines = [*super().lines(), "machine:", f"  start: {quoted(self.start)}"]
        lines += [f"  radix: {self.radix}"] if self.radix != 2 else []
        lines += ["  states:"]
        lines += [f"    {quoted(state)}: {quoted(char)}" for state, char in self.states.items()]
        lines += ["  edges:"]
        for state, edges in self.edges.items():
            pairs = ", ".join(f"{quoted(char)}: {quoted(to)}" for char, to in edges.items())
            lines.append(f"    {quoted(state)}: {{{pairs}}}")
        return lines
