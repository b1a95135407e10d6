"""Hand-set models in a stock transformers, which knows nothing of us; and how they are written."""

import itertools
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

import export
import handmade
import sample
from benchmarks.kneser_ney import KneserNey
from data import rules, tictactoe
from handmade import parts
from system import folders
from tests.helpers import ROOT
from tests.helpers.rules import draw_rule

RULES = int(os.environ.get("FUZZ", 50))
NAMED = (*handmade.MODELS, "aab", "abc", "copy")
TEXT = "the rain in spain stays mainly in the plain\n" * 60
PROMPTS = ("aa", "ba", "aba")
KERNELS = ["sdpa", "eager"]


def job(name: str, folder: str) -> dict:
    """What a stock transformers is asked of the model in `folder`, and the right answers."""
    task, shortest = handmade.task_of(name), 2 if name in handmade.MODELS else 1
    T = handmade.load(name).model.block_size
    contexts = itertools.chain(
        *(itertools.product(task.letters, repeat=n) for n in range(shortest, T + 1))
    )
    answers = [task.letters.index(task.rule("".join(context))) for context in contexts]
    sizes = {"chars": task.letters, "places": T, "shortest": shortest}
    return {"folder": folder, **sizes, "answers": answers, "prompts": [], "kernels": KERNELS}


def code_of(folder: str) -> str:
    """The Python that the card of an exported folder shows."""
    return "\n".join(
        re.findall(r"```python\n(.*?)```", Path(folder, "README.md").read_text("utf-8"), re.S)
    )


