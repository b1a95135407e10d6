"""From finite-state machines to weights: layer by layer, a place knows what more of the text does.

What a stretch of text does is a function: from the state before it to the state after it. Those of
two neighbours, one after the other, make that of both. So the first layer joins the functions of
`radix` characters, the next those of `radix` such stretches, and after ceil(log_radix T) layers a
place knows what the whole window does. The columns of the residual stream, for M functions and T
places, with radix 2:

    last1 M | place T | back1 M | last2 M | back2 M | last4 M | back4 M | ... | out V

    last1   one-hot of the function of the character at this place
    place   one-hot of the place
    backd   one-hot of what stands in last, of the layer's own stretch, d places back; of what
            stands there at this place, where there is no such place
    lastn   zero at first; then one-hot of the function of the last n characters, or of all
    out     zero at first; in the end one-hot of what comes next

wte, wpe    write last1 and place.
layer       Its stretches have s characters, one in layer 0, and s times the radix in the next. A
            head each looks s, 2s, ... places back. A unit for each combination of functions writes
            their product, that is what they do one after the other. The first places have fewer
            stretches before them than the radix: for each number of stretches there are units of
            their own, which are off at the places that have another number.
last layer  The units write what comes next in place of the function: what the state writes to which
            the window leads from `start`.
ln_*        find a known number of ones in each row, and are neutral.
lm_head     The logit of a character is SHARP times its column of out.

The functions are those that some text has: the letters' own, and all that these make one after the
other. There may be as many as Q^Q for Q states. Where they are too many, a place has Q one-hots in
their place, each for the state that one of the states leads to, and a unit for each way from a
state over a second to a third. That takes the radix 2.

A unit is a ramp: what its columns are off, and the more the larger the window is, is off in what it
writes. From layer to layer that grows, so in deep stacks units come in pairs, of which the second
is taken off the first: gelu(z + 8) - gelu(z - 8) is 16 for all z above 13.2, and 0 below -13.2.
"""

import torch

from data.machines import Machine
from handmade.parts import (
    GAIN,
    ON,
    SHARP,
    Columns,
    Compiler,
    Handmade,
    Weights,
    blank,
    look_back,
    neutral_for,
)
from handmade.plans import ACTIVATION, plan_of
from handmade.tables import Units, units_of

APART = 8.0  # of the thresholds of a pair from the middle


def switch(weights: Weights, layer: int, units: Units, columns: Columns, pairs: int) -> None:
    """Set units that recognize what they ask for: `parts.recognize`, for many at a time.

    pairs: how many rows further the second of a pair is; 0 where there are none
    """
    gain, on = GAIN[ACTIVATION], ON[ACTIVATION]
    up, bias, down = (
        weights[f"blocks.{layer}.ffwd.{part}"] for part in ("up.weight", "up.bias", "down.weight")
    )
    place = columns["place"]
    never = [column for t, column in enumerate(place) if t not in set(units.places)]
    sides = [(0, APART, 1), (pairs, -APART, -1)] if pairs else [(0, 0.0, 1)]
    for further, shift, sign in sides:
        rows = units.rows + further
        up[rows[:, None], units.asks] = gain
        up[rows[:, None], torch.tensor(never, dtype=torch.long)] = -gain
        bias[rows] = shift - gain * (units.asks.shape[1] - 0.5)
        down[units.adds, rows] = sign / on


def compile_rule(rule: Machine) -> Handmade:
    """The model that answers as `rule` does, in every context: (GPTConfig, chars, state_dict).

    Raises ValueError when it would be too large.
    """
    plan = plan_of(rule)
    config, columns, weights = plan.config, plan.columns, blank(plan.config)
    weights["wte.weight"].copy_(plan.read())
    weights["wpe.weight"][range(rule.block_size), columns["place"]] = 1
    one_hots, ones = plan.one_hot[0], 1 + plan.one_hot[0]
    for layer, stride in enumerate(plan.strides):
        neutral_for(weights, f"blocks.{layer}.ln_1", ones=ones)
        for head, (to, by) in enumerate(plan.copied(layer)):
            look_back(weights, layer, head, columns, to=to, by=by, source=f"last{stride}")
        ones += one_hots * plan.heads[layer]
        neutral_for(weights, f"blocks.{layer}.ln_2", ones=ones)
        for units in units_of(plan, layer):
            switch(weights, layer, units, columns, config.ffn_size // 2 if plan.pairs else 0)
        ones += 1 if plan.written(layer) == "out" else one_hots
    neutral_for(weights, "ln_f", ones=ones)
    weights["lm_head.weight"][range(config.vocab_size), columns["out"]] = SHARP
    return config, rule.chars, weights


COMPILER = Compiler(
    compile_rule, lambda rule: plan_of(rule).columns, lambda rule: plan_of(rule).names
)
