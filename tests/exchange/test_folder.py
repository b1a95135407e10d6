"""GPT-2s in folders that transformers wrote, through sample.py: what is written and refused."""

import io
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2TokenizerFast,
    PreTrainedTokenizerFast,
)

import sample
from data.tokenizer import CharTokenizer
from exchange.bytepairs import BYTES, BytePairs
from exchange.folder import char_tokenizer
from tests.helpers.faults import Processes
from tests.helpers.tiny import CHARS

END = "<|endoftext|>"
TEXT = "A naïve 🙂 café\nhas 👩\u200d🚀, 日本 and e\u0301 too."
SIZE = 96


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with merges that follow TEXT's letters, and not its emoji."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=alphabet, special_tokens=[END], show_progress=False
    )
    tokenizer.train_from_iterator(["a naive cafe has and and too too. naive"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, model_max_length=SIZE
    )


@torch.no_grad()
def reciter(ids: list[int], vocab_size: int) -> GPT2LMHeadModel:
    """A GPT-2 that writes `ids`, each at its place, whatever came before."""
    sizes = {"vocab_size": vocab_size, "n_positions": SIZE, "n_embd": vocab_size + 2}
    ends = {"bos_token_id": ids[-1], "eos_token_id": ids[-1]}
    model = GPT2LMHeadModel(GPT2Config(**sizes, **ends, n_layer=1, n_head=1, n_inner=3))
    for name, p in model.named_parameters():
        if "ln_" not in name:
            p.zero_()
    model.transformer.wte.weight.fill_diagonal_(1.0)
    for place, token in enumerate(ids):
        model.transformer.wpe.weight[place, token] = 30.0
    return model


@pytest.fixture(scope="session")
def recited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2 that begins with TEXT, and then ends."""
    folder, tokenizer = tmp_path_factory.mktemp("models") / "gpt2", train_tokenizer()
    ids = tokenizer.encode(TEXT + END)
    reciter(ids, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a GPT-2 of random weights, which writes any bytes and more ids than tokens."""
    folder, tokenizer = tmp_path_factory.mktemp("models") / "gpt2", train_tokenizer()
    torch.manual_seed(1)
    sizes = {"n_positions": 16, "n_embd": 12, "n_layer": 2, "n_head": 3, "initializer_range": 0.5}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    GPT2LMHeadModel(GPT2Config(vocab_size=300, **sizes, **ends)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write(call: Callable, home: Path) -> Callable:
    """Sample from the GPT-2 in a folder."""
    return lambda folder, *argv: call(sample.main, "--device", "cpu", "--gpt2", folder, *argv)


@pytest.fixture
def refused(refusal: Callable, home: Path) -> Callable:
    """The sentence with which a name of a GPT-2 and the arguments are refused."""
    return lambda name, *argv: refusal(sample.main, "--device", "cpu", "--gpt2", name, *argv)


def spoiled(folder: Path, **settings: object) -> Path:
    """A copy of `folder`, its config.json changed, in the working folder."""
    copy = Path("spoiled")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    content = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**content, **settings}))
    return copy


# Tokens


def test_the_alphabet_of_bytes() -> None:
    assert sorted(BYTES.values()) == list(range(256))
    assert sorted(BYTES) == sorted(pre_tokenizers.ByteLevel.alphabet())
    theirs = decoders.ByteLevel()
    for char, byte in BYTES.items():
        assert theirs.decode([char]) == bytes([byte]).decode(errors="replace")


TOKENS = BytePairs(train_tokenizer())


@given(st.text())
def test_any_text_streams_as_itself(text: str) -> None:
    ids = TOKENS.encode(text)
    assert TOKENS.decode(ids) == "".join(TOKENS.stream(ids.tolist())) == text
    assert ids.tolist() == TOKENS.tokenizer.encode(text)