def counted(folder: str) -> dict:
    """The n-grams of TEXT, of three characters, in windows of 11; and by a dictionary."""
    Path("text.txt").write_text(TEXT)
    argv = ["--handmade", "ngram", "--data", "text.txt", "--order", "3", "--window", "11"]
    assert export.main([*argv, "--to", folder]) == 0
    chars = "".join(sorted(set(TEXT)))
    ids = [chars.index(char) for char in TEXT[: len(TEXT) - int(0.1 * len(TEXT))]]
    windows = np.random.default_rng(1).integers(len(chars), size=(20, 11)).tolist()
    windows += [ids[start : start + 11] for start in range(0, 99, 11)]
    log_probs = np.log(KneserNey([ids], len(chars), 3).probs(windows)[0])
    return {"folder": folder, "windows": windows, "log_probs": log_probs.tolist()}


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What a process that imports nothing of ours makes of each exported model, by its name."""
    home, rng = tmp_path_factory.mktemp("stock"), random.Random(8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        drawn = [f"{i}.yaml" for i in range(RULES)]
        for name in drawn:
            Path(name).write_text(rules.write(draw_rule(rng)), "utf-8")
        jobs = []
        for i, name in enumerate((*NAMED, *drawn)):
            assert export.main(["--handmade", name, "--to", f"out{i}"]) == 0
            jobs.append(job(name, f"out{i}"))
            if name in drawn:
                jobs[-1]["kernels"] = [KERNELS[i % 2]]
        for each in jobs[: len(NAMED)]:
            each |= {"prompts": PROMPTS, "code": code_of(each["folder"])}
        jobs.append(counted("ngram"))
        Path("jobs.json").write_text(json.dumps(jobs))
        script = ROOT / "tests" / "helpers" / "stock.py"
        done = subprocess.run(
            [sys.executable, "-I", script, "jobs.json"], capture_output=True, check=False
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    found = json.loads(done.stdout)
    assert found["ours"] == []
    return dict(zip((*NAMED, *drawn, "ngram"), found["answers"], strict=True))


def test_every_context_in_every_way(stock: dict[str, dict]) -> None:
    for name, found in stock.items():
        if name != "ngram":
            wrong = {way: count for way, count in found["wrong"].items() if "torch" not in way}
            assert len(wrong) == (8 if name in NAMED else 4) and not any(wrong.values()), (
                name,
                wrong,
            )
    sizes = [stock[name]["contexts"] for name in NAMED]
    assert sizes == [60, 124, 124, 62, 9840, 87380] and len(stock) == RULES + 7


def test_half_the_precision(stock: dict[str, dict]) -> None:
    """float16 ends at 65,504, and the anchors of the published models are beyond that."""
    for name, found in stock.items():
        if name != "ngram":
            assert found["wrong"]["torch.bfloat16"] == 0, name
            assert (found["wrong"]["torch.float16"] > 0) == (name in handmade.MODELS), name


def test_the_log_probabilities_of_counts(stock: dict[str, dict]) -> None:
    assert stock["ngram"]["off"] < 1e-4


def test_the_text_is_that_of_sample(stock: dict[str, dict], call: Callable) -> None:
    for name in NAMED:
        T = handmade.load(name).model.block_size
        for prompt, text in zip(PROMPTS, stock[name]["texts"], strict=True):
            count = ("--max-new-tokens", T + 1 - len(prompt), "--device", "cpu")
            written = call(sample.main, "--handmade", name, "--prompt", prompt, *count)
            assert text == written.out.removesuffix("\n")


def test_the_code_on_the_card(stock: dict[str, dict], call: Callable) -> None:
    for name in NAMED:
        T = handmade.load(name).model.block_size
        printed = stock[name]["printed"].split("\n")
        asked = ("--handmade", name, "--prompt", "aa", "--max-new-tokens", "100", "--device", "cpu")
        written = call(sample.main, *asked).out.removesuffix("\n")
        assert printed[:2] == [written[:T], written]
        assert len(printed) == 4 and written[:3] in printed[2]


def test_all_games_in_a_stock_gpt2(home: Path, call: Callable) -> None:
    """In the files of the widened model: every game there is, how each line ends, and what comes
    after a move that is not allowed."""
    ended = call(export.main, "--handmade", "tictactoe", "--to", "out")
    assert ended.status == 0 and "proved for all 10^10 contexts: " in ended.out
    assert "; 489 games played: 376 won, 113 drawn, none lost; written to out" in ended.out
    model = AutoModelForCausalLM.from_pretrained("out").eval()
    tokenizer = AutoTokenizer.from_pretrained("out")

    @torch.inference_mode()
    def choose(contexts: list[str]) -> list[str]:
        idx = tokenizer(contexts, return_tensors="pt").input_ids
        return tokenizer.batch_decode(model(idx).logits[:, -1:].argmax(dim=-1))

    assert tictactoe.play_all(choose) == tictactoe.Games(won=376, drawn=113)
    for n, same in itertools.groupby(sorted(tictactoe.positions(), key=len), key=len):
        contexts = [*same]
        assert choose(contexts) == tictactoe.perfect(contexts)
        if n < 10:
            assert {*choose([context + context[-1] for context in contexts])} == {"\n"}


def test_all_games_in_onnx(home: Path, call: Callable) -> None:
    ended = call(export.main, "--handmade", "tictactoe", "--as", "onnx", "--to", "out.onnx")
    assert ended.status == 0 and "; 489 games played: 376 won, 113 drawn, none lost" in ended.out


def written(folder: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def test_the_folder_and_its_card(home: Path, call: Callable) -> None:
    proof = "proved in each of 9,840 contexts, worst margin +1.0000"
    ended = call(export.main, "--handmade", "abc", "--to", "deep/my-gpt2")
    assert ended == (0, f"abc, set by hand; {proof}; written to deep/my-gpt2\n", "")
    assert [path.name for path in Path("deep").iterdir()] == ["my-gpt2"]
    card = Path("deep/my-gpt2/README.md").read_text("utf-8")
    assert card.startswith("---\nlibrary_name: transformers\n") and "\n# my-gpt2\n" in card
    assert proof in card
    rule = "\n".join(re.findall(r"^    (.*)$", card.partition("## What")[0], re.M))
    assert rules.parse(yaml.safe_load(rule)) == rules.read("abc")
    settings = json.loads(Path("deep/my-gpt2/config.json").read_text())
    assert settings["n_embd"] % settings["n_head"] == 0 and not settings["tie_word_embeddings"]
    assert settings["activation_function"] == "gelu_new"


def test_another_window(home: Path, call: Callable, refusal: Callable) -> None:
    for name, places in (("abc", 11), ("copy", 5), ("one-head", 7)):
        ended = call(export.main, "--handmade", name, "--window", places, "--to", name)
        assert ended.status == 0 and "proved " in ended.out
        assert json.loads(Path(name, "config.json").read_text())["n_positions"] == places
        model = export.read(Path(name))[0]
        assert model.config.block_size == places
    ask = ("--to", "out", "--handmade")
    message = refusal(export.main, *ask, "abc", "--window", 5)
    assert (
        "a window of 5 is shorter than the longest pattern of the rule, of 6 characters" in message
    )
    assert "take 6 or more" in message
    message = refusal(export.main, *ask, "two-head", "--window", 19)
    assert "two-head in a window of 19 are too many to try; take --window 18 or less" in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        ("--ckpt --handmade abc", "--ckpt and --handmade exclude each other; give one"),
        ("--window 9", "--window goes with --handmade"),
        ("--order 3 --handmade abc", "--order go with --handmade ngram; add it"),
        ("--handmade abd", "there is no hand-set model 'abd'; there are one-head, new-head"),
        ("--handmade abc --window 4096", "would have 354,263,420 weights, more than 100,000,000"),
        (
            "--handmade ngram --data text.txt --window 3",
            "the order must lie between 2 and 3, not 4",
        ),
    ],
)
def test_what_is_refused(argv: str, sentence: str, home: Path, refusal: Callable) -> None:
    assert sentence in refusal(export.main, *argv.split(), "--to", "out")
    assert {path.name for path in home.iterdir()} == {"text.txt", "tiny.yaml"}


def test_a_width_that_passes_the_limit(
    home: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow, wide = (
        handmade.load("abc", portable=portable).build().parameter_count() for portable in (0, 1)
    )
    monkeypatch.setattr(parts, "MOST_WEIGHTS", narrow)
    message = refusal(export.main, "--handmade", "abc", "--to", "out")
    assert f"abc: the model would have {wide:,} weights, more than {narrow:,}; take" in message


def test_a_model_that_is_not_proved_is_not_written(
    home: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is of what is in the files."""
    contents = export.contents

    def spoiled(saved):
        saved.weights["lm_head.weight"].neg_()
        return contents(saved)

    monkeypatch.setattr(export, "contents", spoiled)
    Path("text.txt").write_text(TEXT)
    for argv, sentence in (
        (("abc",), "abc is wrong after 'a'"),
        (("one-head",), "one-head is wrong after 'aa'"),
        (("copy", "--window", "9"), "copy is not proved right"),
        (("ngram", "--data", "text.txt"), "log-probabilities are off by "),
    ):
        assert sentence in refusal(export.main, "--handmade", *argv, "--to", "out")
        assert {path.name for path in home.iterdir()} == {"text.txt", "tiny.yaml"}


