"""The hand-set models against the published ones: every context, every weight, every fact."""

from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import handmade
from data import rules
from generate import generate
from model import GPT
from proof.proof import prove
from system import checkpoint
from system.errors import UserError
from tests.helpers.runs import exact


class Published(NamedTuple):
    """A public model: rows of 8 channels, no LayerNorm, no mask.

    queries: for each head (8, 8), from the channels P0 P1 ... | a b to the places asked for
    divisor: what the scores are divided by
    writes: for each head, what it adds to b and takes from a
    bias: what all heads together give to a
    """

    places: int
    queries: list[np.ndarray]
    divisor: float
    writes: list[float]
    bias: float


def asking(score: float, distance: int, places: range) -> np.ndarray:
    """The query that gives `score` to a place itself and to the one `distance` before it."""
    query = np.zeros((8, 8))
    for t in places:
        query[t, [u for u in (t - distance, t) if u >= 0]] = score
    return query


PUBLISHED = {
    "one-head": Published(5, [asking(1024, 1, range(5))], 8**0.5, [1024], 1024),
    "new-head": Published(6, [asking(8, 3, range(3, 6))], 1, [8], 8),
    "two-head": Published(6, [asking(8, 1, range(6)), asking(8, 3, range(3, 6))], 1, [8, 9], 8 + 8),
}
every_model = pytest.mark.parametrize("name", PUBLISHED)


def softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def published(name: str, context: str) -> tuple[np.ndarray, np.ndarray]:
    """What each head's last place attends to, (H, T), and the scores of what comes next, (2,)."""
    places, queries, divisor, writes, bias = PUBLISHED[name]
    a, b, last = places, places + 1, 7
    wte, wpe, key, value = np.eye(2, 8, a), np.eye(8), np.zeros((8, 8)), np.zeros((8, 8))
    key[range(places), range(places)] = 1
    value[[a, b], last] = 1, -1
    x = wte[["ab".index(char) for char in context]] + wpe[: len(context)]  # (T, 8)
    patterns = [softmax(x @ query @ (x @ key).T / divisor) for query in queries]  # each (T, T)
    y = x.copy()
    y[:, a] += bias
    for pattern, write in zip(patterns, writes, strict=True):
        proj = np.zeros((8, 8))
        proj[last, [a, b]] = -write, write
        y += pattern @ (x @ value) @ proj
    return np.array([pattern[-1] for pattern in patterns]), (y @ wte.T)[-1]


def contexts(length: int) -> list[str]:
    return ["".join(letters) for letters in product("ab", repeat=length)]


def all_contexts(name: str) -> list[str]:
    return [c for length in range(1, PUBLISHED[name].places + 1) for c in contexts(length)]


def ids(context: str) -> Tensor:
    return torch.tensor([["ab".index(char) for char in context]])  # (1, T)


def build(name: str) -> GPT:
    make, _ = handmade.MODELS[name]
    config, _, weights = make()
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    return model.eval()


def embedded(model: GPT, context: str) -> Tensor:
    return model.wte(ids(context)) + model.wpe(len(context))  # (1, T, C)


def follows(name: str, context: str) -> str:
    """What the public model answers."""
    return "ab"[published(name, context)[1].argmax()]


def answer(model: GPT, context: str) -> str:
    return "ab"[model(ids(context))[0, -1].argmax()]


@every_model
@torch.no_grad()
def test_attention_equals_the_published(name: str) -> None:
    model = build(name)
    block = model.blocks[0]
    for context in all_contexts(name):
        x = block.ln_1(embedded(model, context))
        ours = torch.stack([head.pattern(x)[0, -1] for head in block.attn.heads])  # (H, T)
        np.testing.assert_allclose(ours, published(name, context)[0], rtol=0, atol=1e-6)
        one_by_one = block.attn.proj(torch.cat([head(x) for head in block.attn.heads], dim=-1))
        torch.testing.assert_close(block.attn(x), one_by_one, rtol=1e-6, atol=1e-5)


@every_model
@torch.no_grad()
def test_predictions_equal_the_published(name: str) -> None:
    model = build(name)
    for context in all_contexts(name):
        ours, theirs = model(ids(context))[0, -1].numpy(), published(name, context)[1]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=0.01, err_msg=context)
        probs = softmax(ours.astype(np.float64))
        np.testing.assert_allclose(probs, softmax(theirs), rtol=0, atol=1e-6, err_msg=context)
        assert answer(model, context) == follows(name, context)


def test_scores_after_aa_are_the_published() -> None:
    np.testing.assert_allclose(published("one-head", "aa")[1], [1, 1024])
    scores = build("one-head")(ids("aa"))[0, -1].tolist()
    assert scores == pytest.approx([1, 1024], abs=0.01)


