"""What several test files share: one thread, no repository folder to write into, a small model."""

import gc
import math
import os
import signal

gc.disable()  # until the tests begin: what their imports make is no garbage
os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for the processes of the tests

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

import pytest
import torch
from hypothesis import HealthCheck, settings

import train
from system import device
from system.checkpoint import Checkpoint
from tests.helpers import apple as pretended
from tests.helpers import runs
from tests.helpers.faults import Ended, Processes
from tests.helpers.posix import skip_without_posix
from tests.helpers.tiny import tiny_gpt
from training import loop, metrics


def write_text(path: Path, text: str, encoding: str = "utf-8", errors: str = "strict") -> None:
    """What Path.write_text does where \n is not another line end."""
    path.write_bytes(text.encode(encoding, errors))


if os.name == "nt":  # the texts of the tests are the same everywhere
    Path.write_text = write_text


def pytest_configure() -> None:
    """Let Ctrl-C reach the tests that send it: in the background of a script it is ignored.

    Inputs that are drawn may take their time, on a machine that is busy.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    patient = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile("patient", **patient)
    settings.load_profile("patient")


def pytest_collection_finish() -> None:
    """From here on garbage is looked for, but not among what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture
def call(capsys: pytest.CaptureFixture) -> Callable[..., Ended]:
    """Call the `main` of an entry point: its exit status and what it wrote."""

    def call(main: Callable[[list[str]], int], *argv: object) -> Ended:
        capsys.readouterr()
        status = main([str(arg) for arg in argv])
        return Ended(status, *capsys.readouterr())

    return call


@pytest.fixture
def refusal(call: Callable[..., Ended]) -> Callable[..., str]:
    """Call a `main` that is to refuse: status 2, nothing on stdout, one sentence, returned."""

    def refusal(main: Callable[[list[str]], int], *argv: object) -> str:
        status, out, err = call(main, *argv)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{main.__module__}.py: ")
        return err

    return refusal


@pytest.fixture
def unread() -> Iterator[TextIO]:
    """A pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as stream:  # noqa: PTH123 - a handle has no path
        yield stream


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of the test's own, with the text and the settings of a tiny run.

    What training sets for the whole process is put back afterwards.
    """
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(runs.SETTINGS)
    Path("text.txt").write_text(runs.TEXT)
    precision = torch.get_float32_matmul_precision()
    yield tmp_path
    torch.set_float32_matmul_precision(precision)


@pytest.fixture
def tiny(home: Path, call: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> Callable:
    """Train as tiny.yaml and the arguments say, without the picture and most of the sample."""
    monkeypatch.setattr(metrics, "plot", lambda folder: None)
    monkeypatch.setattr(loop, "SAMPLE_CHARACTERS", 9)
    monkeypatch.setattr(loop, "LINE_SECONDS", math.inf)
    return partial(call, train.main, "--device", "cpu", "--config", "tiny.yaml")


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[pretended.Apple]:
    """A machine with a pretended Apple chip, which `--device auto` takes."""
    there = {"cpu": torch.device("cpu")}
    monkeypatch.setattr(device, "pick", lambda name: there.get(name, pretended.MPS))
    monkeypatch.setattr(torch.backends.mps, "get_core_count", lambda: 38, raising=False)
    monkeypatch.setattr(torch, "Generator", pretended.Generator)
    torch.__future__.set_swap_module_params_on_conversion(True)  # or tied weights would part
    with pretended.Apple() as chip:
        yield chip
    torch.__future__.set_swap_module_params_on_conversion(False)


@pytest.fixture(scope="session")
def processes() -> Iterator[Processes]:
    """Commands in processes of their own, to which things may happen."""
    skip_without_posix()
    with Processes() as processes:
        yield processes


@pytest.fixture(scope="session")
def several() -> Iterator[Processes]:
    """The same for processes that share their work: what else these import takes a second."""
    skip_without_posix()
    with Processes("torch._dynamo") as processes:
        yield processes


@pytest.fixture
def tiny_process(home: Path, processes: Processes) -> Callable[..., Ended]:
    """As `tiny`, in a process of its own; what is given by name is the fault that it meets."""
    return partial(processes.run, "train", "--device=cpu", "--config=tiny.yaml", cwd=home)


@pytest.fixture
def tiny_processes(home: Path, several: Processes) -> Callable[..., list[Ended]]:
    """As `tiny_process`, in as many processes that share the work as the first argument says."""

    def run(ranks: int, *argv: object, **fault: object) -> list[Ended]:
        settings = ("--device=cpu", "--config=tiny.yaml")
        return several.run_all(ranks, "train", *settings, *argv, cwd=home, **fault)

    return run


@pytest.fixture
def saved() -> Checkpoint:
    """A small model with random weights, and all else that a checkpoint holds."""
    model = tiny_gpt(seed=7, dropout=0.5)  # 7: its greedy text varies
    return Checkpoint(
        model=model.config,
        chars="\n abcdeghknoé",
        weights=dict(model.state_dict()),
        settings={"train": {"seed": 7, "compile": False, "out_dir": None}},
        fingerprint="0f" * 32,
        optimizer=[{0: {"step": torch.tensor(3.0), "exp_avg": torch.full((2, 3), 0.1)}}, {}],
        progress={"step": 3, "best_loss": float("inf")},
    )
