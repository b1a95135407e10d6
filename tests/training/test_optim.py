"""The optimizers against PyTorch's own, and the schedule against its formula."""

import io
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from model import GPT
from system.settings import OptimConfig
from tests.helpers.tiny import tiny_gpt
from training.optim import AdamW, Muon, Optimizer, Part, newton_schulz, parameter_groups, schedule

STEPS = 9
ROUNDING = 0.05  # what bfloat16's eight bits become in the five iterations of newton_schulz
CONFIG = {
    "learning_rate": 0.02,
    "embedding_learning_rate": 0.03,
    "head_learning_rate": 0.005,
    "vector_learning_rate": 0.01,
    "beta1": 0.8,
    "beta2": 0.95,
    "momentum": 0.9,
    "weight_decay": 0.5,
    "warmup_steps": 2,
    "final_share": 0.2,
}
PEAKS = {"matrices": 0.02, "embeddings": 0.03, "head": 0.005, "vectors": 0.01}

needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="torch has a Muon of its own from 2.9 on"
)
both_optimizers = pytest.mark.parametrize("optimizer", ["adamw", "muon"])


def role(name: str) -> str:
    """What the weight of this name is for, told by the name alone."""
    if "ln_" in name or name.endswith("bias"):
        return "vectors"
    return {"wte.weight": "embeddings", "wpe.weight": "embeddings", "lm_head.weight": "head"}.get(
        name, "matrices"
    )


def model_of_all_roles() -> GPT:
    return tiny_gpt(position="learned", bias=True)


def train(model: GPT, steps: range, update: Callable[[int], None]) -> None:
    """Call `update` at each step, with gradients that depend on the step alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        update(step)


def step_both(
    part: Part,
    pytorchs: torch.optim.Optimizer,
    ours: list[nn.Parameter],
    theirs: list[nn.Parameter],
) -> None:
    """Make STEPS steps at half the peak learning rates, with the same gradients on both sides."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(STEPS):
        for p, q in zip(ours, theirs, strict=True):
            p.grad = torch.randn(p.shape, generator=generator)
            q.grad = p.grad.clone()
        with torch.no_grad():
            part.step(0.5)
        pytorchs.step()


@needs_muon
def test_muon_equals_pytorchs() -> None:
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 8), (4, 6), (8, 3), (5, 5), (9, 2), (3, 8)]  # wide, tall and square
    first = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(p.clone()) for p in first] for _ in range(2))
    muon = Muon([{"params": ours, "lr": 0.04, "weight_decay": 0.5}], momentum=0.9)
    pytorchs = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.5)
    step_both(muon, pytorchs, ours, theirs)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=STEPS * 0.02 * ROUNDING)


def test_adamw_is_pytorchs_to_the_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    first = [torch.randn(shape, generator=generator) for shape in [(3, 8), (4,), (9, 2), (65, 33)]]
    ours, theirs = ([nn.Parameter(p.clone()) for p in first] for _ in range(2))
    groups = [
        ({"lr": 0.04, "weight_decay": 0.5}, slice(3)),
        ({"lr": 0.1, "weight_decay": 0}, slice(3, 4)),
    ]
    adamw = AdamW([{"params": ours[at], **group} for group, at in groups], betas=(0.8, 0.95))
    groups = [{"params": theirs[at], **group, "lr": 0.5 * group["lr"]} for group, at in groups]
    pytorchs = torch.optim.AdamW(groups, betas=(0.8, 0.95), fused=True)
    step_both(adamw, pytorchs, ours, theirs)
    assert all(map(torch.equal, ours, theirs))
    expected = pytorchs.state_dict()["state"]
    assert list(adamw.state) == list(expected)
    for state, other in zip(adamw.state.values(), expected.values(), strict=True):
        assert list(state) == list(other) and all(map(torch.equal, state.values(), other.values()))


@pytest.mark.parametrize(("dtype", "atol"), [(torch.bfloat16, ROUNDING), (torch.float32, 1e-5)])
def test_newton_schulz_bends_each_singular_value(dtype: torch.dtype, atol: float) -> None:
    x = torch.randn(5, 4, 9, generator=torch.Generator().manual_seed(2))
    u, lengths, vh = torch.linalg.svd(x.double(), full_matrices=False)
    lengths = lengths / lengths.norm(dim=1, keepdim=True)
    for _ in range(5):
        lengths = 3.4445 * lengths - 4.7750 * lengths**3 + 2.0315 * lengths**5
    assert 0.5 < lengths.min() < lengths.max() < 1.5
    y = newton_schulz(x, dtype)
    assert y.dtype == dtype
    torch.testing.assert_close(u * lengths[:, None] @ vh, y.double(), rtol=0, atol=atol)
    assert torch.equal(newton_schulz(x * 2**20, dtype), y)
    assert torch.equal(newton_schulz(x * 2**-20, dtype), y)
    assert newton_schulz(x * 0, dtype).count_nonzero() == 0


