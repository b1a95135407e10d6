"""The page's engine against the model: every structure, every window, every broken weight."""

import base64
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import handmade
from analysis.heads import look
from data.tokenizer import CharTokenizer
from generate import generate, keep_top_k, keep_top_p
from page.pack import pack, rounded
from proof.proof import every_context, margins
from tests.helpers.javascript import Scripts, scripts
from tests.helpers.tiny import CHARS, SIZES, tiny_gpt

LETTERS = CHARS[: SIZES["vocab_size"]]
DOUBLE = {"float64": torch.float64, "float32": torch.float32}
CASES = """
  logits({ packed, ids, Float, off }) {
    const run = new Run(decoded(packed), globalThis[Float], new Set(off));
    return ids.map((id) => Array.from(run.step(id).logits));
  },
  write({ packed, ids, window, n }) {
    const text = new Text(decoded(packed), { window });
    text.read(ids);
    text.write(n, { temperature: 0 }, null);
    const logits = text.records.map((record) => Array.from(record.logits));
    return { ids: text.ids, starts: text.starts, logits };
  },
  inside({ packed, ids, targets, Float }) {
    const run = new Run(decoded(packed), globalThis[Float]), model = run.model;
    let record;
    for (const id of ids) record = run.step(id);
    const add = (values) => values.reduce((a, b) => a + b, 0);
    return targets.map(([target, other]) => ({
      ...attribute(model, record, target, other),
      patterns: record.patterns.map((p) => Array.from(p)),
      sources: record.patterns.map((_, l) => Array.from({ length: model.config.n_head },
        (_, h) => Array.from(bySource(model, record, target, other, [l, h])))),
      all: add(bySource(model, record, target, other)),
    }));
  },
  broken({ packed, contexts, answers, edits, Float }) {
    const model = decoded(packed);
    return edits.map(([name, at, value]) => {
      const { values } = model.tensors.get(name), kept = values[at];
      values[at] = value;
      const asked = new Asked(model, globalThis[Float]);
      const found = contexts.map((context, i) => asked.margin(context, answers[i]));
      values[at] = kept;
      return found;
    });
  },
  kept({ logits, options }) { return Array.from(narrowed(Float64Array.from(logits), options)); },
  drawn({ logits, options, seed, n }) {
    const random = randomNumbers(seed);
    return Array.from({ length: n }, () => choose(Float64Array.from(logits), options, random));
  },
  bytes({ text }) { Uint8Array.fromBase64 = undefined; return Array.from(bytesOf(text)); },
  halves() { return Array.from({ length: 65536 }, (_, bits) => half(bits)); },
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Scripts]:
    with scripts(CASES) as running:
        yield running


def ids_of(T: int, seed: int = 3) -> list[int]:
    return torch.randint(SIZES["vocab_size"], (T,), generator=torch.manual_seed(seed)).tolist()


CONFIGS = [
    {"position": p, "activation": a, "bias": b, "tie_weights": tie, "shift": shift}
    for p, a, b, tie, shift in itertools.product(
        ("learned", "rotary"),
        ("gelu", "gelu_tanh", "relu2"),
        (True, False),
        (True, False),
        (0.0, 0.5),
    )
]


@pytest.mark.parametrize("changes", CONFIGS, ids=lambda c: "-".join(map(str, c.values())))
@torch.inference_mode()
def test_logits_are_those_of_the_model(page: Scripts, changes: dict) -> None:
    model = tiny_gpt(**changes).eval()
    packed = pack(model, LETTERS, torch.float32)
    idx = ids_of(SIZES["block_size"])
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        expected = model.to(dtype)(torch.tensor([idx]))[0]
        kind = "Float32Array" if dtype == torch.float32 else "Float64Array"
        found = page.call("logits", packed=packed, ids=idx, Float=kind, off=[])
        assert np.allclose(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("window", ["half", "slide"])
@pytest.mark.parametrize("prompt", [1, 4, 6, 17])
@pytest.mark.parametrize("changes", [{}, {"shift": 0.5, "position": "learned", "block_size": 7}])
def test_texts_are_those_of_generate(
    page: Scripts, window: str, prompt: int, changes: dict
) -> None:
    model, start, n = tiny_gpt(**changes).eval(), ids_of(prompt), 40
    steps = generate(
        model, torch.tensor([start]), n, torch.Generator(), temperature=0, window=window
    )
    packed = pack(model, LETTERS, torch.float32)
    found = page.call("write", packed=packed, ids=start, window=window, n=n)
    assert found["ids"] == start + [new.item() for new in steps]
    assert len(set(found["ids"][prompt:])) > 2
    size = model.config.block_size
    for place, (begin, logits) in enumerate(zip(found["starts"], found["logits"], strict=True)):
        seen = torch.tensor([found["ids"][begin : place + 1]])
        assert seen.shape[1] <= size
        with torch.inference_mode():
            torch.testing.assert_close(
                torch.tensor(logits), model(seen)[0, -1], rtol=1e-4, atol=1e-4
            )


@pytest.mark.parametrize("changes", CONFIGS[::3], ids=lambda c: "-".join(map(str, c.values())))
@torch.inference_mode()
def test_parts_add_up_to_the_logit(page: Scripts, changes: dict) -> None:
    model, idx = tiny_gpt(**changes).eval().double(), ids_of(5)
    logits, inside = model(torch.tensor([idx]))[0, -1], look(model, torch.tensor([idx]))
    packed = pack(model.float(), LETTERS, torch.float32)
    targets = [[2, None], [5, 0], [7, "mean"]]
    given = {"packed": packed, "ids": idx, "targets": targets, "Float": "Float64Array"}
    for (target, other), found in zip(targets, page.call("inside", **given), strict=True):
        rest = 0 if other is None else logits.mean() if other == "mean" else logits[other]
        assert found["score"] == pytest.approx((logits[target] - rest).item(), abs=1e-9)
        assert found["sum"] == pytest.approx(found["score"], abs=1e-9)
        heads = list(itertools.chain(*found["heads"]))
        assert [sum(row) for layer in found["sources"] for row in layer] == pytest.approx(heads)
        assert found["all"] == pytest.approx(sum(heads))
        H = model.config.n_head
        for layer, row in enumerate(found["patterns"]):
            expected = inside.pattern[0, layer * H : (layer + 1) * H, -1]
            assert np.allclose(np.reshape(row, expected.shape), expected, atol=1e-9)
        if other is None:
            share = torch.tensor(found["heads"]).double() - inside.to_logits[0, :, target].view(
                -1, H
            )
            assert share.std(dim=1).max() < 1e-6  # of proj's bias, which `look` gives to the heads
            assert model.config.bias or share.abs().max() < 1e-6


@torch.inference_mode()
def test_a_part_that_is_off_adds_nothing(page: Scripts) -> None:
    model, idx = tiny_gpt(bias=True).eval().double(), ids_of(5)
    packed = pack(model.float(), LETTERS, torch.float32)
    call = {"packed": packed, "ids": idx, "Float": "Float64Array"}
    found = page.call("logits", off=["0.1", "1.ffwd"], **call)
    model = model.double()
    D = model.config.head_size
    model.blocks[0].attn.proj.weight[:, D : 2 * D] = 0
    model.blocks[1].ffwd.down.weight.zero_()
    model.blocks[1].ffwd.down.bias.zero_()
    assert np.allclose(found, model(torch.tensor([idx]))[0], atol=1e-9)


@pytest.mark.parametrize("name", handmade.MODELS)
@torch.inference_mode()
def test_broken_weights_break_as_in_the_proof(page: Scripts, name: str) -> None:
    """Every weight that is not zero, times 0, -1, 100 and -100: the same verdict everywhere."""
    saved = handmade.load(name)
    model, rule = saved.build().double(), handmade.task_of(name).rule
    contexts = every_context("ab", model.config.block_size)  # by length, which is fast in Python
    answers = [rule(context) for context in contexts]
    edits, expected = [], []
    for weight, p in model.named_parameters():
        for at in p.view(-1).nonzero()[:, 0].tolist():
            kept = p.view(-1)[at].item()
            for factor in (0, -1, 100, -100):
                p.view(-1)[at] = factor * kept
                edits.append([weight, at, factor * kept])
                expected.append(margins(model, "ab", contexts, answers=answers))
            p.view(-1)[at] = kept
    encode = CharTokenizer("ab").encode
    order = sorted(range(len(contexts)), key=contexts.__getitem__)  # which is fast in the page
    found = page.call(
        "broken",
        packed=pack(saved.build(), "ab", torch.float32),
        contexts=[encode(contexts[i]).tolist() for i in order],
        answers=["ab".index(answers[i]) for i in order],
        edits=edits,
        Float="Float64Array",
    )
    found, expected = torch.tensor(found).double(), torch.tensor(expected).double()[:, order]
    assert ((found > 0) == (expected > 0)).all()
    assert (found - expected).abs().max() < 1e-6
    assert not (expected > 0).all(dim=1).all() and (expected > 0).all(dim=1).any()


@pytest.mark.parametrize("top_k", [None, 1, 3, 50])
@pytest.mark.parametrize("top_p", [None, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_choices_are_narrowed_as_generate_does(
    page: Scripts, top_k: int | None, top_p: float | None, temperature: float
) -> None:
    logits = torch.randn(1, 13, generator=torch.manual_seed(5)) * 2
    expected = (logits - logits.max()) / temperature
    expected = expected if top_k is None else keep_top_k(expected, top_k)
    expected = expected if top_p is None or top_p == 1 else keep_top_p(expected, top_p)
    options = {"temperature": temperature, "topK": top_k, "topP": top_p}
    found = page.call("kept", logits=logits[0].tolist(), options=options)
    assert np.allclose(found, expected.softmax(dim=-1)[0], atol=1e-6)
    assert [p > 0 for p in found] == (expected[0] > -torch.inf).tolist()


def test_ties_keep_exactly_k_and_the_likeliest_is_the_first(page: Scripts) -> None:
    options = {"temperature": 1.0, "topK": 2}
    assert page.call("kept", logits=[1, 2, 2, 2], options=options) == [0, 0.5, 0.5, 0]
    assert page.call("drawn", logits=[1, 2, 2], options={"temperature": 0}, seed=1, n=1) == [1]


def test_draws_follow_the_distribution(page: Scripts) -> None:
    logits, n = [0.0, 1.0, -1.0, 2.0], 20_000
    given = {"logits": logits, "options": {"temperature": 1.0}, "n": n}
    drawn = page.call("drawn", seed=7, **given)
    expected = torch.tensor(logits).softmax(dim=0)
    counts = torch.bincount(torch.tensor(drawn), minlength=4) / n
    assert (counts - expected).abs().max() < 0.015  # four standard deviations
    assert drawn == page.call("drawn", seed=7, **given) != page.call("drawn", seed=8, **given)


def test_weights_survive_the_way_into_the_page(page: Scripts) -> None:
    for n in range(8):
        raw = bytes((37 * i + n) % 256 for i in range(n))
        assert bytes(page.call("bytes", text=base64.b64encode(raw).decode())) == raw
    bits = np.arange(65536, dtype=np.uint16).view(np.float16).astype(float)
    found = page.call("halves")
    assert all(
        np.isfinite(b) == (f is not None) and (f is None or b == f)
        for b, f in zip(bits.tolist(), found, strict=True)
    )


def test_float16_only_where_weights_are_many_and_fit() -> None:
    assert rounded(tiny_gpt()) == torch.float32
