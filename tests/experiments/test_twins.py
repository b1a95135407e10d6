"""Where runs begin, what stays fixed, how they are judged, and the line to the hand's weights."""

import random

import pytest
import torch

import handmade
from analysis.heads import attended
from data import rules
from data.laws import Copying, Law, Suffixes
from experiments import arms, between, judge, twin
from experiments.arms import ATTENTION, FROZEN, Run, Start, begin, half, starts
from experiments.judge import Judge
from experiments.rates import wilson
from experiments.texts import domain, read_text
from experiments.twin import Recipe, carry_out
from model import GPT
from proof.proof import every_context, prove
from tests.helpers.runs import exact

LAW = Suffixes("abc", 5, "a", {"ab": "c", "b": "b", "cab": "a", "ca": "b"})
HAND = handmade.compiled(LAW)
QUICK = Recipe(steps=20, batch_size=8)


each_hand = pytest.mark.parametrize("law", [LAW, Copying("abc", 5)])  # the latter has biases


def saved(law: Law = LAW) -> arms.Checkpoint:
    made = handmade.compiled(law)
    return arms.Checkpoint(*made, {}, "", [], {"step": 0})


@pytest.fixture(scope="module")
def judged() -> Judge:
    return Judge(LAW, domain(LAW), saved().build())


@each_hand
def test_a_blur_of_one_and_no_noise_change_nothing(law: Law) -> None:
    hand = saved(law)
    for start in (Start("blurred", 1.0), Start("noisy", 0.0)):
        model = begin(Run(start, "every", 3), hand)
        by = 1.0 if start.kind == "blurred" else 4.0
        wanted = {
            name: weight / by if name.startswith("lm_head.") or ".query." in name else weight
            for name, weight in hand.weights.items()
        }
        assert exact(dict(model.state_dict())) == exact(wanted)
    assert arms.blur_for_noise(hand.weights) == 4  # 32 becomes 8


@each_hand
def test_a_blur_divides_logits_and_scores(law: Law) -> None:
    hand, idx = saved(law), torch.tensor([[0, 1, 2, 2, 0]])
    model, sharp = begin(Run(Start("blurred", 16.0), "every", 1), hand).eval(), hand.build()
    kept = sharp.lm_head.weight / model.lm_head.weight
    assert torch.equal(kept[sharp.lm_head.weight != 0], torch.full((3,), 16.0))
    x = sharp.wte(idx) + sharp.wpe(5)
    for soft, block in zip(model.blocks, sharp.blocks, strict=True):
        normed = block.ln_1(x)
        for blurred, head in zip(soft.attn.heads, block.attn.heads, strict=True):
            scores = [h.query(normed) @ h.key(normed).mT for h in (blurred, head)]
            torch.testing.assert_close(scores[0] * 16, scores[1])
        x = block(x)


def test_noise_is_as_large_as_asked() -> None:
    hand, soft = saved(), arms.blurred(saved().weights, 4.0)
    model, again, other = (
        begin(Run(Start("noisy", 0.3), "every", seed), hand).state_dict() for seed in (1, 1, 2)
    )
    ratios = []
    for name, weight in soft.items():
        added = model[name] - weight
        assert torch.equal(model[name], again[name])
        if weight.ndim < 2 or not weight.any():
            assert not added.any()
            continue
        assert not torch.equal(model[name], other[name])
        ratios.append((added.square().mean() / weight.square().mean()).sqrt().item())
    assert len(ratios) > 8
    assert sum(ratios) / len(ratios) == pytest.approx(0.3, rel=0.1)


@pytest.mark.parametrize("kind", FROZEN)
def test_freezing_freezes_bit_for_bit(kind: str, judged: Judge) -> None:
    hand, run = saved(), Run(Start(kind), "every", 2)
    before = begin(run, hand).state_dict()
    text = read_text(LAW, "every", judged.domain)
    model, _ = carry_out(run, hand, text, judged, QUICK)
    fixed, how = FROZEN[kind]
    moved = set()
    for name, weight in model.state_dict().items():
        if half(name) == fixed:
            assert exact(weight) == exact(before[name])
            assert how == "random" or exact(weight) == exact(hand.weights[name])
        elif not torch.equal(weight, before[name]):
            moved.add(name)
    halves = {name: half(name) for name in before}
    assert moved >= {name for name in halves if halves[name] != fixed and "bias" not in name}
    fixed_matrices = [w for n, w in before.items() if w.ndim == 2 and halves[n] == fixed]
    assert how == "hand" or all(weight.any() for weight in fixed_matrices)
    assert {halves["wpe.weight"], halves["blocks.0.attn.proj.bias"]} == {ATTENTION}


