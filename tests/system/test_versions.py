"""A Python, a torch or a package that will not do is told in one sentence before its import."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from system import versions
from system.commandline import begin
from tests.helpers import ROOT
from tests.test_architecture import SOURCES, TREES

COMMANDS = [name for name, source in SOURCES.items() if "main(argv: list[str]" in source]
each_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """The one line with which a command ends as it begins."""
    monkeypatch.setattr("sys.argv", ["some/where/train.py", "--help"])
    monkeypatch.setattr("system.commandline.quiet", lambda: None)  # Ctrl-C would end the tests

    def sentence() -> str:
        with pytest.raises(SystemExit, match=r"^2$"):
            begin()
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and err.startswith("train.py: ")
        return err.removeprefix("train.py: ").rstrip()

    return sentence


@pytest.fixture
def another_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a torch of some version before the one that is installed."""

    def install(version: str) -> None:
        package = tmp_path / "torch"
        package.mkdir()
        (package / "__init__.py").write_text("raise ImportError('too old to be imported')\n")
        (package / "version.py").write_text(f"debug = False\n__version__ = '{version}'\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "torch")  # which find_spec would believe

    return install


OLD = ["2.5.1", "2.1.0+cu118", "1.13.1", "2.5.0a0+872d972e41.nv24.08"]
NEW = ["2.6.0", "2.6.0a0+df5bbc09d1.nv24.12", "2.10.0", "3.0.0", "2.14.0.dev20260901"]


@pytest.mark.parametrize("version", OLD)
def test_a_torch_that_is_too_old(
    another_torch: Callable, sentence: Callable, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_torch(version)
    monkeypatch.setattr("sys.platform", "linux")
    assert sentence() == (
        f'torch {version} is too old; handmade-gpt needs 2.6 or newer: pip install "torch>=2.6"'
    )


@pytest.mark.parametrize("version", NEW)
def test_a_torch_that_will_do(
    another_torch: Callable, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    another_torch(version)
    assert versions.torch_version() == version
    versions.check()
    warning = f"warning: a checkpoint could run code in torch {version} (CVE-2026-24747); open "
    unsafe = version.startswith("2.6.")
    assert capsys.readouterr() == (
        "",
        f'{warning}none of others, or pip install "torch>=2.10"\n' if unsafe else "",
    )


def test_the_version_is_what_torch_says() -> None:
    assert versions.torch_version() == torch.__version__


@pytest.mark.parametrize("content", [None, "", "__version__ = version()\n"])
def test_a_torch_without_a_version_is_tried(
    another_torch: Callable, tmp_path: Path, content: str | None
) -> None:
    another_torch("2.1.0")
    (tmp_path / "torch" / "version.py").unlink()
    if content is not None:
        (tmp_path / "torch" / "version.py").write_text(content)
    assert versions.complaint() is None


def test_packages_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentence: Callable
) -> None:
    (tmp_path / "torch").mkdir()  # a folder of that name is no package
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    monkeypatch.setattr("sys.platform", "linux")
    for module in versions.PACKAGES:
        monkeypatch.delitem(sys.modules, module, raising=False)
    everything = "torch numpy tqdm pyyaml matplotlib"
    assert sentence() == (
        f"handmade-gpt needs {everything.replace(' ', ', ')}, not installed for this Python: "
        f"pip install {everything}"
    )
    for module in ("torch", "numpy", "tqdm", "matplotlib"):
        (tmp_path / module).mkdir(exist_ok=True)
        (tmp_path / module / "__init__.py").touch()
    versions.importlib.invalidate_caches()
    assert sentence().endswith("needs pyyaml, not installed for this Python: pip install pyyaml")


@pytest.mark.parametrize("version", ["2.2.2", None])
def test_an_intel_mac(
    another_torch: Callable,
    sentence: Callable,
    monkeypatch: pytest.MonkeyPatch,
    version: str | None,
) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    if version:
        another_torch(version)
    else:
        monkeypatch.setitem(versions.PACKAGES, "torch_that_is_not_there", "torch")
    assert sentence() == (
        "handmade-gpt needs torch 2.6 or newer, and there is none for Intel Macs; take another "
        "machine, or on an Apple chip a Python that is built for arm64"
    )
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    assert "pip install" in sentence()


def test_a_python_that_is_too_old(sentence: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", (3, 9, 6, "final", 0))
    monkeypatch.setattr("platform.python_version", lambda: "3.9.6")
    assert sentence() == (
        "Python 3.9.6 is too old; handmade-gpt needs 3.11 or newer: install it, and start the "
        "command with it"
    )


# That an old Python gets so far


def needed(module: str, found: set[str] | None = None) -> set[str]:
    """The modules of this project that importing `module` imports, and those that they import."""
    found = set() if found is None else found
    for node in TREES[module].body:
        names = []
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name in TREES and name not in found:
                found.add(name)
                needed(name, found)
    return found


BEFORE = sorted(needed("system.commandline") | {"system.commandline"})


@pytest.mark.parametrize("module", BEFORE)
def test_what_is_imported_before_that_runs_on_old_pythons(module: str) -> None:
    tree = ast.parse(SOURCES[module], feature_version=(3, 8))
    if any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree)):
        names = [alias.name for node in tree.body for alias in getattr(node, "names", ())]
        assert "annotations" in names  # which are then not evaluated: list[str], int | None
    roots = {name.partition(".")[0] for name in imported(tree)}
    assert roots - sys.stdlib_module_names <= {"system"}


def imported(tree: ast.Module) -> set[str]:
    """The names of the modules that are imported."""
    return {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)} | {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }


@each_command
def test_every_command_asks_before_it_imports(command: str) -> None:
    ast.parse(SOURCES[command], feature_version=(3, 8))
    first, second = TREES[command].body[1:3]  # [0] is the docstring
    assert ast.unparse(first) == "from system.commandline import begin"
    condition, call = ast.unparse(second).splitlines()
    assert condition == "if __name__ == '__main__':"
    assert call.removeprefix("    begun = ").strip() == "begin()"


def test_the_commands_are_found() -> None:
    assert {"train", "sample", "compare", "export", "look", "benchmarks.startup"} <= {*COMMANDS}


def test_a_command_ends_before_torch_is_imported(another_torch: Callable, tmp_path: Path) -> None:
    another_torch("2.1.0")
    command = [sys.executable, ROOT / "sample.py", "--handmade"]
    ended = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("sample.py: torch 2.1.0 is too old; ")
    assert ended.stderr.count("\n") == 1
