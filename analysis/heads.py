"""A look inside a model: where its heads look, and what each of them does to the logits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import GPT
from proof.proof import batches


@dataclass
class Inside:
    """What the H heads of all layers, the first layer's first, did on B contexts of T characters.

    pattern: where each position looks, (B, H, T, T)
    to_logits: what each head adds to the logits of the next character, (B, H, V)
    stream: the last position behind the last block, (B, C)
    """

    pattern: Tensor
    to_logits: Tensor
    stream: Tensor


def through_ln_f(model: GPT, added: Tensor, stream: Tensor) -> Tensor:
    """What parts of the stream add to the logits, (B, N, C) of streams (B, C) -> (B, N, V).

    LayerNorm takes the statistics of the whole stream, and its bias belongs to no part.
    """
    spread = stream.var(dim=-1, correction=0) + model.ln_f.eps  # (B,)
    scaled = (added - added.mean(dim=-1, keepdim=True)) / spread.sqrt()[:, None, None]
    return model.lm_head(scaled * model.ln_f.weight)


@torch.inference_mode()
def look(model: GPT, idx: Tensor) -> Inside:
    """Run `model`, which is in evaluation mode, on idx (B, T), and keep what its heads did.

    What a head adds to the logits is what it adds to the residual stream, through ln_f with the
    statistics of the whole stream, and lm_head: its direct effect (Elhage et al. 2021, "A
    Mathematical Framework for Transformer Circuits").
    """
    x = model.wte(idx) + model.wpe(idx.shape[1])  # (B, T, C)
    patterns, added = [], []
    for block in model.blocks:
        normed = block.shift(block.ln_1(x))
        patterns += [head.pattern(normed) for head in block.attn.heads]  # each (B, T, T)
        added.append(block.attn.contributions(normed)[:, :, -1])  # (B, heads of the layer, C)
        x = block(x)
    added = torch.cat(added, dim=1)  # (B, H, C)
    to_logits = through_ln_f(model, added, x[:, -1])  # (B, H, V)
    return Inside(torch.stack(patterns, dim=1), to_logits, x[:, -1])


def attended(model: GPT, chars: str, contexts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Where the last position of each of N contexts looks, and what the heads then do.

    Returns (N, H, block_size), zero beyond the context, and what each head adds to the logits of
    the next character, (N, H, V).
    """
    rows, effects = [], []
    for idx in batches(chars, contexts):
        inside = look(model, idx)
        rows.append(F.pad(inside.pattern[:, :, -1], (0, model.config.block_size - idx.shape[1])))
        effects.append(inside.to_logits)
    return torch.cat(rows), torch.cat(effects)


def distance(rows: Tensor, others: Tensor) -> Tensor:
    """Total variation between the heads of two models, the mean over N contexts.

    rows (N, H, T), others (N, K, T) -> (H, K): 0 for the same attention, 1 for none in common.
    """
    return (rows[:, :, None] - others[:, None]).abs().sum(dim=-1).mean(dim=0) / 2


def match(distance: Tensor) -> list[tuple[int, int]]:
    """Pair the rows of `distance` (H, K) with columns, none of them twice, for the least sum.

    Returns min(H, K) pairs in the order of the rows. The Hungarian method, by shortest paths: Kuhn
    1955; Jonker & Volgenant 1987, A shortest augmenting path algorithm.
    """
    if len(distance) > distance.shape[1]:
        return sorted((row, column) for column, row in match(distance.T))
    costs = distance.double().numpy()
    by_row, by_column = np.zeros(len(costs)), np.zeros(costs.shape[1])  # prices
    owner = np.full(costs.shape[1], -1)
    for row in range(len(costs)):
        paid, before = np.full(costs.shape[1], np.inf), np.full(costs.shape[1], -1)
        seen, cost, column = np.zeros(costs.shape[1], dtype=bool), 0.0, -1
        while column < 0 or owner[column] >= 0:  # the shortest path to a column without an owner
            at = row if column < 0 else owner[column]
            through = np.where(seen, np.inf, cost + costs[at] - by_row[at] - by_column)
            before = np.where(through < paid, column, before)
            paid = np.minimum(paid, through)
            column = int(np.where(seen, np.inf, paid).argmin())
            cost, seen[column] = paid[column], True
        owned = seen & (owner >= 0)
        by_row[owner[owned]] += cost - paid[owned]
        by_row[row] += cost
        by_column[seen] -= cost - paid[seen]
        while column >= 0:  # each column of the path takes the owner of the one before
            previous = before[column]
            owner[column] = row if previous < 0 else owner[previous]
            column = previous
    pairs = [(int(row), column) for column, row in enumerate(owner) if row >= 0]
    return sorted(pairs)
