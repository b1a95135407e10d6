"""Settings: their layers, types and ranges, and every bad value one sentence that names it."""

import dataclasses
import inspect
import os
import re
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import GPTConfig
from system import config, lists
from system.config import ConfigError
from system.settings import (
    LARGEST_INT,
    Config,
    DataConfig,
    MemoryConfig,
    OptimConfig,
    TrainConfig,
)
from tests.helpers.posix import needs_posix

FUZZ = int(os.environ.get("FUZZ", "600"))  # made-up files, and as many command lines
Read = Callable[..., Config]
KEYS = [
    f"{section}.{f.name}"
    for section, cls in get_type_hints(Config).items()
    for f in dataclasses.fields(cls)
    if f.name != "vocab_size"
]


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A function that loads the settings file with a given content."""
    path = tmp_path_factory.mktemp("settings") / "mine.yaml"

    def read(content: str | bytes, *overrides: str, use_gpu: bool = True) -> Config:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return config.load(path, list(overrides), use_gpu=use_gpu)

    return read


def value_of(settings: Config, key: str) -> object:
    """The value of `section.name`."""
    section, name = key.split(".")
    return getattr(getattr(settings, section), name)


# Layers

LAYERS = """
train: {seed: 22, max_steps: 220, batch_size: 24}
cpu:
  train: {max_steps: 330, batch_size: 36}
