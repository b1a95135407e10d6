"""From suffix rules to weights: the longest pattern that the text ends in decides what comes next.

    chars: abc
    block_size: 8
    default: a
    rules:
      aabaab: c
      aa: b

The columns of the residual stream, for V characters, T places, and patterns of up to K characters:

    tok V | place T | back1 V | ... | back(K-1) V | out V

    tok     one-hot of the character at this place
    place   one-hot of the place
    backj   one-hot of the character j places back; of this one, where there is no such place
    out     zero at first; in the end one-hot of what comes next

How these columns become an answer, part by part:

wte, wpe    write tok and place.
ln_1        finds two ones in each row, and is neutral.
head j      place t asks for place t - j, and copies what stands in tok there into backj.
ln_2        finds K + 1 ones in each row, and is neutral.
up          has a unit for each pattern. It asks for the last character of the pattern in tok, the
            one before in back1, and so on, and is on where all of them are there. At the first
            places, where the pattern cannot fit, backj shows the same character again; there the
            unit is switched off.
down        The bias writes the default's answer into out. A unit that is on takes off the answer of
            the longest pattern that its own pattern ends in, or that of the default, and adds its
            own. The patterns that match are a chain, each the end of the next; so what they add up
            to is the answer of the longest. A unit that would change nothing is left out.
ln_f        finds K + 2 ones in each row, and is neutral.
lm_head     The logit of a character is SHARP times its column of out.

So the margin between the right logit and the others is the same in every context, and no number is
larger than SHARP * sqrt(D).
"""

import torch

from data.laws import Suffixes
from handmade.parts import (
    SHARP,
    Columns,
    Compiler,
    Handmade,
    check_size,
    last_characters,
    neutral_for,
    one_layer,
    reading,
    recognize,
)


def parent(rule: Suffixes, pattern: str) -> str:
    """The longest other pattern that `pattern` ends in; empty where there is none."""
    ends = (pattern[start:] for start in range(1, len(pattern)))
    return next((end for end in ends if end in rule.rules), "")


def units_of(rule: Suffixes) -> list[str]:
    """The patterns that change what the shorter ones say, and so need a unit."""
    answers = {"": rule.default, **rule.rules}
    return [pattern for pattern in rule.rules if answers[pattern] != answers[parent(rule, pattern)]]


def columns_of(rule: Suffixes) -> Columns:
    """The residual stream."""
    return last_characters(len(rule.chars), rule.block_size, rule.longest)


def compile_rule(rule: Suffixes) -> Handmade:
    """The model that answers as `rule` does, in every context: (GPTConfig, chars, state_dict).

    Raises ValueError when it would be too large.
    """
    columns, chars, patterns = columns_of(rule), rule.chars, units_of(rule)
    config = one_layer(columns, max(1, len(patterns)), rule.activation)
    check_size(config)
    weights = reading(config, columns)

    def writes(char: str) -> torch.Tensor:
        answer = torch.zeros(config.n_embd)
        answer[columns["out"][chars.index(char)]] = 1
        return answer

    answers = {"": rule.default, **rule.rules}
    for unit, pattern in enumerate(patterns):
        slots = ["tok", *(f"back{j}" for j in range(1, len(pattern)))]
        recognize(
            weights,
            0,
            unit,
            asks=[columns[s][chars.index(c)] for s, c in zip(slots, pattern[::-1], strict=True)],
            never=columns["place"][: len(pattern) - 1],
            adds=writes(answers[pattern]) - writes(answers[parent(rule, pattern)]),
            activation=config.activation,
        )
    weights["blocks.0.ffwd.down.bias"] += writes(rule.default)
    neutral_for(weights, "ln_f", ones=3 + config.n_head)
    weights["lm_head.weight"][range(len(chars)), columns["out"]] = SHARP
    return config, chars, weights


COMPILER = Compiler(compile_rule, columns_of, units_of)
