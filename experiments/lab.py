"""The runs of an experiment, one after the other or side by side, and how long they will take."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

import handmade
from data import rules
from data.laws import Law
from experiments.arms import Run, Start, begin
from experiments.between import line
from experiments.judge import Judge, margins
from experiments.store import Store
from experiments.texts import Text, domain, read_text
from experiments.twin import JUDGED, Recipe, Result, carry_out, optimizer_of, take_step
from experiments.windows import Data
from system import checkpoint
from system.checkpoint import Checkpoint

TIMED = 4  # steps by which the time of a run is foretold
PROOFS = 4  # passes through all contexts that a run makes


@dataclass
class Lab:
    """What all runs of an experiment share: a rule, the model that was set by hand, a judge."""

    law: Law
    hand: Checkpoint
    judge: Judge
    recipe: Recipe
    texts: dict[Data, Text]


@functools.cache  # each process that carries runs out makes one
def open_lab(rule: str, file: Path, recipe: Recipe, texts: tuple[Data, ...]) -> Lab:
    """The lab of a rule, which is the content of the file. Raises ValueError where its model would
    be too large."""
    law = rules.read(str(file))
    made = handmade.compiled(law)
    hand = Checkpoint(*made, {"train": {"dtype": "float32"}}, "", [], {"step": 0})
    judge = Judge(law, domain(law), hand.build())
    long = recipe.long_carries
    shown = {data: read_text(law, data, judge.domain, long) for data in texts}
    return Lab(law, hand, judge, recipe, shown)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread, as all runs do: they go side by side, and two threads of so small a
    model wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def carry(store: Store, run: Run, texts: tuple[Data, ...], between: bool) -> Result:
    """Carry out a run, or what is missing of it, and write down its weights."""
    with one_thread():
        lab = open_lab(store.rule, store.rule_file, store.recipe, texts)
        result, path = store.found.get(str(run)), store.weights_of(run)
        if result is None:
            model, result = carry_out(run, lab.hand, lab.texts[run.data], lab.judge, store.recipe)
            store.save(run, model, result, lab.law.chars)
        else:
            model = checkpoint.load(path).build()
        if between and result.between is None and model.config == lab.hand.model:
            result.between = line(model, lab.hand.build(), lab.judge.quick)
        return result


def processors() -> int:
    """How many this process may use."""
    asked = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    return len(asked(0)) if asked else os.cpu_count() or 1


def alone() -> None:
    """Prepare a process beside others: Ctrl-C is the parent's, and nothing outlives that."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def carry_all(
    store: Store, runs: Sequence[Run], texts: tuple[Data, ...], *, between: bool, jobs: int
) -> Iterator[Run]:
    """Carry out `runs`, so many at a time; each is kept in the store, and then given."""
    if jobs == 1:
        for run in runs:
            store.keep(run, carry(store, run, texts, between))
            yield run
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=alone)
    try:
        futures = {pool.submit(carry, store, run, texts, between): run for run in runs}
        for future in as_completed(futures):
            store.keep(futures[future], future.result())
            yield futures[future]
    except BaseException:  # what is under way would take minutes
        for process in list((pool._processes or {}).values()):
            process.terminate()
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def step_seconds(lab: Lab, start: Start, text: Text) -> float:
    """How long a step of a run takes, with its share of the judging."""
    run = Run(start, next(iter(lab.texts)), seed=0)
    model = begin(run, lab.hand, lab.recipe.layers)
    optimizer, times = optimizer_of(model, lab.recipe), []
    for step in range(TIMED + 1):
        before = time.perf_counter()
        take_step(model.train(), optimizer, *text.batch(lab.recipe.batch_size, 0, step), 0.0)
        times.append(time.perf_counter() - before)
    before = time.perf_counter()
    margins(model.eval(), lab.judge.quick)
    judged = time.perf_counter() - before
    proofs = PROOFS * len(lab.judge.counted) / len(lab.judge.quick)
    return min(times[1:]) + judged * (JUDGED + proofs) / lab.recipe.steps


def foretell(lab: Lab, runs: Sequence[Run], jobs: int) -> float:
    """Seconds that `runs` take at most, by what a few steps of each kind take."""
    with one_thread():
        text = next(iter(lab.texts.values()))
        each = {start: step_seconds(lab, start, text) for start in {run.start for run in runs}}
    return sum(each[run.start] for run in runs) * lab.recipe.steps / max(1, jobs)
