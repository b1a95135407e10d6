"""Characters that are new to a trained model: rows of its embedding and head for them.

A model of other characters starts with none of them likely, so that it does to the text it knows
what it did before. There is no bias in the head, so a row has to be found whose score is low after
every context: the scores of a new character then lie below all that the softmax sums, and what it
takes from the others is `softplus(row @ h + ln(how many) - logsumexp(logits))` nats.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from model import GPT
from system.checkpoint import Checkpoint

PLACES = 4096  # of the text, at which the row is fitted; as many others check it
AIM = 1e-4  # nats per character that the new characters may take from the others
PULLS = tuple(10.0**-power for power in range(2, 9))  # towards small rows, the strongest first
TABLES = ("wte.weight", "lm_head.weight")


def widened(source: Checkpoint, new: str, ids: Tensor) -> tuple[Checkpoint, float]:
    """`source` with rows for the characters `new` after those it has, and what they cost.

    ids (N,): a text in the vocabulary of `source` and then `new`. The cost is in nats per character
    on what it knows of that text, before the first step; `AIM` at most, where a row allows that.
    """
    model = source.build()
    states, totals = final_states(model, known(ids, len(source.chars)))
    half = len(states) // 2
    row, cost = fit(states[:half], totals[:half], states[half:], totals[half:], count=len(new))
    weights, tied = dict(source.weights), source.model.tie_weights
    wte, head = (weights[name] for name in TABLES)
    generator = torch.Generator().manual_seed(1)
    apart = torch.randn(len(new), wte.shape[1], generator=generator) * wte.std(dim=0)
    rows = row.to(head).expand(len(new), -1)
    weights[TABLES[1]] = torch.cat([head, rows])
    weights[TABLES[0]] = weights[TABLES[1]] if tied else torch.cat([wte, wte.mean(dim=0) + apart])
    wider = dataclasses.replace(source.model, vocab_size=len(source.chars) + len(new))
    return dataclasses.replace(source, model=wider, chars=source.chars + new, weights=weights), cost


def known(ids: Tensor, vocab_size: int) -> Tensor:
    """2 * PLACES ids (n,) or fewer, of stretches all over the text, without those that are new.

    Where no others are there, all that the model knows.
    """
    stretch = max(1, 2 * PLACES // 64)
    starts = torch.linspace(0, max(0, len(ids) - stretch), 64).long().unique()
    at = (starts[:, None] + torch.arange(stretch)).flatten().unique()
    found = ids[at[at < len(ids)].to(ids.device)].cpu().long()
    found = found[found < vocab_size]
    return found if len(found) > 1 else torch.arange(2 * vocab_size) % vocab_size


@torch.no_grad()
def final_states(model: GPT, idx: Tensor) -> tuple[Tensor, Tensor]:
    """What the head of `model` reads at the places of idx (n,), and the logsumexp of its logits.

    -> (n, C) and (n,), float64, in random order, so that both halves are of the same kind.
    """
    generator = torch.Generator().manual_seed(1)
    read: list[Tensor] = []
    hook = model.lm_head.register_forward_pre_hook(lambda _, args: read.append(args[0]))
    totals = [
        model(window[None]).double().logsumexp(dim=-1).flatten()
        for window in idx.split(model.config.block_size)
    ]
    hook.remove()
    order = torch.randperm(len(idx), generator=generator)
    states = torch.cat([states.double().flatten(0, 1) for states in read])
    return states[order], torch.cat(totals)[order]


def costs(row: Tensor, states: Tensor, totals: Tensor, count: int) -> Tensor:
    """What `count` characters with the head's `row` take in the mean, in nats per character."""
    return F.softplus(states @ row - totals + torch.tensor(count).log()).mean()


def fit(
    states: Tensor, totals: Tensor, others: Tensor, totals_there: Tensor, *, count: int
) -> tuple[Tensor, float]:
    """The smallest row (C,) that costs AIM at most at the other places, and what it costs there.

    states (n, C), totals (n,): what the row is fitted to. A logistic regression, which is convex;
    where no row does, the cheapest one.
    """
    row = torch.zeros(states.shape[1], dtype=states.dtype, requires_grad=True)
    best, least = row.detach().clone(), torch.inf
    for pull in PULLS:
        optimizer = torch.optim.LBFGS([row], max_iter=50, line_search_fn="strong_wolfe")

        def closure(pull: float = pull, optimizer: torch.optim.Optimizer = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = costs(row, states, totals, count) + pull * row.square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)
        cost = costs(row.detach(), others, totals_there, count).item()
        if cost < least:
            best, least = row.detach().clone(), cost
        if least <= AIM:
            break
    return best, least
