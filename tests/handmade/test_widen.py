"""Hand-set models in GPT-2's widths against what they were before, and by both proofs."""

from collections.abc import Callable

import pytest
import torch

import handmade
from data.laws import Copying, Law, Suffixes
from handmade import MODELS
from handmade.ngram import compile_ngrams
from handmade.parts import Handmade
from handmade.widen import widen
from model import GPT
from proof.certificate import certify
from proof.exported import assure_task, longest_window
from proof.proof import prove
from system.errors import UserError
from tests.helpers.rules import ABC

CHARS = "".join(map(chr, range(32, 97)))  # 65 of them
LONG = Suffixes(CHARS, 96, "E", {"ROMEO": ":", "THE": " ", "TH": "E"}, "gelu_tanh")
IDS = torch.randint(7, (3000,), generator=torch.Generator().manual_seed(1))
KINDS: dict[str, Callable[[], Handmade]] = {
    **{name: make for name, (make, _) in MODELS.items()},
    "suffixes": lambda: handmade.compiled(ABC),
    "one pattern": lambda: handmade.compiled(Suffixes("ab", 5, "a", {"aa": "b"}, "gelu_tanh")),
    "copying": lambda: handmade.compiled(Copying("abcde", 7)),
}


def build(made: Handmade) -> GPT:
    model = GPT(made[0])
    model.load_state_dict(made[2], strict=True)
    return model.eval()


@pytest.fixture
def float64() -> None:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def logits(*made: Handmade) -> list[torch.Tensor]:
    """What each says of some ids."""
    V, T = made[0][0].vocab_size, made[0][0].block_size
    idx = torch.randint(V, (64, T), generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return [build(each)(idx) for each in made]


@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_the_same(kind: str, float64: None) -> None:
    made = KINDS[kind]()
    config, chars, _ = wide = widen(made)
    D, C, H = made[0].head_size, made[0].n_embd, made[0].n_head
    assert chars == made[1] and (config.n_head, config.ffn_size) == (H, made[0].ffn_size)
    assert config.head_size == max(D, -(-C // H)) and config.n_embd == H * config.head_size
    assert config.n_embd > C or H == 1
    before, after = logits(made, wide)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-10)


@pytest.mark.parametrize("activation", ["relu2", "gelu_tanh"])
def test_the_log_probabilities_of_counts_are_the_same(activation: str) -> None:
    made = compile_ngrams(IDS, "abcdefg", 4, 9, activation)
    wide = widen(made)
    assert (made[0].n_embd, made[0].head_size) == (39, 9)
    assert (wide[0].n_embd, wide[0].head_size) == (40, 20)
    before, after = (each.log_softmax(dim=-1) for each in logits(made, wide))
    torch.testing.assert_close(after, before, rtol=0, atol=2e-5)


@pytest.mark.parametrize("rule", [LONG, Copying(CHARS, 256)])
def test_the_proof_by_parts(rule: Law) -> None:
    """Padding is added without rounding, so what it makes wider is proved as closely."""
    found = certify(build(widen(handmade.compiled(rule))), rule)
    assert found.margin > 31 and found.attention < 1e-9 and found.columns < found.allowed / 10


@pytest.mark.parametrize("name", ["wte", "wpe", "blocks.0.attn.proj"])
def test_both_proofs_see_what_stands_in_a_new_column(name: str) -> None:
    config, chars, weights = widen(handmade.compiled(ABC))
    part = weights[f"{name}.weight"]
    row = part[:, -1] if name.startswith("w") else part[-1]  # what is written into the last column
    assert not row.any()
    row[0] = 1e5
    model = build((config, chars, weights))
    assert prove(model, chars, ABC.answer, text="", shortest=1).all.wrong
    with pytest.raises(ValueError, match="columns"):
        certify(model, ABC)


@pytest.mark.parametrize("name", MODELS)
def test_published_models_in_a_larger_window(name: str) -> None:
    make, task = MODELS[name]
    said = assure_task(build(widen(make(9))), task, name)
    assert said.startswith("proved in each of 1,020 contexts of two characters or more, worst")
    assert longest_window(task) == 18
    with pytest.raises(UserError, match=r"window of 19 are too many .* take --window 18 or less"):
        assure_task(build(make(19)), task, name)
    broken = widen(make())
    broken[2]["lm_head.weight"].neg_()
    with pytest.raises(UserError, match=rf"^{name} is wrong after 'aa'"):
        assure_task(build(broken), task, name)
