"""The rules that keep the house small, read off the source with `ast`."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import config

ROOT = Path(config.__file__).parent
PATHS = [*ROOT.glob("*.py"), *ROOT.glob("data/*.py")]
TREES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): ast.parse(path.read_text("utf-8"))
    for path in sorted(PATHS)
    if path.name != "__init__.py"
}
ENTRY_POINTS = {name for name in ("train", "sample", "compare", "export") if name in TREES}
FORBIDDEN = "pickle.load pickle.loads yaml.unsafe_load yaml.full_load os.system os.popen eval exec"

each_module = pytest.mark.parametrize("module", TREES)


def imports(module: str) -> set[str]:
    """All that `module` imports, such as `data`, `data.corpus` and `data.corpus.load`."""
    found = set()
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def calls(module: str) -> Iterator[tuple[str, ast.Call]]:
    """The name and the node of every call in `module`."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def uses(module: str) -> set[str]:
    """All that `module` imports or calls."""
    return imports(module) | {name for name, _ in calls(module)}


def test_modules_are_found() -> None:
    assert {"train", "sample", "model", "config", "checkpoint", "data.corpus"} <= set(TREES)


def test_imports_run_one_way() -> None:
    graph = {module: imports(module) & set(TREES) for module in TREES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError
    assert not ENTRY_POINTS & set().union(*graph.values())


def test_model_imports_torch_only_and_prints_nothing() -> None:
    roots = {name.split(".")[0] for name in imports("model")}
    assert roots - sys.stdlib_module_names == {"torch"}
    assert not {"print", "open", "torch.manual_seed"} & uses("model")


def test_one_module_each_for_checkpoints_and_yaml() -> None:
    assert [name for name in TREES if {"torch.save", "torch.load"} & uses(name)] == ["checkpoint"]
    assert [name for name in TREES if "yaml" in imports(name)] == ["config"]


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
    for path in [*PATHS, *ROOT.glob("benchmarks/*.py")]:
        source = path.read_text("utf-8")
        assert not any(
            words in source for words in ("weights_only=False", "pickle.load", "yaml.load")
        )


def test_loader_makes_plain_values_only() -> None:
    assert not config.Loader.yaml_constructors.keys() - yaml.SafeLoader.yaml_constructors.keys()
    assert not config.Loader.yaml_multi_constructors


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
