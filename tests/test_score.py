"""How well models know texts, through the command line."""

import dataclasses
import io
import json
import math
import os
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import mixture
import score
from data.counts import count, pack
from system import checkpoint
from system.checkpoint import Checkpoint
from tests.helpers import reference
from tests.helpers.fuzz import drawn
from tests.helpers.runs import RUN, TEXT, records

CHARS = "\n abcdeghknoé"
WORDS = "bad egg\nhen once agén\ndone bogdan\n"
FUZZ = int(os.environ.get("FUZZ", "30"))  # examples of settings


@pytest.fixture
def models(home: Path, saved: Checkpoint) -> Path:
    """A folder with net.pt, both.pt, which has counts beside it, and words.txt."""
    ids = np.array([CHARS.index(char) for char in WORDS * 2])
    counts = pack(count([ids], len(CHARS), 3), len(CHARS))
    saved = dataclasses.replace(saved, settings={"train": {"dtype": "float32"}})
    both = dataclasses.replace(saved, counts=counts, shares=[0.2, 0.5, 0.7])
    checkpoint.save(Path("net.pt"), saved)
    checkpoint.save(Path("both.pt"), both)
    Path("words.txt").write_text(WORDS)
    return home


@pytest.fixture
def ask(models: Path, call: Callable) -> Callable:
    """Score on the CPU."""
    return partial(call, score.main, "--device=cpu")


@pytest.fixture
def refused(models: Path, refusal: Callable) -> Callable:
    """The sentence with which the arguments are refused."""
    return partial(refusal, score.main, "--device=cpu")


def lines(out: str) -> list[dict]:
    """What --json wrote."""
    return [json.loads(line) for line in out.splitlines()]