@pytest.mark.parametrize(
    ("name", "word", "right", "total"),
    [
        ("one-head", "aab", 27, 27),
        ("new-head", "aab", 18, 27),
        ("two-head", "aab", 18, 27),
        ("one-head", "aabab", 38, 47),
        ("new-head", "aabab", 47, 47),
        ("two-head", "aabab", 47, 47),
    ],
)
def test_accuracy_by_the_published_loop(name: str, word: str, right: int, total: int) -> None:
    model, places, test = build(name), PUBLISHED[name].places, word * 10
    steps = range(2, len(test) - 1)
    ours = [answer(model, test[:i][-places:]) for i in steps]
    assert ours == [follows(name, test[:i][-places:]) for i in steps]
    assert sum(ours[i - 2] == test[i] for i in steps) == right
    assert len(steps) == total


@pytest.mark.parametrize(
    ("name", "start", "more"),
    [
        ("one-head", "a", "baabaabaab"),  # b after a lone a
        ("one-head", "ba", "abaabaabaa"),
        ("one-head", "abaab", "aabaabaaba"),
        ("two-head", "aab", "abaababaababaab"),
        ("new-head", "aababb", "a"),
    ],
)
def test_text_equals_the_published(name: str, start: str, more: str) -> None:
    steps = generate(build(name), ids(start), len(more), torch.Generator(), temperature=0)
    assert "".join("ab"[new.item()] for new in steps) == more
    text = start
    for _ in more:
        text += follows(name, text[-PUBLISHED[name].places :])
    assert text == start + more


@pytest.mark.parametrize(
    ("name", "in_text", "total"),
    [("one-head", 12, 60), ("new-head", 22, 124), ("two-head", 22, 124)],
)
def test_rule_is_kept_in_every_context(name: str, in_text: int, total: int) -> None:
    _, task = handmade.MODELS[name]
    found = prove(build(name), "ab", task.rule, text=task.text())
    assert (found.task.right, found.task.total) == (in_text, in_text)
    assert (found.all.right, found.all.total) == (total, total)
    probs = {c: softmax(published(name, c)[1]) for c in all_contexts(name)[2:]}  # from length 2
    right = {c: probs[c]["ab".index(task.rule(c))] for c in probs}
    assert found.all.worst_margin == pytest.approx(2 * min(right.values()) - 1, abs=1e-6)


def test_names_and_functions_belong_together() -> None:
    functions = {name: make for name, (make, _) in handmade.MODELS.items()}
    assert functions == {
        "one-head": handmade.one_head,
        "new-head": handmade.new_head,
        "two-head": handmade.two_head,
    }


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("one-head", (5, 1, 1, 8)), ("new-head", (6, 1, 1, 8)), ("two-head", (6, 1, 2, 8))],
)
def test_sizes_are_the_published(name: str, sizes: tuple[int, ...]) -> None:
    config = build(name).config
    assert (config.block_size, config.n_layer, config.n_head, config.head_size) == sizes


@every_model
def test_a_model_is_made_the_same_each_time(name: str) -> None:
    make, _ = handmade.MODELS[name]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    config, chars, weights = make()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again = make()
    assert again[:2] == (config, chars)
    assert chars == "ab"
    torch.testing.assert_close(again[2], weights, rtol=0, atol=0)
    tensors = [*weights.values(), *again[2].values()]
    assert len({w.untyped_storage().data_ptr() for w in tensors}) == len(tensors)  # none is shared


@every_model
def test_every_weight_is_stated(name: str) -> None:
    """Random ones would all be different."""
    values = torch.cat([weight.flatten() for weight in build(name).state_dict().values()])
    assert values.isfinite().all()
    assert len(values.unique()) <= 15 < len(values) / 50


@every_model
@torch.no_grad()
def test_feed_forward_is_silent(name: str) -> None:
    model = build(name)
    x = 1000 * torch.randn(3, 4, model.config.n_embd, generator=torch.Generator().manual_seed(1))
    assert model.blocks[0].ffwd(x).count_nonzero() == 0


@every_model
@torch.no_grad()
def test_first_layer_norm_is_the_identity(name: str) -> None:
    model = build(name)
    rows = model.wte.weight[:, None] + model.wpe.weight  # (V, block_size, C): all that can enter
    torch.testing.assert_close(model.blocks[0].ln_1(rows), rows, rtol=0, atol=1e-6)


@every_model
@torch.no_grad()
def test_last_layer_norm_leaves_the_scores(name: str) -> None:
    """a and b less v, at every place of every context; within 1e-6 of the larger one."""
    model, a = build(name), PUBLISHED[name].places
    for context in all_contexts(name):
        x = model.blocks(embedded(model, context))
        before, after = (y[..., a : a + 2].double() - y[..., [a + 2]] for y in (x, model.ln_f(x)))
        assert ((after - before).abs() <= 1e-6 * before.abs().amax(-1, keepdim=True)).all()


