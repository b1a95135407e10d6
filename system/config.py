"""The run's settings: dataclasses <- YAML <- section.key=value, every bad value a ConfigError."""

import dataclasses
import difflib
import inspect
import math
import os
import re
import stat
import types
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from system import lists
from system.errors import UserError, looked_in, show
from system.settings import LARGEST_INT, Config

CONFIGS = Path(__file__).parent.parent / "configs"
LARGEST_FILE = 1 << 16  # bytes; settings are a page long, and PyYAML needs its time


class ConfigError(UserError):
    """A setting that is unknown, of the wrong type, out of range, or at odds with another."""


SECTIONS = get_type_hints(Config)  # name -> dataclass
ONE_OR_SEVERAL = str | list[str]  # how a setting is declared that may be a list


def settings_of(section: str) -> dict[str, dataclasses.Field]:
    """The fields of a section that a user may set, by name; vocab_size comes from the text."""
    fields = dataclasses.fields(SECTIONS[section])
    return {f.name: f for f in fields if f.name != "vocab_size"}


def coerce(value: Any, kind: Any, key: str) -> Any:
    """Turn what YAML or the command line gave for `key` into its type, or raise ConfigError.

    `kind` is bool, int, float, str, a Literal of strings, or one of these or None, or a number or
    a Literal, or one text or several.
    """
    if kind == ONE_OR_SEVERAL:
        if not isinstance(value, list):
            return coerce(value, str, key)
        if not value:
            raise ConfigError(f"{key} is an empty list; put the path of a text into it")
        return [coerce(each, str, f"each of {key}") for each in value]
    if get_origin(kind) in (types.UnionType, Union):
        number_kind, other = get_args(kind)
        if get_origin(other) is Literal:
            words = get_args(other)
            return value if value in words else number(value, number_kind, key, *words)
        if value is None or value in ("null", "~", ""):
            return None
        kind = number_kind
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise ConfigError(f"{key} is one of {', '.join(choices)}, not {show(value)}")
        return value
    if kind is bool:
        words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
        if str(value).lower() not in words:
            raise ConfigError(f"{key} is true or false, not {show(value)}")
        return words[str(value).lower()]
    if kind is str:
        if not isinstance(value, str) or not value or re.search("[\0\ud800-\udfff]", value):
            raise ConfigError(f"{key} is a text, not {show(value)}")
        return value
    return number(value, kind, key)


def number(value: Any, kind: type, key: str, *words: str) -> int | float:
    """An int or a finite float; `1e3` is an int too. A message names the `words` that do, too."""
    wanted = " or ".join(("a whole number" if kind is int else "a number", *words))
    try:
        if isinstance(value, bool):
            raise ValueError
        parsed = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ConfigError(f"{key} is {wanted}, not {show(value)}") from None
    if not math.isfinite(parsed) or (kind is int and parsed != int(parsed)):
        raise ConfigError(f"{key} is {wanted}, not {show(value)}")
    if kind is int and abs(parsed) > LARGEST_INT:
        raise ConfigError(f"{key} is a whole number up to {LARGEST_INT}, not {show(value)}")
    return kind(parsed)


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of a message about an unknown name: what it may have meant, or what there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def names() -> list[str]:
    """Every setting that a user may set, as section.key."""
    return [f"{section}.{key}" for section in SECTIONS for key in settings_of(section)]


def check_keys(layer: dict[str, Any]) -> None:
    """Raise ConfigError unless `layer` is {section: {key: value}} with names that exist."""
    for section, values in layer.items():
        if section not in SECTIONS:
            hint = nearest(str(section), list(SECTIONS))
            raise ConfigError(f"{show(section)} is no section; {hint}")
        if not isinstance(values, dict):
            raise ConfigError(f"section {section} holds keys and values, not {show(values)}")
        known = list(settings_of(section))
        for key in values:
            if section == "model" and key == "vocab_size":
                raise ConfigError("model.vocab_size comes from the text; leave it out")
            if key not in known:
                hint = nearest(f"{section}.{key}", names()) if len(str(key)) < 60 else "see --help"
                raise ConfigError(f"{show(f'{section}.{key}')} is no setting; {hint}")


