"""Kill a training run again and again while it saves at every step: is anything ever lost?

    python -m tests.helpers.soak --kills 200

Each time, every file has to be readable, no completed save may be lost, and in the end the run has
to be, bit for bit, the one that was never killed.
"""

import argparse
import random
import re
import sys
import tempfile
from pathlib import Path

from system import checkpoint
from system.checkpoint import BEST, LAST
from tests.helpers import runs
from tests.helpers.faults import Processes
from training import metrics

LONGEST = 0.5  # seconds until a kill, of which the start takes about a tenth
SETTINGS = (
    *("--device=cpu", "--config=tiny.yaml", "optim.decay=none", "train.eval_every=1"),
    *("model.n_layer=1", "model.n_embd=64"),  # larger files, which more kills fall into
)


def check(folder: Path, least: int = 0) -> int:
    """The step a killed run stands at. Raises AssertionError or UserError where it is broken.

    `least` is the step that the last completed save is known to have been at.
    """
    last = checkpoint.load(folder / LAST)
    step = last.progress["step"]
    assert step >= least, f"{least} was saved, but {step} is there"
    measured = [record for record in metrics.read(folder) if record["step"] <= step]
    every, end = (last.settings["train"][name] for name in ("eval_every", "max_steps"))
    wanted = [n for n in range(1, step + 1) if n % every == 0 or n == end]
    assert [record["step"] for record in measured] == wanted
    losses = [record["val_loss"] for record in measured]
    assert last.progress["best_loss"] == min(losses, default=float("inf"))
    if losses:
        best = checkpoint.load(folder / BEST).progress
        assert best["best_loss"] <= min(losses)  # that of the next step may be there already
    return step


def soak(processes: Processes, home: Path, *, kills: int, seed: int) -> dict[str, int]:
    """Kill the run in `home` `kills` times and finish it; counts of what was seen."""
    rng, folder = random.Random(seed), home / runs.RUN
    seen = {"kills": 0, "in a save": 0, "before the first step": 0, "steps": 0}
    step = 0
    while seen["kills"] < kills:
        command = (*SETTINGS, "train.max_steps=1000000", *["--resume"] * (folder / LAST).exists())
        delay = rng.uniform(0, LONGEST)
        ended = processes.run("train", *command, cwd=home, kill_after=delay)
        assert ended.status == -9, ended
        shown = [int(n) for n in re.findall(r"^step +(\d+)/", ended.out, re.MULTILINE)]
        seen["kills"] += 1
        seen["in a save"] += any(folder.glob(".*.tmp"))
        seen["before the first step"] += not shown
        if (folder / LAST).exists():  # a step is saved before the next one is shown
            step = check(folder, least=max([step, *(n - 1 for n in shown)]))
    seen["steps"] = step + 3
    limit = (*SETTINGS, f"train.max_steps={step + 3}")
    assert processes.run("train", *limit, "--resume", cwd=home).status == 0
    assert processes.run("train", *limit, "train.out_dir=whole", cwd=home).status == 0
    assert runs.sha256(folder) == runs.sha256(home / "whole")
    assert not any(folder.glob(".*"))
    return seen


def parser() -> argparse.ArgumentParser:
    """The command line of the soak."""
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--kills", type=int, default=200)
    p.add_argument("--seed", type=int, default=1)
    return p


def main(argv: list[str] | None = None) -> int:
    """Soak as the command line `argv` says, and print what was seen."""
    args = parser().parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, Processes() as processes:
        home = Path(folder)
        (home / "tiny.yaml").write_text(runs.SETTINGS)
        (home / "text.txt").write_text(runs.TEXT)
        seen = soak(processes, home, kills=args.kills, seed=args.seed)
    print(", ".join(f"{count:,} {what}" for what, count in seen.items()), "and nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
