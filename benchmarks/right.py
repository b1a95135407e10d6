"""Whether a GPU computes what it should: weights set by hand, equal runs, tests that wait for one.

`gpu.py` asks for each of these in a process of its own.
"""

import contextlib
import dataclasses
import importlib.util
import random
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import handmade
from benchmarks import ngram_weights, ours
from benchmarks.bench import table
from data import rules, tiny_shakespeare
from data.counts import count
from data.laws import Copying, Law, Suffixes
from data.ngrams import Ngrams
from data.tokenizer import CharTokenizer
from model import GPT, GPTConfig
from proof.proof import Score, prove, score
from system import device
from system.errors import Fault
from training import evaluation

ROOT = Path(__file__).parent.parent
TESTS = ("tests/test_model.py", "tests/test_train.py")  # of these the ones with gpu in their names
DRAWN = 20_000  # contexts, where a rule is about too many of its own
PRECISIONS = {"float32": "highest", "TF32": "high"}  # of products, and torch's words for them
TEACHERS = {"with the teacher": (), "without it": ("memory.teach=0",)}


def random_texts(length: int, texts: int = 4) -> list[str]:
    """Texts of a and b, the same each time."""
    return ["".join(random.Random(seed).choices("ab", k=length)) for seed in range(texts)]


def wide(windows: Sequence[int] = (256, 2048, 3000), pattern: int = 130) -> dict[str, tuple]:
    """Rules whose contexts are too many to try, each with texts to try it on, by their names.

    In copying, the places of the window offer their numbers: TF32 has all whole numbers up to 2048,
    and bfloat16 those up to 256. A pattern of 130 is what fails in bfloat16.
    """
    [long] = random_texts(pattern, texts=1)
    return {
        **{f"copying, window {T}": (Copying("ab", T), random_texts(T)) for T in windows},
        f"a pattern of {pattern}": (Suffixes("ab", pattern, "a", {long: "b"}), [long]),
    }