@pytest.mark.parametrize("there", [True, False])
def test_muon_multiplies_in_what_the_hardware_has(
    monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    monkeypatch.setattr("training.optim.has_bfloat16", lambda device: there)
    seen = []

    def watch(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        seen.append(dtype)
        return newton_schulz(x, dtype)

    monkeypatch.setattr("training.optim.newton_schulz", watch)
    model = model_of_all_roles()
    optimizer = Optimizer(model, OptimConfig(optimizer="muon", **CONFIG))
    train(model, range(2), lambda step: optimizer.step(1.0))
    assert set(seen) == {torch.bfloat16 if there else torch.float32}
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_every_weight_has_one_role() -> None:
    model = model_of_all_roles()
    groups = parameter_groups(model, OptimConfig(**CONFIG))
    for name in PEAKS:
        expected = [p for n, p in model.named_parameters() if role(n) == name]
        assert list(map(id, groups[name]["params"])) == list(map(id, expected))
        assert groups[name]["lr"] == PEAKS[name]
        assert groups[name]["weight_decay"] == (0 if name == "vectors" else 0.5)


def test_tied_head_is_an_embedding() -> None:
    model = tiny_gpt(tie_weights=True)
    groups = parameter_groups(model, OptimConfig())
    assert groups["head"]["params"] == []
    assert [p is model.lm_head.weight for p in groups["embeddings"]["params"]] == [True]


def test_unset_peaks_follow_the_learning_rate() -> None:
    groups = parameter_groups(model_of_all_roles(), OptimConfig(learning_rate=0.07))
    assert {group["lr"] for group in groups.values()} == {0.07}
    zero = parameter_groups(model_of_all_roles(), OptimConfig(embedding_learning_rate=0))
    assert zero["embeddings"]["lr"] == 0


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=needs_muon)])
def test_training_equals_pytorchs_optimizers_one_per_weight(optimizer: str) -> None:
    config = OptimConfig(optimizer=optimizer, decay="linear", **CONFIG)
    model, expected = model_of_all_roles(), model_of_all_roles()
    ours = Optimizer(model, config)
    theirs = {}
    for name, p in expected.named_parameters():
        decay = 0.0 if role(name) == "vectors" else 0.5
        if optimizer == "muon" and role(name) == "matrices":
            theirs[name] = torch.optim.Muon([p], momentum=0.9, weight_decay=decay)
        else:
            theirs[name] = torch.optim.AdamW([p], betas=(0.8, 0.95), weight_decay=decay)

    def update(step: int) -> None:
        for name, part in theirs.items():
            part.param_groups[0]["lr"] = PEAKS[role(name)] * schedule(step, STEPS, config)
            part.step()
            part.zero_grad()

    train(model, range(STEPS), lambda step: ours.step(schedule(step, STEPS, config)))
    train(expected, range(STEPS), update)
    for (name, p), q in zip(model.named_parameters(), expected.parameters(), strict=True):
        rounded = optimizer == "muon" and role(name) == "matrices"
        atol = STEPS * 0.02 * ROUNDING if rounded else 1e-6
        torch.testing.assert_close(p, q, rtol=0, atol=atol)


@both_optimizers
def test_without_gradient_only_matrices_shrink(optimizer: str) -> None:
    model = model_of_all_roles()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    Optimizer(model, OptimConfig(optimizer=optimizer, **CONFIG)).step(0.75)
    for name, p in model.named_parameters():
        decay = 0.0 if role(name) == "vectors" else 0.75 * PEAKS[role(name)] * 0.5
        torch.testing.assert_close(p, before[name] * (1 - decay))
    assert all(p.grad is None for p in model.parameters())


