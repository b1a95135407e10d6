"""Finite-state machines, followed layer by layer: what a place knows of the text before it.

That the units are the right ones is a matter of whole numbers: `check` goes through all that they
ask for and write. That the weights are such units is a matter of bounds: `proof.units`.
"""

import torch
from torch import Tensor, nn

from data.machines import Machine
from handmade import tables
from handmade.plans import Plan, plan_of
from handmade.tables import Units
from model import GPT, Block
from proof.attention import astray_back, attended
from proof.bounds import UNIT, Followed, Stream, Unproved, embedded, largest, rounding
from proof.units import Written

CHUNK = 1 << 21  # weights that are looked at together


def need(holds: bool | Tensor, what: str) -> None:
    """Raise Unproved unless it holds."""
    if not holds:
        raise Unproved(f"the units are not those of the machine: {what}")


def read(plan: Plan) -> Tensor:
    """What the embedding of each character should write, (V, C)."""
    rule, states = plan.rule, list(plan.rule.states)
    start = plan.columns["last1"].start
    found = torch.zeros(len(rule.chars), plan.columns.total, dtype=torch.float64)
    for v, char in enumerate(rule.chars):
        after = [states.index(rule.edges[state][char]) for state in states]
        if plan.found:
            found[v, start + list(plan.found).index(tuple(after))] = 1
        else:
            found[v, [start + len(states) * q + to for q, to in enumerate(after)]] = 1
    return found


def check(plan: Plan, layer: int, units: list[Units]) -> None:
    """Raise Unproved unless the units of a layer join what the stretches before a place do."""
    stride, radix, T = plan.strides[layer], plan.rule.radix, plan.rule.block_size
    need(sorted(t for each in units for t in each.places) == list(range(T)), "places")
    rows = torch.cat([each.rows for each in units])
    need(len(rows.unique()) == len(rows), "rows")
    last, columns = plan.written(layer) == "out", plan.columns
    need(stride * radix >= T if last else stride * radix == plan.strides[layer + 1], "stretches")
    for each in units:
        blocks = each.asks.shape[1]
        for t in each.places:  # the stretches before it are there, and reach back far enough
            enough = blocks == radix or t < blocks * stride
            need((blocks - 1) * stride <= t and enough, f"{blocks} stretches at place {t}")
        distances = [stride * block for block in range(blocks - 1, 0, -1)]
        names = [*(f"back{distance}" for distance in distances), f"last{stride}"]
        starts = torch.tensor([columns[name].start for name in names])
        written = each.adds - columns[plan.written(layer)].start
        (check_products if plan.found else check_ways)(plan, each.asks - starts, written, last)


def check_products(plan: Plan, asks: Tensor, written: Tensor, last: bool) -> None:
    """asks (N, n) are all combinations of functions, and `written` (N,) is what each comes to."""
    maps = torch.tensor(list(plan.found))  # (M, Q)
    (N, n), (M, Q) = asks.shape, maps.shape
    need(len(maps.unique(dim=0)) == M, "functions")
    number = sum(asks[:, block] * M ** (n - 1 - block) for block in range(n))
    within = N == M**n and bool((asks >= 0).all() and (asks < M).all())
    need(within and len(number.unique()) == N, "combinations")
    state = torch.arange(Q).expand(N, Q)
    for block in range(n):
        state = maps[asks[:, block]].gather(1, state)
    right = ends(plan, state[:, plan.start]) == written if last else maps[written] == state
    need(right.all(), "what they write")


def check_ways(plan: Plan, asks: Tensor, written: Tensor, last: bool) -> None:
    """asks (N, n) are all ways from state to state, and `written` (N,) is where each leads."""
    Q, (N, n) = len(plan.rule.states), asks.shape
    before, after = asks // Q, asks % Q  # (N, n): the states of each stretch
    need((after[:, :-1] == before[:, 1:]).all(), "ways")
    way = torch.cat((before[:, :1], after), dim=1)  # (N, n + 1)
    within = N == (Q**n if last else Q ** (n + 1)) and bool((asks >= 0).all())
    need(within and len(way.unique(dim=0)) == N, "combinations")
    need(not last or (way[:, 0] == plan.start).all(), "where they start")
    result = ends(plan, way[:, -1]) if last else way[:, 0] * Q + way[:, -1]
    need((result == written).all(), "what they write")


def ends(plan: Plan, states: Tensor) -> Tensor:
    """What the states write, as ids."""
    rule = plan.rule
    return torch.tensor([rule.chars.index(rule.states[name]) for name in rule.states])[states]


def joined(block: Block, stream: Stream, plan: Plan, layer: int) -> tuple[Stream, float]:
    """The stream behind the units of a layer, and how many times as far the columns in front of
    them might be off before one is on that should be off, or the other way round. Raises
    Unproved."""
    ffwd, normed, C = block.ffwd, stream.normed(block.ln_2), stream.off.shape[1]
    written, units = Written(ffwd, normed), tables.units_of(plan, layer)
    check(plan, layer, units)
    F = len(ffwd.up.bias)
    shifts = (0, F // 2) if plan.pairs else (0,)
    idle = torch.ones(F, dtype=torch.bool)
    for each in units:
        idle[torch.cat([each.rows + shift for shift in shifts])] = False
        some = [values.split(max(1, CHUNK // C)) for values in (each.rows, each.asks, each.adds)]
        for rows, asks, adds in zip(*some, strict=True):
            written.add(Units(rows, asks, adds, each.places), shifts)
    for rows in idle.nonzero()[:, 0].split(max(1, CHUNK // C)) if idle.any() else ():
        written.stray += ffwd.down.weight[:, rows].abs() @ largest(ffwd, normed, rows)
    name = plan.written(layer)
    slots = [*stream.slots, *plan.columns.parts(name)]
    beside = plan.one_hot[0] * written.spilled + ffwd.down.bias.abs()
    rounded = rounding(plan.one_hot[0] * len(shifts) + 4)
    off = stream.off + beside * (1 + rounded) + 3 * written.stray
    off[1] += (2 * UNIT) * (off[1] > stream.off[1])  # added to what is there
    fresh = list(plan.columns[name])
    off[1, fresh] = off[0, fresh] + (written.apart + rounded * written.size)[fresh]
    return Stream(stream.columns, slots, off * (1 + 2 * UNIT)), written.slack


def follow(model: GPT, rule: Machine) -> Followed:
    """Follow a model that was compiled from `rule`. Raises Unproved."""
    plan = plan_of(rule)
    stream = embedded(model, plan.columns, read(plan), plan.slots("last1"))
    attention, columns, allowed = 0.0, 0.0, 0.5
    for layer, block in enumerate(model.blocks):
        need(isinstance(block.ffwd.act, nn.GELU), "their activation")
        copied, normed = plan.copied(layer), stream.normed(block.ln_1)
        heads = zip(block.attn.heads, copied, strict=False)  # the others are idle
        astray = [astray_back(head, normed, by) for head, (_, by) in heads]
        targets, source = [to for to, _ in copied], f"last{plan.strides[layer]}"
        stream = attended(block, stream, targets, astray, source)
        off = stream.normed(block.ln_2).off.max().item()
        stream, slack = joined(block, stream, plan, layer)
        attention, columns = max(attention, *astray, 0.0), max(columns, off)
        allowed = min(allowed, slack * off)
    return Followed(stream, attention, columns, allowed)
