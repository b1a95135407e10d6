"""Where the numbers are computed, and how precisely."""

import contextlib

import torch

from errors import UserError

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


def has_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, name, lambda: False)() for name in names)
    return False


def autocast(device: torch.device, dtype: str) -> contextlib.AbstractContextManager:
    """The context in which a model runs at `dtype`: auto, float32 or bfloat16.

    Weights stay float32. On a CPU float32 products may go through oneDNN, which has the same
    accuracy there and is about twice as fast; that holds for the whole process.
    """
    wanted = has_bfloat16(device) if dtype == "auto" else dtype == "bfloat16"
    if wanted:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    if device.type == "cpu":
        torch.set_float32_matmul_precision("medium")
    return contextlib.nullcontext()
