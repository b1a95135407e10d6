"""How fast look.py's page writes in a headless Chromium: characters a second, two sizes of model.

    python -m benchmarks.page_speed

Random weights, of the shapes of the shipped settings without and with a GPU. The text is longer
than the window, which is cut to its last half when it is full, so that its characters are computed
again. It needs chromium, and requirements-dev.txt.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import torch

import look
from benchmarks.bench import count, machine, table
from benchmarks.sample_speed import VOCABULARY
from model import GPT, GPTConfig
from system import checkpoint
from system.checkpoint import Checkpoint
from system.commandline import Parser, run
from system.errors import UserError

SHAPES = {  # without and with a GPU: configs/tiny_shakespeare.yaml
    "small": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 256, "shift": 0.5},
    "large": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "shift": 0.0},
}


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="python -m benchmarks.page_speed", about=__doc__)
    p.add_argument("--rounds", type=count, default=5, metavar="N", help="texts; default: 5")
    length = "characters of each; default: 400"
    p.add_argument("--characters", type=count, default=400, metavar="N", help=length)
    return p


def page(shape: str, folder: Path) -> tuple[Path, int]:
    """A page with a model of this shape, and how many weights that has."""
    gpt = GPT(GPTConfig(VOCABULARY, **SHAPES[shape]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in gpt.parameters():
            if p.ndim > 1:
                p.normal_(std=1 / p.shape[1] ** 0.5, generator=generator)
    chars = "".join(map(chr, range(48, 48 + VOCABULARY)))
    saved = Checkpoint(gpt.config, chars, dict(gpt.state_dict()), {}, "random", [], {"step": 0})
    checkpoint.save(folder / f"{shape}.pt", saved)
    out = folder / f"{shape}.html"
    look.main(["--ckpt", str(folder / f"{shape}.pt"), "--out", str(out)])
    return out, gpt.parameter_count()


def command(args: argparse.Namespace) -> int:
    """Write pages, let them write, and print the medians."""
    from playwright.sync_api import sync_playwright  # here: it is no part of the project

    if (path := shutil.which("chromium")) is None:
        raise UserError("there is no chromium; install it")
    rows = []
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for shape in SHAPES:
            file, weights = page(shape, Path(folder))
            tab, speeds = browser.new_page(), []
            tab.goto(file.as_uri())
            tab.locator("#status", has_text="ready").wait_for()
            for seed in range(args.rounds):
                tab.fill("#seed", str(seed))
                tab.fill("#length", str(args.characters))
                tab.evaluate("app.begin()")  # resolves when the text is written
                speeds.append(int(tab.inner_text("#speed").split()[0]))
            size = f"{file.stat().st_size / 1e6:.1f} MB"
            rows.append([shape, f"{weights:,}", size, str(round(statistics.median(speeds)))])
        rows[0][0] += f" (Chromium {browser.version})"
        browser.close()
    print(machine(torch.device("cpu")))
    print(table(["model", "weights", "page", "characters/s"], rows))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
