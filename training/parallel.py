"""Several processes that train one model, each on its share of every batch. torchrun makes them."""

import contextlib
import gc
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from system.errors import Fault, UserError

LOST = ("gloo", "NCCL", "Connection closed by peer", "Connection reset by peer")


@dataclass(frozen=True)
class World:
    """The processes of a run, and which of them this is: number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def share(self, batch: Tensor) -> Tensor:
        """The rows of a batch (B, T) that are this process's, (B / size, T)."""
        return batch.chunk(self.size)[self.rank]

    def spread(self, model: nn.Module) -> nn.Module:
        """`model`, whose gradients become the mean over all processes in each backward pass."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def apart(self, forward: Callable[[Tensor], Tensor]) -> contextlib.AbstractContextManager:
        """While this context lasts, what `spread` made adds gradients up and exchanges none."""
        return forward.no_sync() if self.size > 1 else contextlib.nullcontext()

    def sum(self, *values: float, device: torch.device) -> list[float]:
        """Each value summed over all processes; all of them have to ask."""
        return self.reduce(values, dist.ReduceOp.SUM, device)

    def largest(self, value: float, device: torch.device) -> float:
        """The largest value that a process gives; all of them have to ask."""
        return self.reduce((value,), dist.ReduceOp.MAX, device)[0]

    def smallest(self, value: float, device: torch.device) -> float:
        """The smallest value that a process gives; all of them have to ask."""
        return self.reduce((value,), dist.ReduceOp.MIN, device)[0]

    def reduce(self, values: Sequence[float], how: object, device: torch.device) -> list[float]:
        """Each value over all processes, as `how` says."""
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(numbers, how)
        return numbers.tolist()

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """What is done in this context, the leading process does before all others."""
        if not self.leads:
            dist.barrier()
        yield
        if self.leads and self.size > 1:
            dist.barrier()


ALONE = World()


@contextlib.contextmanager
def join(place: torch.device) -> Iterator[World]:
    """The World that torchrun started this process in; ALONE if it did not.

    Raises UserError when the processes cannot meet, Fault when another one is lost on the way.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if place.type == "mps":
        raise UserError(f"{size} processes cannot share mps; use --device cpu, or one process")
    if place.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        dist.init_process_group("nccl" if place.type == "cuda" else "gloo")
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{size} processes cannot meet ({reason}); use torchrun") from error
    try:
        yield World(dist.get_rank(), size)
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)  # which may hold what `spread` made: see below
        lost = isinstance(error, dist.DistError) or any(word in str(error) for word in LOST)
        if not (isinstance(error, RuntimeError) and lost):
            raise
        raise Fault("another process of this run has ended; its message says why") from None
    finally:
        gc.collect()  # torch can wait for itself for ever where that outlives the group
        dist.destroy_process_group()
