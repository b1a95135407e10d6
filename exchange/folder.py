"""GPT-2 as a folder of Hugging Face's: read from there or from the hub, and written.

Nothing that is read here can run code: settings are JSON, weights safetensors, and no remote code
is trusted. The packages that this takes are optional, and imported when they are needed.
"""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from data.tokenizer import CharTokenizer
from exchange.bytepairs import BYTES, BytePairs
from exchange.gpt2 import HEAD, config_from_gpt2, config_to_gpt2, from_gpt2, to_gpt2
from model import GPT
from system.checkpoint import Checkpoint
from system.errors import UserError

CONFIG, WEIGHTS, SHARDS = "config.json", "model.safetensors", "model-*-of-*.safetensors"
GENERATION = "generation_config.json"
TOKENIZER = ("tokenizer.json", "vocab.json")  # a folder has at least one of them
FILES = (CONFIG, WEIGHTS, SHARDS, *TOKENIZER, "merges.txt", "tokenizer_config.json")
FILES += ("added_tokens.json", "special_tokens_map.json")


def optional(package: str) -> ModuleType:
    """The module `package`, of which few commands have need. Raises UserError if there is none."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(
            f"the package {package.split('.')[0]} is not installed; install it with: "
            "pip install -r requirements-gpt2.txt"
        ) from None


def fetch(name: str) -> Path:
    """The folder `name`, or the one to which the hub's model `name` is fetched; no pickle is.

    Raises UserError where there is neither.
    """
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a name is too long
        return Path(name)
    hub = optional("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, allow_patterns=FILES))
    except Exception as error:  # of the network, of the hub, of the name
        reason = str(error).strip().partition("\n")[0][:200]
        raise UserError(
            f"it is no folder, and cannot be fetched from the hub ({reason or type(error)}); name "
            "a folder with a GPT-2, or connect to the internet"
        ) from None


def read_settings(folder: Path) -> dict[str, Any]:
    """The content of config.json in `folder`. Raises UserError."""
    try:
        settings = json.loads((folder / CONFIG).read_bytes())
    except OSError as error:
        raise UserError(
            f"{CONFIG} cannot be read: {error.strerror}; name a folder with a GPT-2"
        ) from None
    except (ValueError, RecursionError):
        raise UserError(f"{CONFIG} is no JSON; fetch it anew") from None
    if not isinstance(settings, dict):
        raise UserError(f"{CONFIG} holds no settings; fetch it anew")
    return settings


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights in `folder`, only from safetensors, which cannot run code. Raises UserError."""
    whole = folder / WEIGHTS
    files = [whole] if whole.exists() else sorted(folder.glob(SHARDS))
    if not files:
        pickles = sorted(path.name for path in folder.glob("pytorch_model*.bin"))
        only = f", only {pickles[0]}, which could run code and is not read" if pickles else ""
        raise UserError(f"there is no {WEIGHTS}{only}; name a model saved as safetensors")
    load_file = optional("safetensors.torch").load_file
    weights = {}
    for path in files:
        try:
            weights |= load_file(path)
        except Exception as error:  # damaged bytes can make it raise anything
            raise UserError(f"{path.name} is damaged or no safetensors; fetch it anew") from error
    return weights


def read_tokenizer(folder: Path, vocab_size: int) -> CharTokenizer | BytePairs:
    """The tokenizer in `folder`: byte-level BPE as GPT-2's, or one id for each character.

    Raises UserError where it is neither, or has ids that the model lacks.
    """
    if not any((folder / name).is_file() for name in TOKENIZER[:2]):
        raise UserError(f"there is no {TOKENIZER[0]}; name a model that has its tokenizer with it")
    transformers = optional("transformers")
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        kind = type(theirs.backend_tokenizer.decoder).__name__
        vocabulary = theirs.get_vocab()  # token -> id
        letters = set().union(*vocabulary.keys() - theirs.get_added_vocab())
    except Exception as error:  # of a file that is missing or holds anything
        reason = str(error).strip().partition("\n")[0][:200]
        raise UserError(f"its tokenizer cannot be read ({reason}); fetch it anew") from error
    ids = sorted(vocabulary.values())
    if not ids or ids[-1] >= vocab_size:
        raise UserError(
            f"the tokenizer has {len(ids)} tokens, and the model {vocab_size}; name a model with "
            "its own"
        )
    if kind == "ByteLevel" and letters == BYTES.keys() <= vocabulary.keys():
        return BytePairs(theirs)
    tokens = sorted(vocabulary, key=vocabulary.get)
    if ids == list(range(vocab_size)) and all(len(token) == 1 for token in tokens):
        return CharTokenizer("".join(tokens))
    raise UserError("its tokenizer is no byte-level BPE; name a model that has GPT-2's")


def read(folder: Path) -> tuple[GPT, CharTokenizer | BytePairs]:
    """GPT-2 and its tokenizer, from a folder. Raises UserError."""
    config = config_from_gpt2(read_settings(folder))
    weights = from_gpt2(read_weights(folder), config)
    tokenizer = read_tokenizer(folder, config.vocab_size)
    model = GPT(config)
    model.load_state_dict(weights, strict=True)
    return model.eval(), tokenizer


def load(name: str) -> tuple[GPT, CharTokenizer | BytePairs]:
    """GPT-2 and its tokenizer, from a folder or the hub's model `name`. Raises UserError."""
    try:
        optional("transformers")  # first, before gigabytes are read
        return read(fetch(name))
    except UserError as error:
        raise UserError(f"--gpt2 {name}: {error}") from error


def contents(saved: Checkpoint) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file of the folder, the weights last. Raises UserError."""
    save = optional("safetensors.torch").save
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": saved.model.block_size,
        "model_input_names": ["input_ids", "attention_mask"],  # older ones would add token types
        "clean_up_tokenization_spaces": False,
    }
    for name, content in (
        (CONFIG, config_to_gpt2(saved.model)),
        (GENERATION, generation()),
        ("tokenizer.json", char_tokenizer(saved.chars)),
        ("tokenizer_config.json", settings),
    ):
        yield name, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
    weights = to_gpt2(saved.weights, saved.model)
    if saved.model.tie_weights:
        del weights[HEAD]  # it is wte.weight, by config.json
    yield WEIGHTS, save(weights, metadata={"format": "pt"})


def generation() -> dict[str, None]:
    """The content of generation_config.json: no character begins, ends or pads a text.

    transformers leaves a padding character out of a prompt without a mask, wherever it stands.
    """
    return {f"{what}_token_id": None for what in ("bos", "eos", "pad")}


def char_tokenizer(chars: str) -> dict[str, Any]:
    """The content of the tokenizer.json that gives each of `chars` its place in it as the id.

    Other characters have no id: encoding them fails, and loses nothing in silence.
    """
    every_one = {"Regex": r"[\s\S]"}  # . would leave out the line ends
    vocabulary = {char: i for i, char in enumerate(chars)}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": every_one,
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": None,
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<unk>"},
    }
