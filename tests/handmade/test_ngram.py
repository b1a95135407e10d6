"""Counts as weights: the model's probabilities against a dictionary of counts, place by place."""

import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import handmade
import sample
from benchmarks.kneser_ney import KneserNey
from data.counts import count
from data.ngrams import Ngrams
from handmade import ngram
from handmade.ngram import compile_ngrams
from model import GPT
from system import checkpoint
from system.errors import UserError

CHARS = "abcdefg \n"


def text(length: int, seed: int) -> list[int]:
    """Words of a small language, so that long contexts come again."""
    rng = random.Random(seed)
    words = ["".join(rng.choices(CHARS[:7], k=rng.randint(1, 5))) for _ in range(12)]
    written = ""
    while len(written) < length:
        written += rng.choice(words) + rng.choice("   \n")
    return [CHARS.index(char) for char in written[:length]]


def build(ids: list[int], order: int, T: int) -> GPT:
    config, chars, weights = compile_ngrams(torch.tensor(ids), CHARS, order, T)
    assert chars == CHARS
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    return model.eval()


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_every_place_of_a_held_out_text(order: int) -> None:
    ids, held_out = text(3000, seed=1), text(3200, seed=1)[3000:]
    held_out += np.random.default_rng(2).integers(len(CHARS), size=40).tolist()  # never seen
    T = 12
    model, oracle = build(ids, order, T), KneserNey([ids], len(CHARS), order)
    windows = [held_out[start : start + T] for start in range(0, len(held_out) - T, T)]
    with torch.inference_mode():
        said = model(torch.tensor(windows)).double().log_softmax(dim=-1).numpy()
    expected = np.log(oracle.probs(windows)[0])
    np.testing.assert_allclose(said, expected, rtol=0, atol=1e-4)


def test_65_characters_in_a_window_of_64() -> None:
    """As large a stream as that of a real text, whose anchors have to outweigh more."""
    V, rng = 65, np.random.default_rng(3)
    weights = 1 / np.arange(1, V + 1) ** 1.5
    ids = torch.from_numpy(rng.choice(V, 20_000, p=weights / weights.sum()))
    config, _, state = compile_ngrams(ids, "".join(map(chr, range(32, 97))), 3)
    assert (config.block_size, config.n_head, config.n_embd) == (64, 1, 3 * 65 + 64 + 2)
    model = GPT(config)
    model.load_state_dict(state, strict=True)
    counts = Ngrams(count([ids.numpy()], V, 3), vocab_size=V)
    idx = torch.from_numpy(rng.choice(V, (9, 64)))
    with torch.inference_mode():
        said = model.eval()(idx).log_softmax(dim=-1)
    torch.testing.assert_close(said, counts.log_probs(idx), rtol=0, atol=1e-4)


def test_the_size_is_known_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.tensor(text(3000, seed=1))
    contexts = [len(level.codes) for level in count([ids.numpy()], len(CHARS), 5)[:-1]]
    sizes = ngram.sizes(contexts, len(CHARS), 12)
    assert sizes == [build(ids.tolist(), order, 12).parameter_count() for order in (2, 3, 4, 5)]
    monkeypatch.setattr(ngram, "MOST_WEIGHTS", sizes[2])
    build(ids.tolist(), 4, 12)
    monkeypatch.setattr(ngram, "reading", lambda *args: pytest.fail("built"))
    with pytest.raises(ValueError, match=rf"^order 5 would be .* {sizes[3]:,} .*; order 4 fits$"):
        compile_ngrams(ids, CHARS, 5, 12)


@pytest.mark.parametrize("order", [2, 4])
def test_an_alphabet_that_is_too_large(
    order: int, home: Path, call: Callable, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(characters: int) -> None:
        letters = "".join(map(chr, range(0x4E00, 0x4E00 + characters)))
        Path("wide.txt").write_text(letters * 40, "utf-8")

    monkeypatch.setattr(ngram, "MOST_WEIGHTS", 1_000_000)
    by_hand = ("--handmade", "ngram", "--data", "wide.txt", "--device=cpu", "--max-new-tokens=9")
    by_hand += ("--prompt", "\u4e01")
    write(4500)
    message = refusal(sample.main, *by_hand, "--order", str(order))
    said = re.search(r"of 4,500 characters is too large: .* up to ([\d,]+) distinct", message)
    fitting = int(said[1].replace(",", ""))
    write(fitting + 1)
    assert f"{fitting + 1} characters is too large" in refusal(sample.main, *by_hand)
    write(fitting)
    assert call(sample.main, *by_hand, "--order", "2").status == 0
    message = refusal(sample.main, *by_hand, "--order", "20")
    longer = re.search(r"order 20 would be .*; order (\d+) fits$", message.strip())
    assert call(sample.main, *by_hand, "--order", longer[1]).status == 0


@pytest.mark.parametrize("order", [1, 13])
def test_orders_that_do_not_fit(order: int) -> None:
    with pytest.raises(ValueError, match=rf"between 2 and 12, not {order}"):
        compile_ngrams(torch.tensor(text(300, seed=1)), CHARS, order, 12)


def test_a_text_that_is_too_short() -> None:
    with pytest.raises(ValueError, match="the text has no 5 characters"):
        compile_ngrams(torch.tensor([0, 1, 2]), CHARS, 5, 12)


def test_the_command(home: Path, call: Callable, refusal: Callable) -> None:
    ask = ("--device", "cpu", "--max-new-tokens", "40", "--prompt", "ab")
    by_hand = ("--handmade", "ngram", "--data", "text.txt", "--order", "3")
    Path("text.txt").write_text(Path("text.txt").read_text() * 4)
    status, out, err = call(sample.main, *by_hand, *ask, "--save", "ngram.pt")
    assert status == 0 and len(out) == 43
    saved = checkpoint.load(Path("ngram.pt"))
    size = saved.build().parameter_count()
    assert err.startswith(f"text.txt, counted to order 3: {size:,} weights set by hand; seed 1, ")
    assert call(sample.main, "--ckpt", "ngram.pt", *ask).out == out
    assert call(sample.main, *by_hand, *ask, "--seed", "2").out != out  # it is drawn, at 0.8
    for argv in (("--data", "text.txt"), ("--handmade", "abc", "--order", "3")):
        message = refusal(sample.main, *argv)
        assert f"{argv[-2]} go with --handmade ngram; add it" in message
    with pytest.raises(UserError, match="gone"):
        handmade.load_ngrams("gone", 3)