"""


@pytest.mark.parametrize(("use_gpu", "max_steps"), [(True, 220), (False, 330)])
def test_each_layer_lies_over_the_ones_before(read: Read, use_gpu: bool, max_steps: int) -> None:
    train = read(LAYERS, "train.batch_size=48", use_gpu=use_gpu).train
    assert train == TrainConfig(seed=22, max_steps=max_steps, batch_size=48)


def test_last_of_two_equal_overrides_counts(read: Read) -> None:
    assert read("", "train.seed=5", "train.seed=7").train.seed == 7


def test_override_keeps_what_follows_the_first_equals_sign(read: Read) -> None:
    assert read("", "data.dataset=a=b.c").data.dataset == "a=b.c"


@pytest.mark.parametrize("text", ["", "# nothing\n", "{}", "\ufeff", "train: {}"])
def test_file_without_settings_means_the_defaults(read: Read, text: str) -> None:
    assert read(text) == Config(
        GPTConfig(1), DataConfig(), OptimConfig(), MemoryConfig(), TrainConfig()
    )


@pytest.mark.parametrize("text", ["train:\n", "train:\n  # seed: 3\n", "cpu:\n", "cpu: {train: }"])
def test_empty_section_changes_nothing(read: Read, text: str) -> None:
    assert read(text, use_gpu=False) == read("")


@pytest.mark.parametrize("use_gpu", [True, False])
@pytest.mark.parametrize("path", sorted(config.CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_file_loads(path: Path, use_gpu: bool) -> None:
    assert isinstance(config.load(path, [], use_gpu=use_gpu), Config)


UNBOUND = LARGEST_INT
LENGTHS = [  # of the file, of its cpu section, asked for: minutes and max_steps
    ("minutes: 4, max_steps: 30", "", "", 4, 30),
    ("minutes: 4", "", "", 4, UNBOUND),
    ("minutes: 4", "max_steps: 40", "", 4, 40),
    ("max_steps: 30", "minutes: 5", "", 5, 30),
    ("minutes: 4, max_steps: 30", "minutes: null", "", None, 30),
    ("max_steps: 30", "", "", None, 30),
    ("", "", "", None, TrainConfig().max_steps),
    ("minutes: 4, max_steps: 30", "", "max_steps=9", None, 9),
    ("max_steps: 30", "minutes: 5", "max_steps=9", None, 9),
    ("minutes: 4, max_steps: 30", "", "minutes=10", 10, UNBOUND),
    ("max_steps: 30", "", "minutes=0.5", 0.5, UNBOUND),
    ("", "", "minutes=1e3", 1000, UNBOUND),
    ("minutes: 4, max_steps: 30", "", "minutes=10 max_steps=9", 10, 9),
    ("minutes: 4, max_steps: 30", "", "minutes=null", None, 30),
    ("minutes: 4", "", "minutes=null", None, TrainConfig().max_steps),
    ("minutes: 4, max_steps: 30", "", "minutes=null max_steps=9", None, 9),
]


@pytest.mark.parametrize(("file", "cpu", "asked", "minutes", "max_steps"), LENGTHS)
def test_how_long_a_run_is(
    read: Read, file: str, cpu: str, asked: str, minutes: float | None, max_steps: int
) -> None:
    content = f"train: {{{file}}}\ncpu: {{train: {{{cpu}}}}}"
    train = read(content, *(f"train.{word}" for word in asked.split()), use_gpu=False).train
    assert (train.minutes, train.max_steps) == (minutes, max_steps)


def test_the_main_job_has_minutes_and_the_most_steps() -> None:
    path = config.find("tiny_shakespeare")
    for use_gpu, most in ((True, 1500), (False, 4400)):
        train = config.load(path, [], use_gpu=use_gpu).train
        assert (train.minutes, train.max_steps) == (4, most)


# Types

GOOD = [
    ("optim.learning_rate", "3e-4", 0.0003),
    ("optim.learning_rate", "2", 2.0),
    ("optim.head_learning_rate", "6E-2", 0.06),
    ("optim.head_learning_rate", "null", None),
    ("optim.optimizer", "muon", "muon"),
    ("optim.decay", "none", "none"),
    ("data.dataset", "no", "no"),
    ("data.dataset", "[a.txt, b]", ["a.txt", "b"]),
    ("data.dataset", "[a.txt]", ["a.txt"]),
    ("data.dataset", "['a, b.txt', 'C:\\it''s']", ["a, b.txt", "C:\\it's"]),
    ("data.dataset", '["a, b.txt","c"]', ["a, b.txt", "c"]),
    ("data.dataset", "null", "null"),
    ("data.dataset", "1e3", "1e3"),
    ("train.compile", "no", False),
    ("train.compile", "Yes", True),
    ("train.compile", "true", True),
    ("data.normalize_newlines", "on", True),
    ("train.out_dir", "", None),
    ("train.out_dir", "~", None),
    ("train.out_dir", "runs/5", "runs/5"),
    ("train.max_steps", "1e3", 1000),
    ("train.seed", "2147483647", 2**31 - 1),
    ("model.head_size", "24", 24),
    ("model.head_size", "null", 64),  # 384 / 6
    ("model.ffn_size", "null", 1536),  # 4 * 384
]


@pytest.mark.parametrize(("key", "text", "value"), GOOD)
def test_value_is_read_by_the_type_of_its_setting(
    read: Read, key: str, text: str, value: object
) -> None:
    section, name = key.split(".")
    for found in (read(f"{section}:\n  {name}: {text}"), read("", f"{key}={text}")):
        assert value_of(found, key) == value
        assert type(value_of(found, key)) is type(value)


WRONG_TYPE = [
    ("train.minutes", "nan", "a number, not 'nan'"),
    ("train.minutes", "inf", "a number, not 'inf'"),
    ("train.max_steps", "many", "a whole number, not 'many'"),
    ("train.max_steps", "2.5", "a whole number, not '2.5'"),
    ("train.max_steps", "true", "a whole number, not 'true'"),
    ("train.max_steps", "null", "a whole number, not 'null'"),
    ("train.max_steps", "nan", "a whole number, not 'nan'"),
    ("train.max_steps", "-inf", "a whole number, not '-inf'"),
    ("train.max_steps", "[3]", "a whole number, not a list"),
    ("train.max_steps", "9" * 5000, f"a whole number, not '{'9' * 56}..."),
    ("train.seed", "2147483648", "a whole number up to 2147483647, not '2147483648'"),
    ("optim.learning_rate", "fast", "a number, not 'fast'"),
    ("optim.learning_rate", "NaN", "a number, not 'NaN'"),
    ("optim.learning_rate", "inf", "a number, not 'inf'"),
    ("optim.learning_rate", "1e999", "a number, not '1e999'"),
    ("optim.learning_rate", "{a: 1}", "a number, not a mapping"),
    ("optim.head_learning_rate", "low", "a number, not 'low'"),
    ("train.compile", "maybe", "true or false, not 'maybe'"),
    ("train.compile", "2", "true or false, not '2'"),
    ("train.compile", "[no]", "true or false, not a list"),
    ("optim.optimizer", "sgd", "one of adamw, muon, not 'sgd'"),
    ("optim.optimizer", "[adamw]", "one of adamw, muon, not a list"),
    ("data.dataset", "''", "a text, not ''"),
    ("data.dataset", r'"a\0b"', r"a text, not 'a\x00b'"),
    ("data.dataset", r'"a\ud800"', r"a text, not 'a\ud800'"),  # half of a character
    ("train.dtype", "f" * 100, f"one of auto, float32, bfloat16, not '{'f' * 56}..."),
]


@pytest.mark.parametrize(("key", "text", "reason"), WRONG_TYPE)
def test_wrong_type_is_refused(read: Read, key: str, text: str, reason: str) -> None:
    section, name = key.split(".")
    with pytest.raises(ConfigError, match=rf"mine\.yaml: {key} is {re.escape(reason)}$"):
        read(f"{section}: {{{name}: {text}}}")


def test_lists_of_texts(read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong, reason in {
        "[]": "data.dataset is an empty list; put the path of a text into it",
        "[a.txt,]": "each of data.dataset is a text, not ''",
        "[a.txt,,b]": "each of data.dataset is a text, not ''",
    }.items():
        with pytest.raises(ConfigError, match=f"^{re.escape(reason)}$"):
            read("", f"data.dataset={wrong}")
    monkeypatch.chdir(tmp_path)
    Path("[a]").mkdir()  # a folder of that name
    assert read("", "data.dataset=[a]").data.dataset == "[a]"
    assert read("", "train.out_dir=[a,b]").train.out_dir == "[a,b]"


@given(
    texts=st.lists(st.text(st.characters(codec="utf-8", categories=["L", "P", "Zs"])), min_size=1)
)
def test_a_list_is_written_as_it_is_read(texts: list[str]) -> None:
    assert lists.read(lists.write(texts)) == texts


def test_wrong_type_on_the_command_line_is_refused(read: Read) -> None:
    with pytest.raises(ConfigError, match=r"^optim\.beta1 is a number, not '0\.9x'$"):
        read("", "optim.beta1=0.9x")
    with pytest.raises(ConfigError, match=r"^train\.out_dir is a text, not 'caf\\udce9'$"):
        read("", os.fsdecode(b"train.out_dir=caf\xe9"))  # as the shell passes Latin-1 on


def test_values_that_are_no_texts_are_checked_too() -> None:
    train = {"seed": 3, "compile": True, "out_dir": None, "batch_size": 8.0}
    assert config.build({"train": train}).train == TrainConfig(seed=3, compile=True, batch_size=8)
    for wrong in (
        {"seed": True},
        {"compile": None},
        {"dtype": None},
        {"seed": None},
        {"seed": 10**400},
    ):
        reason = rf"^train\.{next(iter(wrong))} is .*, not (True|None|10{{56}}\.\.\.)$"
        with pytest.raises(ConfigError, match=reason):
            config.build({"train": wrong})


def test_names_that_are_no_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^5 is no section; there are"):
        config.build({5: {}})
    with pytest.raises(ConfigError, match=r"^'train\.None' is no setting; "):
        config.build({"train": {None: 3}})


# Ranges

COUNTS = "model.block_size model.n_layer model.n_head model.n_embd model.head_size model.ffn_size"
COUNTS += " train.max_steps train.batch_size train.grad_accum train.eval_every train.generations"
COUNTS += " train.eval_characters"
FROM_ZERO = "data.map_above_mb optim.learning_rate optim.embedding_learning_rate"
FROM_ZERO += " optim.head_learning_rate optim.vector_learning_rate optim.weight_decay"
FROM_ZERO += " optim.grad_clip optim.warmup_steps train.seed train.patience"
BELOW_ONE = "model.dropout optim.beta1 optim.beta2 optim.momentum"
OUT_OF_RANGE = [
    *((key, "0", "must be at least 1, not 0") for key in COUNTS.split()),
    *((key, "-1", r"must be at least 0, not -1(\.0)?") for key in FROM_ZERO.split()),
    *((key, "-0.25", r"must be at least 0 and below 1, not -0\.25") for key in BELOW_ONE.split()),
    *((key, "1", r"must be at least 0 and below 1, not 1\.0") for key in BELOW_ONE.split()),
    ("data.val_fraction", "9e-4", r"must lie between 0\.001 and 0\.999, not 0\.0009"),
    ("data.val_fraction", "1", r"must lie between 0\.001 and 0\.999, not 1\.0"),
    ("train.teach", "0", r"must be above 0 and at most 1, not 0\.0"),
    ("train.teach", "1.5", r"must be above 0 and at most 1, not 1\.5"),
    ("train.first_share", "0", r"must lie between 0 and 1, not 0\.0"),
    ("train.first_share", "1", r"must lie between 0 and 1, not 1\.0"),
    ("optim.final_share", "-0.5", r"must lie between 0 and 1, not -0\.5"),
    ("optim.final_share", "1.5", r"must lie between 0 and 1, not 1\.5"),
    ("train.minutes", "0", r"must be above 0, not 0\.0; null makes train\.max_steps steps"),
    ("train.minutes", "-2", r"must be above 0, not -2\.0; null makes train\.max_steps steps"),
]


@pytest.mark.parametrize(("key", "text", "reason"), OUT_OF_RANGE)
def test_value_out_of_range_is_refused(read: Read, key: str, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^{key} {reason}$"):
        read("", f"{key}={text}")


ENDS = [(key, 0) for key in [*FROM_ZERO.split(), *BELOW_ONE.split(), "optim.final_share"]]
ENDS += [
    ("optim.final_share", 1),
    ("train.teach", 1),
    ("data.val_fraction", 0.001),
    ("data.val_fraction", 0.999),
]


@pytest.mark.parametrize(("key", "value"), ENDS)
def test_range_includes_its_ends(read: Read, key: str, value: float) -> None:
    assert value_of(read("", f"{key}={value}"), key) == value


AT_ODDS = [
    (["model.n_embd=100"], "model.n_embd=100 is not divisible by n_head=6; .* set head_size"),
    (["model.n_embd=30"], "model.rotary positions .* head_size=5 must be even; .* to learned"),
    (["train.grad_accum=5"], "train.batch_size=64 cannot be cut into grad_accum=5 equal parts"),
    (
        ["train.generations=6", "train.max_steps=5"],
        r"train\.generations=6 are more than max_steps=5; each takes a step, so change one",
    ),
    (["model.vocab_size=65"], "model.vocab_size comes from the text; leave it out"),
    (["train.sede=3"], r"'train\.sede' is no setting; did you mean train\.seed\?"),
    ([f"train.{'s' * 60}=3"], "'train.s{50}.* is no setting; see --help"),
    (["zebra.seed=3"], "'zebra' is no section; there are model, data, optim, memory, train"),
    (["seed=3"], "'seed=3' is not of the form section.key=value"),
    (["train.seed"], "'train.seed' is not of the form section.key=value"),
]


@pytest.mark.parametrize(("overrides", "reason"), AT_ODDS)
def test_settings_at_odds_are_refused(read: Read, overrides: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"^{reason}"):
        read("", *overrides)


# Files that are not what they should be

BAD_FILES = {
    "unknown section": ("modle: {}", r"'modle' is no section; did you mean model\?"),
    "strange section": (
        "zebra: {}",
        "'zebra' is no section; there are model, data, optim, memory, train",
    ),
    "unknown key": ("model: {n_embed: 8}", r"'model\.n_embed' is .* did you mean model\.n_embd\?"),
    "vocabulary size": ("model: {vocab_size: 65}", r"model\.vocab_size comes from the text"),
    "key twice": ("train:\n  seed: 1\n  patience: 3\n  seed: 2", "'seed' stands twice; keep one"),
    "section twice": ("train: {}\nmodel: {}\ntrain: {}", "'train' stands twice; keep one"),
    "a list": ("- train", "holds a list; it should hold sections such as model:"),
    "an empty list": ("[]", "holds a list; it should hold sections such as model:"),
    "a text": ("First Citizen", "holds 'First Citizen'; it should hold sections"),
    "section is a value": ("model: 5", "section model holds keys and values, not '5'"),
    "section is a list": ("data: [a]", "section data holds keys and values, not a list"),
    "cpu is a value": ("cpu: 5", "section cpu holds sections, not '5'"),
    "cpu in cpu": ("cpu: {cpu: {}}", "'cpu' is no section"),
    "cpu with a bad value": ("cpu: {train: {seed: x}}", r"train\.seed is a whole number, not 'x'"),
    "cpu out of range": ("cpu: {train: {grad_accum: 7}}", r"train\.batch_size=64 cannot be cut"),
    "bad below cpu": ("train: {seed: x}\ncpu: {train: {seed: 1}}", r"train\.seed is a whole"),
    "a tag": ("train: {seed: !dice 6}", "tag '!dice' is not allowed here; write plain values"),
    "a tag of a mapping": ("train: !run {seed: 6}", "tag '!run' is not allowed here"),
    "a Python tag": ("train: {seed: !!python/int 6}", r"tag '.*python/int' is not allowed here"),
    "unclosed": ("model: [", "is not YAML: .* line 1, column 9"),
    "two documents": ("train: {}\n---\ntrain: {}", "is not YAML: expected a single document"),
    "a Python tag by another name": (
        "%TAG !p! tag:yaml.org,2002:python/\n---\ntrain: !p!object/apply:os.getpid []",
        r"tag '.*python/object/apply:os\.getpid' is not allowed here",
    ),
    "a merge": ("train: &t {seed: 1}\ncpu: {model: {<<: *t}}", r"'model\.<<' is no setting"),
    "a merge of sections": ("<<: {train: {seed: 1}}", "'<<' is no section"),
    "a list as a key": ("train: {[seed]: 1}", "is not YAML: .* unhashable key"),
    "a key of 50,000": (
        f"train:\n  ? {'k' * 50_000}\n  : 1",
        r"'train\.k{50}k*\.\.\. is no setting",
    ),
    "no such anchor": ("train: *t", "is not YAML: found undefined alias 't'"),
    "recursive": ("train: &a [*a]", "is not YAML: .* recursive"),
    "recursive section": ("cpu: &a {train: *a}", "is not YAML: .* recursive"),
    "recursive key": ("&a {*a : 1}", "is not YAML: .* recursive"),
    "nested": ("[" * 1000, "is not YAML: maximum recursion depth"),
    "nested mappings": ("{a: " * 1000, "is not YAML: maximum recursion depth"),
    "nested sections": (
        "\n".join(" " * depth + "cpu:" for depth in range(350)),
        "is not YAML: maximum recursion depth",
    ),
    "long version": (f"%YAML {'9' * 5000}.1\n---\n", "is not YAML: .* 5000 digits"),
    "NUL": ("train: {seed: 3}\0", "is not YAML: unacceptable character #x0000"),
    "UTF-16": ("train: {seed: 3}".encode("utf-16"), "is not YAML: 'utf-8' .* position 0"),
    "no such character": (r'data: {dataset: "\UFFFFFFFF"}', "is not YAML"),
    "Latin-1": ("data: {dataset: é}".encode("latin-1"), r"is not YAML: 'utf-8' .* position 16"),
    "too large": ("#" * (1 << 16) + "\n", "65537 bytes are too many for settings; is it the"),
    "ten megabytes": (b"#" * 10_000_000, "10000000 bytes are too many for settings; is it the"),
}


@pytest.mark.parametrize("use_gpu", [True, False])
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file_is_refused(read: Read, name: str, use_gpu: bool) -> None:
    content, reason = BAD_FILES[name]
    with pytest.raises(ConfigError, match=rf"mine\.yaml:? {reason}") as caught:
        read(content, use_gpu=use_gpu)
    assert "\n" not in str(caught.value)


def test_file_runs_nothing(read: Read, tmp_path: Path) -> None:
    command = f"touch {tmp_path / 'proof'}"
    with pytest.raises(ConfigError, match=r"tag '.*python/object/apply:os\.system' is not allowed"):
        read(f"train: !!python/object/apply:os.system ['{command}']")
    assert list(tmp_path.iterdir()) == []


LEVELS = ["&a0 [lol]", *(f"&a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 8))]
BOMB = f"[{', '.join(LEVELS)}]"  # 9**7 times lol


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"data: {{dataset: {BOMB}}}", r"each of data\.dataset is a text, not a list"),
        (f"data: {BOMB}", "section data holds keys and values, not a list"),
        (f"cpu: {{data: {BOMB}}}", "section data holds keys and values, not a list"),
        (f"data: {{<<: {BOMB}}}", r"'data\.<<' is no setting"),
        (BOMB, "holds a list; it should hold sections"),
    ],
)
def test_aliases_are_not_expanded(read: Read, text: str, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(ConfigError, match=reason):
        read(text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20


# Finding the file


def test_path_comes_before_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    for name in ("one.yaml", "two.yaml", "configs/one.yaml", "configs/three.yaml"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "CONFIGS", configs)
    assert config.find("one.yaml") == Path("one.yaml")
    assert config.find(str(tmp_path / "two.yaml")) == tmp_path / "two.yaml"
    assert config.find("three.yaml") == config.find("three") == configs / "three.yaml"
    for name in ("four", "configs", "", "x" * 300):  # missing, a folder, nothing, and too long
        with pytest.raises(
            ConfigError, match=rf"no settings file '{name[:56]}.*; .* one\.yaml, three"
        ):
            config.find(name)


def test_only_a_plain_name_is_looked_up_in_configs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configs, here = tmp_path / "configs", tmp_path / "some" / "where"
    for folder in (configs / "sub", here):
        folder.mkdir(parents=True)
    for path in ("outside.yaml", "configs/one.yaml", "configs/...yaml", "configs/sub/two.yaml"):
        (tmp_path / path).touch()
    monkeypatch.chdir(here)
    monkeypatch.setattr(config, "CONFIGS", configs)
    assert config.find("one") == configs / "one.yaml"
    assert config.find("../../outside.yaml") == Path("../../outside.yaml")
    names = [
        "../outside",
        "../outside.yaml",
        "sub/two",
        "sub/two.yaml",
        "./one",
        "sub/../one",
        "..",
    ]
    for name in [*names, str(tmp_path / "outside")]:
        with pytest.raises(ConfigError, match="there is no settings file"):
            config.find(name)


def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, reason in {"gone": "No such file or directory", "loop": "Too many levels"}.items():
        with pytest.raises(ConfigError, match=f"{name} cannot be read: {reason}"):
            config.load(tmp_path / name, [], use_gpu=True)


@needs_posix
def test_what_is_no_ordinary_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    threading.Thread(target=pipe.write_text, args=("",), daemon=True).start()  # for who reads it
    for path in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises(ConfigError, match=r"is no ordinary file; copy .* into one$"):
            config.load(path, [], use_gpu=True)
        with pytest.raises(ConfigError, match="there is no settings file"):
            config.find(str(path))


# There and back, and anything at all

counts = st.integers(1, 2**31 - 1)
rates = st.floats(0, 1e300)
shares = st.floats(0, 1, exclude_max=True)
texts = st.text(min_size=1).filter(lambda text: "\0" not in text)
paths = st.none() | texts.filter(lambda text: text not in ("null", "~"))
valid = st.builds(
    Config,
    model=st.builds(
        GPTConfig,
        vocab_size=st.just(1),
        **dict.fromkeys(["block_size", "n_layer", "n_head", "n_embd", "ffn_size"], counts),
        head_size=st.integers(1, 2**30 - 1).map(lambda half: 2 * half),
        dropout=shares,
        **dict.fromkeys(["bias", "position", "activation", "tie_weights"], ...),
    ),
    data=st.builds(
        DataConfig,
        dataset=texts | st.lists(texts, min_size=1, max_size=3),
        folder=st.sampled_from(["deep", "flat"]),
        val_fraction=st.floats(0.001, 0.999),
        normalize_newlines=...,
        map_above_mb=counts,
    ),
    optim=st.builds(
        OptimConfig,
        **dict.fromkeys(["learning_rate", "weight_decay", "grad_clip"], rates),
        head_learning_rate=st.none() | rates,
        **dict.fromkeys(["beta1", "beta2", "momentum", "final_share"], shares),
        **dict.fromkeys(["optimizer", "decay"], ...),
    ),
    train=st.builds(
        lambda parts, size, **rest: TrainConfig(grad_accum=parts, batch_size=parts * size, **rest),
        *[st.integers(1, 40_000)] * 2,
        **dict.fromkeys(["out_dir", "init_from", "teacher"], paths),
        teach=st.floats(0, 1, exclude_min=True),
        first_share=st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
        **dict.fromkeys(["seed", "max_steps", "eval_every", "patience"], counts),
        minutes=st.none() | st.floats(1e-300, 1e300),
        compile=st.booleans(),
    ),
)


def test_sizes_that_follow_still_do_in_a_written_file(read: Read) -> None:
    written = config.to_yaml(read("model: {n_embd: 48, n_head: 3, head_size: 16}"))
    wider = read(written, "model.n_embd=96").model
    assert (wider.head_size, wider.ffn_size) == (32, 384)
    written = config.to_yaml(read("model: {n_embd: 48, head_size: 10, ffn_size: 50}"))
    wider = read(written, "model.n_embd=96").model
    assert (wider.head_size, wider.ffn_size) == (10, 50)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(wanted=valid)
def test_yaml_there_and_back(read: Read, wanted: Config) -> None:
    assert read(config.to_yaml(wanted)) == wanted
    assert config.build(wanted.to_dict()) == wanted


SCRAPS = r"""
model: data: dataset: train: seed: cpu: n_embd: vocab_size: {} { } [ ] , - ? : & &a *a | > ! !!str
!!int !!python/none <<: %YAML %TAG --- ... "\UFFFFFFFF" "\x " ' # @ ` 1 -1 1e3 nan null ~ no 0x1F é
"""
scraps = st.sampled_from([*SCRAPS.split(), " ", "  ", "\n", "\n  ", "\t", "\r", "\ufeff", "\x85"])
yaml_like = st.lists(scraps)

WILD = r"""
.nan inf -.inf NaN 1e999 1e-999 -0 0x1F 1_000 1:30 2001-01-01 ٣ ~ '' "" "\0" "\ud800" "a\nb" "\L"
é 🐑 [] {} [1] {1} &a *a [*a,*a] &b[*b] <<: !!int !!set !!binary !x !!python/tuple ? | > "a ] } # \
!!python/object/apply:os.system !<tag:yaml.org,2002:python/none> %TAG @ `
"""
wild = (
    st.sampled_from(WILD.split())
    | st.sampled_from([*GOOD, *WRONG_TYPE]).map(lambda case: case[1])
    | st.integers().map(str)
    | st.floats().map(str)
    | st.integers(1, 10_000).map("9".__mul__)
    | st.integers(1, 300).map(lambda depth: "[" * depth + "]" * depth)
    | st.integers(1, 300).map(lambda depth: "{a: " * depth + "}" * depth)
)


def document(above: list, below: list, mark: str, stray: str) -> str:
    """A settings file with these pairs of a key and a text, those `below` in its section cpu."""

    def sections(pairs: list, indent: str) -> list[str]:
        lines: dict[str, list[str]] = {}
        for key, text in pairs:
            section, name = key.split(".")
            lines.setdefault(section, []).append(f"{name}: {text}")
        return [f"{indent}{name}: {mark}{{{', '.join(line)}}}" for name, line in lines.items()]

    return "\n".join([*sections(above, ""), stray, "cpu:", *sections(below, "  ")])


fitting = st.sampled_from([(key, text) for key, text, _ in GOOD])
strange = st.tuples(st.sampled_from([*KEYS, "train.<<", "zebra.seed"]), wild)
pairs = st.lists(fitting, max_size=3, unique_by=lambda pair: pair[0]) | st.lists(
    fitting | strange, max_size=3
)
marks = st.sampled_from(["", "", "", "", "", "&a ", "*a ", "!!map ", "!x ", "- "])
strays = st.sampled_from(["", "", "", "train: {}", "model: &a", "<<: {}", "cpu: {}", "...", "x"])
documents = st.builds(document, pairs, pairs, marks, strays)
encodings = st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])
encoded = st.builds(lambda text, name: text.encode(name, "replace"), documents, encodings)
content = documents | yaml_like.map(" ".join) | yaml_like.map("".join) | st.text() | st.binary()
any_text = st.text(st.characters())  # also halves of characters, as undecodable bytes become
override = st.builds("{}={}".format, st.sampled_from(KEYS) | any_text, wild | any_text) | any_text


def test_anything_loads_or_is_a_config_error(read: Read) -> None:
    ended = Counter()

    @settings(max_examples=FUZZ, deadline=None, derandomize=True)
    @given(content=content | encoded, overrides=st.lists(override, max_size=3))
    def check(content: str | bytes, overrides: list[str]) -> None:
        for kind, attempt in {"file": (content,), "line": ("", *overrides)}.items():
            try:
                assert isinstance(read(*attempt, use_gpu=False), Config)
                ended[kind, "loaded"] += 1
            except ConfigError as error:
                assert error.status == 2
                assert len(str(error).splitlines()) == 1
                ended[kind, "refused"] += 1

    check()
    assert len(ended) == 4 and min(ended.values()) > FUZZ // 10, ended


# --help


@pytest.mark.parametrize("indented", [True, False])
def test_every_setting_is_described_once(monkeypatch: pytest.MonkeyPatch, indented: bool) -> None:
    for cls in config.SECTIONS.values():  # from Python 3.13 on, docstrings are not indented
        clean = inspect.cleandoc(cls.__doc__)
        monkeypatch.setattr(cls, "__doc__", clean.replace("\n", "\n    ") if indented else clean)
    _, *sections = config.describe().split("\n\n")
    keys = []
    for name, section in zip(config.SECTIONS, sections, strict=True):
        title, *lines = section.splitlines()
        assert re.fullmatch(rf"{name}: [A-Z][^.]+\.", title)
        assert all(re.fullmatch(rf"  {name}\.\S+=\S+ +\w.{{10,}}", line) for line in lines)
        keys += [line.split("=")[0].strip() for line in lines]
    assert keys == KEYS


def test_defaults_and_choices_are_described() -> None:
    lines = {line.split("=")[0].strip(): line for line in config.describe().splitlines()}
    assert lines["train.out_dir"].startswith("  train.out_dir=null  ")
    assert lines["optim.learning_rate"].startswith("  optim.learning_rate=0.001  ")
    assert lines["model.position"].endswith(" (learned, rotary)")
    assert lines["optim.decay"].endswith(" (cosine, linear, none)")
    assert "(" not in lines["train.compile"]
