"""N-grams as the weights of a GPT, order by order: how large, how good, and whether they are right.

    python -m benchmarks.ngram_weights

At every place of the validation text, each model's probabilities are held against the tables that
it was made from, and against counts in plain dictionaries, which share no code with either.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import functools
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import handmade
from benchmarks.bench import machine, new_parser, peak_memory, publish, table
from benchmarks.kneser_ney import KneserNey
from data import tiny_shakespeare
from data.corpus import Corpus
from data.counts import count
from data.ngrams import Ngrams
from data.windows import eval_windows
from handmade.ngram import BLOCK_SIZE
from model import GPT
from system import device
from system.commandline import Parser, run

ORDERS = range(2, 6)
ROWS = 16  # windows at a time; each of their places has up to 61,212 units
COLUMNS = {  # what is measured of an order, and how it is written; losses in nats per character
    "order": "d",
    "units": ",d",
    "weights": ",d",
    "seconds to make": ".1f",
    "peak memory by then, MB": ",.0f",
    "loss": ".4f",
    "loss of the counts": ".4f",
    "log-probabilities off from the counts": ".0e",
    "off from a dictionary": ".0e",
}


def dictionary(ids: Tensor, vocab_size: int, order: int) -> Callable[[Tensor], Tensor]:
    """Counts of ids (N,) that are looked up: a function from idx (B, T) to log-probabilities."""
    counts = KneserNey([ids.tolist()], vocab_size, order)

    @functools.cache
    def after(context: tuple[int, ...]) -> np.ndarray:
        return np.log([counts.prob(char, context) for char in range(vocab_size)])

    def log_probs(idx: Tensor) -> Tensor:
        ends = ((row, place + 1) for row in idx.tolist() for place in range(len(row)))
        rows = [after(tuple(row[max(0, end - order + 1) : end])) for row, end in ends]
        return torch.from_numpy(np.array(rows)).view(*idx.shape, vocab_size)

    return log_probs


@torch.inference_mode()
def hold(
    model: GPT, ids: Tensor, *others: Callable[[Tensor], Tensor]
) -> tuple[float, list[float], list[float]]:
    """The model's loss on ids (N,), that of each other, and how far its log-probabilities are off
    from each other's, at the most.

    others: functions from idx (B, T) to log-probabilities (B, T, V), all on the CPU
    """
    place, loss = next(model.parameters()).device, 0.0
    losses, off = [0.0] * len(others), [0.0] * len(others)
    for idx, targets in eval_windows(ids, BLOCK_SIZE, ROWS):
        said = model(idx.to(place)).cpu().double().log_softmax(dim=-1)
        loss += F.nll_loss(said.mT, targets, reduction="sum").item()
        for i, other in enumerate(others):
            expected = other(idx).double()
            losses[i] += F.nll_loss(expected.mT, targets, reduction="sum").item()
            off[i] = max(off[i], (said - expected).abs().max().item())
    count = len(ids) - 1
    return loss / count, [each / count for each in losses], off


def measure(dataset: str, text: Corpus, order: int, place: torch.device) -> dict[str, float]:
    """Make the model of one order, and ask it about the whole validation text: COLUMNS."""
    begun = time.perf_counter()
    model = handmade.load_ngrams(dataset, order).build()
    made = [time.perf_counter() - begun, peak_memory(torch.device("cpu"))]
    size, V = model.parameter_count(), len(text.tokenizer.chars)
    counts = Ngrams(count([text.train.numpy()], V, order), vocab_size=V)
    others = counts.log_probs, dictionary(text.train, V, order)
    loss, (of_counts, _), off = hold(model.to(place), text.val, *others)
    found = [order, model.config.ffn_size, size, *made, loss, of_counts, *off]
    return dict(zip(COLUMNS, found, strict=True))


def parser() -> Parser:
    """The command line."""
    return new_parser("ngram_weights", __doc__, peer=False)


def command(args: argparse.Namespace) -> int:
    """Run, print and write."""
    place = device.pick(args.device)
    device.keep_memory()
    dataset, found = str(tiny_shakespeare.fetch()), []
    text = handmade.read_text(dataset)
    for order in ORDERS:
        found.append(measure(dataset, text, order, place))
        print(f"order {order}: {found[-1]['loss']:.4f}", flush=True)
    rows = [[format(f[name], how) for name, how in COLUMNS.items()] for f in found]
    result = {"machine": machine(place), "orders": found}
    publish(args.out, "ngram_weights", result=result, tables=[table(list(COLUMNS), rows)])
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