@contextlib.contextmanager
def products(precision: str) -> Iterator[None]:
    """While this context lasts, float32 matrices are multiplied at this one of PRECISIONS."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Elsewhere(nn.Module):
    """A model that computes on a device, and is asked and answers on the CPU, as proofs do."""

    def __init__(self, model: GPT, place: torch.device) -> None:
        super().__init__()
        self.model, self.place = model.to(place).eval(), place

    @property
    def config(self) -> GPTConfig:
        """The structure of the model."""
        return self.model.config

    def forward(self, idx: Tensor) -> Tensor:
        """The scores after each place of idx (B, T): (B, T, V)."""
        return self.model(idx.to(self.place)).cpu()


@torch.inference_mode()
def tried(rule: Law, texts: Sequence[str], place: torch.device) -> Score:
    """How the weights of `rule` do after every place of `texts`, each as long as the window."""
    config, chars, weights = handmade.compiled(rule)
    model, encode, found = GPT(config), CharTokenizer(chars).encode, {}
    model.load_state_dict(weights, strict=True)
    model = Elsewhere(model, place)
    for n, text in enumerate(texts, start=1):
        right = encode("".join(rule.answer(text[:end]) for end in range(1, len(text) + 1))).long()
        probs = model(encode(text).long()[None])[0].double().softmax(dim=-1)  # (T, V)
        others = probs.scatter(1, right[:, None], 0.0).amax(dim=1)
        margins = (probs.gather(1, right[:, None])[:, 0] - others).nan_to_num(-1.0).tolist()
        found |= {f"place {end} of text {n}": lead for end, lead in enumerate(margins, start=1)}
    return score(found)


def ruled(place: torch.device, broad: Mapping[str, tuple]) -> dict[str, dict[str, Any]]:
    """How each hand-set model that has a rule does: those that come along in every context that
    their rule is about, or in some of many, and then the rules of `broad` on their texts."""
    scores = {}
    for name in (*handmade.MODELS, *rules.examples()):
        saved, law = handmade.load(name), handmade.task_of(name).rule
        shortest = 2 if name in handmade.MODELS else 1  # where what they should do begins
        model, some = Elsewhere(saved.build(), place), handmade.task_of(name).contexts(DRAWN)
        found = prove(model, saved.chars, law, text="", shortest=shortest, contexts=some)
        scores[name] = found.all
    scores |= {name: tried(rule, texts, place) for name, (rule, texts) in broad.items()}
    return {
        name: {**dataclasses.asdict(found), "wrong": found.wrong[:1]}
        for name, found in scores.items()
    }


def counted(place: torch.device, orders: Sequence[int]) -> dict[str, dict[str, float]]:
    """How far the n-grams of each order, as weights, are off from the counts that they are made of,
    at all places of the validation text."""
    dataset, found = str(tiny_shakespeare.fetch()), {}
    text = handmade.read_text(dataset)
    V = len(text.tokenizer.chars)
    for order in orders:
        counts = Ngrams(count([text.train.numpy()], V, order), vocab_size=V)
        model = handmade.load_ngrams(dataset, order).build().to(place)
        loss, [of_counts], [off] = ngram_weights.hold(model, text.val, counts.log_probs)
        found[str(order)] = {"loss": loss, "loss of the counts": of_counts, "off": off}
    return found


def by_hand(
    name: str, precision: str, *, broad: Mapping[str, tuple], orders: Sequence[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """`ruled` and `counted` on the device called `name`, at one of PRECISIONS."""
    place = device.pick(name)
    with products(precision):
        return {"rules": ruled(place, broad), "n-grams": counted(place, orders)}


def repeated(name: str, overrides: Sequence[str], steps: int) -> list[dict[str, Any]]:
    """How far two runs of so many updates on the device called `name` are apart, from the same
    seed, and two answers of the counts. 0 means equal to the last bit."""
    found = []
    for label, teacher in TEACHERS.items():
        ends, losses = [], []
        for _ in range(2):
            trainer = ours.trainer((*overrides, *teacher), name)
            for _ in range(steps):
                trainer.update()
            trainer.pause()
            ends.append([p.detach().cpu() for p in trainer.model.parameters()])
            losses.append(evaluation.losses(trainer)[1])
        off = max((a - b).abs().max().item() for a, b in zip(*ends, strict=True))
        found.append({"what": f"weights after {steps} updates, {label}", "off": off})
        found.append(
            {"what": f"val_loss_trained of these, {label}", "off": abs(losses[0] - losses[1])}
        )
    idx, _ = trainer.batches(0, trainer.device)
    a, b = (trainer.memory.counts.probs(idx)[0].cpu() for _ in range(2))
    return [*found, {"what": "what the counts say of a batch", "off": (a - b).abs().max().item()}]


def tested() -> dict[str, Any]:
    """How many of the tests that wait for a GPU passed, failed and were skipped; and what was said
    where they did not pass. Raises Fault where they could not be run."""
    if not importlib.util.find_spec("pytest"):
        raise Fault("the tests need pytest; pip install -r requirements-dev.txt")
    line = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "--import-mode=importlib"]
    line += ["-p", "no:cacheprovider", "-k", "gpu", *TESTS]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, errors="replace")
    found = re.findall(r"(\d+) (passed|failed|skipped)", done.stdout.strip().split("\n")[-1])
    if done.returncode > 1 or not found:
        raise Fault(
            f"the tests did not run: {' '.join((done.stdout + done.stderr).split())[-500:]}"
        )
    said = done.stdout[-2000:] if done.returncode else ""
    return {**{outcome: int(n) for n, outcome in found}, "said": said}


def hand_tables(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The tables of rules and of n-grams, with what was found at each of PRECISIONS."""
    header, rows = ["set by hand"], {}
    counted, orders = ["n-grams as weights, of order", "loss of the counts"], {}
    for precision, each in found.items():
        header += [f"right in {precision}", "worst margin", "first wrong"]
        for name, done in each["rules"].items():
            cells = [f"{done['right']:,} of {done['total']:,}", f"{done['worst_margin']:+.4f}"]
            rows.setdefault(name, [name]).extend([*cells, *(done["wrong"] or ["-"])])
        counted += [f"loss in {precision}", "log-probabilities off by"]
        for order, held in each["n-grams"].items():
            row = orders.setdefault(order, [order, f"{held['loss of the counts']:.4f}"])
            row += [f"{held['loss']:.4f}", f"{held['off']:.0e}"]
    return [table(header, [*rows.values()]), table(counted, [*orders.values()])] if found else []


def repeat_table(found: Sequence[dict[str, Any]]) -> str:
    """A row for each thing that was made twice."""
    rows = [[e["what"], f"{e['off']:.0e}" if e["off"] else "equal bits"] for e in found]
    return table(["made twice from the same seed", "apart by"], rows)


def outcome_table(found: Mapping[str, Any]) -> str:
    """The outcomes of the tests, and what was said where one failed."""
    outcomes = ("passed", "failed", "skipped")
    row = ["tests of a GPU", *(str(found.get(outcome, 0)) for outcome in outcomes)]
    said = f"\n\n```\n{found['said']}\n```" if found["said"] else ""
    return table(["", *outcomes], [row]) + said


SHOWN = {"tests": outcome_table, "twice": repeat_table}  # by the names of what is measured