@every_model
@torch.no_grad()
def test_rows_spread_alike_before_the_last_layer_norm(name: str) -> None:
    model = build(name)
    x = torch.cat([model.blocks(embedded(model, context))[0] for context in all_contexts(name)])
    spread = x.double().std(dim=-1, correction=0)
    assert spread.max() / spread.min() - 1 <= 2**-24


@every_model
@torch.no_grad()
def test_future_is_not_seen(name: str) -> None:
    model, n = build(name), PUBLISHED[name].places
    idx = torch.cat([ids(context) for context in contexts(n)])  # (2^n, n), in order
    logits = model(idx)
    for t in range(n):
        same_past = logits[:, t].view(2 ** (t + 1), -1, 2)  # each row: one past, all futures
        torch.testing.assert_close(
            same_past, same_past[:, :1].expand_as(same_past), rtol=0, atol=0.01
        )
    x = model.blocks[0].ln_1(model.wte(idx) + model.wpe(n))
    for head in model.blocks[0].attn.heads:
        assert head.pattern(x).triu(1).count_nonzero() == 0


def test_unknown_name_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        handmade.load("three-head")
    names = ", ".join(("one-head", "new-head", "two-head", *rules.examples()))
    said = f"there is no hand-set model 'three-head'; there are {names}, or give a rule file"
    assert str(caught.value) == said


@every_model
@torch.no_grad()
def test_file_of_a_model_comes_back(name: str, tmp_path: Path) -> None:
    made = handmade.load(name)
    checkpoint.save(tmp_path / "best.pt", made)
    loaded = checkpoint.load(tmp_path / "best.pt")
    assert exact(vars(loaded)) == exact(vars(made))
    idx = ids("abaab")
    assert torch.equal(loaded.build()(idx), build(name)(idx))


def do_not_matter(name: str) -> dict[tuple[str, str], str]:
    """Why a weight cannot change what the model answers, by the weight's name and its column."""
    places = " ".join(f"P{t}" for t in range(PUBLISHED[name].places))
    ask_for_nothing = {"one-head": "P0", "new-head": "P0 P1 P2", "two-head": "P0"}[name]
    reasons = [
        ("blocks.0.ln_1.weight", "v + -", "no query, key or value reads it"),
        ("blocks.0.ln_1.bias", "v + -", "no query, key or value reads it"),
        ("blocks.0.ln_1.bias", ask_for_nothing, "no query reads it; keys get the same everywhere"),
        ("blocks.0.attn.proj.bias", "+ -", "scales both scores by one factor above zero"),
        ("blocks.0.ln_2.weight", f"{places} a b v + -", "ffwd.down behind it is zero"),
        ("ln_f.weight", f"{places} + -", "lm_head does not read it"),
        ("ln_f.weight", "v", "taken off both scores alike"),
        ("ln_f.bias", f"{places} + -", "lm_head does not read it"),
        ("ln_f.bias", "v", "taken off both scores alike"),
        ("lm_head.weight", "v", "reads a zero"),
    ]
    return {(weight, col): reason for weight, cols, reason in reasons for col in cols.split()}


def spoils(name: str, model: GPT, p: Tensor, at: tuple[int, ...], factor: int) -> bool:
    """Whether the proof fails when one weight is multiplied."""
    _, task = handmade.MODELS[name]
    value = p[at].item()
    p[at] = factor * value
    found = prove(model, "ab", task.rule, text=task.text()).all
    p[at] = value
    return found.right < found.total


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("one-head", torch.float32),
        # float32 rounds scores of 8 away beside an anchor 100 times as large
        ("new-head", torch.float64),
        ("two-head", torch.float64),
    ],
)
@torch.no_grad()
def test_every_weight_matters_but_those_that_cannot(name: str, dtype: torch.dtype) -> None:
    """Without it, turned round, or a hundred times as large, a weight spoils the proof."""
    model = build(name).to(dtype)
    places = [f"P{t}" for t in range(model.config.block_size)]
    columns = [*places, "a", "b", "v", "+", "-"]
    names = {2: "ab", len(places): places, len(columns): columns}  # of an axis, by its size
    reasons, tried = do_not_matter(name), set()
    for weight, p in model.named_parameters():
        for at in map(tuple, p.nonzero().tolist()):
            label = [names.get(n, range(n))[i] for n, i in zip(p.shape, at, strict=True)]
            matters = any(spoils(name, model, p, at, factor) for factor in (0, -1, 100, -100))
            assert matters != ((weight, label[-1]) in reasons), (weight, label)
            tried.add((weight, label[-1]))
    assert reasons.keys() <= tried
