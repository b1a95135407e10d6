"""The counts on the page: against an oracle of plain dictionaries, and mixed as Python mixes."""

import base64
import itertools
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from benchmarks.kneser_ney import KneserNey
from data.counts import count, pack
from data.ngrams import Ngrams
from generate import generate
from mixture import Mixture
from page import pack as page_pack
from page.pack import pack_counts
from proof.proof import margins
from tests.helpers.javascript import Scripts, scripts
from tests.helpers.tiny import CHARS, SIZES, tiny_gpt

V, ORDER = SIZES["vocab_size"], 4
SHARES = [0.15, 0.35, 0.6, 0.85]
LETTERS = CHARS[:V]
CASES = """
  after({ counts, rows }) {
    const asked = new Counts(counts, bytesOf(counts.bytes));
    return rows.map((row) => row.map((_, t) => {
      const { probs, known } = asked.after(row.slice(0, t + 1));
      return { probs: Array.from(probs), known };
    }));
  },
  opinions({ packed, ids, Float, off }) {
    const text = new Text(decoded(packed), { Float: globalThis[Float], off: new Set(off) });
    text.read(ids);
    text.scores();
    const plain = (value) => (value?.length ? Array.from(value) : value);
    return ids.map((_, place) => Object.fromEntries(
      Object.entries(text.opinions(place)).map(([name, value]) => [name, plain(value)])));
  },
  write({ packed, ids, window, n }) {
    const text = new Text(decoded(packed), { window });
    text.read(ids);
    text.write(n, { temperature: 0 }, null);
    return { ids: text.ids, starts: text.starts, tally: tally(text),
      better: text.ids.map((_, place) => better(text.surprise(place))) };
  },
  margins({ packed, contexts, answers }) {
    const asked = new Asked(decoded(packed), Float64Array);
    return contexts.map((context, i) => asked.margin(context, answers[i]));
  },
"""


@pytest.fixture(scope="module")
def page() -> Iterator[Scripts]:
    with scripts(CASES) as running:
        yield running


def skewed(V: int, N: int, seed: int = 1) -> list[int]:
    """Ids that are rarer the higher they are; the last does not occur."""
    weights = 1 / np.arange(1, V)
    return np.random.default_rng(seed).choice(V - 1, N, p=weights / weights.sum()).tolist()


def carried(pieces: list[list[int]], V: int, shares: list[float]) -> dict:
    """Counts as the page has them once their bytes are inflated, which V8 alone cannot do."""
    levels = count([np.array(piece, np.uint16) for piece in pieces], V, len(shares))
    found = pack_counts(pack(levels, V), shares, V)
    raw = zlib.decompress(base64.b64decode(found["bytes"]))
    return {**found, "bytes": base64.b64encode(raw).decode()}


