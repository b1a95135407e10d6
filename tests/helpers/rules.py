"""Any rule, and its model."""

import random

import handmade
from data.laws import Copying, Law, Suffixes
from model import GPT

LONGEST = {1: 8, 2: 7, 3: 5, 4: 4}  # windows whose contexts are soon tried
ABC = Suffixes("abc", 8, "a", {"aabaab": "c", "aa": "b"})


def draw_rule(rng: random.Random) -> Law:
    """Any alphabet in any order, window, patterns, answers, default, activation."""
    V = rng.randint(1, 4)
    chars = "".join(rng.sample("abcdé\n", V))
    T = rng.randint(2, LONGEST[V])
    if rng.random() < 0.2:
        return Copying(chars, T)
    patterns = {
        "".join(rng.choices(chars, k=rng.randint(1, T))): rng.choice(chars)
        for _ in range(rng.randint(1, 10))
    }
    return Suffixes(chars, T, rng.choice(chars), patterns, rng.choice(["relu2", "gelu_tanh"]))


def build(rule: Law) -> GPT:
    config, chars, weights = handmade.compiled(rule)
    assert chars == rule.chars
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    return model.eval()
