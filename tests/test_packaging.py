"""What surrounds the code says the same as the code: pyproject.toml, requirements, the workflow."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement

from system import versions
from system.versions import dotted
from tests.helpers import ROOT
from tests.helpers.posix import needs_posix

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")


def required(name: str) -> list[str]:
    """The packages of a requirements file, without the files it refers to."""
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("-r ", "#"))]


def test_dependencies_are_those_of_the_requirements_files() -> None:
    asked = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
    pinned = [Requirement(line) for line in required("requirements.txt")]
    assert [each.name for each in asked] == [each.name for each in pinned]
    for each, pin in zip(asked, pinned, strict=True):
        if each.specifier:  # the pin lies in the range
            [only] = pin.specifier
            assert only.operator == "==" and only.version in each.specifier
        else:
            assert not pin.specifier
    for name, packages in PROJECT["project"]["optional-dependencies"].items():
        assert packages == required(f"requirements-{name}.txt")
    extras = {file.stem.partition("-")[2] for file in ROOT.glob("requirements-*.txt")} - {"dev"}
    assert PROJECT["project"]["optional-dependencies"].keys() == extras


def test_the_oldest_versions_are_those_that_commands_ask_for() -> None:
    assert PROJECT["project"]["requires-python"] == f">={dotted(versions.PYTHON)}"
    asked = PROJECT["project"]["dependencies"]
    assert asked[0] == f"torch>={dotted(versions.TORCH)}"
    assert [*versions.PACKAGES.values()] == [Requirement(line).name for line in asked]


def test_installing_brings_no_module() -> None:
    setuptools = PROJECT["tool"]["setuptools"]
    assert (setuptools["py-modules"], setuptools["packages"]) == ([], [])


def test_files_that_are_named_are_there() -> None:
    project = PROJECT["project"]
    for name in (project["readme"], *project["license-files"]):
        assert (ROOT / name).is_file()
    assert (ROOT / "LICENSE").read_text("utf-8").startswith(f"{project['license']} License")


def test_one_oldest_python() -> None:
    major, minor = re.fullmatch(r">=(\d+)\.(\d+)", PROJECT["project"]["requires-python"]).groups()
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{major}{minor}"
    assert f"Python {major}.{minor} or newer" in (ROOT / "README.md").read_text("utf-8")
    assert yaml.safe_load(WORKFLOW)["jobs"]["tests"]["strategy"]["matrix"]["python"][0] == (
        f"{major}.{minor}"
    )


@needs_posix
def test_the_workflow_runs_what_a_person_runs() -> None:
    job = yaml.safe_load(WORKFLOW)["jobs"]["tests"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111
    assert job["defaults"]["run"]["shell"] == "bash"  # which is what .ci/run is written for
    assert "://" not in WORKFLOW  # where packages come from is a matter of the machine


def test_the_workflow_runs_where_people_are() -> None:
    job = yaml.safe_load(WORKFLOW)["jobs"]["tests"]
    assert job["runs-on"] == "${{ matrix.system }}"
    systems = [name.partition("-")[0] for name in job["strategy"]["matrix"]["system"]]
    assert systems == ["ubuntu", "macos", "windows"]


@needs_posix
def test_git_keeps_line_ends() -> None:
    """Bash cannot run, and tests cannot compare, what git on Windows would give other line ends."""
    paths = ["model.py", ".ci/run", "page/page.html", "docs/one-head.html", "docs/front.png"]
    command = ["git", "check-attr", "eol", "binary", "--", *paths]
    git = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if git.returncode:
        pytest.skip("this is no checkout of git")
    for path in paths:
        kind = "binary: set" if path.endswith(".png") else "eol: lf"
        assert f"{path}: {kind}\n" in git.stdout


@pytest.mark.parametrize("action", re.findall(r"uses: (\S+)", WORKFLOW))
def test_actions_are_pinned_by_their_major_version(action: str) -> None:
    assert re.fullmatch(r"actions/[a-z-]+@v\d+", action)
