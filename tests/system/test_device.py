"""Which device is taken and with which settings, with stand-ins for GPUs; what is set for all."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import sample
import train
from system import device
from system.errors import Fault, UserError
from tests.helpers import ROOT
from tests.helpers import apple as pretended
from tests.helpers.apple import Apple
from tests.helpers.faults import Processes
from tests.helpers.kernels import runs_on
from training import parallel
from training.trainer import Trainer


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc is asked to keep memory")
def test_memory_is_kept(processes: Processes) -> None:
    def page_faults(how: str) -> int:
        return int(processes.run("tests.helpers.page_faults", how, cwd=ROOT).out)

    assert page_faults("keep") * 10 < page_faults("leave")  # of 256 MB, 65,536 pages


NO_KERNEL = """CUDA error: no kernel image is available for execution on the device
Search for `cudaErrorNoKernelImageForDevice' in https://docs.nvidia.com for more information.
CUDA kernel errors might be asynchronously reported at some other API call."""
FULL = "CUDA out of memory. Tried to allocate 2.00 MiB. GPU 0 has a total capacity of 15.89 GiB"
# what torch raises by itself where there is no GPU: one that is built for them, and one that is not
BUILT = torch.version.cuda is not None
UNABLE = (
    "Found no NVIDIA driver on your system" if BUILT else "Torch not compiled with CUDA enabled"
)
TROUBLES = {  # what torch raises on a GPU: what is said of it
    RuntimeError(NO_KERNEL): "CUDA error: no kernel image is available for execution on the device",
    torch.OutOfMemoryError(FULL): "CUDA out of memory",
    NotImplementedError(): "NotImplementedError",
    None: UNABLE,
}


def has_cuda(
    monkeypatch: pytest.MonkeyPatch, ones: Callable[..., torch.Tensor] | Exception | None
) -> None:
    """Let there be a GPU, on which torch.ones raises or does as is said."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    if isinstance(ones, Exception):
        error = ones

        def ones(*_: int, device: torch.device) -> torch.Tensor:
            assert device.type == "cuda"
            raise error

    if ones:
        monkeypatch.setattr(torch, "ones", ones)


@pytest.mark.parametrize(("error", "reason"), TROUBLES.items())
def test_a_gpu_that_cannot_compute(
    error: Exception | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    if error is None and torch.cuda.is_available():
        pytest.skip("this torch can do what it should not")
    has_cuda(monkeypatch, error)
    assert device.pick("cpu").type == "cpu" and not capsys.readouterr().err
    assert device.pick("auto").type == "cpu"
    said = f"cuda cannot compute here ({reason}); going on with the CPU\n"
    assert capsys.readouterr() == ("", said)
    with pytest.raises(UserError) as refused:
        device.pick("cuda")
    wanted = f"cuda cannot compute here ({reason}); use --device cpu"
    assert (str(refused.value), refused.value.status) == (wanted, 2)
    monkeypatch.setenv("WORLD_SIZE", "2")  # the other process might have a GPU that can
    with pytest.raises(UserError, match="use --device cpu"):
        device.pick("auto")
    assert capsys.readouterr() == ("", "")


def test_each_process_tries_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def ones(*size: int, device: torch.device) -> torch.Tensor:
        tried.append(device)
        return torch.full(size, 1.0)

    has_cuda(monkeypatch, ones)
    assert device.pick("auto") == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert device.pick("cuda") == torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device.pick("auto") == device.pick("mps") == torch.device("mps")
    assert list(map(str, tried)) == ["cuda:0", "cuda:3", "mps:0", "mps:0"]


def test_what_is_not_there() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda is not available on this machine; use --device"):
            device.pick("cuda")
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match="mps is not available on this machine; use --device"):
            device.pick("mps")


def width(trainer: Trainer, begun: float) -> str:
    """What stands for an estimate."""
    return f"width {trainer.model.config.n_embd}"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this torch can do what it should not")
def test_commands_on_a_machine_whose_gpu_cannot_compute(
    home: Path, call: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_cuda(monkeypatch, None)
    sections = "\ncpu: {model: {n_embd: 4}}\n"
    Path("tiny.yaml").write_text(Path("tiny.yaml").read_text() + sections)
    line = ("--config", "tiny.yaml", "--dry-run")
    monkeypatch.setattr(train, "estimate", width)
    said = f"cuda cannot compute here ({UNABLE}); going on with the CPU"
    assert call(train.main, *line) == (0, "width 4\n", f"{said}\n")  # as the cpu section says
    for main, argv in ((train.main, line), (sample.main, ("--handmade",))):
        message = refusal(main, *argv, "--device", "cuda")
        assert message.endswith(f"({UNABLE}); use --device cpu\n")
        assert call(main, *argv, "--device", "cpu").status == 0


def test_draws_begin_where_torch_begins_them() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    device.seed(7, torch.device("cpu"))
    assert torch.rand(3).equal(expected)


def test_bfloat16_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)  # emulated
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for major, has in ((7, False), (8, True)):  # of a T4, of an A100
        about = SimpleNamespace(major=major)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, about=about: about)
        assert device.has_bfloat16(torch.device("cuda")) is has


def test_the_cores_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    about = SimpleNamespace(multi_processor_count=40)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda place: about)
    monkeypatch.setattr(torch.backends.mps, "get_core_count", lambda: 8, raising=False)
    places = [torch.device(name) for name in ("cuda", "mps", "cpu")]
    assert [device.cores(place) for place in places] == [40, 8, 0]
    assert [device.is_large(place) for place in places] == [True, False, False]
    monkeypatch.delattr(torch.backends.mps, "get_core_count")
    assert device.cores(places[1]) == 0


SIZES = {  # cores and options: whether the cpu section counts, and whether that is said
    (8, ""): (True, True),
    (19, ""): (True, True),
    (20, ""): (False, False),
    (8, "--cpu-section no"): (False, False),
    (38, "--cpu-section yes"): (True, False),
    (38, "--device cpu"): (True, False),
    (38, "--device cpu --cpu-section no"): (False, False),
}


@pytest.mark.parametrize(("cores", "options"), SIZES)
def test_a_small_gpu_takes_the_settings_of_a_cpu(
    cores: int,
    options: str,
    home: Path,
    call: Callable,
    apple: Apple,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mps, "get_core_count", lambda: cores, raising=False)
    monkeypatch.setattr(train, "estimate", width)
    plain = Path("tiny.yaml").read_text()
    Path("both.yaml").write_text(f"{plain}\ncpu: {{model: {{n_embd: 4}}}}\n")
    small, said = SIZES[cores, options]
    for name, counts, line in (("both.yaml", small, said), ("tiny.yaml", False, False)):
        sizes = f"sizes  those of the cpu: section, because this GPU has {cores} cores, fewer than"
        wanted = f"{sizes} 20; --cpu-section no takes the others\n" if line else ""
        wanted += f"width {4 if counts else 8}\n"
        assert call(train.main, "--config", name, "--dry-run", *options.split()) == (0, wanted, "")


def test_a_run_that_goes_on_is_told_of_no_sizes(
    home: Path, refusal: Callable, apple: Apple, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.mps, "get_core_count", lambda: 8, raising=False)
    Path("both.yaml").write_text("cpu: {model: {n_layer: 1}}\n")
    assert "to resume" in refusal(train.main, "--config", "both.yaml", "--resume")


def test_the_cpu_section_is_for_new_runs(home: Path, refusal: Callable) -> None:
    message = refusal(train.main, "--config", "tiny.yaml", "--resume", "--cpu-section", "no")
    assert message == "train.py: --cpu-section is for new runs; leave it out\n"


def test_processes_do_not_share_an_apple_chip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    wanted = pytest.raises(UserError, match="2 processes cannot share mps; use --device cpu")
    with wanted, parallel.join(torch.device("mps")):
        pass


def test_what_a_gpu_could_not_do_is_told_from_other_errors() -> None:
    for error in (
        NotImplementedError(
            "The operator 'aten::x' is not currently implemented for the MPS device. If"
        ),
        TypeError(pretended.NO_WIDE),
        RuntimeError(NO_KERNEL),
        RuntimeError("MPS: Unsupported type. Please"),
        RuntimeError("cuBLAS error"),
    ):
        said = device.refused(error)
        assert said and ". " not in said and "\n" not in said
        with pytest.raises(Fault, match=r"; do this$") as raised, device.saying("do this"):
            raise error
        assert raised.value.__cause__ is error
    for error in (
        RuntimeError("shapes cannot be multiplied"),
        TypeError("unsupported operand"),
        RuntimeError("MPS backend out of memory (MPS allocated: 5 GB)"),
    ):
        with pytest.raises(type(error)) as raised, device.saying("do this"):
            raise error
        assert raised.value is error


LACKING = "The operator 'aten::{}' is not currently implemented for the MPS device"


@pytest.fixture
def lacking(apple: Apple, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Let the pretended Apple chip have no kernel for an operation."""

    def lack(name: str) -> None:
        monkeypatch.setattr(
            pretended, "runs_on", lambda backend, op: op != name and runs_on(backend, op)
        )

    return lack


def test_an_operation_that_is_missing_in_a_run(
    tiny: Callable, call: Callable, lacking: Callable
) -> None:
    lacking("_fused_adamw_")
    auto = ("--config", "tiny.yaml", "--device", "auto")
    ended = call(train.main, *auto)
    remedies = "--resume checkpoints/tiny --device cpu", "--overwrite --device cpu"
    either = f"go on with {remedies[0]}, or start anew with {remedies[1]}"
    message = f"train.py: {LACKING.format('_fused_adamw_')}; {either}\n"
    assert (ended.status, ended.err) == (1, message)
    for remedy in remedies:
        assert call(train.main, *auto, *remedy.split()).status == 0
    with pytest.raises(Fault):
        call(train.main, *auto, "--overwrite", "--debug")


def test_an_operation_that_is_missing_elsewhere(
    tiny: Callable, call: Callable, lacking: Callable
) -> None:
    for name, main, argv in (
        ("_to_copy", train.main, ("--config", "tiny.yaml")),
        ("argmax", sample.main, ("--handmade",)),
    ):
        lacking(name)
        ended = call(main, *argv)
        message = f"{main.__module__}.py: {LACKING.format(name)}; use --device cpu\n"
        assert (ended.status, ended.err[ended.err.index(main.__module__) :]) == (1, message)
        assert call(main, *argv, "--device", "cpu").status == 0
