"""Ways to break a hand-set model, each with the sentence that explains what one then sees."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from data.addition import CHARS, Addition
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from handmade import addition, suffixes
from handmade.parts import GAIN, SHARP
from handmade.plans import plan_of
from model import GPTConfig

Weights = dict[str, Tensor]
Edit = tuple[str, int, float]  # weight, place in it when it is laid out flat, new value


@dataclass
class Break:
    """A button: what it says, what it explains, and the weights that it sets."""

    title: str
    sentence: str
    edits: list[Edit]


def setting(weights: Weights, name: str, value: float, *at: int) -> list[Edit]:
    """Set one weight, or every one that is not zero where no place is given."""
    weight = weights[name]
    if at:
        place = 0
        for index, size in zip(at, weight.shape, strict=True):
            place = place * size + index
        return [(name, place, value)]
    return [(name, place, value) for place in weight.view(-1).nonzero()[:, 0].tolist()]


def published(config: GPTConfig, weights: Weights) -> list[Break]:
    """For the models of handmade/published.py."""
    a, b, _, plus, _ = range(config.block_size, config.block_size + 5)
    last, found = config.head_size - 1, []
    score = weights["blocks.0.attn.proj.bias"][a].item()
    held = (
        "Here the scores are 1024, which float32 still tells apart beside 400 million: the proof "
        "holds. Try the same on two-head, whose scores are 8 and 9."
        if score > 100
        else "But float32 keeps seven digits, and the scores of 8 stand beside 400 million. Look "
        "at the margins, then choose float64: they are tiny there too, but right."
    )
    for h in range(config.n_head):
        head, which = f"blocks.0.attn.heads.{h}", f" of head {h}" if config.n_head > 1 else ""
        sharp = weights[f"{head}.query.weight"].max().item() / math.sqrt(config.head_size)
        found += [
            Break(
                f"Query{which}: {sharp:g} → 0",
                "The head asks for no place, so it takes all of them alike. The mean of all "
                "characters now stands where the mean of two should: what comes next depends on "
                "how many a there are, not on where they are.",
                setting(weights, f"{head}.query.weight", 0.0),
            ),
            Break(
                f"Turn the sign of b{which}",
                "b hands over +1, as a does. The mean is +1 whatever the head looks at, so this "
                "head says after every context what it should only say after the right ones.",
                setting(weights, f"{head}.value.weight", 1.0, last, b),
            ),
        ]
    return [
        *found,
        Break(
            "Take the bias of a away",
            "a is no longer the answer unless something speaks for b. Where the characters that "
            "the head looks at cancel, the token that still stands in the columns a and b decides.",
            setting(weights, "blocks.0.attn.proj.bias", 0.0, a),
        ),
        Break(
            "Let ln_1 scale: weight → 1",
            "LayerNorm is no longer the identity. It makes every number larger, scores and values "
            "alike, and leaves the bias that should put the mean back too small beside them.",
            [("blocks.0.ln_1.weight", i, 1.0) for i in range(config.n_embd)],
        ),
        Break(
            "One anchor times 100",
            "The anchors no longer cancel. ln_f finds a spread almost seventy times as large and "
            "shrinks both scores by as much. In exact arithmetic their order stays. " + held,
            setting(
                weights,
                "blocks.0.attn.proj.bias",
                100 * weights["blocks.0.attn.proj.bias"][plus].item(),
                plus,
            ),
        ),
    ]


def of_suffixes(rule: Suffixes, weights: Weights) -> list[Break]:
    """For a model that was compiled from suffix rules."""
    patterns = suffixes.units_of(rule)
    if not patterns:
        return []
    longest = max(patterns, key=len)
    name = longest.replace("\n", "↵")
    unit, gain = patterns.index(longest), GAIN[rule.activation]
    bias = weights["blocks.0.ffwd.up.bias"][unit].item()
    down = weights["blocks.0.ffwd.down.weight"]
    forget = [
        ("blocks.0.ffwd.down.weight", row * down.shape[1] + unit, 0.0) for row in range(len(down))
    ]
    found = [
        Break(
            f"Forget {name}",
            f"What the unit of {name} adds is gone. After it comes what the longest other "
            "pattern says, or the default.",
            forget,
        ),
        Break(
            f"Let {name} be content with one character less",
            f"The threshold of the unit of {name} is one lower, so that it is on where all of "
            "its characters but one are there, and more strongly on where all are.",
            [("blocks.0.ffwd.up.bias", unit, bias + gain)],
        ),
        Break(
            "ln_2 without its bias",
            "LayerNorm takes the mean off and nothing puts it back. Every column is a little too "
            "low, and the units that ask for many columns miss their threshold first.",
            setting(weights, "blocks.0.ln_2.bias", 0.0),
        ),
    ]
    if max(map(len, patterns)) > 1:
        found.insert(
            0,
            Break(
                f"Query of head 0: {SHARP:g} → 0",
                "The head that reads the character before takes all places alike. back1 is no "
                "one-hot now but how often each character came so far, and the units that ask for "
                "it are only partly on.",
                setting(weights, "blocks.0.attn.heads.0.query.weight", 0.0),
            ),
        )
    return found


def of_copying(rule: Copying, weights: Weights) -> list[Break]:
    """For the model that copies."""
    return [
        Break(
            "Query of layer 0: → 0",
            "prev is now how often each character came so far. It no longer says which places come "
            "after the current character, so the latest place wins, and the current character is "
            "repeated.",
            setting(weights, "blocks.0.attn.heads.0.query.weight", 0.0),
        ),
        Break(
            "Layer 1 asks for no character",
            "Only the preference for late places is left, so the head looks at the current place, "
            "and the current character is repeated.",
            setting(weights, "blocks.1.attn.heads.0.query.weight", 0.0),
        ),
        Break(
            "Layer 1 does not prefer late places",
            "All places that come after the same character are taken alike, so the answer is a "
            "vote of what followed, and not what followed last. A new character finds no place, "
            "and takes all.",
            setting(weights, "blocks.1.attn.heads.0.query.bias", 0.0),
        ),
        Break(
            "Turn the sign of what layer 1 writes",
            "What should come next becomes the one character that cannot come.",
            setting(weights, "blocks.1.attn.proj.weight", -1.0),
        ),
    ]


def of_addition(rule: Addition, weights: Weights) -> list[Break]:
    """For a model that adds."""
    columns, up = addition.columns_of(rule), weights["blocks.0.ffwd.up.weight"]
    digits = slice(CHARS.index("0"), CHARS.index("9") + 1)
    lower = [slot for slot in (*addition.asked(rule), "tok") if slot not in ("a", "b", "a0", "b0")]
    carry = [column for slot in lower for column in columns[slot][digits]]
    names, size = addition.units_of(rule), up.shape[1]
    ten, way = names.index("sum 10: rises"), addition.GAIN[rule.order] * addition.scale(rule)
    bias = weights["blocks.0.ffwd.up.bias"]
    return [
        Break(
            "Forget what is carried",
            "Units read only the two digits of their own column. So sums stay right where nothing "
            "is carried, and nowhere else.",
            [
                ("blocks.0.ffwd.up.weight", unit * size + column, 0.0)
                for unit in range(len(names))
                for column in carry
            ],
        ),
        Break(
            "Put the step of 10 where that of 11 is",
            "A column that adds up to 10 still says 9. Columns that add up to less or more, and "
            "what they carry, are as before.",
            [("blocks.0.ffwd.up.bias", unit, bias[unit].item() - way) for unit in (ten, ten + 1)],
        ),
        Break(
            "Query of head 0: → 0",
            "The head that reads the first number takes all places alike. Its slot is no one-hot "
            "now but how often each character came so far, and what is added is their mean.",
            setting(weights, "blocks.0.attn.heads.0.query.weight", 0.0),
        ),
        Break(
            "ln_2 without its bias",
            "LayerNorm takes the mean off and nothing puts it back. Each column is only a little "
            "too low, but units add up many of them, and so all steps come too late.",
            setting(weights, "blocks.0.ln_2.bias", 0.0),
        ),
    ]


def of_machine(rule: Machine, weights: Weights) -> list[Break]:
    """For a model that was compiled from a finite-state machine."""
    plan, last = plan_of(rule), f"blocks.{len(plan_of(rule).strides) - 1}"
    stride, heads = plan.strides[-1], range(plan.heads[-1])
    blind = [setting(weights, f"{last}.attn.heads.{h}.query.weight", 0.0) for h in heads]
    found = [
        Break(
            "Queries of the last layer: → 0",
            "Its heads take all places alike, so what they copy is a mixture of what all stretches "
            f"do. The first {stride} places stay right: they have one stretch before them, and "
            "their units ask for no other.",
            [edit for edits in blind for edit in edits],
        ),
        Break(
            "Turn the sign of what the last layer writes",
            "What should come next becomes the one character that cannot come.",
            [
                (name, place, -value)
                for name in [f"{last}.ffwd.down.weight"]
                for place, value in enumerate(weights[name].view(-1).tolist())
                if value
            ],
        ),
    ]
    rows = weights["wte.weight"]
    other = next((v for v in range(1, len(rows)) if not rows[v].equal(rows[0])), None)
    if other is not None:
        one, two = rule.chars[other], rule.chars[0]
        found.append(
            Break(
                f"Let {one} do what {two} does",
                f"The embedding of {one} is now that of {two}. All other weights stay, so this is "
                f"the machine that takes each {one} for {two}.",
                [
                    ("wte.weight", other * rows.shape[1] + column, value)
                    for column, value in enumerate(rows[0].tolist())
                    if value != rows[other, column]
                ],
            )
        )
    return found


OF_KIND: dict[type[Law], Callable[[Law, Weights], list[Break]]] = {
    Suffixes: of_suffixes,
    Copying: of_copying,
    Machine: of_machine,
    Addition: of_addition,
}


def breaks(config: GPTConfig, weights: Weights, rule: Law | None) -> list[Break]:
    """For the hand-set model with these weights; rule is what it was compiled from, if it was."""
    return published(config, weights) if rule is None else OF_KIND[type(rule)](rule, weights)