def test_a_kill_at_any_time_leaves_no_mixture(
    home: Path, call: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While files of two models may be there, config.json is not, and so nobody loads them."""
    ask = ("--to", "out", "--overwrite", "--handmade")
    call(export.main, "--handmade", "abc", "--to", "abc")
    new, move, killed = written("abc"), folders.replace, 0
    card = new["README.md"].replace(b"# abc\n", b"# out\n")
    new["README.md"] = card.replace(b'from_pretrained("abc")', b'from_pretrained("out")')
    call(export.main, *ask, "copy")
    Path("out/notes.txt").write_text("mine")
    for last in range(7):
        moves = iter(range(last))

        def dying(temporary: Path, path: Path, moves: Iterator[int] = moves) -> None:
            if next(moves, None) is None:
                raise KeyboardInterrupt
            move(temporary, path)

        monkeypatch.setattr(folders, "replace", dying)
        if status := call(export.main, *ask, "abc").status:
            assert status == 130 and "config.json" not in written("out")
            killed += 1
    monkeypatch.setattr(folders, "replace", move)
    assert killed == 6 and status == 0
    assert written("out") == {**new, "notes.txt": b"mine"}
    assert not list(home.glob(".*"))


def test_a_package_that_is_not_there(
    home: Path, refusal: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = refusal(export.main, "--handmade", "abc", "--to", "out")
    assert "the package transformers is not installed; install it with: pip install -r" in message
    assert not Path("out").exists()