def test_shapes() -> None:
    hand = saved().model
    same, roomier = (arms.shape(Start(kind), hand) for kind in ("same", "roomier"))
    assert same == hand
    assert (roomier.n_layer, roomier.n_head, roomier.n_embd) == (2, 4, 64)
    assert arms.shape(Start("same"), hand, layers=3).n_layer == 3
    assert arms.shape(Start("blurred", 4.0), hand, layers=3) == hand
    wide = handmade.load("tictactoe").model  # 7 heads, 100 columns
    roomier = arms.shape(Start("roomier"), wide)
    assert (roomier.n_layer, roomier.n_head, roomier.n_embd) == (2, 7, 105)
    names = [str(start) for start in starts([*arms.ARMS], [1.0, 4.0], [0.01])]
    assert names == ["same", "roomier", "blurred 1", "blurred 4", "noisy 0.01", *FROZEN]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_right_is_what_a_proof_says(seed: int, judged: Judge) -> None:
    """Of models with a weight changed: the number, the first wrong context, and whether proved."""
    rng, model = random.Random(seed), saved().build()
    name = rng.choice([name for name, weight in HAND[2].items() if weight.any()])
    values = model.state_dict()[name].view(-1)
    place = rng.choice(values.nonzero()[:, 0].tolist())
    values[place] *= rng.choice([0.0, -1.0])
    found = prove(model, LAW.chars, LAW.answer, text="", shortest=1).all
    right, total, first = judged.right(model)
    assert (right, total) == (found.right, found.total)
    assert judged.proved(model) == (not found.wrong)
    if found.wrong:
        assert first == min(found.wrong, key=lambda context: (len(context), context))
        assert not judged.seems_right(model)  # what showed it wrong is tried first from now on


def test_ties_and_what_is_no_number_are_wrong(judged: Judge) -> None:
    model = saved().build()
    model.lm_head.weight.data.zero_()
    assert judged.right(model)[0] == 0
    model.lm_head.weight.data.fill_(float("nan"))
    assert judged.right(model)[0] == 0 and not judged.proved(model)


def test_a_certificate_where_contexts_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hand's weights are proved for all 3^20; a broken unit, or another shape, is not."""
    monkeypatch.setattr("experiments.texts.SAMPLED", 2000)
    law = Suffixes("abc", 20, "a", {"aabaab": "c", "aa": "b"})
    hand = saved(law).build()
    found = Judge(law, domain(law), hand)
    assert not found.whole and found.proved(hand)
    other = GPT(arms.shape(Start("roomier"), hand.config)).eval()
    assert not found.certified(other)
    hand.blocks[0].ffwd.up.weight.data[0] = 0  # of aabaab, in few of the texts that are drawn
    assert not found.certified(hand)


def test_a_run_ends_once_it_is_proved_for_a_while(judged: Judge) -> None:
    hand, recipe = saved(), Recipe(steps=500, batch_size=8)
    text = read_text(LAW, "every", judged.domain)
    model, result = carry_out(Run(Start("blurred", 1.0), "every", 1), hand, text, judged, recipe)
    assert (result.proved_at, result.steps, result.distance) == (0, 50, 0)
    assert (result.right_at_first, result.right, result.total) == (363, 363, 363)
    assert result.at_floor and result.first_wrong is None
    contexts = every_context(LAW.chars, 5, shortest=1)
    assert attended(model, LAW.chars, contexts[-1:])[0].shape == (1, 2, 5)
    _, short = carry_out(Run(Start("same"), "every", 1), hand, text, judged, QUICK)
    assert (short.proved, short.proved_at, short.steps) == (False, None, 20)
    assert short.right < 363 and short.first_wrong and short.distance > 0.1


