"""From counting to weights: a text's n-grams as a GPT that nobody trained.

`data.ngrams` says what follows what in a text, smoothed (Kneser & Ney 1995). Here that becomes the
weights of one layer. It is what `suffixes` does, with log-probabilities in place of one-hots: a
context is a pattern, and its answer is how likely each character is after it. The columns of the
residual stream, for V characters, T places, and contexts of up to K characters:

    tok V | place T | back1 V | ... | back(K-1) V | out V | + | -

wte ... up  as in `suffixes`: there is a unit for each context that the text has, and it is on where
            the text ends in it.
down        The bias writes into out how likely each character is anywhere, as logarithms. A unit
            that is on adds log p(. | its context) - log p(. | its context without the first
            character). The contexts that the text ends in are a chain, so what they add up to is
            log p(. | the longest one that was seen), as Kneser and Ney have it.
ln_f        out is no one-hot now, so rows differ in mean and variance. The bias of down also writes
            ANCHOR and -ANCHOR into the last two columns, which outweigh all else. With E the sum of
            the squares of what else is there, the scale is off by E / (4 ANCHOR^2), which is 2e-7
            for 65 logarithms around -8. What the mean is off by is the same in every column, and
            changes no probability.
lm_head     The logit of a character is its column of out.
"""

import bisect
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from data.counts import count
from data.ngrams import Ngrams
from handmade.parts import (
    GAIN,
    MOST_WEIGHTS,
    ON,
    Columns,
    Handmade,
    last_characters,
    neutral,
    one_layer,
    reading,
)
from model import Activation

ANCHOR = 2.0**16
BLOCK_SIZE = 64  # places of the window


def columns_of(V: int, T: int, longest: int) -> Columns:
    """The residual stream for contexts of up to `longest` characters."""
    return last_characters(V, T, longest, anchors=2)


def sizes(contexts: list[int], V: int, T: int) -> list[int]:
    """How many weights the model has for contexts of up to 1, 2, ... characters, of which there are
    so many of each length."""
    found, units = [], 0
    for longest, more in enumerate(contexts, start=1):
        units += more
        C, heads, D = columns_of(V, T, longest).total, max(1, longest - 1), max(T, V)
        matrices = C * (2 * V + T + 4 * heads * D + 2 * units)
        found.append(matrices + 3 * heads * D + C + units + C + 6 * C)
    return found


def check_alphabet(V: int, T: int) -> None:
    """Raise ValueError where V characters are too many for the lowest order, and so for any."""

    def smallest(V: int) -> int:
        return sizes([V], V, T)[0]

    if smallest(V) > MOST_WEIGHTS:
        fitting = bisect.bisect_right(range(V), MOST_WEIGHTS, key=smallest) - 1
        raise ValueError(
            f"the alphabet of {V:,} characters is too large: even order 2 would be a model of "
            f"{smallest(V):,} weights, more than {MOST_WEIGHTS:,}; order 2 fits a text of up to "
            f"{fitting:,} distinct characters"
        )


def distributions(counts: Ngrams) -> Iterator[tuple[Tensor, Tensor]]:
    """For contexts of 1, 2, ... characters: the characters, (N, k), and log p(. | context) minus
    that of the context without its first character, (N, V)."""
    characters = torch.zeros(1, 0, dtype=torch.long)
    for k, (shorter, longer) in enumerate(counts.distributions()):
        if k > 0:
            above, last = counts.grams(k)
            characters = torch.cat((characters[above], last[:, None]), dim=1)
            yield characters, longer.log() - shorter.log()


def compile_ngrams(
    ids: Tensor,
    chars: str,
    order: int,
    block_size: int = BLOCK_SIZE,
    activation: Activation = "relu2",
) -> Handmade:
    """The model of the n-grams of ids (N,), of up to `order` characters: (GPTConfig, chars,
    state_dict).

    Raises ValueError, before anything is built, when it would be too large, or the text too short.
    """
    V, T = len(chars), block_size
    if not 2 <= order <= T:
        raise ValueError(f"the order must lie between 2 and {T}, not {order}")
    check_alphabet(V, T)
    levels = count([ids.numpy().astype(np.int64)], V, order)
    if len(levels) < order:
        raise ValueError(f"the text has no {order} characters; take a lower order")
    weights_of = sizes([len(level.codes) for level in levels[:-1]], V, T)
    if weights_of[-1] > MOST_WEIGHTS:
        fitting = [k for k, size in enumerate(weights_of, start=2) if size <= MOST_WEIGHTS]
        raise ValueError(
            f"order {order} would be a model of {weights_of[-1]:,} weights, more than "
            f"{MOST_WEIGHTS:,}; order {fitting[-1]} fits"
        )
    counts, longest = Ngrams(levels, vocab_size=V), order - 1
    units = sum(len(level.codes) for level in levels[:-1])
    columns = columns_of(V, T, longest)
    config = one_layer(columns, units, activation)
    weights = reading(config, columns)

    up, down = (weights[f"blocks.0.ffwd.{part}.weight"] for part in ("up", "down"))
    bias, gain, first = weights["blocks.0.ffwd.up.bias"], GAIN[activation], 0
    out = columns["out"]
    slots = torch.tensor([columns["tok"][0], *(columns[f"back{j}"][0] for j in range(1, longest))])
    for characters, adds in distributions(counts):
        N, k = characters.shape
        rows = torch.arange(first, first + N)
        up[rows[:, None], slots[:k] + characters.flip(1)] = gain
        up[first : first + N, columns["place"][: k - 1]] = -gain
        bias[first : first + N] = -gain * (k - 0.5)
        down[out.start : out.stop, first : first + N] = adds.T / ON[activation]
        first += N

    always = weights["blocks.0.ffwd.down.bias"]
    always[out] = counts.whole[counts.starts[0]].log()  # after nothing
    always[columns["anchors"]] = torch.tensor([ANCHOR, -ANCHOR])
    neutral(weights, "ln_f", mean=0, variance=2 * ANCHOR**2 / config.n_embd)
    weights["lm_head.weight"][range(V), out] = 1
    return config, chars, weights
