"""The models whose weights are set by hand, by their names, and what each is to do."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from data import aab, corpus, rules
from data.addition import Addition
from data.corpus import Corpus
from data.laws import Copying, Law, Suffixes
from data.machines import Machine
from data.rules import RuleTask
from handmade.addition import COMPILER as ADDITION
from handmade.copying import COMPILER as COPYING
from handmade.machines import COMPILER as MACHINE
from handmade.ngram import BLOCK_SIZE, compile_ngrams
from handmade.parts import Compiler, Handmade
from handmade.published import new_head, one_head, two_head
from handmade.suffixes import COMPILER as SUFFIXES
from handmade.widen import widen
from system import config
from system.checkpoint import Checkpoint
from system.errors import UserError
from system.settings import DataConfig

PREFIX = "handmade:"  # of a hand-set model's name, where a path could stand too
GPT2 = "gelu_tanh"  # its activation

MODELS: dict[str, tuple[Callable[..., Handmade], aab.Task]] = {
    "one-head": (one_head, aab.AAB),
    "new-head": (new_head, aab.THIRD_BACK),
    "two-head": (two_head, aab.BOTH),
}
COMPILERS: dict[type[Law], Compiler] = {
    Suffixes: SUFFIXES,
    Copying: COPYING,
    Machine: MACHINE,
    Addition: ADDITION,
}
NGRAM = "ngram"  # the name of the model that is made of a text's counts


def read_text(dataset: str, window: int = BLOCK_SIZE) -> Corpus:
    """The text whose n-grams become a model. Raises UserError."""
    place, scratch = torch.device("cpu"), Path(".ids.ngram.bin")
    return corpus.load(DataConfig(dataset), window, place, chars=None, scratch=scratch)


def load_ngrams(
    dataset: str, order: int, *, window: int = BLOCK_SIZE, portable: bool = False
) -> Checkpoint:
    """The n-grams of the training split of `dataset` as a model; portable as in `load`.

    Raises UserError.
    """
    text = read_text(dataset, window)
    activation = GPT2 if portable else "relu2"
    try:
        made = compile_ngrams(text.train, text.tokenizer.chars, order, window, activation)
        made = widen(made) if portable else made
    except ValueError as error:
        raise UserError(f"--handmade {NGRAM}: {error}") from None
    settings = {"data": {"dataset": dataset}, "train": {"dtype": "float32"}}
    return Checkpoint(*made, settings, text.fingerprint, optimizer=[], progress={"step": 0})


def compiled(rule: Law) -> Handmade:
    """The weights of `rule`. Raises ValueError when the model would be too large."""
    return COMPILERS[type(rule)].weights(rule)


def rule_of(name: str, window: int | None = None) -> Law | None:
    """The rule in the file `name`, for another window where one is given; None where `name` is a
    published model. Raises UserError."""
    if name in MODELS:
        return None
    try:
        rule = rules.read(name)
    except UserError as error:
        there = ", ".join((*MODELS, *rules.examples()))
        wanted = f"there is no hand-set model {config.show(name)}"
        message = f"{wanted}; there are {there}, or give a rule file"
        absent = "there is no rule file" in str(error) and not rules.is_path(name)
        raise UserError(message if absent else str(error)) from None
    return rule if window is None else rule.within(window)


def task_of(name: str) -> aab.Task | RuleTask:
    """What the hand-set model called `name` is to do. Raises UserError."""
    rule = rule_of(name)
    return MODELS[name][1] if rule is None else RuleTask(rule)


def load(name: str, *, window: int | None = None, portable: bool = False) -> Checkpoint:
    """The hand-set model called `name`, or of the rule file `name`, as what a checkpoint gives.

    window: places of the context, where not those that the model or the rule has
    portable: whether it is to have the activation and the widths of GPT-2

    Raises UserError.
    """
    rule, sizes = rule_of(name, window), () if window is None else (window,)
    if portable and isinstance(rule, Suffixes):
        rule = dataclasses.replace(rule, activation=GPT2)
    try:
        made = MODELS[name][0](*sizes) if rule is None else compiled(rule)
        made = widen(made) if portable else made
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    settings = {"train": {"dtype": "float32"}}  # such large logits are exact in no other
    return Checkpoint(*made, settings, "", optimizer=[], progress={"step": 0})


def legend(name: str) -> tuple[list[str], list[str] | None]:
    """Names of the residual stream's columns and of the feed-forward's units in the model called
    `name`; None where the units do nothing. Raises UserError."""
    rule = rule_of(name)
    if rule is None:
        places = range(MODELS[name][0]()[0].block_size)
        return [*(f"P{t}" for t in places), "a", "b", "v", "+", "-"], None
    kind = COMPILERS[type(rule)]
    return kind.columns(rule).names(rule.chars), kind.units(rule) or None