def test_a_run_does_not_depend_on_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """What showed one twin wrong is tried first on it, and on no other."""
    monkeypatch.setattr(judge, "QUICK", 2)
    hand, every = saved(), domain(LAW)
    text, recipe = read_text(LAW, "every", every), Recipe(steps=200, batch_size=16)
    runs = [Run(Start("blurred", 16.0), "every", 1), Run(Start("noisy", 0.3), "every", 1)]
    found = []
    for before in (runs[:1], []):
        shared = Judge(LAW, every, hand.build())
        quick = exact(shared.quick.idx)
        for run in (*before, runs[1]):
            _, result = carry_out(run, hand, text, shared, recipe)
        assert exact(shared.quick.idx) == quick
        found.append(result)
    assert found[0] == found[1]


def shuffled(law_name: str, seed: int) -> tuple[GPT, GPT]:
    """A hand-set model, and the same with its heads and units in another order."""
    hand, generator = handmade.load(law_name), torch.Generator().manual_seed(seed)
    weights = dict(hand.weights)
    config = hand.model
    for layer in range(config.n_layer):
        heads = torch.randperm(config.n_head, generator=generator).tolist()
        between.reorder_heads(weights, layer, heads, config.head_size)
        between.reorder_units(weights, layer, torch.randperm(config.ffn_size, generator=generator))
    model = GPT(config)
    model.load_state_dict(weights)
    return hand.build(), model.eval()


@pytest.mark.parametrize("name", ["abc", "parity", "copy"])
def test_heads_and_units_are_matched(name: str) -> None:
    """The order is found again, and changing it changes nothing that is computed."""
    hand, mixed = shuffled(name, seed=2)
    idx = torch.randint(hand.config.vocab_size, (64, hand.config.block_size))
    torch.testing.assert_close(mixed(idx), hand(idx), rtol=1e-4, atol=1e-3)
    weights = between.matched(mixed, hand, idx)
    assert name == "copy" or exact(weights) != exact(dict(mixed.state_dict()))
    assert exact(weights) == exact(dict(hand.state_dict()))


def test_the_line_from_the_hand(judged: Judge) -> None:
    hand, model = saved().build(), begin(Run(Start("same"), "every", 1), saved()).eval()
    points = between.line(model, hand, judged.quick)
    assert len(points) == 11 and points[0] == (0.0, 1.0)
    assert points[-1] == (pytest.approx(judge.loss(model, judged.quick), abs=1e-4), 0.0)
    near = GPT(hand.config).eval()
    ends = hand.state_dict(), between.matched(model, hand, judged.quick.idx[:64].long())
    near.load_state_dict({name: (ends[0][name] + 9 * ends[1][name]) / 10 for name in ends[0]})
    assert points[9][0] == pytest.approx(judge.loss(near, judged.quick), abs=1e-3) and points[9][0]


def test_games_are_played_by_a_twin() -> None:
    hand = handmade.load("tictactoe").build()
    found = Judge(rules.read("tictactoe"), domain(rules.read("tictactoe")), hand)
    won, drawn, lost, forbidden = found.games(hand)
    assert won > 300 and drawn > 100 and lost == forbidden == 0
    hand.lm_head.weight.data.neg_()
    assert found.games(hand)[3] > 0


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [  # Agresti & Coull 1998; Wallis 2013; by hand: n / (n + 1.96^2)
        (1, 10, 0.0179, 0.4042),
        (5, 5, 0.5655, 1.0),
        (0, 5, 0.0, 0.4345),
        (9, 20, 0.2582, 0.6579),
    ],
)
def test_wilsons_interval(k: int, n: int, low: float, high: float) -> None:
    assert wilson(k, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_steps_are_adams() -> None:
    """Kingma & Ba 2014, algorithm 1, on the weights that are not fixed."""
    run, text = Run(Start("attention by hand"), "every", 1), read_text(LAW, "every", domain(LAW))
    model, other = begin(run, saved()), begin(run, saved())
    optimizer = twin.optimizer_of(model, QUICK)
    free = [p for p in other.parameters() if p.requires_grad]
    mean, square = ([torch.zeros_like(p) for p in free] for _ in range(2))
    for step in range(1, 6):
        idx, targets = text.batch(8, 1, step)
        twin.take_step(model, optimizer, idx, targets, 0.5)
        logits = other(idx).log_softmax(dim=-1)
        loss = -logits.gather(2, targets[..., None]).mean()
        for p, m, v, g in zip(free, mean, square, torch.autograd.grad(loss, free), strict=True):
            m += 0.1 * (g - m)
            v += 0.01 * (g * g - v)
            update = (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
            p.data -= 0.5 * QUICK.learning_rate * update
    for mine, its in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=2e-5)
