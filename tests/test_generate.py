"""Generation against a naive loop, and its draws against the exact distribution."""

import numpy as np
import pytest
import torch
from torch import Tensor

from generate import choose, generate, keep_top_k, keep_top_p
from model import GPT
from tests.helpers import reference
from tests.helpers.tiny import tiny_gpt

V = 13
CHI_SQUARE = 32.91  # a sum of 12 squares is larger once in a thousand


def prompt(T: int, *, B: int = 2) -> Tensor:
    return torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def text(model: GPT, idx: Tensor, *, seed: int = 1, **options: float | None) -> Tensor:
    """The 9 ids that follow each row of idx."""
    steps = generate(model, idx, 9, torch.Generator().manual_seed(seed), **options)
    return torch.stack(list(steps), dim=1)


def watched(seen: list[tuple[int, torch.dtype]]) -> GPT:
    """A model that notes how many characters each pass has, and in which type its scores come."""

    class Watched(GPT):
        def forward(self, idx: Tensor, *args: object, **options: object) -> Tensor:
            logits = super().forward(idx, *args, **options)
            seen.append((idx.shape[1], logits.dtype))
            return logits

    model = tiny_gpt()
    model.__class__ = Watched
    return model


def greedy(model: GPT, idx: Tensor) -> Tensor:
    """The 9 likeliest ids in turn, by the naive loop."""
    for _ in range(9):
        best = model(idx[:, -6:])[:, -1].argmax(dim=-1)
        idx = torch.cat((idx, best[:, None]), dim=1)
    return idx[:, -9:]


def drawn(model: GPT, idx: Tensor, *, seed: int, n: int, halve: bool = False) -> Tensor:
    """The n ids that follow each row of idx, every character computed anew for each of them."""
    generator, context = torch.Generator().manual_seed(seed), idx[:, -6:]
    for _ in range(n):
        probs = model(context)[:, -1].softmax(dim=-1)
        idx = torch.cat((idx, torch.multinomial(probs, 1, generator=generator)), dim=1)
        context = torch.cat((context, idx[:, -1:]), dim=1)
        if context.shape[1] > 6:
            context = context[:, -3 if halve else -6 :]
    return idx[:, -n:]


@pytest.mark.parametrize(
    ("position", "shift"), [("learned", 0), ("rotary", 0), ("learned", 0.6), ("rotary", 0.7)]
)
@pytest.mark.parametrize(("B", "T"), [(1, 1), (2, 4), (3, 6), (2, 7), (1, 20)])
@pytest.mark.parametrize("window", ["slide", "half"])
def test_text_equals_that_of_a_model_without_a_cache(
    position: str, shift: float, B: int, T: int, window: str
) -> None:
    model = tiny_gpt(position=position, shift=shift, bias=position == "learned")
    expected = drawn(model, prompt(T, B=B), seed=5, n=60, halve=window == "half")
    steps = generate(model, prompt(T, B=B), 60, torch.Generator().manual_seed(5), window=window)
    assert torch.equal(torch.stack(list(steps), dim=1), expected)
    other = drawn(model, prompt(T, B=B), seed=5, n=60, halve=window == "slide")
    assert not torch.equal(other, expected)  # the two windows are not one


@pytest.mark.parametrize(
    ("T", "window", "passed"),
    [
        (1, "slide", [1, 1, 1, 1, 1, 1, 6, 6, 6]),
        (4, "slide", [4, 1, 1, 6, 6, 6, 6, 6, 6]),
        (9, "slide", [6, 6, 6, 6, 6, 6, 6, 6, 6]),
        (1, "half", [1, 1, 1, 1, 1, 1, 3, 1, 1]),
        (4, "half", [4, 1, 1, 3, 1, 1, 1, 3, 1]),
        (9, "half", [6, 3, 1, 1, 1, 3, 1, 1, 1]),
    ],
)
def test_a_character_passes_once_while_there_is_room(
    T: int, window: str, passed: list[int]
) -> None:
    seen = []
    text(watched(seen), prompt(T), window=window)
    assert [characters for characters, _ in seen] == passed


@pytest.mark.parametrize("window", ["slide", "half"])
def test_a_row_with_a_generator_of_its_own_is_what_it_would_be_alone(window: str) -> None:
    model, idx, many = tiny_gpt(), prompt(4, B=3), 60
    generators = [torch.Generator().manual_seed(seed) for seed in (5, 6, 5)]
    steps = generate(model, torch.cat((idx[:2], idx[:1])), many, generators, window=window)
    written = torch.stack(list(steps), dim=1)
    halve = window == "half"
    alone = [drawn(model, idx[i, None], seed=5 + i, n=many, halve=halve) for i in (0, 1)]
    assert torch.equal(written, torch.cat((*alone, alone[0])))


def banded(q: Tensor, k: Tensor, v: Tensor, dropout_p: float = 0.0) -> Tensor:
    """Attention to the last 6 places, over all of a text at once."""
    back = torch.arange(q.shape[-2])[:, None] - torch.arange(k.shape[-2])
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill((back < 0) | (back > 5), -torch.inf)
    return scores.softmax(dim=-1) @ v


