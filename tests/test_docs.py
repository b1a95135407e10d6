"""What README and docs show is there: commands parse, links lead somewhere, names are real."""

import contextlib
import importlib
import re
import shlex
from argparse import ArgumentParser
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from system import config
from tests.helpers import ROOT

DOCS = sorted(ROOT.glob("docs/*.md"))
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks" / "README.md", *DOCS]
COMMANDS = ("train", "sample", "score", "compare", "export", "look", "experiment")
SCRIPTS = (
    *("time_to_loss", "ablation", "train_speed", "sample_speed", "startup"),
    *("ngram_weights", "page_speed", "text_size", "gpu"),
)
BENCHMARKS = [f"benchmarks.{name}" for name in SCRIPTS]
PARSED = (*COMMANDS, *BENCHMARKS, "tests.helpers.soak")
OTHERS = {
    "pytest",
    "venv",
    "docs.does_training_find_it",
    "docs.front",
    "docs.loss_curves",
    "docs.screens",
    "docs.weights",
}  # which take no options of ours
MADE = {"config.yaml", "prepare.py"}  # of a run; of nanoGPT

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@cache
def parser(module: str) -> ArgumentParser:
    """The command line of a module."""
    return importlib.import_module(module).parser()


def blocks(page: Path) -> Iterator[str]:
    """The lines that are set as code, those that end in a backslash joined with the next."""
    text = page.read_text("utf-8").replace("\\\n", " ")
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))


def spans(page: Path) -> list[str]:
    """What stands between backquotes in the prose and the tables."""
    lines = page.read_text("utf-8").splitlines()
    prose = "\n".join(line for line in lines if not line.startswith("    "))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def simple_commands(lines: list[str]) -> Iterator[list[str]]:
    """The words of each command in lines of shell, where a line may define a function."""
    functions: dict[str, str] = {}
    for line in lines:
        if defined := re.fullmatch(r"(\w+)\(\) \{ (.+); \}", line):
            functions[defined[1]] = defined[2]
            continue
        name, _, rest = line.partition(" ")
        line = functions[name].replace('"$@"', rest) if name in functions else line
        with contextlib.suppress(ValueError):  # a line of output, with a quotation mark in it
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split, lexer.commenters = True, "#"
            words: list[str] = []
            for word in [*lexer, ";"]:
                if set(word) <= set("();<>|&"):
                    yield words
                    words = []
                else:
                    words.append(word)


def check_command(words: list[str]) -> bool:
    """Whether the words call one of the project's commands; they are read as it reads them."""
    if words[:1] == ["nohup"]:
        words = words[1:]
    if words[:1] == ["torchrun"]:
        words = ["python", *words[words.index("train.py") :]]
    if words[:1] != ["python"] or len(words) < 2:
        return False
    script, argv = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
    if script in OTHERS:
        return False
    module = script.removesuffix(".py")
    assert module in PARSED, f"there is no {script}"
    if "--help" in argv:
        return True
    args = parser(module).parse_intermixed_args(argv)
    if module == "train":
        overrides = config.parse_overrides(args.overrides)
        if args.config:
            config.load(config.find(args.config), args.overrides, use_gpu=False)
        config.build(overrides)
    return True


def all_commands(page: Path) -> list[list[str]]:
    """The words of every command that a page shows, in code and in prose."""
    lines = [*blocks(page), *(span for span in spans(page) if span.startswith("python "))]
    return list(simple_commands(lines))


@each_page
def test_commands_are_read_by_the_real_parsers(page: Path) -> None:
    for words in all_commands(page):
        check_command(words)
        if words[:3] == ["pip", "install", "-r"]:
            assert (ROOT / words[3]).is_file()


def test_commands_are_found() -> None:
    readme = [words for words in all_commands(ROOT / "README.md") if check_command(words)]
    assert ["python", "train.py", "--config", "tiny_shakespeare.yaml"] in readme
    assert ["python", "sample.py", "--ckpt", "--prompt", "ROMEO:"] in readme
    training = [words for words in all_commands(ROOT / "docs/training.md") if check_command(words)]
    assert any("checkpoints/over" in " ".join(words) for words in training)
    assert any("optim.learning_rate=0.5" in words for words in training)
    assert {words[1] for page in PAGES for words in all_commands(page) if check_command(words)} >= {
        *(f"{name}.py" for name in COMMANDS),
        "-m",
    }


@pytest.mark.parametrize(
    "line",
    [
        "python train.py --config tiny_shakespear.yaml",
        "python train.py --config aab.yaml train.max_step=3",
        "python train.py --confg aab.yaml",
        "python -m benchmarks.train_sped",
        "true && python sample.py --top-k 0 | head",
        "torchrun --nproc-per-node 2 train.py --config aab.yaml --devise cpu",
    ],
)
def test_a_command_that_cannot_be_read_is_noticed(line: str) -> None:
    with pytest.raises((Exception, SystemExit)):
        for words in simple_commands([line]):
            check_command(words)


@each_page
def test_settings_and_options_in_the_prose_are_real(page: Path) -> None:
    options = {name for module in PARSED for name in parser(module)._option_string_actions}
    for span in spans(page):
        if re.match(r"(model|data|optim|train)\.\w+=", span):
            config.build(config.parse_overrides(span.split()))
        elif re.fullmatch(r"(model|data|optim|train)\.(?!py$|pt$)\w+", span):
            section, _, name = span.partition(".")
            assert name in config.settings_of(section), span
        if span.startswith("--") and page.name != "peers.md":
            for word in span.split():
                assert not word.startswith("--") or word in options, span


@each_page
def test_files_in_the_prose_are_there(page: Path) -> None:
    if page.name == "peers.md":
        return  # most of them are other projects'
    places = (ROOT, ROOT / "tests", ROOT / "configs")
    for span in spans(page):
        if re.fullmatch(r"[\w./-]+\.(py|yaml|md|toml)", span) and span not in MADE:
            assert any((place / span).is_file() for place in places), span


def slug(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links(page: Path) -> list[str]:
    """Where the local links and the pictures of a page lead."""
    targets = re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", page.read_text("utf-8"))
    return [target for target in targets if "://" not in target]


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists() and path.is_relative_to(ROOT), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text("utf-8"), flags=re.MULTILINE)
            assert anchor in map(slug, headings), target


def test_every_page_is_found_from_every_other() -> None:
    for page in [ROOT / "README.md", *DOCS]:
        linked = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        assert {*DOCS, ROOT / "README.md"} - {page} <= linked | {page}, page


def test_every_picture_is_shown() -> None:
    shown = {(page.parent / target).resolve() for page in PAGES for target in links(page)}
    assert {*ROOT.glob("docs/*.png"), *ROOT.glob("benchmarks/results/*.png")} <= shown


def product() -> set[Path]:
    """Every module that is neither a test, nor a benchmark, nor draws a picture for a page."""
    rooms = {path.parent for path in ROOT.glob("[!.]*/*.py")}
    rooms -= {ROOT / name for name in ("tests", "benchmarks", "docs")}
    return {*ROOT.glob("*.py")}.union(*(room.rglob("*.py") for room in rooms))


def test_the_readme_is_short_and_counts_right() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) < 200
    said = int(re.search(r"^\| lines of Python \| ([\d,]+) ", readme, re.M)[1].replace(",", ""))
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in product())
    assert said == pytest.approx(lines, rel=0.05)


def test_the_walk_passes_every_module() -> None:
    page = ROOT / "docs" / "reading.md"
    linked = {(page.parent / target).resolve() for target in links(page)}
    assert {path for path in product() if path.name != "__init__.py"} <= linked
