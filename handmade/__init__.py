"""The models whose weights are set by hand, by their names, and what each is to do."""

from collections.abc import Callable
from pathlib import Path

import torch

from data import aab, corpus, rules
from data.corpus import Corpus
from data.rules import Copying, Rule, RuleTask
from handmade.copying import columns_of as copying_columns
from handmade.copying import compile_copying
from handmade.ngram import BLOCK_SIZE, compile_ngrams
from handmade.parts import Handmade
from handmade.published import new_head, one_head, two_head
from handmade.suffixes import columns_of as suffixes_columns
from handmade.suffixes import compile_suffixes, telling
from system import config
from system.checkpoint import Checkpoint
from system.errors import UserError
from system.settings import DataConfig

PREFIX = "handmade:"  # of a hand-set model's name, where a path could stand too

MODELS: dict[str, tuple[Callable[[], Handmade], aab.Task]] = {
    "one-head": (one_head, aab.AAB),
    "new-head": (new_head, aab.Task("aabab", aab.third_back)),
    "two-head": (two_head, aab.Task("aabab", aab.both)),
}


NGRAM = "ngram"  # the name of the model that is made of a text's counts


def read_text(dataset: str) -> Corpus:
    """The text whose n-grams become a model. Raises UserError."""
    place, scratch = torch.device("cpu"), Path(".ids.ngram.bin")
    return corpus.load(DataConfig(dataset), BLOCK_SIZE, place, chars=None, scratch=scratch)


def load_ngrams(dataset: str, order: int) -> Checkpoint:
    """The n-grams of the training split of `dataset` as a model. Raises UserError."""
    text = read_text(dataset)
    try:
        model, chars, weights = compile_ngrams(text.train, text.tokenizer.chars, order)
    except ValueError as error:
        raise UserError(f"--handmade {NGRAM}: {error}") from None
    settings = {"data": {"dataset": dataset}, "train": {"dtype": "float32"}}
    return Checkpoint(
        model, chars, weights, settings, text.fingerprint, optimizer=[], progress={"step": 0}
    )


def compiled(rule: Rule) -> Handmade:
    """The weights of `rule`. Raises ValueError when the model would be too large."""
    return compile_copying(rule) if isinstance(rule, Copying) else compile_suffixes(rule)


def rule_of(name: str) -> Rule | None:
    """The rule in the file `name`; None where `name` is a published model. Raises UserError."""
    if name in MODELS:
        return None
    try:
        return rules.read(name)
    except UserError as error:
        there = ", ".join((*MODELS, *rules.examples()))
        wanted = f"there is no hand-set model {config.show(name)}"
        message = f"{wanted}; there are {there}, or give a rule file"
        absent = "there is no rule file" in str(error) and not rules.is_path(name)
        raise UserError(message if absent else str(error)) from None


def task_of(name: str) -> aab.Task | RuleTask:
    """What the hand-set model called `name` is to do. Raises UserError."""
    rule = rule_of(name)
    return MODELS[name][1] if rule is None else RuleTask(rule)


def load(name: str) -> Checkpoint:
    """The hand-set model called `name`, or of the rule file `name`, as what a checkpoint gives.

    Raises UserError.
    """
    rule = rule_of(name)
    try:
        model, chars, weights = MODELS[name][0]() if rule is None else compiled(rule)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    settings = {"train": {"dtype": "float32"}}  # such large logits are exact in no other
    return Checkpoint(model, chars, weights, settings, "", optimizer=[], progress={"step": 0})


def legend(name: str) -> tuple[list[str], list[str] | None]:
    """Names of the residual stream's columns and of the feed-forward's units in the model called
    `name`; None where the units do nothing. Raises UserError."""
    rule = rule_of(name)
    if rule is None:
        places = range(MODELS[name][0]()[0].block_size)
        return [*(f"P{t}" for t in places), "a", "b", "v", "+", "-"], None
    if isinstance(rule, Copying):
        return copying_columns(rule).names(rule.chars), None
    return suffixes_columns(rule).names(rule.chars), telling(rule) or None
