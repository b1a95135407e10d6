"""Any rule, and its model."""

import random

import handmade
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
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
    if rng.random() < 0.2:
        return draw_machine(rng, chars, T)
    patterns = {
        "".join(rng.choices(chars, k=rng.randint(1, T))): rng.choice(chars)
        for _ in range(rng.randint(1, 10))
    }
    return Suffixes(chars, T, rng.choice(chars), patterns, rng.choice(["relu2", "gelu_tanh"]))


def draw_machine(rng: random.Random, chars: str, T: int) -> Machine:
    """Any states, edges, answers, and a radix that is soon built."""
    states = rng.sample(["off", "on", "é: {", "1"], rng.randint(1, 3))
    edges = {state: {char: rng.choice(states) for char in chars} for state in states}
    answers = {state: rng.choice(chars) for state in states}
    radix = rng.randint(2, min(T, 3)) if len(states) < 3 else 2
    return Machine(chars, T, rng.choice(states), answers, edges, radix)


def build(rule: Law) -> GPT:
    config, chars, weights = handmade.compiled(rule)
    assert chars == rule.chars
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    return model.eval()