class Loader(yaml.BaseLoader):
    """YAML whose scalars stay text, for `coerce` to read by type: no guessing, nothing is run."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Refuse explicit tags, which are how YAML asks for Python objects."""
        if not node.tag.startswith("tag:yaml.org,2002:") or "python" in node.tag:
            raise ConfigError(f"tag {show(node.tag)} is not allowed here; write plain values")
        return super().construct_object(node, deep)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        """Refuse keys that stand twice, of which YAML would silently take the last."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            twice = Counter(key.value for key, _ in node.value).most_common(1)[0][0]
            raise ConfigError(f"{show(twice)} stands twice; keep one")
        return mapping


def read_yaml(path: Path, *, holds: str = "sections such as model:") -> dict[str, Any]:
    """What stands in a settings file, its values still text. Raises ConfigError."""
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe or a device could be read for ever
            raise ConfigError("this is no ordinary file; copy the settings into one")
        if (size := about.st_size) > LARGEST_FILE:
            raise ConfigError(f"{size} bytes are too many for settings; is it the right file?")
        sections = Loader(path.read_bytes().decode()).get_single_data()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is not YAML: {reason}") from None
    if sections is not None and not isinstance(sections, dict):
        raise ConfigError(f"{path} holds {show(sections)}; it should hold {holds}")
    return without_empty(sections or {})


def without_empty(sections: dict[str, Any]) -> dict[str, Any]:
    """Leave out sections below which nothing is written."""
    return {section: values for section, values in sections.items() if values != ""}


def find(name: str) -> Path:
    """The settings file `name`: a path, or a plain name in configs/, with or without .yaml.

    Raises ConfigError when there is none.
    """
    places = [Path(name)]
    if Path(name).name == name != "..":  # with a folder in it, it is a path and nothing else
        places += [CONFIGS / name, CONFIGS / f"{name}.yaml"]
    for path in places:
        if os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises where a name is too long
            return path
    where = looked_in(name) if name.endswith((".yaml", ".yml")) else ""
    raise ConfigError(f"there is no settings file {show(name)}{where}; {available()}")


def available() -> str:
    """The end of a message: which settings files come along."""
    return f"configs/ has {', '.join(sorted(path.name for path in CONFIGS.glob('*.yaml')))}"


def parse_overrides(overrides: list[str]) -> dict[str, dict[str, Any]]:
    """`["train.seed=2"]` -> `{"train": {"seed": "2"}}`; of a key given twice the last counts.

    A setting that may be a list is one where it is written as `[a.txt,b]`, unless that is a file.
    """
    layer: dict[str, dict[str, Any]] = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        section, dot, name = key.partition(".")
        if not equals or not dot:
            raise ConfigError(f"{show(override)} is not of the form section.key=value")
        layer.setdefault(section, {})[name] = value
        kinds = get_type_hints(SECTIONS[section]) if section in SECTIONS else {}
        if kinds.get(name) == ONE_OR_SEVERAL and not os.path.lexists(value):
            layer[section][name] = lists.read(value)
    return layer


def build(*layers: dict[str, dict[str, Any]]) -> Config:
    """Settings from nested mappings, each laid over the ones before. Raises ConfigError."""
    merged: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    for layer in layers:
        check_keys(layer)
        for section, values in layer.items():
            merged[section] |= values
    sections = {}
    for section, values in merged.items():
        kinds = get_type_hints(SECTIONS[section])
        fixed = {"vocab_size": 1} if section == "model" else {}
        for key, value in values.items():
            fixed[key] = coerce(value, kinds[key], f"{section}.{key}")
        try:
            sections[section] = SECTIONS[section](**fixed)
        except ValueError as error:
            raise ConfigError(f"{section}.{error}") from None
    return Config(**sections)


def load(path: Path, overrides: list[str], *, use_gpu: bool) -> Config:
    """The file at `path`, its `cpu:` section unless it is `use_gpu`, then `section.key=value`s."""
    layer = read_yaml(path)
    cpu = layer.pop("cpu", {})
    try:
        if not isinstance(cpu, dict):
            raise ConfigError(f"section cpu holds sections, not {show(cpu)}")
        cpu = without_empty(cpu)
        build(layer, cpu)  # both halves are checked on every machine
        build(layer)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    written, asked = (layer, {} if use_gpu else cpu), parse_overrides(overrides)
    config = build(*written, asked)
    named, *others = ({*each.get("train", {})} for each in (asked, *written))
    config.train.limit(named, named.union(*others))
    return config


def to_yaml(config: Config) -> str:
    """The text of a settings file that says the same as `config`."""
    return yaml.safe_dump(config.to_dict(), sort_keys=False)


def describe() -> str:
    """Every setting with its default, meaning and choices, section by section, for --help."""
    lines = ["settings, each with its default; change one with section.key=value"]
    for section, cls in SECTIONS.items():
        about = inspect.cleandoc(cls.__doc__)
        lines += ["", f"{section}: {about.splitlines()[0]}"]
        meanings = re.findall(r"^(\w+): (.*)$", about, flags=re.MULTILINE)
        fields, kinds = settings_of(section), get_type_hints(cls)
        for name, meaning in meanings:
            if name in fields:
                value = yaml.safe_dump(fields[name].default).split()[0]
                choices = get_args(kinds[name]) if get_origin(kinds[name]) is Literal else ()
                listed = f" ({', '.join(choices)})" if choices else ""
                lines.append(f"  {f'{section}.{name}={value}':36}  {meaning}{listed}")
    return "\n".join(lines)
