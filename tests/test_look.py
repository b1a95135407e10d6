"""look.py: what the page carries, that it is the same every time, and what is refused."""

import base64
import json
import re
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pytest
import torch

import handmade
import look
from data import tictactoe
from data.counts import count
from data.counts import pack as pack_counts
from data.ngrams import Ngrams
from mixture import Mixture
from model import GPT, GPTConfig
from page import html, pack, shown
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers import ROOT
from tests.helpers.faults import Ended
from tests.helpers.tiny import CHARS, tiny_gpt


def kept(model: GPT, chars: str = CHARS, **more: Any) -> Checkpoint:
    """A checkpoint as training would have written it."""
    settings = {"train": {"dtype": "float32"}}
    progress = {"step": 7}
    return Checkpoint(model.config, chars, model.state_dict(), settings, "f", [], progress, **more)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The file of a small model of odd characters."""
    path = tmp_path / "odd.pt"
    checkpoint.save(path, kept(tiny_gpt(vocab_size=len(CHARS), bias=True)))
    return path


def given(page: Path) -> dict[str, Any]:
    """What the page tells its script."""
    text = page.read_text("utf-8")
    return json.loads(re.search(r'id="given">(.*?)</script>', text, re.DOTALL)[1])


def test_same_model_same_bytes(call: Callable[..., Ended], saved: Path, tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        ended = call(look.main, "--ckpt", saved, "--prompt", "yx", "--out", tmp_path / name)
        assert ended.status == 0 and f"{tmp_path / name}: 0.1 MB" in ended.out
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()
    assert b"\r" not in (tmp_path / "a.html").read_bytes()


def test_a_page_counts_and_not_who_reads_where_it_is(
    unread: TextIO, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert look.main(["--ckpt", str(saved), "--out", str(tmp_path / "page.html")]) == 0
    assert given(tmp_path / "page.html")


def test_page_names_no_other_file_and_no_address(
    call: Callable[..., Ended], saved: Path, tmp_path: Path
) -> None:
    out = tmp_path / "page.html"
    assert call(look.main, "--ckpt", saved, "--prompt", CHARS, "--out", out).status == 0
    text = out.read_text("utf-8")
    for word in ("http:", "https:", "src=", "fetch(", "import(", "@import", "url(", "innerHTML"):
        assert word not in text
    assert text.count("<script") == text.count("</script>") == 3
    assert given(out)["prompt"] == CHARS


def test_a_prompt_cannot_end_the_script(call: Callable[..., Ended], tmp_path: Path) -> None:
    chars = "</script>\u2028!-"
    chars = "".join(dict.fromkeys(chars))
    checkpoint.save(tmp_path / "x.pt", kept(tiny_gpt(vocab_size=len(chars)), chars))
    prompt, out = "</script><!--", tmp_path / "page.html"
    ended = call(look.main, "--ckpt", tmp_path / "x.pt", "--prompt", prompt, "--out", out)
    assert ended.status == 0 and given(out)["prompt"] == prompt
    assert out.read_text("utf-8").count("</script>") == 3


def test_counts_are_carried_or_left_out_and_that_is_said(
    call: Callable[..., Ended], tmp_path: Path
) -> None:
    V, out = len(CHARS), tmp_path / "page.html"
    levels = pack_counts(count([np.arange(300) ** 2 % V], V, 3), V)
    model, argv = tiny_gpt(vocab_size=V), ("--ckpt", tmp_path / "x.pt", "--out", out)
    checkpoint.save(tmp_path / "x.pt", kept(model, counts=levels, shares=[0.25, 0.5, 0.75]))
    said, pages = [], []
    for option in ((), ("--trained-alone",)):
        said.append(call(look.main, *argv, *option).out)
        pages.append((out.read_text("utf-8"), given(out)["sides"][0]))
    (whole, side), (less, alone) = pages
    blob = re.search(r'id="counts-0">(.*?)</script>', whole)[1]
    values = [level[name].numpy().tobytes() for level in levels for name in pack.COUNTED]
    assert zlib.decompress(base64.b64decode(blob)) == b"".join(values)
    assert side["counts"]["shares"] == [0.25, 0.5, 0.75]
    grams = sum(len(level["last"]) for level in levels)
    assert f"counts of its text: {grams}, of up to 3 characters, 0.0 MB" in side["about"]
    assert re.search(
        r": 0\.1 MB, 0\.0 MB of it counts, which --trained-alone leaves out; open", said[0]
    )
    assert "The counts beside it are left out" in alone["about"] and said[1].endswith(
        "MB; open it in a browser\n"
    )
    assert alone["counts"] is None and "counts-0" not in less
    assert side["checks"]["mixed"] and not alone["checks"]["mixed"]


def test_too_many_counts_are_refused_with_a_remedy_that_works(
    call: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    V, out = len(CHARS), tmp_path / "page.html"
    levels = pack_counts(count([np.arange(V)], V, 1), V)
    checkpoint.save(tmp_path / "x.pt", kept(tiny_gpt(vocab_size=V), counts=levels, shares=[0.5]))
    monkeypatch.setattr(pack, "MOST_GRAMS", V - 1)
    argv = ("--ckpt", tmp_path / "x.pt", "--out", out)
    refused = call(look.main, *argv)
    assert refused.status == 2 and f"x: it has {V} counts, and a page carries" in refused.err
    remedy = re.search(r"--[\w-]+", refused.err.partition("at most;")[2])[0]
    assert call(look.main, *argv, remedy).status == 0


def test_weights_are_halved_where_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "MOST_FLOAT32", 100)
    model = tiny_gpt(vocab_size=len(CHARS)).eval()
    idx = torch.tensor([1, 2, 3])
    one = shown.Shown("x", "About.", model, CHARS)
    side, carried = shown.described(one, idx, 0.0)
    assert side["packed"]["dtype"] == "float16"
    assert len(carried["weights"]) == pytest.approx(model.parameter_count() * 2 * 4 / 3, abs=4)
    change = float(re.search(r"by more than (\S+)\.$", side["about"])[1])
    assert 0 < change < 0.01
    one.by_hand = True
    assert shown.described(one, idx, 0.0)[0]["packed"]["dtype"] == "float32"
    V, one.by_hand = len(CHARS), False
    counts = count([np.arange(50) ** 2 % V], V, 2)
    one.counts, ngrams = pack_counts(counts, V), Ngrams(counts, vocab_size=V)
    one.mixture = Mixture(model, ngrams, torch.tensor([0.5, 0.25])).eval()
    checks = shown.described(one, idx, 0.0)[0]["checks"]
    logits, mixed = (
        torch.frombuffer(bytearray(base64.b64decode(checks[name])), dtype=torch.float32).view(-1, V)
        for name in ("logits", "mixed")
    )
    [counted], [known] = ngrams.probs(torch.tensor([[CHARS.index(c) for c in checks["text"]]]))
    share = one.mixture.shares[known][:, None]
    expected = (1 - share) * logits.softmax(dim=-1) + share * counted
    torch.testing.assert_close(mixed.exp(), expected)
    with torch.no_grad():
        model.wte.weight[0, 0] = 1e5  # more than float16 can hold
    assert pack.rounded(model) == torch.float32


REFUSED = [
    (("--ckpt", "ODD", "--handmade"), "--ckpt and --handmade exclude each other"),
    (("--handmade", "threehead"), "there is no hand-set model 'threehead'; there are one-head,"),
    (("--handmade", "--against", "nowhere"), "there is no hand-set model 'nowhere'"),
    (("--ckpt", "nowhere.pt"), "there is no checkpoint nowhere.pt"),
    (("--ckpt", "ODD", "--prompt", "ya€"), "the prompt has '€' (U+20AC) not among the"),
    (("--ckpt", "ODD", "--prompt", ""), "--prompt is empty; give at least one character"),
    (("--ckpt", "ODD", "--against", "one-head"), "--against one-head knows 2 characters"),
    (("--ckpt", "FOLDER"), "model_type is None; name a model that is gpt2 or jais2"),
    (("--handmade", "--order", "1"), "must be at least 2"),
    (("--handmade", "--order", "4"), "--order go with --handmade ngram; add it"),
]


@pytest.mark.parametrize(("argv", "message"), REFUSED)
def test_refusals(
    refusal: Callable[..., str], saved: Path, tmp_path: Path, argv: tuple, message: str
) -> None:
    (tmp_path / "config.json").write_text("{}")
    names = {"ODD": saved, "FOLDER": tmp_path}
    argv = [names.get(word, word) for word in argv]
    assert message in refusal(look.main, *argv, "--out", tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_too_large_a_model_is_refused_with_its_size(
    refusal: Callable[..., str], saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "MOST_WEIGHTS", 1000)
    said = refusal(look.main, "--ckpt", saved, "--out", tmp_path / "page.html")
    assert re.search(r"odd: it has \d,\d{3} weights, and a page carries 1,000 at most", said)


def test_a_page_that_cannot_be_written_is_a_fault(
    call: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = call(look.main, "--handmade", "--out", tmp_path)
    assert ended.status == 1 and ended.err.count("\n") == 1 and "could not be written" in ended.err


def test_task_of_the_hand_set_model_is_that_of_both(
    call: Callable[..., Ended], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    model = GPT(GPTConfig(2, block_size=5, n_layer=1, n_head=2, n_embd=8))
    checkpoint.save(tmp_path / "small.pt", kept(model, "ab"))
    out = tmp_path / "page.html"
    argv = ("--ckpt", tmp_path / "small.pt", "--against", "one-head", "--out", out)
    assert call(look.main, *argv).status == 0
    first, second = given(out)["sides"]
    assert first["task"]["contexts"] == second["task"]["contexts"]
    assert len(first["task"]["contexts"]) == first["task"]["total"] == 60
    assert re.match(r"PyTorch: \d+ of 60 contexts right", first["task"]["proved"])
    assert second["task"]["proved"] == "PyTorch: 60 of 60 contexts right, worst margin +1.0000."
    assert not first["breaks"] and second["breaks"]


@pytest.mark.parametrize(
    "name", [*handmade.MODELS, "abc", "aab", "copy", "tictactoe", "lamp", "parity"]
)
def test_every_column_and_unit_has_a_name(name: str) -> None:
    columns, units = handmade.legend(name)
    config = handmade.load(name).model
    assert len(columns) == len(set(columns)) == config.n_embd
    assert units is None or len(units) == config.ffn_size


def test_a_game_begins_with_one_that_is_over(call: Callable[..., Ended], tmp_path: Path) -> None:
    """Whichever of the two models has the rule; and no rule without a board has one."""
    out, other = tmp_path / "page.html", tmp_path / "other.pt"
    saved = handmade.load("tictactoe")
    checkpoint.save(other, kept(saved.build(), saved.chars))
    for argv in (["--handmade", "tictactoe"], ["--ckpt", other, "--against", "tictactoe"]):
        assert call(look.main, *argv, "--out", out).status == 0
        told = given(out)
        assert (told["turn"], told["board"]) == (1, 3)
        end, *game, after = told["prompt"]
        assert end == after == "\n" and tictactoe.over("".join(game))
    assert call(look.main, *argv, "--prompt", "\n5", "--out", out).status == 0
    assert given(out)["prompt"] == "\n5"
    assert call(look.main, "--handmade", "abc", "--out", out).status == 0
    assert not given(out).keys() & {"turn", "board"}


def test_no_two_scripts_of_the_page_share_a_name() -> None:
    """They stand in one element: the later one would silently be taken for the earlier."""
    code = "\n".join(map(html.script, (*html.PURE, *html.DRAWING)))
    pattern = r"^(?:async )?(?:function\*?|const|let|class) (\w+)"
    names = re.findall(pattern, code, re.MULTILINE)
    assert len(names) > 80 and len(names) == len({*names})


def test_page_in_the_docs_is_what_look_writes(call: Callable[..., Ended], tmp_path: Path) -> None:
    """But for the last bits of what PyTorch computes, which are another machine's."""
    committed, out = ROOT / "docs" / "one-head.html", tmp_path / "page.html"
    assert call(look.main, "--handmade", "--out", out).status == 0
    texts, numbers = [], []
    for page in (committed, out):
        text, said = page.read_text("utf-8"), given(page)
        checks = said["sides"][0]["checks"]
        numbers.append([checks.pop(name) for name in ("logits", "pattern", "heads")])
        texts.append((re.sub(r'id="given">.*?</script>', "", text, flags=re.DOTALL), said))
    assert texts[0] == texts[1], "run: python look.py --handmade --out docs/one-head.html"
    for old, new in zip(*numbers, strict=True):
        old, new = (
            torch.tensor(np.frombuffer(base64.b64decode(each), "<f4").copy()) for each in (old, new)
        )
        torch.testing.assert_close(old, new, rtol=1e-5, atol=1e-5)