@given(st.lists(st.integers(1, 269), max_size=30))
def test_any_ids_stream_as_transformers_decodes_them(ids: list[int]) -> None:
    decoded = TOKENS.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    assert TOKENS.decode(torch.tensor(ids)) == decoded
    streamed = "".join(TOKENS.stream(ids))
    assert decoded.rstrip("\ufffd") == streamed.rstrip("\ufffd")
    assert decoded.startswith(streamed)  # without what is cut off at the end


def test_a_character_is_written_once_it_is_whole() -> None:
    fed, shown = [], ""
    ids = TOKENS.encode(TEXT).tolist()
    assert len(TOKENS.encode("🙂")) == 4  # so that it is split
    stream = TOKENS.stream(fed.append(token) or token for token in ids)
    for char in stream:
        shown += char
        whole = TOKENS.decode(torch.tensor(fed)).rstrip("\ufffd")
        assert whole.startswith(shown) and char != "\ufffd"
        assert len(char) == 1
    assert (shown, fed) == (TEXT, ids)
    cut = TOKENS.encode("ab🙂").tolist()[:-1]
    assert "".join(TOKENS.stream(cut)) == "ab"
    assert "".join(TOKENS.stream([*cut, TOKENS.end, *ids])) == "ab"


def test_added_tokens() -> None:
    theirs = train_tokenizer()
    theirs.add_tokens(["[é ]"])
    theirs.add_special_tokens({"pad_token": "[PAD]"})
    tokens = BytePairs(theirs)
    ids = theirs.encode("a[é ][PAD]b")
    assert len(ids) == 4
    assert "".join(tokens.stream(ids)) == "a[é ]b" == tokens.decode(torch.tensor(ids))
    assert tokens.bytes_of(99_999) == b""  # a model may have more ids than tokens


# What is written


def test_the_text_ends_where_its_end_is_written(recited: Path, write: Callable) -> None:
    status, out, err = write(recited, "--temperature", "0")
    assert (status, out) == (0, TEXT + "\n")
    assert f"{recited}, GPT-2 of " in err and err.count("\n") == 1
    assert END not in out


def test_the_default_prompt_is_the_end_that_is_not_shown(recited: Path, write: Callable) -> None:
    greedily = ("--temperature", "0")
    assert write(recited, *greedily) == write(recited, *greedily, "--prompt", END)


def test_greedy_text_is_that_of_transformers(wild: Path, write: Callable) -> None:
    theirs, tokenizer = GPT2LMHeadModel.from_pretrained(wild), AutoTokenizer.from_pretrained(wild)
    for prompt in ("a 🙂", "naive", "é日"):
        idx = tokenizer(prompt, return_tensors="pt")
        count = 16 - idx["input_ids"].shape[1]
        settings = {"do_sample": False, "max_new_tokens": count, "pad_token_id": 0}
        text = tokenizer.decode(theirs.generate(**idx, **settings)[0], skip_special_tokens=True)
        out = write(wild, "--prompt", prompt, "--max-new-tokens", count, "--temperature", 0).out
        assert text.startswith(out[:-1]) and len(out) - 1 >= len(text.rstrip("\ufffd"))
        assert len(out) > len(prompt) + 3


def test_all_options_work(wild: Path, write: Callable) -> None:
    count = ("--prompt", "naïve 🙂", "--max-new-tokens", "40")
    plain = write(wild, *count)
    assert plain.status == 0 and plain.out.startswith("naïve 🙂")
    assert write(wild, *count, "--seed", "1") == plain
    for other in (
        *("--seed 2", "--top-k 3", "--top-p 0.5", "--temperature 3", "--window half"),
        "--num-samples 2",
    ):
        ended = write(wild, *count, *other.split())
        assert ended.status == 0 and ended.out != plain.out
    text = plain.out.removesuffix("\n")
    stop = text[12:14]
    expected = text[:8] + text[8:].split(stop)[0] + "\n"
    assert write(wild, *count, "--stop", stop).out == expected
    Path("prompt.txt").write_text("naïve 🙂", encoding="utf-8")
    assert write(wild, "--prompt-file", "prompt.txt", *count[2:]) == plain
    long = write(wild, "--prompt", "naive cafe " * 99, "--max-new-tokens", "5")
    assert long.status == 0 and long.err.count("\n") == 1