@pytest.mark.parametrize(("V", "N", "order"), [(2, 9, 1), (5, 700, 6), (7, 10, 9), (13, 300, 4)])
def test_counts_answer_as_the_oracle(page: Scripts, V: int, N: int, order: int) -> None:
    text = skewed(V, N)
    pieces = [text[: N // 3], text[N // 3 :]]
    oracle = KneserNey(pieces, V, order)
    rows = [text[-8:], skewed(V, 8, seed=2), [V - 1, *text[:7]]]
    counts = carried(pieces, V, [0.5] * len(oracle.counts))
    expected, known = oracle.probs(rows)
    found = page.call("after", counts=counts, rows=rows)
    for row, places in enumerate(found):
        for t, place in enumerate(places):
            assert place["known"] == known[row, t]
            assert np.allclose(place["probs"], expected[row, t], rtol=1e-9, atol=0)


def test_counts_of_every_size_are_read(page: Scripts) -> None:
    """Ids that take 16 bits, and grams that came more often than 16 bits hold."""
    pieces, V = [[0] * 40_000, [280, 5] * 200, skewed(300, 500)], 300
    counts = carried(pieces, V, [0.5, 0.5])
    kinds = {name: kind for name, (kind, _) in counts["orders"][1].items()}
    assert kinds == {"last": "int16", "followers": "uint8", "counts": "int32"}
    row = [0, 280, 5, 7]
    [found] = page.call("after", counts=counts, rows=[row])
    model = Ngrams(count([np.array(each) for each in pieces], V, 2), vocab_size=V)
    expected, known = model.probs(torch.tensor([row]))
    assert [place["known"] for place in found] == known[0].tolist()
    assert np.allclose([place["probs"] for place in found], expected[0], atol=1e-6)


@pytest.fixture(scope="module", params=["half", "slide"])
def written(request: pytest.FixtureRequest, page: Scripts) -> tuple[Mixture, dict, dict, str]:
    """A mixture, its page, what that wrote, and the window."""
    text = skewed(V, 300)
    mixture = Mixture(
        tiny_gpt(shift=0.5),
        Ngrams(count([np.array(text)], V, ORDER), vocab_size=V),
        torch.tensor(SHARES),
    ).eval()
    packed = page_pack.pack(mixture.gpt, LETTERS, torch.float32)
    packed["counts"] = carried([text], V, mixture.shares.tolist())
    found = page.call("write", packed=packed, ids=text[40:49], window=request.param, n=40)
    return mixture, packed, found, request.param


@torch.inference_mode()
def test_net_and_counts_are_mixed_as_python_mixes(
    page: Scripts, written: tuple[Mixture, dict, dict, str]
) -> None:
    mixture, packed, _, _ = written
    ids = [*skewed(V, 300)[100:105], V - 1]
    idx = torch.tensor([ids])
    oracle = KneserNey([skewed(V, 300)], V, ORDER)
    [counted], [known] = oracle.probs([ids])
    share = mixture.shares[torch.from_numpy(known)].double().numpy()
    logits = mixture.gpt.double()(idx)[0]
    mixture.gpt.float()
    net = logits.softmax(dim=-1).numpy()
    mixed = (1 - share)[:, None] * net + share[:, None] * counted
    call = {"packed": packed, "ids": ids, "off": []}
    names = {"net": net, "counted": counted, "mixed": mixed, "known": known, "share": share}
    found = page.call("opinions", Float="Float64Array", **call)
    for name, expected in names.items():
        values = [place[name] for place in found]
        assert np.allclose(values, expected, rtol=1e-9, atol=1e-12), name
    assert set(known.tolist()) == {0, 1, 2, 3}
    values = [place["mixed"] for place in page.call("opinions", Float="Float32Array", **call)]
    assert np.allclose(np.log(values), mixture(idx)[0], atol=1e-4)
    alone = page.call("opinions", Float="Float64Array", **{**call, "off": ["counts"]})
    assert np.allclose([place["mixed"] for place in alone], net, rtol=1e-9)
    assert all("counted" not in place for place in alone)


def test_texts_are_those_of_generate(written: tuple[Mixture, dict, dict, str]) -> None:
    mixture, _, found, window = written
    start, rest = found["ids"][:9], found["ids"][9:]
    idx, none = torch.tensor([start]), torch.Generator()
    steps = generate(mixture, idx, 40, none, temperature=0, window=window)
    assert rest == [new.item() for new in steps]
    alone = generate(mixture.gpt, idx, 40, none, temperature=0, window=window)
    assert rest != [new.item() for new in alone]
    assert len(set(rest)) > 2


@torch.inference_mode()
def test_who_guessed_better_is_counted(written: tuple[Mixture, dict, dict, str]) -> None:
    mixture, _, found, _ = written
    ids, bits = found["ids"], {"net": [], "counted": [], "mixed": []}
    for place, start in enumerate(found["starts"][:-1]):
        seen = torch.tensor([ids[start : place + 1]])
        probs = {
            "net": mixture.gpt(seen)[0, -1].softmax(dim=-1),
            "counted": mixture.counts.probs(seen)[0][0, -1],
            "mixed": mixture(seen)[0, -1].exp(),
        }
        for name, p in probs.items():
            bits[name].append(-p[ids[place + 1]].log2().item())
    lead = np.subtract(bits["net"], bits["counted"])
    assert np.allclose(found["better"], [0, *lead], atol=1e-4)
    assert found["tally"] == {
        "n": len(ids) - 1,
        "net": (lead < 0).sum(),
        "counted": (lead > 0).sum(),
        "bits": pytest.approx({name: np.mean(each) for name, each in bits.items()}, abs=1e-4),
    }
    assert 0 < found["tally"]["net"] < len(ids) - 1


def test_contexts_are_asked_about_the_mixture(
    page: Scripts, written: tuple[Mixture, dict, dict, str]
) -> None:
    mixture, packed, _, _ = written
    contexts = [list(each) for each in itertools.product(range(3), repeat=3)]
    answers = [sum(context) % V for context in contexts]
    texts = ["".join(LETTERS[id] for id in context) for context in contexts]
    expected = margins(mixture, LETTERS, texts, answers=[LETTERS[id] for id in answers])
    found = page.call("margins", packed=packed, contexts=contexts, answers=answers)
    assert np.allclose(found, expected, atol=1e-5)
