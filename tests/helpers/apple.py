"""A pretended Apple chip: tensors that say they are on it, whose numbers a CPU works out.

What runs on it takes the branches of `mps`, and may do only what such a chip can with torch 2.13:

- Each operation has to have a kernel there, by the table that comes with torch (kernels.py), and so
  has each part of one that is made of others.
- A tensor on the chip does not meet one in the memory of the CPU.
- What is known to be refused there, or to be silently wrong, which no run on a CPU would show,
  is refused. Numbers are those of issues of pytorch/pytorch.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from tests.helpers.kernels import kernels, runs_on

MPS, CPU = torch.device("mps:0"), torch.device("cpu")
CORE = torch.device("meta:1")  # what the core of torch takes the chip for; it has no mps here
ON_CPU = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
MEET = ("copy_", "_to_copy", "index.Tensor", "index_put")  # these take from the CPU, too
WIDE = (torch.float64, torch.complex128)
NO_WIDE = (
    "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. "
    "Please use float32 instead."
)


class OnApple(Tensor):
    """A tensor on the pretended chip, whose numbers are in `plain`."""

    def __new__(cls, plain: Tensor) -> "OnApple":
        if plain.dtype in WIDE:
            raise TypeError(NO_WIDE)  # 122602
        layout = {"strides": plain.stride(), "storage_offset": plain.storage_offset()}
        with torch.inference_mode(False):  # one of inference could have no views outside of it
            tensor = Tensor._make_wrapper_subclass(
                cls, plain.size(), **layout, dtype=plain.dtype, device=CORE
            )
        tensor.plain = plain
        return tensor

    device = property(lambda self: MPS)

    def tolist(self) -> list:
        """Torch has none for classes like this one."""
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: int) -> tuple:
        """Saved as what it holds."""
        return self.plain.__reduce_ex__(protocol)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None and generator.device != MPS:
            raise RuntimeError("Expected a 'mps' device type for generator but found 'cpu'")
        # it leaks the future in bfloat16 (195910), and misreads tensors with gaps (181133) and
        # those of 1,024 places and more (174861)
        assert func is not F.scaled_dot_product_attention, "this is wrong on an Apple chip"
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, *_: Any) -> None:
        raise AssertionError(f"{func} is called after the pretence")


class Generator(torch.Generator):
    """A generator for the pretended chip or, as ever, for the CPU."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        generator = super().__new__(cls, "cpu")
        generator.place = torch.device(device)
        return generator

    device = property(lambda self: self.place)


class Mode(TorchDispatchMode):
    """Sees each operation of torch, at some level."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip it would import torch's compiler, which takes a second


class Apple(Mode):
    """While it lasts, `mps` is a device. `seen` are the operations that it ran, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = [x for x in tree_iter((args, kwargs)) if isinstance(x, Tensor)]
        place = kwargs.get("device")
        takes = any(isinstance(x, OnApple) for x in given)
        gives = takes if place is None else place in (MPS, CORE)
        if not (takes or gives):
            return func(*args, **kwargs)
        name = self.need(func)
        if func._can_decompose() and "MPS" not in kernels(name):
            with self:
                return func.decompose(*args, **kwargs)
        refuse(name, given, args, kwargs, gives=gives)
        made = Parts(self).run(func, *tree_map(plain, (args, kwargs)))
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info and argument.alias_info.is_write:
                return made if made is None else value
        return tree_map(lambda x: OnApple(x) if isinstance(x, Tensor) and gives else x, made)

    def need(self, func: Any) -> str:
        """Note an operation that the chip has to do, and say its name."""
        name = func.name().removeprefix("aten::")
        self.seen.add(name)
        if not runs_on("MPS", name):
            raise NotImplementedError(
                f"The operator 'aten::{name}' is not currently implemented for the MPS device."
            )
        return name


class Parts(Mode):
    """Sees what those operations are made of for which the chip has no kernel of its own."""

    def __init__(self, chip: Apple) -> None:
        super().__init__()
        self.chip = chip

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.chip.need(func)
        return self.run(func, args, kwargs or {})

    def run(self, func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Do on the CPU what `func` does."""
        expected = [str(argument.type) for argument in func._schema.arguments]
        args = tuple(  # the core says numbers that it has as tensors, but does not hear them so
            torch.tensor(value) if kind == "Tensor" and isinstance(value, int | float) else value
            for kind, value in zip(expected, args, strict=False)
        )
        if func.is_view or "MPS" in kernels(func.name().removeprefix("aten::")):
            return func(*args, **kwargs)
        with self:
            return func.redispatch(ON_CPU, *args, **kwargs)


def plain(x: Any) -> Any:
    """What the CPU is given in the place of x."""
    if isinstance(x, torch.device):
        return CPU
    return x.plain if isinstance(x, OnApple) else x


def refuse(
    name: str, given: list[Tensor], args: tuple, kwargs: dict[str, Any], *, gives: bool
) -> None:
    """Raise for what an Apple chip does not do, or does wrong, although it has the kernel."""
    here = [x for x in given if isinstance(x, OnApple)]
    single = not name.startswith("_fused")  # most take single numbers from the CPU
    strays = [x for x in given if not isinstance(x, OnApple) and not (single and x.ndim == 0)]
    if here and strays and name not in MEET:
        raise RuntimeError("Expected all tensors to be on the same device, mps:0 and cpu")
    if gives and kwargs.get("dtype") in WIDE:
        raise TypeError(NO_WIDE)
    if name in ("copy_", "_to_copy"):
        waits = not kwargs.get("non_blocking") and args[2:] != (True,)
        assert waits, "read when it is gone (189690, 139550)"
        back = not isinstance(args[0], OnApple) if name == "copy_" else not gives
        kinds = {x.dtype for x in given} | {kwargs.get("dtype", given[0].dtype)}
        assert not back or len(kinds) == 1, "the source is overwritten (189563)"
    assert not kwargs.get("pin_memory"), "there is no pinned memory"
    whole = [x for x in here if x.dtype == torch.int64]
    if name.startswith(("amax", "max")):
        assert all((x.plain >= 0).all() for x in whole), "0 where all are negative (191104)"
    if name.startswith(("_unique", "unique")):
        assert not whole, "wrong places from 2^24 on (195595)"
    if name.startswith(("index_add", "index_put")) and here[0].dtype == torch.int64:
        raise RuntimeError("adding up int64 by index is not supported (161446, 160034)")
