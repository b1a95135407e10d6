"""One training run in a process of its own: validation loss against seconds, as JSON.

    python -m benchmarks.curve BORN FOLDER EVERY ours|nanogpt ...

`time_to_loss.py` starts it; BORN is the time.time() of that moment. What was found is in FOLDER, as
`curve.json`. Imports are inside the two functions: modules of the two sides have the same names,
and both have to start from nothing.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

WINDOW = 64  # context of the losses that mean the same for both, and of nanoGPT's CPU recipe
WINDOWS = (WINDOW, 128)  # where the losses at the end are taken again
RESULT = "curve.json"


class Clock:
    """Seconds while it goes; start-up is the time before it first went."""

    def __init__(self, born: float) -> None:
        self.born, self.startup, self.seconds, self.since = born, 0.0, 0.0, None

    def go(self) -> None:
        self.startup = self.startup or time.time() - self.born
        self.since = self.since or time.perf_counter()

    def stop(self) -> None:
        if self.since:
            self.seconds += time.perf_counter() - self.since
        self.since = None


class Curve:
    """The losses of a run against its clock.

    evaluate: its losses by name, in windows of some length; None is that of the model's own context
    context: the longest window that the model takes
    points: step, seconds, losses, and with CUDA the most megabytes of the GPU held so far
    """

    def __init__(
        self, clock: Clock, evaluate: Callable[[int | None], dict[str, float]], context: int
    ) -> None:
        self.clock, self.evaluate, self.context = clock, evaluate, context
        self.points: list[dict[str, float]] = []

    def add(self, step: int) -> None:
        """Evaluate while the clock stands, in windows of the model's own context."""
        self.clock.stop()
        total = self.clock.startup + self.clock.seconds
        point = {"step": step, "seconds": self.clock.seconds, "total_seconds": total}
        self.points.append({**point, **self.evaluate(None), **gpu_memory()})

    def result(self) -> dict:
        """What is told of the run."""
        return {"startup_seconds": self.clock.startup, "points": self.points}

    def go_on(self, found: dict, step: int) -> None:
        """Take up what was found of a run up to `step`."""
        self.points = [point for point in found["points"] if point["step"] <= step]
        self.clock.startup = found["startup_seconds"]
        self.clock.seconds = self.points[-1]["seconds"]


def gpu_memory() -> dict[str, float]:
    """The most that this process has held on a GPU, by its name in a point."""
    import torch

    there = torch.cuda.is_initialized()
    return {"memory_mb": torch.cuda.max_memory_allocated() / 2**20} if there else {}


def ours(clock: Clock, every: int, folder: str, device: str, *overrides: str) -> Curve:
    """Our trainer, evaluated before the first step, every `every` steps, and at the end.

    Each time it is saved in the folder too, so that a run that is cut off goes on from there.
    """
    from benchmarks import ours
    from system import checkpoint
    from system.files import alone_in, write_whole
    from training.evaluation import losses

    path, found = Path(folder), Path(folder, RESULT)
    with alone_in(path):
        resumed = (path / checkpoint.LAST).is_file()
        trainer = ours.trainer(overrides, device, path)
        names = ("val_loss", "val_loss_trained") if trainer.memory else ("val_loss",)

        def evaluate(window: int | None) -> dict[str, float]:
            return dict(zip(names, losses(trainer, window), strict=False))

        def keep() -> None:
            curve.add(trainer.progress.step)
            write_whole(found, json.dumps(curve.result()).encode())
            checkpoint.save(path / checkpoint.LAST, trainer.checkpoint())

        curve = Curve(clock, evaluate, trainer.model.config.block_size)
        if resumed:
            curve.go_on(json.loads(found.read_text(encoding="utf-8")), trainer.progress.step)
        else:
            clock.go()
            keep()
        while not trainer.done():
            clock.go()
            trainer.update()
            if trainer.progress.step % every == 0 or trainer.done():
                trainer.pause()
                keep()
    return curve


def nanogpt(clock: Clock, every: int, folder: str, *options: str) -> Curve:
    """NanoGPT's own prepare.py and train.py, run as they are from a copy of them.

    Its train.py calls GPT.train(False) to evaluate, where the clock stops, and torch.save after it,
    where the loss is taken.
    """
    import os
    import runpy
    import types

    os.chdir(folder)
    sys.path[0] = folder
    sys.modules.setdefault("requests", types.ModuleType("requests"))  # the text is there already
    runpy.run_path("data/shakespeare_char/prepare.py", run_name="__main__")
    import numpy as np
    import torch

    from model import GPT

    val = torch.from_numpy(np.load("val.npy").astype(np.int64))
    running = []

    def evaluate(window: int | None) -> dict[str, float]:
        return {"val_loss": full_pass(running[0].eval(), val, window)}

    curve = Curve(clock, evaluate, WINDOW)
    turn, save = GPT.train, torch.save

    def turned(model: GPT, mode: bool = True) -> GPT:
        running[:] = [model]
        getattr(torch, next(model.parameters()).device.type).synchronize()  # a GPU lags behind
        clock.go() if mode else clock.stop()
        return turn(model, mode)

    def saved(checkpoint: dict, path: str) -> None:
        curve.add(checkpoint["iter_num"])
        running[0].train()

    GPT.train, torch.save = turned, saved
    sys.argv = ["train.py", "config/train_shakespeare_char.py", *options]
    sys.argv += [f"--eval_interval={every}", "--eval_iters=1", "--always_save_checkpoint=True"]
    try:
        runpy.run_path("train.py", run_name="__main__")
    finally:
        GPT.train, torch.save = turn, save
    curve.context = running[0].config.block_size
    return curve


def full_pass(model, ids, window: int | None) -> float:
    """Mean loss of nanoGPT's model over all of `ids` but the first, in windows side by side."""
    import torch

    window = window or model.config.block_size
    place = next(model.parameters()).device
    total, rows = 0.0, max(1, 16384 // window)
    with torch.inference_mode():
        for start in range(0, len(ids) - 1, rows * window):
            piece = ids[start : start + rows * window + 1].to(place)
            whole = (len(piece) - 1) // window * window
            for part in (piece[: whole + 1], piece[whole:]):
                if (size := len(part) - 1) > 0:
                    shape = (-1, window) if size >= window else (1, -1)
                    _, loss = model(part[:-1].view(shape), part[1:].view(shape))
                    total += loss.item() * size
    return total / (len(ids) - 1)


def main() -> None:
    """Run what the command line names, and write its curve."""
    born, folder, every, side, *rest = sys.argv[1:]
    run = {"ours": ours, "nanogpt": nanogpt}[side]
    curve = run(Clock(float(born)), int(every), folder, *rest)
    result = curve.result()
    for window in (window for window in WINDOWS if window <= curve.context):
        losses = curve.evaluate(window)  # of the weights at the end
        result |= {f"{name}_{window}": loss for name, loss in losses.items()}
    Path(folder, RESULT).write_bytes(json.dumps(result).encode())


if __name__ == "__main__":
    main()
