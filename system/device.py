"""Where the numbers are computed, and how precisely."""

import contextlib
import ctypes
import sys

import torch

from system.errors import UserError

CHOICES = ("auto", "cpu", "cuda", "mps")


def pick(name: str) -> torch.device:
    """The device called `name`; auto is CUDA, then MPS, then the CPU. Raises UserError."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(device for device, available in there.items() if available)
    if not there[name]:
        raise UserError(f"--device {name} is not available on this machine; use --device auto")
    return torch.device(name)


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
