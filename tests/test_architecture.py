"""The rules that keep the house small, read off the source with `ast`."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from system import config
from tests.helpers import ROOT

FLOORS = (  # of the house, lowest first: what stands on a floor imports from those below it only
    {"model"},
    {"system"},
    {"data"},
    {"mixture"},
    {"generate"},
    {"handmade", "exchange"},
    {"proof"},
    {"analysis"},
    {"page", "training", "writing"},
    {"experiments"},
    {"train", "sample", "score", "compare", "export", "look", "experiment"},  # the commands
    {"benchmarks"},
    {"docs"},
)
FORBIDDEN = "pickle.load pickle.loads yaml.unsafe_load yaml.full_load os.system os.popen eval exec"


def sources(root: Path) -> dict[str, str]:
    """The source of every module below `root` but the tests, by its name; a package is one too."""
    rooms = {path.parent for path in root.glob("[!.]*/*.py")} - {root / "tests"}
    paths = {*root.glob("*.py")}.union(*(room.rglob("*.py") for room in rooms))
    found = {}
    for path in sorted(paths):
        name = ".".join(path.relative_to(root).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path.read_text("utf-8")
    return found


def imports(tree: ast.Module) -> set[str]:
    """All that a module imports, such as `data`, `data.corpus` and `data.corpus.load`."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert not node.level, "imports name the room"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room(module: str) -> str:
    """The room that a module stands in; one in the root is a room of its own."""
    return module.partition(".")[0]


def complaints(root: Path) -> Iterator[str]:
    """What in the house at `root` is not as FLOORS says."""
    floor = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    trees = {module: ast.parse(source) for module, source in sources(root).items()}
    for name in sorted({room(module) for module in trees} - floor.keys()):
        what = "room" if (root / name).is_dir() else "module in the root"
        yield f"{name} is a {what} that FLOORS does not name"
    for module, tree in trees.items():
        here = room(module)
        above = {room(name) for name in imports(tree)} & floor.keys() - {here}
        for other in sorted(above):
            if floor[other] >= floor.get(here, 0):
                yield f"{module} imports {other}, which is not below it"


SOURCES = sources(ROOT)
TREES = {module: ast.parse(source) for module, source in SOURCES.items()}
each_module = pytest.mark.parametrize("module", TREES)


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """The name and the node of every call in `module`."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def uses(module: str) -> set[str]:
    """All that `module` imports or calls."""
    return imports(TREES[module]) | {name for name, _ in calls(module)}


def test_the_house_stands_as_its_floors_say() -> None:
    assert list(complaints(ROOT)) == []
    assert {room(module) for module in TREES} == set().union(*FLOORS)


BREAKS = [
    ("system/errors.py", "from data import corpus", "system.errors imports data, which is not"),
    ("model.py", "import system.device", "model imports system, which is not below it"),
    (
        "handmade/rules.py",
        "from exchange import gpt2",
        "handmade.rules imports exchange, which is not",
    ),
    ("sample.py", "def f():\n    from train import main", "sample imports train, which is not"),
    ("page/html.py", "import export", "page.html imports export, which is not"),
    ("trainer.py", "import torch", "trainer is a module in the root that FLOORS does not name"),
    ("tools/new.py", "import torch", "tools is a room that FLOORS does not name"),
]


@pytest.mark.parametrize(("file", "line", "complaint"), BREAKS)
def test_what_breaks_the_order_is_named(
    tmp_path: Path, file: str, line: str, complaint: str
) -> None:
    for rooms in FLOORS:
        for name in rooms:
            if (ROOT / name).is_dir():
                (tmp_path / name).mkdir()
                (tmp_path / name / "__init__.py").write_text("import torch\n")
            else:
                (tmp_path / f"{name}.py").write_text("import torch\n")
    assert list(complaints(tmp_path)) == []
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(line)
    [found] = complaints(tmp_path)
    assert found.startswith(complaint)


def test_no_two_modules_import_each_other() -> None:
    graph = {module: imports(TREES[module]) & set(TREES) for module in TREES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_model_imports_torch_only_and_prints_nothing() -> None:
    roots = {name.split(".")[0] for name in imports(TREES["model"])}
    assert roots - sys.stdlib_module_names == {"torch"}
    assert not {"print", "open", "torch.manual_seed"} & uses("model")


def test_one_module_each_for_checkpoints_and_yaml() -> None:
    saves = [name for name in TREES if {"torch.save", "torch.load"} & uses(name)]
    assert saves == ["benchmarks.nanogpt", "system.checkpoint"]  # the former in nanoGPT's format
    assert [name for name in TREES if "yaml" in uses(name)] == ["system.config"]


@each_module
def test_nothing_read_is_run(module: str) -> None:
    assert not set(FORBIDDEN.split()) & uses(module)
    for name, call in calls(module):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("shell") != "True"
        if name == "torch.load":
            assert given["weights_only"] == "True"
        if name == "yaml.load":
            assert ast.unparse(call.args[1]) == "Loader"


def test_nothing_that_runs_code_is_even_written() -> None:
    for source in SOURCES.values():
        assert not any(
            words in source for words in ("weights_only=False", "pickle.load", "yaml.load")
        )


def test_loader_makes_plain_values_only() -> None:
    assert not config.Loader.yaml_constructors.keys() - yaml.SafeLoader.yaml_constructors.keys()
    assert not config.Loader.yaml_multi_constructors


@each_module
def test_text_is_the_same_on_every_system(module: str) -> None:
    for name, call in calls(module):
        given = {keyword.arg for keyword in call.keywords}
        values = [getattr(value, "value", None) for value in call.args]
        assert not name.endswith(".write_text")  # Windows would write other line ends
        if name.endswith(".read_text") and name != "handmade.read_text":
            assert "utf-8" in values or "encoding" in given, "Windows would read another encoding"
        if name.rpartition(".")[2] == "open" and name != "os.open":
            binary = any(isinstance(value, str) and "b" in value for value in values)
            assert binary or "encoding" in given, "the same"
        if name.startswith("subprocess."):
            assert "text" not in given or "errors" in given, "what is no such text would raise"


@each_module
def test_every_public_name_says_what_it_is(module: str) -> None:
    nodes = [TREES[module], *TREES[module].body]
    definitions = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in nodes:
        if isinstance(node, definitions) and not getattr(node, "name", "").startswith("_"):
            assert ast.get_docstring(node), getattr(node, "name", module)


def test_nothing_happens_at_import(tmp_path: Path) -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {', '.join(TREES)}"
    python = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (python.returncode, python.stdout) == (0, ""), python.stderr
    assert list(tmp_path.iterdir()) == []
