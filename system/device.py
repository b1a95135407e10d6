"""Where the numbers are computed, and how precisely."""

import contextlib
import ctypes
import os
import re
import sys
import warnings
from collections.abc import Iterator

import torch

from system.errors import Fault, UserError

CHOICES = ("auto", "cpu", "cuda", "mps")
LARGE = 20  # cores of a GPU that trains in minutes what is meant for GPUs
GPU = re.compile(r"\b(mps|metal|cuda|cublas|cudnn|hip)", re.IGNORECASE)  # in what torch says


def pick(name: str) -> torch.device:
    """The device called `name`; auto is CUDA, then MPS, then the CPU, the first that computes.

    A GPU that is there but cannot compute is told of on standard error. Where several processes
    share the work, auto does not do without it: the others might not. Raises UserError.
    """
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    for gpu in there if name == "auto" else {name} & there.keys():
        if not there[gpu]():
            continue
        if not (reason := trouble(gpu)):
            return torch.device(gpu)
        if name == gpu or not alone:
            raise UserError(f"{gpu} cannot compute here ({reason}); use --device cpu")
        print(f"{gpu} cannot compute here ({reason}); going on with the CPU", file=sys.stderr)
    if name not in ("auto", "cpu"):
        raise UserError(f"--device {name} is not available on this machine; use --device auto")
    return torch.device("cpu")


def trouble(gpu: str) -> str:
    """Why the GPU of this process cannot compute, or nothing if it can: tried on a product.

    That it is there says little: torch may have no kernels for it, as for those from before 2018,
    or another process may have filled its memory.
    """
    place = torch.device(gpu, int(os.environ.get("LOCAL_RANK", "0")) if gpu == "cuda" else 0)
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's, about the same, is ten lines long
            ones = torch.ones(8, 8, device=place)
            (ones @ ones).sum().item()  # waits for it
    except Exception as error:  # drivers and libraries raise anything
        return first_sentence(error)
    return ""


def first_sentence(error: Exception) -> str:
    """What `error` says, without the advice that follows in torch's messages."""
    said = str(error).strip() or type(error).__name__
    return said.splitlines()[0].partition(". ")[0].rstrip(".")[:200]


def refused(error: Exception) -> str:
    """What a GPU could not do, in a sentence, if `error` says that, and nothing otherwise."""
    said = first_sentence(error)
    return said if GPU.search(said) and "out of memory" not in said else ""


@contextlib.contextmanager
def saying(remedy: str) -> Iterator[None]:
    """Let what a GPU cannot do become a Fault, one sentence that ends with the `remedy`."""
    try:
        yield
    except (RuntimeError, TypeError) as error:  # an operation or a type of numbers is missing
        if not (said := refused(error)):
            raise
        raise Fault(f"{said}; {remedy}") from error


def cores(place: torch.device) -> int:
    """How many cores a GPU has: multiprocessors on CUDA, GPU cores on an Apple chip.

    0 on a CPU, and where torch does not say.
    """
    if place.type == "cuda":
        return torch.cuda.get_device_properties(place).multi_processor_count
    count = getattr(torch.backends.mps, "get_core_count", None)  # older ones have none
    return count() if place.type == "mps" and count else 0


def is_large(place: torch.device) -> bool:
    """Whether it takes settings that are meant for a GPU: those without the cpu section."""
    return cores(place) >= LARGE


def seed(number: int, place: torch.device) -> None:
    """Let random draws on the device begin at `number`.

    torch.manual_seed does that for every kind of device, and formats the stack for each that is
    not there yet, which takes a tenth of a millisecond.
    """
    if place.type == "cpu":
        torch.default_generator.manual_seed(number)
    else:
        torch.manual_seed(number)


def keep_memory() -> None:
    """Let the C library keep what is freed, for the whole process; only glibc is known to listen.

    Left alone, it gives every large tensor back to the system and gets it anew, a page at a time:
    thousands of page faults in each step of training, a sixth to a third of its time.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD: mallopt(3)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in names)
    return False


def set_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of the matrix products at the precision called `name`.

    auto is bfloat16 where the hardware has it. On a CPU that has it not, auto lets oneDNN take
    over the float32 products, for the whole process: it chooses the fastest way it knows.
    """
    if name == "auto" and has_bfloat16(device):
        return torch.bfloat16
    if name == "auto" and device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    return torch.bfloat16 if name == "bfloat16" else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager:
    """The context in which a model of float32 weights computes at `dtype`."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
