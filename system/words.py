"""The words of a command line, sorted before argparse reads them.

argparse guesses where this does not: whether the word after `--resume` is a path or a setting, and
whether one that begins with a dash is a value. And where something is wrong, it names no remedy.
"""

from __future__ import annotations  # see system/versions.py

import argparse
import os
import re
from collections.abc import Sequence
from typing import NoReturn

from system.errors import UserError, show
from system.hints import Known, pasted, refusal, usage

HELP = ("-h", "--help")


class Words:
    """The words `argv` of the command line that `parser` describes.

    settings: those that may be changed by a word such as train.seed=2; none where it takes no words
    """

    def __init__(
        self, parser: argparse.ArgumentParser, settings: Sequence[str], argv: Sequence[str]
    ) -> None:
        actions = parser._actions
        self.known = Known(parser._option_string_actions, settings)
        self.required = [a for a in actions if a.option_strings and a.required]
        self.takes_words = any(not action.option_strings for action in actions)
        self.waiting = [*argv]
        self.latest = ("", "")  # what came last, if it could go on: `--prompt ` and its value

    def sorted(self) -> list[str]:
        """The options, each with its value, then `--` and the other words.

        Raises UserError, one sentence that names the word and the remedy.
        """
        options, others, given, dashes = [], [], [], False
        if any(word in HELP for word in self.before_dashes()):
            return ["--help"]
        while self.waiting:
            word = self.waiting.pop(0)
            if word == "--":
                dashes = True
            elif not dashes and self.is_option(word):
                name, equals, value = word.partition("=")
                action = self.option(name, value if equals else None)
                options += self.given(action, name, value if equals else None)
                given.append(action)
            else:
                self.check(word)
                others.append(word)
        if missing := next((a for a in self.required if a not in given), None):
            raise UserError(f"{usage(missing)} is missing; it is the {missing.help}")
        return [*options, "--", *others] if others else options

    def before_dashes(self) -> list[str]:
        """The words before `--`, behind which nothing is an option."""
        return self.waiting[: self.waiting.index("--")] if "--" in self.waiting else self.waiting

    def is_option(self, word: str) -> bool:
        """Whether `word` begins as an option does, and is no number and no text with blanks."""
        if word.partition("=")[0] in self.known.options:
            return True
        return word[:1] == "-" != word and " " not in word and not is_number(word)

    def is_setting(self, word: str) -> bool:
        """Whether `word` is a setting, or means to be one, and not the name of a file."""
        name, equals, _ = word.partition("=")
        if not equals:
            return word in self.known.settings
        form = self.known.settings and re.fullmatch(r"(\w+)\.\w+", name)
        sections = {setting.partition(".")[0] for setting in self.known.settings}
        return bool(form) and (form[1] in sections or not os.path.lexists(word))

    def next_value(self) -> str | None:
        """The next word, unless it is an option or there is none."""
        return None if not self.waiting or self.is_option(self.waiting[0]) else self.waiting[0]

    def option(self, name: str, value: str | None) -> argparse.Action:
        """The option called `name`. Raises UserError when there is none."""
        if name in self.known.options:
            return self.known.options[name]
        value = self.next_value() if value is None else value
        hint = self.known.for_option(name, value)
        raise UserError(f"{show(name)} is no option; {hint}")

    def given(self, action: argparse.Action, name: str, value: str | None) -> list[str]:
        """An option with its values: the one behind its equals sign, or the words that follow."""
        self.latest = ("", "")
        if action.nargs == 0:
            if value is not None:
                raise UserError(f"{name} takes no value; write {name} alone, not {name}={value}")
            return [name]
        values = [value] if value is not None else self.take(action)
        if not values and (action.nargs != "?" or self.meets_a_dash()):
            self.miss_value(action, name)
        if action.nargs == "?" and values == [""]:
            raise UserError(f"{name} has an empty value; write {usage(action)}, or {name} alone")
        for each in values:
            if wrong := refusal(action, name, each):
                raise UserError(wrong)
        if len(values) != 1:
            return [name, *values]
        if action.metavar == "TEXT":
            self.latest = (f"{name} ", values[0])
        return [f"{name}={values[0]}"]

    def take(self, action: argparse.Action) -> list[str]:
        """The words that follow an option and are its values."""
        taken: list[str] = []
        most = len(self.waiting) if action.nargs == "+" else 1
        while len(taken) < most and (word := self.next_value()) is not None:
            if action.nargs == "?" and self.is_setting(word):
                break
            taken.append(self.waiting.pop(0))
        return taken

    def meets_a_dash(self) -> bool:
        """Whether the next word begins as an option does, but is like none that there is."""
        name = self.waiting[0].partition("=")[0] if self.waiting else "--"
        unknown = name[:1] == "-" and name not in ("--", *self.known.options)
        return unknown and not self.known.meant(name, None)

    def miss_value(self, action: argparse.Action, name: str) -> NoReturn:
        """Raise the UserError of an option that ends the line, or is followed by a dash."""
        if not self.waiting:
            raise UserError(f"{name} takes a value; write {usage(action)}")
        word = self.waiting[0]
        joined = pasted(f"{name}=", word)
        if word.partition("=")[0] in ("--", *self.known.options):
            raise UserError(f"{name} takes a value; write {usage(action)}, or {joined}")
        raise UserError(f"{name} is followed by a word that begins with a dash; write {joined}")

    def check(self, word: str) -> None:
        """Raise UserError unless `word`, which follows no option, may be there."""
        name, equals, value = word.partition("=")
        known, (before, begun) = self.known, self.latest
        if self.takes_words and (not known.settings or (equals and "." in name)):
            self.latest = (f"{name}=", value)
            return
        rest = [word]
        while (following := self.next_value()) is not None and not self.is_setting(following):
            rest.append(self.waiting.pop(0))
        text = " ".join([begun, *rest] if begun else rest)
        if word in known.settings or "".join(rest[1:2]).startswith("="):
            hint = known.for_option(word, next((r.lstrip("=") for r in rest[1:] if r != "="), None))
        elif before and (before[0] == "-" or not begun or os.path.lexists(text)):
            hint = f"write {pasted(before, text)}"
        else:
            hint = known.for_word(word)
        wrong = "is not of the form section.key=value" if known.settings else "belongs to no option"
        raise UserError(f"{show(word)} {wrong}; {hint}")


def is_number(word: str) -> bool:
    """Whether `word` is one; a negative one is a value, although it begins with a dash."""
    try:
        float(word)
    except ValueError:
        return False
    return True
