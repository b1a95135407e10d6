"""What each part of the main job is worth: the run without it, and other ways to mix in counts.

    python -m benchmarks.ablation

All losses are of the last 5 % of the *training* split, where settings are chosen, and of shorter
runs than the main job, so they compare with each other and with nothing else.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks import ours
from benchmarks.bench import count, machine, new_parser, publish, table
from data import tiny_shakespeare
from data.counts import count as count_grams
from data.ngrams import Ngrams
from data.windows import eval_windows
from mixture import fit_shares, mix
from system import device
from system.commandline import Parser, run
from training.evaluation import losses
from training.trainer import Trainer

CHOICE = 0.05  # share of the training split, at its end
WITHOUT_TEACHER = "no teacher (memory.teach=0)"
VARIANTS = {
    "as shipped": (),
    "no token shift (model.shift=0)": ("model.shift=0",),
    WITHOUT_TEACHER: ("memory.teach=0",),
    "teacher of 3 folds": ("memory.folds=3",),
    "teacher of 20 folds": ("memory.folds=20",),
    "windows of 128, not 256": ("model.block_size=128", "train.batch_size=12"),
}
ORDERS = range(3, 11)
ROWS = 64  # windows at a time
GATE_STEPS, GATE_SIZE = 300, 16


@dataclass
class Seen:
    """What net and counts expected of a text of N characters.

    logits (N, V) of the net; counted (N, V); known (N,): how long a context the counts knew;
    targets (N,): what came
    """

    logits: Tensor
    counted: Tensor
    known: Tensor
    targets: Tensor

    def of(self, probabilities: Tensor) -> Tensor:
        """What they gave to what came, (N, V) -> (N,)."""
        return probabilities.gather(1, self.targets[:, None])[:, 0]

    def net(self, temperature: float = 1.0) -> Tensor:
        """Probability of what came by the net, (N,)."""
        return self.of((self.logits / temperature).softmax(dim=-1))

    def loss(self, share: Tensor, temperature: float = 1.0) -> float:
        """Of the mixture, nats per character; share (N,) or one for all."""
        return -mix(self.net(temperature), self.of(self.counted), share).log().mean().item()

    def signs(self) -> Tensor:
        """What a gate may look at, (N, 5 + the longest known context): how sure both are, and
        whether they agree."""
        sides = self.logits.softmax(dim=-1), self.counted
        entropy = [-(p * p.clamp(min=1e-12).log()).sum(dim=-1) for p in sides]
        agreement = (sides[0] * sides[1]).sum(dim=-1)
        sure = [p.amax(dim=-1) for p in sides]
        lengths = F.one_hot(self.known, max(ORDERS)).float()
        return torch.cat((torch.stack([*entropy, *sure, agreement], dim=1), lengths), dim=1)


@torch.no_grad()
def look(trainer: Trainer, counts: Ngrams, ids: Tensor) -> Seen:
    """Ask the trained model and `counts` about ids (N,)."""
    model, found = trainer.model.eval(), []
    for idx, targets in eval_windows(ids, model.config.block_size, ROWS):
        idx, targets = idx.to(trainer.device), targets.to(trainer.device)
        found.append((model(idx).float(), *counts.probs(idx), targets))
    return Seen(*(torch.cat([x.flatten(0, 1) for x in each]) for each in zip(*found, strict=True)))


def count_text(trainer: Trainer, order: int, *, calibration: bool) -> Ngrams:
    """Counts of the training text, with or without what is set apart for calibration."""
    corpus = trainer.corpus
    pieces = [corpus.calibration, corpus.train] if calibration else [corpus.train]
    vocab_size = len(corpus.tokenizer.chars)
    levels = count_grams([torch.cat(pieces).cpu().numpy()], vocab_size, order)
    return Ngrams(levels, vocab_size=vocab_size).to(trainer.device)


def gate(seen: Seen, judged: Seen) -> float:
    """The loss on `judged` with the share, and the net's temperature, from a small net that was
    fitted on `seen`."""
    torch.manual_seed(1)
    signs = seen.signs()
    center, scale = signs.mean(dim=0), signs.std(dim=0) + 1e-3
    net = nn.Sequential(
        nn.Linear(signs.shape[1], GATE_SIZE), nn.Tanh(), nn.Linear(GATE_SIZE, 1), nn.Sigmoid()
    ).to(signs.device)
    log_temperature = torch.zeros((), requires_grad=True, device=signs.device)
    optimizer = torch.optim.Adam([*net.parameters(), log_temperature], lr=0.01)
    for _ in range(GATE_STEPS):
        share = net((signs - center) / scale)[:, 0]
        both = mix(seen.net(log_temperature.exp()), seen.of(seen.counted), share)
        small = sum(weight.square().sum() for weight in net.parameters())
        loss = 1e-4 * small - both.log().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        share = net((judged.signs() - center) / scale)[:, 0]
        return judged.loss(share, log_temperature.exp().item())


def mixtures(trainer: Trainer) -> dict[str, float]:
    """The loss of a trained model with counts beside it, mixed in several ways."""
    losses, corpus, shipped = {}, trainer.corpus, trainer.config.memory.order
    for order in ORDERS:
        earlier = count_text(trainer, order, calibration=False)
        counts = count_text(trainer, order, calibration=True)
        seen = look(trainer, earlier, corpus.calibration)
        judged = look(trainer, counts, corpus.val)
        by_length = fit_shares(seen.net(), seen.of(seen.counted), seen.known, order)
        losses[f"counts alone, order {order}"] = judged.loss(torch.tensor(1.0))
        losses[f"order {order}"] = judged.loss(by_length[judged.known])
        if order != shipped:
            continue
        nowhere = torch.zeros_like(seen.known)
        one = fit_shares(seen.net(), seen.of(seen.counted), nowhere, 1)
        warm = fit_shares(seen.net(0.9), seen.of(seen.counted), seen.known, order)
        own = fit_shares(judged.net(), judged.of(judged.counted), judged.known, order)
        held = look(trainer, earlier, corpus.val)
        losses |= {
            "the net alone": judged.loss(torch.tensor(0.0)),
            "a share of 0.2": judged.loss(torch.tensor(0.2)),
            "a share of 0.3": judged.loss(torch.tensor(0.3)),
            "one share, estimated": judged.loss(one),
            "a share for each length, estimated (as shipped)": judged.loss(by_length[judged.known]),
            "the same, and the net at temperature 0.9": judged.loss(warm[judged.known], 0.9),
            "a gate that sees lengths and entropies": gate(seen, judged),
            "a share for each length, and counts without the calibration text": held.loss(
                by_length[held.known]
            ),
            "a share for each length, estimated on what is judged (a bound)": judged.loss(
                own[judged.known]
            ),
        }
    return losses


def train(path: Path, place: torch.device, steps: int, *overrides: str) -> Trainer:
    """A run of the main job on the text at `path`, to its end."""
    trainer = ours.trainer(
        (
            *(f"data.dataset={path}", f"data.val_fraction={CHOICE}", f"train.max_steps={steps}"),
            *overrides,
        ),
        place.type,
    )
    while not trainer.done():
        trainer.update()
    trainer.pause()
    return trainer


def spread(losses: Sequence[float]) -> list[str]:
    """The mean over the seeds, and each of them."""
    return [f"{statistics.mean(losses):.4f}", " ".join(f"{loss:.4f}" for loss in losses)]


def run_table(runs: dict[str, list[tuple[float, float]]]) -> str:
    """The losses of the runs without a part, with counts and of the GPT alone."""
    rows = []
    for name, found in runs.items():
        mixed, trained = zip(*found, strict=True)
        rows.append([name, *spread(trained), *spread(mixed)])
    return table(["run", "trained alone", "each seed", "counted and trained", "each seed"], rows)


def mix_table(mixed: dict[str, list[dict[str, float]]]) -> str:
    """The losses of the ways to mix, for a net that was taught and for one that was not."""
    header = ["way to mix", *(f"{name}: mean" for name in mixed)]
    ways = next(iter(mixed.values()))[0]
    rows = [
        [way, *(spread([each[way] for each in found])[0] for found in mixed.values())]
        for way in ways
    ]
    return table(header, rows)


def draw(runs: dict[str, list[tuple[float, float]]], mixed: dict) -> Figure:
    """The runs as points, one for each seed, and the loss by order of the counts."""
    figure = Figure(figsize=(12, 4.5), layout="constrained")
    parts, orders = figure.subplots(1, 2)
    for i, found in enumerate(reversed(runs.values())):
        both, trained = zip(*found, strict=True)
        parts.plot(trained, [i] * len(found), "o", color="C1", label=None if i else "trained alone")
        parts.plot(both, [i] * len(found), "s", color="C0", label=None if i else "with counts")
    parts.set_yticks(range(len(runs)), list(reversed(runs)))
    parts.set_xlabel("loss, nats per character")
    for color, (name, found) in enumerate(mixed.items()):
        means = [statistics.mean(each[f"order {k}"] for each in found) for k in ORDERS]
        orders.plot(ORDERS, means, "o-", color=f"C{color}", label=f"mixed, {name}")
    orders.set(xlabel="order of the counts", ylabel="loss, nats per character")
    for ax in (parts, orders):
        ax.grid(alpha=0.3)
        ax.legend()
    return figure


def parser() -> Parser:
    """The command line."""
    p = new_parser("ablation", __doc__, peer=False)
    p.add_argument("--seeds", type=count, default=3, help="runs of each variant; default: 3")
    p.add_argument("--steps", type=count, default=1000, help="updates of each; default: 1000")
    return p


def command(args: argparse.Namespace) -> int:
    """Run, print and write."""
    place = device.pick(args.device)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
    mixed: dict[str, list[dict[str, float]]] = {"as shipped": [], WITHOUT_TEACHER: []}
    with tempfile.TemporaryDirectory() as folder:
        text, path = tiny_shakespeare.fetch().read_bytes(), Path(folder, "text.txt")
        path.write_bytes(text[: len(text) - int(len(text) * 0.1)])
        for seed in range(1, args.seeds + 1):
            for name, overrides in VARIANTS.items():
                trainer = train(path, place, args.steps, *overrides, f"train.seed={seed}")
                runs[name].append(losses(trainer)[:2])
                both, trained = runs[name][-1]
                print(f"{name}, seed {seed}: {trained:.4f}, with counts {both:.4f}", flush=True)
                if name in mixed:
                    mixed[name].append(mixtures(trainer))
    publish(
        args.out,
        "ablation",
        result={"machine": machine(place), "steps": args.steps, "runs": runs, "mixed": mixed},
        tables=[run_table(runs), mix_table(mixed)],
        figure=draw(runs, mixed),
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
