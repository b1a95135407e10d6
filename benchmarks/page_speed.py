"""How fast look.py's page writes in a headless Chromium: characters a second, two sizes of model.

    python -m benchmarks.page_speed
    python -m benchmarks.page_speed --ckpt checkpoints/tiny_shakespeare

Random weights, of the shapes of the shipped settings without and with a GPU; or a run of one's own,
with its counts and without. The sides write in turn, a text each. The text is longer
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
from system.errors import Fault, UserError

SHAPES = {  # without and with a GPU: configs/tiny_shakespeare.yaml
    "small": {"n_layer": 4, "n_head": 2, "n_embd": 128, "block_size": 256, "shift": 0.5},
    "large": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256, "shift": 0.5},
}
ALONE = "--trained-alone"


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="python -m benchmarks.page_speed", about=__doc__)
    p.add_argument("--rounds", type=count, default=5, metavar="N", help="texts; default: 5")
    length = "characters of each; default: 400"
    p.add_argument("--ckpt", type=Path, metavar="PATH", help="a run, in place of random weights")
    p.add_argument("--characters", type=count, default=400, metavar="N", help=length)
    return p


def random(shape: str, folder: Path) -> Path:
    """A model of this shape."""
    gpt = GPT(GPTConfig(VOCABULARY, **SHAPES[shape]))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in gpt.parameters():
            if p.ndim > 1:
                p.normal_(std=1 / p.shape[1] ** 0.5, generator=generator)
    chars = "".join(map(chr, range(48, 48 + VOCABULARY)))
    saved = Checkpoint(gpt.config, chars, dict(gpt.state_dict()), {}, "random", [], {"step": 0})
    checkpoint.save(folder / f"{shape}.pt", saved)
    return folder / f"{shape}.pt"


def pages(args: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """The pages that are measured, by name. Raises Fault where one cannot be written."""
    if args.ckpt:
        sides = {"counted and trained": [args.ckpt], "trained alone": [args.ckpt, ALONE]}
    else:
        sides = {shape: [random(shape, folder)] for shape in SHAPES}
    written = {name: folder / f"{i}.html" for i, name in enumerate(sides)}
    for name, options in sides.items():
        if look.main(["--out", str(written[name]), "--ckpt", *map(str, options)]):
            raise Fault(f"there is no page of {name} to measure")
    return written


def command(args: argparse.Namespace) -> int:
    """Write pages, let them write in turn, and print the medians."""
    from playwright.sync_api import sync_playwright  # here: it is no part of the project

    if (path := shutil.which("chromium")) is None:
        raise UserError("there is no chromium; install it")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        files = pages(args, Path(folder))
        sizes = {name: f"{file.stat().st_size / 1e6:.1f} MB" for name, file in files.items()}
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tabs, speeds = {}, {name: [] for name in files}
        for name, file in files.items():
            tabs[name] = browser.new_page()
            tabs[name].goto(file.as_uri())
            tabs[name].locator("#status", has_text="ready").wait_for(timeout=0)
        for seed in range(args.rounds):
            for name, tab in tabs.items():
                tab.bring_to_front()
                tab.fill("#seed", str(seed))
                tab.fill("#length", str(args.characters))
                tab.evaluate("app.begin()")  # resolves when the text is written
                speeds[name].append(int(tab.inner_text("#speed").split()[0]))
        weights = {
            name: tab.evaluate("app.main.model.weights.length") for name, tab in tabs.items()
        }
        version = browser.version
        browser.close()
    rows = [
        [name, f"{weights[name]:,}", sizes[name], str(round(statistics.median(speeds[name])))]
        for name in files
    ]
    rows[0][0] += f" (Chromium {version})"
    print(machine(torch.device("cpu")))
    print(table(["model", "weights", "page", "characters/s"], rows))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
