"""What someone meant who typed an option or a word that a command does not have."""

from __future__ import annotations  # see system/versions.py

import argparse
import difflib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from system.errors import show

ALIASES = {  # what other commands and other programs call it: what it may be called here
    "ckpt": ("resume", "train.init-from"),
    "checkpoint": ("ckpt", "resume", "train.init-from"),
    "resume": ("ckpt",),
    "data": ("data.dataset",),
    "out": ("to", "train.out-dir"),
    "start": ("prompt",),
    "lr": ("optim.learning-rate",),
    "max-iters": ("train.max-steps",),
}
RUN = ("--resume", "--ckpt")  # the options that the path of a run may belong to
LONE = ("--config", "--ckpt", "--to", "--handmade", "--prompt")  # and those that any other word may
LONGEST = 200  # characters of a value that a message repeats
MOST = 3  # suggestions


@dataclass(frozen=True)
class Known:
    """What a command has: options by their names, and settings such as train.seed, if it takes any.

    All that is suggested can be pasted as it is.
    """

    options: Mapping[str, argparse.Action]
    settings: Sequence[str]

    def for_option(self, name: str, value: str | None) -> str:
        """The end of a message about an unknown option, or a word such as seed=2."""
        return did_you_mean(self.meant(name, value))

    def for_word(self, word: str) -> str:
        """The end of a message about a word that belongs to no option."""
        name, equals, value = word.partition("=")
        if equals and not os.path.lexists(word):
            meant = self.meant(name, value)
            if not meant and not self.settings and re.fullmatch(r"\w+\.\w+", name):
                return "a model keeps the settings it was trained with; train.py takes others"
            return did_you_mean(meant)
        is_run = os.path.isdir(word) or word.endswith(".pt")  # noqa: PTH112 - a name may be long
        places = RUN if is_run else LONE
        return did_you_mean([pasted(f"{o} ", word) for o in places if o in self.options])

    def meant(self, name: str, value: str | None) -> list[str]:
        """What `name`, with or without dashes, may be, with its `value`, the likeliest first."""
        plain = name.lstrip("-").lower().replace("_", "-")
        there = {option.lstrip("-"): option for option in self.options if option[:2] == "--"}
        for setting in self.settings:
            spelled = setting.replace("_", "-")
            there |= {spelled: setting, spelled.partition(".")[2]: setting}
        close = [each for each in (plain, plain.rpartition(".")[2]) if each in there][:1]
        close = close or [each for each in ALIASES.get(plain, ()) if each in there]
        close = close or [each for each in there if len(plain) > 1 and each.startswith(plain)]
        close = close or difflib.get_close_matches(plain, there, n=1, cutoff=0.7)
        return [self.written(there[each], value) for each in close[:MOST]]

    def written(self, name: str, value: str | None) -> str:
        """An option or a setting with its value."""
        if name in self.settings:
            return pasted(f"{name}=", "VALUE" if value is None else value)
        action = self.options[name]
        if action.nargs == 0 or value is None:
            return usage(action)
        return pasted(f"{name}=" if value[:1] == "-" else f"{name} ", value)


def did_you_mean(suggestions: Sequence[str]) -> str:
    """The end of a message."""
    if not suggestions:
        return "--help lists what there is"
    return f"did you mean {' or '.join(suggestions)}?"


def usage(action: argparse.Action) -> str:
    """An option as --help writes it."""
    name = action.option_strings[-1]
    if action.nargs == 0:
        return name
    return f"{name} {action.metavar or '|'.join(map(str, action.choices or [action.dest.upper()]))}"


def pasted(name: str, value: str) -> str:
    """`name` and `value` as a shell takes them."""
    if len(value) > LONGEST or not value.isprintable():
        return f"{name}VALUE"
    return f"{name}{shlex.quote(value)}"


def refusal(action: argparse.Action, name: str, value: str) -> str | None:
    """Why `value` is none of the choices of an option, or not of its type; None if it is fine."""
    try:
        read = action.type(value) if action.type else value
    except argparse.ArgumentTypeError as error:
        return f"{name} {error}"
    except ValueError:
        kind = {int: "whole number", float: "number"}.get(action.type, action.type.__name__)
        return f"{name} is a {kind}, not {show(value)}"
    if action.choices and read not in action.choices:
        return f"{name} is one of {', '.join(map(str, action.choices))}, not {show(value)}"
    return None