def piped(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Let standard input be a pipe with `content`."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_val_loss_to_the_last_digit(dtype: str, tiny: Callable, call: Callable) -> None:
    memory = ("memory.order=3", "memory.calibration_fraction=0.2")
    assert tiny(f"train.dtype={dtype}", *memory).status == 0
    Path("val.txt").write_text(TEXT[300:])
    argv = ["--device=cpu", f"--ckpt={RUN}", "val.txt"]
    [judge] = score.judges(score.parser().parse_args(argv))
    opinions = judge.score(TEXT[300:]).opinions
    best = min(records(RUN), key=lambda record: record["val_loss"])
    assert opinions["both"].loss == best["val_loss"]
    assert opinions["gpt"].loss == best["val_loss_trained"]
    status, out, err = call(score.main, *argv)
    assert (status, err) == (0, "")
    assert re.search(rf"{RUN}  val.txt  both  +99  {best['val_loss']:.4f}  ", out)
    assert re.search(rf"\n +GPT  +99  {best['val_loss_trained']:.4f}  ", out)


def expected(saved: Checkpoint, text: str, stride: int) -> list[np.ndarray]:
    """What the NumPy model expects after each character, (V,), in windows `stride` apart."""
    weights = {name: tensor.numpy() for name, tensor in saved.weights.items()}
    sizes = {"n_layer": saved.model.n_layer, "n_head": saved.model.n_head}
    kinds = {"position": saved.model.position, "activation": saved.model.activation}
    ids, size, found = [saved.chars.index(char) for char in text], saved.model.block_size, []
    for t in range(1, len(ids)):
        begin = max(0, -((size - t) // stride)) * stride
        logits = reference.gpt(weights, np.array([ids[begin:t]]), **sizes, **kinds)
        found.append(reference.softmax(logits[0, -1]))
    return found


@pytest.mark.parametrize("stride", [1, 2, 5, 6])
def test_every_character(stride: int, ask: Callable, saved: Checkpoint) -> None:
    probs = expected(saved, WORDS, stride)
    ended = ask("--ckpt=net.pt", "--json", f"--stride={stride}", "words.txt")
    assert (ended.status, ended.err) == (0, "")
    found = lines(ended.out)
    assert [each["place"] for each in found] == list(range(1, len(WORDS)))
    assert [each["character"] for each in found] == list(WORDS[1:])
    for each, p in zip(found, probs, strict=True):
        own = p[CHARS.index(each["character"])]
        assert each["bits"] == pytest.approx(-math.log2(own), abs=1e-4)
        assert each["rank"] == 1 + (p > own).sum()
        assert (each["model"], each["text"], each["by"]) == ("net.pt", "words.txt", "gpt")
    if stride == 6:
        assert ask("--ckpt=net.pt", "--json", "words.txt").out == ended.out


def test_counts_and_both(ask: Callable) -> None:
    saved = checkpoint.load(Path("both.pt"))
    model, ids = mixture.load(saved), [CHARS.index(char) for char in WORDS]
    found = lines(ask("both.pt", "--json", "--stride=2", "words.txt").out)
    for t, each in enumerate(found, start=1):
        idx = torch.tensor([ids[max(0, -((6 - t) // 2)) * 2 : t]])
        with torch.inference_mode():
            mixed, counted = model(idx)[0, -1].exp(), model.counts.probs(idx)[0][0, -1]
            gpt = model.gpt(idx)[0, -1].softmax(dim=0)
        for key, p in (("bits", mixed), ("bits_gpt", gpt), ("bits_counts", counted)):
            assert each[key] == pytest.approx(-math.log2(p[ids[t]]), abs=1e-4)
        assert each["rank"] == 1 + (mixed > mixed[ids[t]]).sum()
        assert each["by"] == ("counts" if counted[ids[t]] > gpt[ids[t]] else "gpt")
    out = ask("--ckpt=both.pt", "--stride=2", "words.txt").out
    for who, key in (("both", "bits"), ("GPT", "bits_gpt"), ("counts", "bits_counts")):
        mean = np.mean([each[key] for each in found])
        nats = mean * math.log(2)
        row = re.search(rf" {who} +33 +(\S+) +(\S+) +(\S+) +(\S+)%\n", out)
        measured = [float(number) for number in row.groups()]
        assert measured[:3] == pytest.approx([nats, mean, math.exp(nats)], abs=1e-3)
    right = np.mean([each["rank"] == 1 for each in found])
    assert re.search(rf" both .* {right:.1%}\n", out)
    alone = ask("--ckpt=both.pt", "--trained-alone", "--json", "words.txt")
    assert alone.out.replace("both.pt", "net.pt") == ask("net.pt", "--json", "words.txt").out


def test_texts_and_models_in_one_table(ask: Callable) -> None:
    """The text that was counted is known best, and by the model that counted it."""
    Path("other.txt").write_text(WORDS[::-1])
    argv = ("--ckpt=net.pt", "--ckpt", "both.pt", "other.txt", "words.txt")
    ended = ask(*argv, "--trained-alone", "--handmade=one-head", "--unknown=skip")
    assert ended.err.startswith("other.txt: 29 of 34 characters skipped, which one-head does")
    out = ask(*argv).out
    assert "most surprising" not in out  # with several, the table alone
    rows = re.findall(r"^(both.pt|net.pt) +(\S+)  (?:both|GPT) +33 +(\S+)", out, re.M)
    assert [*map(float, (row[2] for row in rows))] == sorted(float(row[2]) for row in rows)
    assert len(rows) == 4 and rows[0][:2] == ("both.pt", "words.txt")
    assert ask("net.pt", "both.pt", "other.txt", "words.txt").out == out  # as of step_*.pt
    assert ask(*argv, "--places=1").out.count("most surprising in") == 4
    place = ask("net.pt", "words.txt").out.partition("most surprising")[2].splitlines()
    assert len(place) == 2 + 10 and "[" in place[2]


def test_a_folder_and_a_pipe(ask: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("texts").mkdir()
    Path("texts/a.txt").write_text(WORDS)
    piped(monkeypatch, WORDS.encode("utf-8-sig"))
    found = lines(ask("net.pt", "--json", "texts", "-", "-").out)
    assert [each.pop("text") for each in found] == ["texts/a.txt"] * 33 + ["-"] * 33
    assert found[:33] == found[33:]


def test_what_is_done_with_the_text_is_said(ask: Callable) -> None:
    Path("odd.txt").write_text("bad 日\r\negg\r\n")
    returns = "odd.txt: 2 line ends with \\r, read as \\n\n"
    strange = "odd.txt has '日' (U+65E5) not among the 13 known to net.pt; use --unknown skip\n"
    assert ask("net.pt", "odd.txt") == (2, "", f"{returns}score.py: {strange}")
    status, out, err = ask("net.pt", "odd.txt", "--unknown=skip", "--json")
    skipped = "odd.txt: 1 of 10 characters skipped, which net.pt does not know\n"
    assert (status, err) == (0, returns + skipped)
    assert [each["place"] for each in lines(out)] == [1, 2, 3, 5, 6, 7, 8, 9]
    assert "".join(each["character"] for each in lines(out)) == "ad \negg\n"


def test_refusals(refused: Callable, ask: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    piped(monkeypatch, "badé".encode("latin-1"))
    assert "standard input is not UTF-8 at byte offset 3; pipe it through iconv" in refused(
        "net.pt", "-"
    )
    assert "there is no text to score; name one after the models" in refused("--ckpt", "net.pt")
    assert "gone.txt is no file or folder to read (No such file" in refused("net.pt", "gone.txt")
    assert "--data and --order go with --handmade ngram; add it" in refused(
        *("--data=aab", "--order=3", "words.txt")
    )
    assert "there is no run in" in refused("words.txt")
    Path("one.txt").write_text("b")
    assert "one.txt has 1 character that net.pt knows" in refused("net.pt", "one.txt")
    for other in ("--shade", "--places=3"):
        assert "exclude each other" in refused("net.pt", "words.txt", "--json", other)
    for other in ("--shade", "--places=3", "--stride=3", "--trained-alone"):
        said = refused("words.txt", "--copied-from=words.txt", other)
        assert f"{other.partition('=')[0]} takes a model" in said and "add --ckpt PATH" in said
    assert "a pipe can be read once" in refused("-", "--copied-from=-")
    said = refused("net.pt", "words.txt", "--stride=7")
    assert "--stride 7 is longer than the window of net.pt; give 6 at most" in said
    assert ask("net.pt", "words.txt", "--stride=6").status == 0


@pytest.mark.parametrize("what", ["--json", "--shade", "--copied-from=words.txt", "--places=1"])
def test_a_reader_that_goes_away(
    what: str, ask: Callable, unread: TextIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", unread)
    assert ask("net.pt", "words.txt", what) == (141, "", "")


def test_shade(ask: Callable) -> None:
    out = ask("both.pt", "words.txt", "--shade").out
    shown = [line[2:] for line in out.splitlines() if line.startswith("| ")]
    assert "".join(shown) == WORDS.replace("\n", "↵")
    assert "\x1b" not in out and "from 2" in out.splitlines()[0]


def test_copies(ask: Callable) -> None:
    Path("data.txt").write_text("once agén\ndone bogdan\r\n")
    status, out, err = ask("--copied-from=data.txt", "words.txt")
    assert (status, err) == (0, "data.txt: 1 line end with \\r, read as \\n\n")
    assert out == (
        "words.txt and data.txt share 22 characters at most; 64.7% of words.txt is in stretches of "
        "20 or more\n      22  at character 13: once agén↵done bogdan↵\n"
    )
    [found] = lines(ask("--copied-from=data.txt", "words.txt", "--json").out)
    assert (found["longest"], found["share"]) == (22, 22 / 34)
    assert found["stretches"] == [{"place": 12, "length": 22, "characters": WORDS[12:]}]


def test_weights_set_by_hand(ask: Callable) -> None:
    Path("aab.txt").write_text("aab" * 10)
    Path("long.txt").write_text(WORDS * 60)
    assert re.search(r"one-head  aab.txt  GPT +29 ", ask("--handmade=one-head", "aab.txt").out)
    ngram = ask("--handmade=ngram", "--order=3", "--data=long.txt", "words.txt")
    assert re.search(r"ngram of order 3  words.txt  GPT +33  0\.\d+ ", ngram.out)


OPTIONS = {
    "--handmade": st.sampled_from(["one-head", "copy", "nothing"]),
    "--trained-alone": st.none(),
    "--stride": st.integers(-1, 8),
    "--unknown": st.sampled_from(["error", "skip"]),
    "--places": st.integers(-1, 40),
    "--shade": st.none(),
    "--json": st.none(),
    "--copied-from": st.sampled_from(["words.txt", "gone.txt"]),
}


def test_every_option_with_every_other(ask: Callable) -> None:
    @drawn(FUZZ)
    @given(
        st.sampled_from(["net.pt", "both.pt", "gone.pt"]),
        st.fixed_dictionaries({}, optional=OPTIONS),
    )
    def example(model: str, values: dict) -> None:
        words = (key if value is None else f"{key}={value}" for key, value in values.items())
        status, out, err = ask("words.txt", model, *words)
        assert status in (0, 2)
        if status == 2:
            assert out == "" and err.splitlines()[-1].startswith("score.py: ")
        elif "--json" in values:
            assert lines(out)
        else:
            assert "characters" in out

    example()
