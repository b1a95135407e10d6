"""What the benchmarks share: a child process for each side, the machine, tables, files.

Every benchmark asks its sides in turn, in one run, and compares what they did in the same round:
on a machine that is slower now and faster then, only such a ratio means something.
"""

import argparse
import contextlib
import datetime
import json
import multiprocessing
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from system import device
from system.commandline import Parser
from system.errors import Fault
from system.files import write_whole
from training import estimate

RESULTS = Path(__file__).with_name("results")


def new_parser(prog: str, about: str, *, peer: bool = True) -> Parser:
    """A command line with the options that all benchmarks have, or all that have a peer."""
    p = Parser(prog=f"python -m benchmarks.{prog}", about=about)
    checkout = "a checkout of nanoGPT to run beside ours; without it only ours runs"
    if peer:
        p.add_argument("--nanogpt", type=Path, metavar="PATH", help=checkout)
    p.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="folder of JSON, PNG")
    p.add_argument("--device", choices=device.CHOICES, default="auto", help="default: auto")
    return p


def count(text: str) -> int:
    """A reader of whole numbers from 1 on for command lines."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, not {text}")
    return int(text)


def machine(place: torch.device) -> dict[str, str | int]:
    """Where and when a benchmark ran."""
    gpu = {"gpu": torch.cuda.get_device_name(place)} if place.type == "cuda" else {}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **gpu,
    }


def processor() -> str:
    """The name of the processor, and which bfloat16 instructions it has."""
    names = {
        "_is_amx_tile_supported": "AMX",
        "_is_avx512_bf16_supported": "AVX512-BF16",
    }
    there = [name for test, name in names.items() if getattr(torch.cpu, test, bool)()]
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text("utf-8").splitlines() if "model name" in line]
        name = lines[0].split(":")[1].strip() if lines else name
    return f"{name} ({', '.join(there) or 'no bfloat16 products'})"


def peak_memory(place: torch.device) -> float:
    """The most memory this process has held so far, in megabytes; on a GPU that of its tensors."""
    status = Path("/proc/self/status")  # Linux's getrusage counts the parent's memory, too
    known = place.type != "cuda" and status.exists()
    for line in status.read_text("utf-8").splitlines() if known else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return estimate.peak_memory(place) / 2**20


def wait(place: torch.device) -> None:
    """Until all that was asked of the device is done, so that a clock can be read."""
    getattr(torch, place.type).synchronize()


def serve(link: Connection, born: float, make: Callable[..., Callable], args: tuple) -> None:
    """The life of a child: make the side, tell the seconds since birth, answer until the end."""
    try:
        answer = make(*args)
        link.send((True, time.time() - born))
        while (question := link.recv()) is not None:
            link.send((True, answer(*question)))
    except Exception as error:  # told to the parent, whatever it is
        with contextlib.suppress(OSError):  # the parent is gone
            link.send((False, f"{type(error).__name__}: {error}"))


class Side:
    """One of those compared, in a process of its own that sleeps while the others run.

    make: called as make(*args) in the child; what it returns answers the questions
    startup: seconds from the birth of the process to the end of `make`
    """

    def __init__(self, make: Callable[..., Callable], *args: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, other = context.Pipe()
        self.child = context.Process(
            target=serve, args=(other, time.time(), make, args), daemon=True
        )
        self.child.start()
        other.close()
        self.startup: float = self.receive()

    def ask(self, *question: Any) -> Any:
        """The answer of the child. Raises Fault when it failed."""
        with contextlib.suppress(OSError):  # `receive` tells
            self.link.send(question)
        return self.receive()

    def receive(self) -> Any:
        """What the child sends next. Raises Fault when it failed."""
        try:
            fine, answer = self.link.recv()
        except (EOFError, OSError):
            raise Fault("a benchmark's child process died; is there enough memory?") from None
        if not fine:
            raise Fault(f"a benchmark's child process failed: {answer}")
        return answer

    def close(self) -> None:
        """End the child."""
        self.link.send(None)
        self.child.join()


def apart(act: Callable[..., Any], *args: Any) -> Any:
    """The result of act(*args) in a process of its own. Raises Fault when it failed."""
    side = Side(partial, act, *args)
    answer = side.ask()
    side.close()
    return answer


def start_sides(made: dict[str, tuple], *question: Any) -> tuple[dict[str, Side], dict[str, str]]:
    """The sides by name, after a first answer, in which they allocate and compile; and those that
    cannot give it, with the reason.

    made: what `Side` takes. Raises Fault where the first of them cannot.
    """
    sides, left_out = {}, {}
    for name, making in made.items():
        try:
            side = Side(*making)
            side.ask(*question)
            sides[name] = side
        except Fault as error:
            if not sides:
                raise
            print(f"{name} is left out: {error}", file=sys.stderr)
            left_out[name] = str(error)
    return sides, left_out


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median over the rounds of theirs / ours."""
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown whose columns are aligned, the first to the left."""
    cells = [list(header), *map(list, rows)]
    widths = [max(2, *(len(row[i]) for row in cells)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        return f"| {' | '.join([first, *rest])} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def publish(
    out: Path,
    name: str,
    *,
    result: dict[str, Any],
    tables: Sequence[str],
    figure: Figure | None = None,
) -> None:
    """Print the machine and the tables; write name.md, name.json and name.png, if it has any."""
    where = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    text = "\n\n".join([where, *tables]) + "\n"
    print(f"\n{text}")
    write_whole(out / f"{name}.md", text.encode())
    write_whole(out / f"{name}.json", (json.dumps(result, indent=1) + "\n").encode())
    if figure:
        picture = out / f"{name}.png"
        write_whole(picture, lambda file: figure.savefig(file, format="png", dpi=110))
    print(f"written: {out / name}.md, .json{' and .png' if figure else ''}")
