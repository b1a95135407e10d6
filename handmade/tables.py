"""What the units of a finite-state machine ask for and write: all of a layer, as tables of columns.

`handmade.machines` says what these are for, and turns them into weights.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from handmade.plans import Plan


@dataclass
class Units:
    """The units of a layer for the places that have so many stretches of text before them.

    rows: (N,) which of the feed-forward they are; of a pair, the first
    asks: (N, n) the columns that each asks for
    adds: (N,) the column that each adds a one to
    places: the places where they may be on
    """

    rows: Tensor
    asks: Tensor
    adds: Tensor
    places: list[int]


def asked(plan: Plan, layer: int, blocks: int) -> list[list[str]]:
    """The one-hots of each of so many stretches, the earliest first."""
    names = [to for to, _ in plan.copied(layer)[: blocks - 1]][::-1]
    return [plan.slots(name) for name in (*names, f"last{plan.strides[layer]}")]


def units_of(plan: Plan, layer: int) -> list[Units]:
    """The units of a layer, for each number of stretches."""
    found, before = [], 0
    for blocks, places in plan.blocks(layer).items():
        make = products if plan.found else ways
        new = make(plan, layer, blocks, places)
        new.rows += before
        before += plan.one_hot[1] ** blocks if plan.found else plan.one_hot[1] ** (blocks + 1)
        found.append(new)
    return found


def adds(plan: Plan, layer: int, results: Tensor) -> Tensor:
    """The columns for `results`, numbers of functions or, in the last layer, of states."""
    start = plan.columns[plan.written(layer)].start
    if plan.written(layer) != "out":
        return start + results
    answers = [plan.rule.chars.index(answer) for answer in plan.rule.states.values()]
    return start + torch.tensor(answers)[results]


def products(plan: Plan, layer: int, blocks: int, places: list[int]) -> Units:
    """A unit for each combination of what the stretches do, which writes what they do one after
    the other."""
    columns = [plan.columns[slot] for [slot] in asked(plan, layer, blocks)]
    each = torch.cartesian_prod(*[torch.arange(len(plan.found))] * blocks).view(-1, blocks)
    product = each[:, 0]
    for block in range(1, blocks):
        product = plan.after[product, each[:, block]]
    if plan.written(layer) == "out":
        product = torch.tensor(list(plan.found))[product, plan.start]
    asks = each + torch.tensor([column.start for column in columns])
    return Units(torch.arange(len(each)), asks, adds(plan, layer, product), places)


def ways(plan: Plan, layer: int, blocks: int, places: list[int]) -> Units:
    """A unit for each way through as many states as there are stretches, and one more."""
    Q, names = len(plan.rule.states), asked(plan, layer, blocks)
    way = torch.cartesian_prod(*[torch.arange(Q)] * (blocks + 1))  # (N, blocks + 1) of states
    starts = [torch.tensor([plan.columns[slot].start for slot in slots]) for slots in names]
    asks = [start[way[:, k]] + way[:, k + 1] for k, start in enumerate(starts)]
    rows, result = torch.arange(len(way)), way[:, 0] * Q + way[:, -1]
    if plan.written(layer) == "out":
        rows = (way[:, 0] == plan.start).nonzero()[:, 0]
        result = way[rows, -1]
    return Units(rows, torch.stack(asks, 1)[rows], adds(plan, layer, result), places)