def test_bytes_that_are_no_text(wild: Path, write: Callable, refused: Callable) -> None:
    prompt = os.fsdecode(b"ag\xffe")
    message = refused(wild, "--prompt", prompt)
    assert r"the prompt has '\udcff' (U+DCFF) not among the characters known to this" in message
    skipping = write(wild, "--prompt", prompt, "--unknown", "skip")
    assert skipping == write(wild, "--prompt", "age")
    assert "at least one" in refused(wild, "--prompt", "")


def test_the_tokenizer_that_gpt2_has(recited: Path, write: Callable) -> None:
    expected = write(recited, "--temperature", "0").out
    folder = spoiled(recited)
    for path in folder.glob("*token*"):
        path.unlink()
    model = json.loads((recited / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = "".join(f"{' '.join(pair)}\n" for pair in model["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}")
    assert write(folder, "--temperature", "0").out == expected
    GPT2TokenizerFast.from_pretrained(folder).save_pretrained(folder)
    assert write(folder, "--temperature", "0").out == expected


def test_weights_in_several_files(wild: Path, write: Callable) -> None:
    expected, folder = write(wild), spoiled(wild)
    (folder / "model.safetensors").unlink()
    GPT2LMHeadModel.from_pretrained(wild).save_pretrained(folder, max_shard_size="10kB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert write(folder).out == expected.out


def test_output_that_cannot_show_every_character(
    wild: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for encoding in ("ascii", "latin-1"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stdout", stream)
        assert f"standard output is {encoding} and cannot show" in refused(wild)


# What is refused


@pytest.mark.parametrize("others", ["--ckpt", "--handmade", "--ckpt model.pt", "--ckpt --handmade"])
def test_one_of_three(others: str, refused: Callable) -> None:
    names = [word for word in others.split() if word.startswith("--")]
    message = refused("gpt2", *others.split())
    assert f"{' and '.join([*names, '--gpt2'])} exclude each other; give one" in message


@pytest.mark.parametrize("package", ["transformers", "safetensors.torch"])
def test_packages_that_are_not_there(
    package: str, wild: Path, refused: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    name = package.split(".")[0]
    message = refused(wild)
    assert f"the package {name} is not installed; install it with: pip install -r req" in message


def test_folders_that_are_no_model(wild: Path, refused: Callable) -> None:
    Path("empty").mkdir()
    message = refused("empty")
    assert "--gpt2 empty: config.json cannot be read: No such file" in message
    folder = spoiled(wild)
    for content, sentence in (("{", "is no JSON"), ("[1]", "holds no settings"), ("[" * 10**6, "")):
        (folder / "config.json").write_text(content)
        assert f"config.json {sentence}" in refused(folder)
    assert "model_type is 'bert'; name a model" in refused(spoiled(wild, model_type="bert"))
    assert "is 'relu'; name a model with 'gelu" in refused(
        spoiled(wild, activation_function="relu")
    )
    message = refused(spoiled(wild, n_embd=15))
    assert "wte.weight is of shape (300, 12), but by its settings it is (300, 15)" in message
    assert "unexpected" in refused(spoiled(wild, n_layer=1))
    assert "missing" in refused(spoiled(wild, n_layer=3))


def test_weights_that_are_not_read(wild: Path, refused: Callable) -> None:
    folder = spoiled(wild)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-9])
    assert "model.safetensors is damaged or no safetensors; fetch it anew" in refused(folder)
    (folder / "model.safetensors").unlink()
    assert "there is no model.safetensors; name a model saved" in refused(folder)
    (folder / "pytorch_model.bin").write_bytes(b"cposix\nsystem\n(S'touch run'\ntR.")
    message = refused(folder)
    assert "only pytorch_model.bin, which could run code and is not read; name a model" in message
    assert not Path("run").exists()


def test_tokenizers_that_are_refused(wild: Path, refused: Callable) -> None:
    folder = spoiled(wild)
    content = json.loads((folder / "tokenizer.json").read_text())
    for change, sentence in (
        ({"decoder": {"type": "Metaspace"}}, "its tokenizer is no byte-level BPE"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "is no byte-level BPE"),
        ({"model": {"type": "none"}}, "its tokenizer cannot be read ("),
    ):
        changed = {**content, **change}
        if "decoder" in change:
            changed["decoder"] |= {"replacement": "_", "prepend_scheme": "never", "split": True}
        (folder / "tokenizer.json").write_text(json.dumps(changed))
        assert sentence in refused(folder)
    for path in folder.glob("*token*"):
        path.unlink()
    assert "there is no tokenizer.json; name a model that has its tokenizer" in refused(folder)


def test_a_tokenizer_of_another_model(wild: Path, recited: Path, refused: Callable) -> None:
    folder = spoiled(wild)
    tokenizer = AutoTokenizer.from_pretrained(wild)
    tokenizer.add_tokens([f"word{i}" for i in range(99)])
    tokenizer.save_pretrained(folder)
    assert f"the tokenizer has {len(tokenizer)} tokens, and the model 300" in refused(folder)


def test_remote_code_is_not_run(wild: Path, write: Callable, refused: Callable) -> None:
    auto = {"AutoTokenizer": ["mine.Mine", None], "AutoConfig": "mine.Mine"}
    folder = spoiled(wild, auto_map=auto)
    (folder / "mine.py").write_text("open('run', 'w')\n")
    content = json.loads((folder / "tokenizer_config.json").read_text())
    content |= {"auto_map": auto, "tokenizer_class": "Mine"}
    (folder / "tokenizer_config.json").write_text(json.dumps(content))
    ended = write(folder)
    assert ended.status in (0, 2) and ended.err.count("\n") == 1
    assert not Path("run").exists()


def test_a_name_that_cannot_be_fetched(home: Path, processes: Processes) -> None:
    environ = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home / "cache")}
    ended = processes.run("sample", "--gpt2", "gpt2", cwd=home, environ=environ)
    assert (ended.status, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert "--gpt2 gpt2: it is no folder, and cannot be fetched from the hub (" in ended.err
    assert "name a folder with a GPT-2, or connect to the internet" in ended.err


@pytest.mark.parametrize("name", ["no/such/name", "./gone", "nö", "x" * 5000, ""])
def test_names_that_are_none(name: str, refused: Callable) -> None:
    assert "it is no folder, and cannot be fetched from the hub (Repo id" in refused(name)


def test_no_pickle_is_fetched(wild: Path, write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, allow_patterns: list[str]) -> str:
        assert name == "some/gpt2"
        patterns = [*allow_patterns, "pytorch_model.bin"]
        assert len(patterns) == len(set(patterns)) and not any("*" == p[0] for p in patterns)
        return str(wild)

    expected = write(wild)
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert write("some/gpt2").out == expected.out


def test_nothing_optional_is_imported_for_other_models(home: Path, processes: Processes) -> None:
    argv = ("--handmade", "--max-new-tokens=1")
    optional = ["transformers", "tokenizers"]
    assert processes.run("sample", *argv, cwd=home, without=optional).status == 0


@given(st.text(CHARS, max_size=30))
@example("\n\n\r\n\n")
def test_any_text_has_the_ids_that_we_give_it(text: str) -> None:
    theirs = Tokenizer.from_str(json.dumps(char_tokenizer(CHARS)))
    ids = theirs.encode(text).ids
    assert ids == CharTokenizer(CHARS).encode(text).tolist()
    assert theirs.decode(ids) == text


def test_all_of_unicode() -> None:
    chars = "".join(chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000)
    sample = chars[:70000:7] + chars[70000::1001]
    theirs = Tokenizer.from_str(json.dumps(char_tokenizer(sample)))
    ids = theirs.encode(sample).ids
    assert ids == list(range(len(sample))) and theirs.decode(ids) == sample