def saved(state: object) -> object:
    """`state` as it comes back from a file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def resumed(model: GPT, optimizer: Optimizer, config: OptimConfig) -> tuple[GPT, Optimizer]:
    """A new model and its new optimizer, of other settings perhaps, that go on from these two."""
    again = tiny_gpt(seed=99, position="learned", bias=True)
    again.load_state_dict(saved(model.state_dict()))
    new = Optimizer(again, config)
    new.load_state(saved(optimizer.state()))
    return again, new


@both_optimizers
@pytest.mark.parametrize("done", [0, 4])
def test_resumed_training_is_the_same_to_the_bit(optimizer: str, done: int) -> None:
    config = OptimConfig(optimizer=optimizer, **CONFIG)
    model = model_of_all_roles()
    ours = Optimizer(model, config)
    train(model, range(done), lambda step: ours.step(0.75))
    again, new = resumed(model, ours, config)
    train(model, range(done, STEPS), lambda step: ours.step(0.75))
    train(again, range(done, STEPS), lambda step: new.step(0.75))
    assert all(map(torch.equal, model.parameters(), again.parameters()))


@both_optimizers
def test_settings_of_a_resumed_run_count(optimizer: str) -> None:
    model = model_of_all_roles()
    ours = Optimizer(model, OptimConfig(optimizer=optimizer, **CONFIG))
    train(model, range(4), lambda step: ours.step(0.75))
    again, new = resumed(model, ours, OptimConfig(optimizer=optimizer, learning_rate=0))
    train(again, range(4, STEPS), lambda step: new.step(1.0))
    assert all(map(torch.equal, model.parameters(), again.parameters()))


def test_state_of_another_optimizer_is_refused() -> None:
    model = model_of_all_roles()
    adamw, muon = (Optimizer(model, OptimConfig(optimizer=name)) for name in ("adamw", "muon"))
    for one, other in ((adamw, muon), (muon, adamw)):
        with pytest.raises(ValueError, match=r"argument 2"):
            one.load_state(other.state())


@both_optimizers
def test_state_of_other_weights_is_refused(optimizer: str) -> None:
    config = OptimConfig(optimizer=optimizer)
    narrow, wide = tiny_gpt(), tiny_gpt(n_embd=9)
    other = Optimizer(wide, config)
    train(wide, range(1), lambda step: other.step(1.0))
    with pytest.raises(ValueError, match="state is that of other weights"):
        Optimizer(narrow, config).load_state(other.state())


def reversed_and_strided(state: list[dict]) -> list[dict]:
    """The same state: entries and names in another order, tensors of another type and layout."""
    return [
        {
            i: {
                name: t.double().mT.contiguous().mT if t.ndim > 1 else t.double()
                for name, t in reversed(tensors.items())
            }
            for i, tensors in reversed(part.items())
        }
        for part in state
    ]


@both_optimizers
def test_state_may_come_in_any_order_and_layout(optimizer: str) -> None:
    config = OptimConfig(optimizer=optimizer, **CONFIG)
    model = model_of_all_roles()
    ours = Optimizer(model, config)
    train(model, range(4), lambda step: ours.step(0.75))
    again, new = resumed(model, ours, config)
    new.load_state(reversed_and_strided(ours.state()))
    train(model, range(4, STEPS), lambda step: ours.step(0.75))
    train(again, range(4, STEPS), lambda step: new.step(0.75))
    assert all(map(torch.equal, model.parameters(), again.parameters()))


@pytest.mark.parametrize("decay", ["cosine", "linear", "none"])
def test_learning_rate_warms_up(decay: str) -> None:
    config = OptimConfig(warmup_steps=4, decay=decay)
    shares = [schedule(step, 24, config) for step in range(5)]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1])
    assert schedule(0, 24, OptimConfig(warmup_steps=0, decay=decay)) == 1


@pytest.mark.parametrize("warmup_steps", [0, 4])
@pytest.mark.parametrize(
    ("decay", "left"),  # a quarter, half, all of the way from the end of the warm-up to the end
    [
        ("cosine", [(1 + math.sqrt(0.5)) / 2, 0.5, 0, 0]),
        ("linear", [0.75, 0.5, 0, 0]),
        ("none", [1, 1, 1, 1]),
    ],
)
def test_learning_rate_falls(decay: str, left: list[float], warmup_steps: int) -> None:
    config = OptimConfig(warmup_steps=warmup_steps, decay=decay, final_share=0.2)
    shares = [schedule(warmup_steps + step, warmup_steps + 20, config) for step in (5, 10, 20, 21)]
    assert shares == pytest.approx([0.2 + 0.8 * share for share in left])


def test_run_shorter_than_its_warm_up() -> None:
    assert schedule(2, 3, OptimConfig(warmup_steps=4)) == pytest.approx(0.6)
    assert schedule(3, 3, OptimConfig(warmup_steps=3)) == 1


def test_training_needs_no_compiler(tiny_process: Callable) -> None:
    for optimizer in ("adamw", "muon"):
        settings = [f"optim.optimizer={optimizer}", f"train.out_dir={optimizer}"]
        ended = tiny_process(*settings, without=["torch._dynamo"])
        assert (ended.status, ended.err) == (0, "")