@pytest.mark.parametrize("shift", [0.0, 0.7])
@pytest.mark.parametrize("T", [1, 4, 6, 20])
def test_a_window_that_rolls_is_a_band_over_all_of_the_text(
    T: int, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights with angles for 99 places, and all of them computed at once."""
    model, idx = tiny_gpt(position="rotary", shift=shift), prompt(T)
    generator = torch.Generator().manual_seed(1)
    written = torch.stack(list(generate(model, idx, 60, generator, window="roll")), dim=1)
    wide = tiny_gpt(position="rotary", shift=shift, block_size=99)
    monkeypatch.setattr("model.causal_attention", banded)
    context, generator = idx[:, -6:], torch.Generator().manual_seed(1)
    for new in written.T:
        logits = wide(context)[:, -1]
        expected = torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)
        assert torch.equal(new, expected[:, 0])
        context = torch.cat((context, expected), dim=1)
    assert len(written.unique()) > 5


def test_learned_positions_do_not_roll() -> None:
    with pytest.raises(ValueError, match="only where positions are rotary"):
        text(tiny_gpt(position="learned"), prompt(3), window="roll")


@pytest.mark.parametrize("T", [1, 5, 8])  # 8 and every end are longer than the context
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 1e-9}, {"top_k": 1}])
def test_greedy_text_equals_the_naive_loop(T: int, options: dict[str, float]) -> None:
    model = tiny_gpt()
    expected = greedy(model, prompt(T))
    assert torch.equal(text(model, prompt(T), **options), expected)
    assert len(expected.unique()) > 3  # or a constant would do


def test_greedy_choice_between_equals_is_no_draw() -> None:
    options = {"temperature": 0, "top_k": None, "top_p": None}
    assert len(choose(torch.zeros(50, V), torch.Generator(), **options).unique()) == 1


def test_rows_do_not_see_each_other() -> None:
    model, idx = tiny_gpt(), prompt(4, B=3)
    alone = [text(model, row[None], temperature=0) for row in idx]
    assert torch.equal(text(model, idx, temperature=0), torch.cat(alone))


def test_same_seed_same_text() -> None:
    model, idx = tiny_gpt(), prompt(4)
    first = text(model, idx, seed=3)
    torch.manual_seed(0)  # the global generator has no say
    assert torch.equal(text(model, idx, seed=3), first)
    assert not torch.equal(text(model, idx, seed=4), first)


def test_nothing_asked_nothing_written() -> None:
    assert list(generate(tiny_gpt(), prompt(4), 0, torch.Generator())) == []


def test_dropout_rests() -> None:
    model = tiny_gpt(dropout=0.5).train()
    assert torch.equal(text(model, prompt(4), temperature=0), greedy(tiny_gpt(), prompt(4)))


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_put_back(training: bool) -> None:
    model = tiny_gpt().train(training)
    steps = generate(model, prompt(4), 9, torch.Generator())
    assert next(steps).is_inference()
    assert not torch.is_inference_mode_enabled()  # the caller may train between two steps
    steps.close()
    assert all(module.training == training for module in model.modules())
    with pytest.raises(IndexError):
        next(generate(model, torch.tensor([[V]]), 9, torch.Generator()))
    assert all(module.training == training for module in model.modules())


def test_the_model_stays_as_it_is_and_may_change_meanwhile() -> None:
    model, idx = tiny_gpt(), prompt(4)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    steps = generate(model, idx, 9, torch.Generator().manual_seed(1))
    first = [next(steps)]
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    ids = torch.stack([*first, *steps], dim=1)
    model.load_state_dict(before)
    assert torch.equal(ids, text(model, idx))
    torch.testing.assert_close(model(idx), tiny_gpt()(idx))


@pytest.mark.parametrize(("many", "T", "low"), [(1, 9, 9), (1, 4, 6), (1 << 28, 9, 0)])
def test_only_a_full_context_of_many_products_is_in_bfloat16(
    many: int, T: int, low: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("generate.MANY", many)
    seen = []
    model = watched(seen)
    text(model, prompt(T), dtype=torch.bfloat16)
    assert [dtype for _, dtype in seen] == [torch.float32] * (9 - low) + [torch.bfloat16] * low
    seen.clear()
    text(model, prompt(T))
    assert [dtype for _, dtype in seen] == [torch.float32] * 9


def test_how_many_are_written_beside_a_row_does_not_change_its_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    model = watched(seen)
    alone = model.config.block_size * model.parameter_count()
    monkeypatch.setattr("generate.MANY", alone + 1)
    generators = [torch.Generator() for _ in range(5)]
    list(generate(model, prompt(9, B=5), 1, generators, dtype=torch.bfloat16))
    list(generate(model, prompt(9, B=5), 1, generators[0], dtype=torch.bfloat16))
    assert [dtype for _, dtype in seen] == [torch.float32, torch.bfloat16]


def test_exactly_k_survive_a_tie() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0], [5.0, 2.0, 4.0, 2.0, 2.0]])
    for k in range(1, 8):
        kept = keep_top_k(logits, k)
        survives = kept.isfinite()
        assert survives.sum(dim=-1).tolist() == [min(k, 5)] * 2
        assert torch.equal(kept[survives], logits[survives])
        ranked = logits.sort(descending=True).values[:, : min(k, 5)]
        assert torch.equal(kept.sort(descending=True).values[:, : min(k, 5)], ranked)


@pytest.mark.parametrize(
    ("p", "nucleus"),
    [
        (1e-9, [[2], [0]]),
        (0.35, [[2], [0, 2]]),
        (0.45, [[2, 1], [0, 2]]),
        (0.75, [[2, 1, 4], [0, 2, 3]]),
        (0.95, [[2, 1, 4, 0], [0, 2, 3, 1, 4]]),
        (1.0, [[2, 1, 4, 0, 3], [0, 2, 3, 1, 4]]),
    ],
)
def test_nucleus_is_the_fewest_that_reach_p(p: float, nucleus: list[list[int]]) -> None:
    probs = torch.tensor([[0.06, 0.3, 0.4, 0.04, 0.2], [0.3, 0.13, 0.27, 0.2, 0.1]])
    kept = keep_top_p(probs.log(), p)
    for row, ids in enumerate(nucleus):
        assert kept[row].isfinite().nonzero()[:, 0].tolist() == sorted(ids)
        assert torch.equal(kept[row, ids], probs.log()[row, ids])


def test_nucleus_of_a_tie_is_no_larger() -> None:
    assert keep_top_p(torch.zeros(1, 8), 0.3).isfinite().sum() == 3


def test_a_draw_of_zero_lets_nothing_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def zero(draws: Tensor, *, generator: torch.Generator) -> Tensor:
        return draws.fill_(-0.0)  # as an Apple chip draws now and then

    monkeypatch.setattr(Tensor, "exponential_", zero)
    logits = torch.tensor([[5.0, 1.0, 9.0, 7.0]])
    for narrow in ({"top_k": 2, "top_p": None}, {"top_k": None, "top_p": 0.9}):
        assert choose(logits, torch.Generator(), temperature=1.0, **narrow).tolist() == [[2]]


def distribution(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None
) -> np.ndarray:
    """The exact probabilities of the next id: temperature, then top_k, then top_p."""
    probs = reference.softmax(logits / temperature)
    order = np.argsort(-probs)
    if top_k is not None:
        probs[order[top_k:]] = 0
        probs /= probs.sum()
    if top_p is not None:
        probs[order[np.searchsorted(np.cumsum(probs[order]), top_p) + 1 :]] = 0
        probs /= probs.sum()
    return probs


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [
        (1.0, None, None),
        (0.6, None, None),
        (2.5, None, None),
        (1e6, None, None),
        (1.7, 5, None),
        (1.7, None, 0.8),
        (1.7, 5, 0.8),
    ],
)
def test_draws_have_the_exact_distribution(
    temperature: float, top_k: int | None, top_p: float | None
) -> None:
    model, N = tiny_gpt(), 20_000
    idx = prompt(4, B=1)
    logits = model(idx)[0, -1].detach().double().numpy()
    expected = N * distribution(logits, temperature, top_k, top_p)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    drawn = next(generate(model, idx.expand(N, -1), 1, torch.Generator().manual_seed(2), **options))
    counts = np.bincount(drawn.numpy(), minlength=V)
    possible = expected > 0
    assert not counts[~possible].any()
    chi_square = (counts - expected)[possible] ** 2 / expected[possible]
    assert chi_square.sum() < CHI_SQUARE


@pytest.mark.parametrize(("k", "kept"), [(2, 2), (3, 3), (4, 4), (6, 6), (13, 13), (99, 13)])
def test_draws_among_ties_have_the_exact_distribution(k: int, kept: int) -> None:
    levels, N = (
        np.array([0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, -1.0, -1.0]),
        20_000,
    )
    logits = torch.tensor(levels, dtype=torch.float32).expand(N, -1)
    options = {"temperature": 0.7, "top_k": k, "top_p": None}
    drawn = choose(logits, torch.Generator().manual_seed(4), **options)
    counts = np.bincount(drawn[:, 0].numpy(), minlength=V)
    ids = counts.nonzero()[0]  # which of those that tie is left open
    assert sorted(levels[ids]) == sorted(levels)[-kept:]
    expected = N * reference.softmax(levels[ids] / 0.7)
    assert ((counts[ids] - expected) ** 2 / expected).sum() < CHI_SQUARE


def test_scores_of_any_size_are_drawn_from() -> None:
    logits = torch.tensor([[3e38, -3e38, 0.0]])
    options = {"temperature": 1e-50, "top_k": 2, "top_p": 0.9}
    assert choose(logits, torch.Generator(), **options).tolist() == [[0]]
