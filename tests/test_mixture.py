"""The mixture against its formula, its parts, a naive loop, and shares that are known."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from data.counts import Counts, count, pack
from data.ngrams import Ngrams
from generate import caches, generate, ready, rolling
from mixture import Mixture, fit_shares, load
from model import GPT
from system.checkpoint import Checkpoint
from system.errors import UserError
from tests.helpers import reference
from tests.helpers.tiny import SIZES, tiny_gpt

V, ORDER, BLOCK = SIZES["vocab_size"], 4, SIZES["block_size"]
SHARES = [0.15, 0.35, 0.6, 0.85]
CHI_SQUARE = 32.91  # a sum of 12 squares is larger once in a thousand

each_shift = pytest.mark.parametrize("shift", [0.0, 0.4])


def skewed(N: int, *, seed: int = 1) -> np.ndarray:
    """Ids that are rarer the higher they are; the last does not occur."""
    weights = 1 / np.arange(1, V) ** 0.5
    return np.random.default_rng(seed).choice(V - 1, N, p=weights / weights.sum())


def levels(order: int = ORDER) -> list[Counts]:
    return count([skewed(300)], V, order)


def tiny_mixture(shares: list[float] | float = SHARES, **changes: object) -> Mixture:
    shares = shares if isinstance(shares, list) else [shares] * ORDER
    counts = Ngrams(levels(len(shares)), vocab_size=V)
    return Mixture(tiny_gpt(**changes), counts, torch.tensor(shares)).eval()


def windows(T: int = BLOCK) -> Tensor:
    """Two stretches of the text, one of other text, and one that holds an id that is not there."""
    text, other = skewed(300), skewed(30, seed=2)
    rows = [text[10 : 10 + T], text[100 : 100 + T], other[:T], other[10 : 10 + T]]
    idx = torch.from_numpy(np.stack(rows))
    idx[-1, T // 2] = V - 1
    return idx


@each_shift
@pytest.mark.parametrize("T", [1, 4, BLOCK])
def test_mixture_equals_its_formula(shift: float, T: int) -> None:
    mixture, idx = tiny_mixture(shift=shift), windows(T)
    weights = {name: p.numpy() for name, p in mixture.gpt.state_dict().items()}
    kinds = {"position": "rotary", "activation": "relu2", "shift": shift}
    logits = reference.gpt(weights, idx.numpy(), n_layer=2, n_head=SIZES["n_head"], **kinds)
    net = reference.softmax(logits)
    counted, known = mixture.counts.probs(idx)
    assert T < BLOCK or set(known.flatten().tolist()) == {0, 1, 2, 3}
    share = np.array(SHARES)[known.numpy()][..., None]
    expected = np.log((1 - share) * net + share * counted.double().numpy())
    found = mixture(idx).detach()
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=2e-5)
    torch.testing.assert_close(found.exp().sum(dim=-1), torch.ones(idx.shape))


def test_a_share_of_nothing_or_all_is_one_of_the_two() -> None:
    idx = windows()
    none, whole = tiny_mixture(0.0), tiny_mixture(1.0)
    assert torch.equal(none(idx), none.gpt(idx).softmax(dim=-1).log())
    assert torch.equal(whole(idx), whole.counts.log_probs(idx))


@pytest.mark.parametrize("length", range(ORDER))
def test_shares_are_those_of_the_known_length(length: int) -> None:
    idx = windows()
    shares = [float(k == length) for k in range(ORDER)]
    mixture = tiny_mixture(shares)
    counted, known = mixture.counts.probs(idx)
    here = known == length
    assert here.any() and not here.all()
    found = mixture(idx)
    assert torch.equal(found[here], counted[here].log())
    assert torch.equal(found[~here], mixture.gpt(idx)[~here].softmax(dim=-1).log())


def test_interface_is_that_of_the_trained_part() -> None:
    mixture = tiny_mixture()
    assert mixture.config is mixture.gpt.config
    assert mixture.blocks is mixture.gpt.blocks
    assert mixture.parameter_count() == mixture.gpt.parameter_count()
    assert set(mixture.state_dict()) == {f"gpt.{name}" for name in mixture.gpt.state_dict()}


@each_shift
@pytest.mark.parametrize("cut", [[1] * 6, [3, 1, 2], [6], [2, 4]])
def test_a_text_in_pieces_is_the_text(shift: float, cut: list[int]) -> None:
    mixture, idx = tiny_mixture(shift=shift), windows()
    pasts = caches(mixture)
    pieces = [mixture(piece, pasts) for piece in idx.split(cut, dim=1)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), mixture(idx), rtol=0, atol=1e-5)


@each_shift
@pytest.mark.parametrize("order", [1, 2, ORDER])
@pytest.mark.parametrize("last", range(1, BLOCK + 1))
def test_the_last_places_alone(shift: float, order: int, last: int) -> None:
    mixture, idx = tiny_mixture(SHARES[:order], shift=shift), windows()
    whole = mixture(idx)
    torch.testing.assert_close(mixture(idx, last=last), whole[:, -last:], rtol=0, atol=1e-5)
    pasts = caches(mixture)
    if last < BLOCK:
        mixture(idx[:, :-last], pasts, last=1)
    found = mixture(idx[:, -last:], pasts, last=1)
    torch.testing.assert_close(found, whole[:, -1:], rtol=0, atol=1e-5)


def greedy(mixture: Mixture, idx: Tensor, n: int, *, halve: bool) -> Tensor:
    """The n likeliest ids in turn, every window computed anew."""
    context = idx[:, -BLOCK:]
    for _ in range(n):
        best = mixture(context)[:, -1].argmax(dim=-1, keepdim=True)
        idx, context = torch.cat((idx, best), dim=1), torch.cat((context, best), dim=1)
        if context.shape[1] > BLOCK:
            context = context[:, -BLOCK // 2 if halve else -BLOCK :]
    return idx[:, -n:]


@each_shift
@pytest.mark.parametrize("T", [1, 4, 6, 9])
@pytest.mark.parametrize("window", ["slide", "half"])
def test_greedy_text_equals_the_naive_loop(shift: float, T: int, window: str) -> None:
    mixture, idx, n = tiny_mixture(shift=shift), windows(T), 3 * BLOCK
    expected = greedy(mixture, idx, n, halve=window == "half")
    steps = generate(mixture, idx, n, torch.Generator(), temperature=0, window=window)
    assert torch.equal(torch.stack(list(steps), dim=1), expected)
    assert len(expected.unique()) > 3  # or a constant would do


@pytest.mark.parametrize("T", [3, 6])
def test_draws_have_the_exact_distribution(T: int) -> None:
    mixture, idx, N = tiny_mixture(), windows(T)[:1], 20_000
    with torch.no_grad():
        net = mixture.gpt(idx)[0, -1].double().softmax(dim=-1)
        counted, known = mixture.counts.probs(idx)
    share = SHARES[known[0, -1]]
    expected = N * ((1 - share) * net + share * counted[0, -1].double()).numpy()
    drawn = next(generate(mixture, idx.expand(N, -1), 1, torch.Generator().manual_seed(2)))
    found = np.bincount(drawn.numpy(), minlength=V)
    assert ((found - expected) ** 2 / expected).sum() < CHI_SQUARE


def simulated(
    shares: list[float], places: list[int], *, seed: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """The probabilities that two models gave to what one of them drew, and the lengths."""
    rng = np.random.default_rng(seed)
    known = rng.permutation(np.repeat(np.arange(len(places)), places))
    N = len(known)
    net, counted = rng.dirichlet([0.4] * 8, N), rng.dirichlet([0.4] * 8, N)
    by_counts = rng.random(N) < np.array(shares)[known]
    source = np.where(by_counts[:, None], counted, net)
    drawn = (source.cumsum(axis=1) < rng.random((N, 1))).sum(axis=1).clip(max=7)
    each = np.arange(N)
    parts = (net[each, drawn], counted[each, drawn], known)
    return tuple(map(torch.from_numpy, parts))


def test_known_shares_are_found() -> None:
    shares = [0.05, 0.3, 0.5, 0.75, 0.95]
    found = fit_shares(*simulated(shares, [20_000] * 5), order=5)
    assert found.shape == (5,) and found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), shares, rtol=0, atol=0.03)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
@pytest.mark.parametrize("N", [300, 3000])
def test_shares_are_the_likeliest(share: float, N: int) -> None:
    net, counted, known = simulated([share], [N])
    grid = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)[:, None]
    likelihood = ((1 - grid) * net + grid * counted).log().sum(dim=1)
    best = grid[likelihood.argmax(), 0]
    found = fit_shares(net, counted, known, order=1)
    assert abs(float(found[0]) - float(best)) < 0.02


def test_a_length_without_places_has_the_share_of_all() -> None:
    found = fit_shares(*simulated([0.2, 0.0, 0.8, 0.0], [10_000, 0, 30_000, 0]), order=4)
    overall = (10_000 * found[0] + 30_000 * found[2]) / 40_000
    torch.testing.assert_close(found[[1, 3]], overall.expand(2), rtol=0, atol=1e-3)
    assert abs(float(overall) - (0.2 + 3 * 0.8) / 4) < 0.03


def test_a_rare_length_is_drawn_to_the_share_of_all() -> None:
    net, counted, known = simulated([0.5], [10_000])
    net, counted = torch.cat((net, net.new_tensor([0.0]))), torch.cat((counted, net.new_ones(1)))
    found = fit_shares(net, counted, torch.cat((known, known.new_tensor([1]))), order=2)
    assert float(found[1]) == pytest.approx((1 + 4 * float(found[0])) / 5, abs=1e-3)


def with_counts(saved: Checkpoint) -> Checkpoint:
    return dataclasses.replace(saved, counts=pack(levels(), V), shares=list(SHARES))


def test_a_checkpoint_without_counts_is_a_gpt(saved: Checkpoint) -> None:
    model = load(saved)
    assert isinstance(model, GPT) and not model.training
    assert torch.equal(model(windows()), saved.build()(windows()))


def test_a_checkpoint_with_counts_is_a_mixture(saved: Checkpoint) -> None:
    model = load(with_counts(saved))
    assert isinstance(model, Mixture)
    assert not any(module.training for module in model.modules())
    counts = Ngrams(levels(), vocab_size=V)
    expected = Mixture(saved.build(), counts, torch.tensor(SHARES))
    assert torch.equal(model(windows()), expected(windows()))


@pytest.mark.parametrize(
    "damage",
    [
        lambda counts: counts[1].update(last=counts[1]["last"][:-1]),
        lambda counts: counts[2].update(last=counts[2]["last"].flip(0)),
        lambda counts: counts[0].update(last=counts[0]["last"][:0], counts=torch.zeros(0)),
        lambda counts: counts[0].update(last=counts[0]["last"] + 2),
        lambda counts: counts[3].update(counts=-counts[3]["counts"].int()),
        lambda counts: counts[3].update(counts=None),
        lambda counts: counts[1].pop("followers"),
        lambda counts: counts.pop(0),
        lambda counts: counts.append({}),
    ],
)
def test_damaged_counts_are_one_sentence(saved: Checkpoint, damage: Callable) -> None:
    checkpoint = with_counts(saved)
    damage(checkpoint.counts)
    with pytest.raises(UserError) as caught:
        load(checkpoint)
    message = str(caught.value)
    assert message.startswith("the checkpoint's counts are damaged (")
    assert message.endswith("); name another checkpoint") and "\n" not in message


@pytest.mark.parametrize("block_size", [2, BLOCK])  # a window that the counts could see past
def test_a_mixture_rolls_with_its_window(block_size: int) -> None:
    """Its GPT as it rolls alone, and the counts asked for the last characters of the window."""
    mixture, context = tiny_mixture(block_size=block_size), windows(3)
    steps = generate(mixture, context, 40, torch.Generator(), temperature=0, window="roll")
    gpt, unseen = ready(mixture.gpt), context[:, -block_size:]
    pasts = rolling(gpt)
    for new in steps:
        with torch.inference_mode():
            net = gpt(unseen, pasts, last=1).softmax(dim=-1)
            counted, known = mixture.counts.probs(context[:, -block_size:], last=1)
        probs = torch.lerp(net, counted, mixture.shares[known][..., None])
        assert torch.equal(new, probs[:, -1].argmax(dim=-1))
        context, unseen = torch.cat((context, new[:, None]), dim=1), new[:, None]
        for past in pasts:
            past.make_room()
    assert len(context.unique()) > 3


@each_shift
def test_what_is_ready_to_write_looks_nothing_up_the_slow_way(
    shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixture, idx = tiny_mixture(shift=shift), windows(3)
    expected = mixture(idx)
    writer = ready(mixture)
    monkeypatch.setattr(torch.nn.Module, "__getattr__", lambda self, name: pytest.fail(name))
    torch.testing.assert_close(writer(idx), expected, rtol=0, atol=1e-5)
