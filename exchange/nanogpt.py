"""nanoGPT (github.com/karpathy/nanoGPT): the ckpt.pt of its train.py, and the meta.pkl beside it.

Its GPT is GPT-2 with the exact GELU, and mostly without biases; its names are those of
`GPT2LMHeadModel`, its matrices are not transposed. What it writes are characters if a meta.pkl
says which, and GPT-2's tokens otherwise.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from torch import Tensor

from exchange import plain
from exchange.gpt2 import HEAD, PREFIX, from_gpt2
from model import GPTConfig
from system.checkpoint import ELSEWHERE, Checkpoint
from system.config import coerce
from system.errors import UserError

FILE, META = "ckpt.pt", "meta.pkl"
COMPILED = "_orig_mod."  # before each name where the model was compiled
MATRIX = re.compile(r"\.c_(attn|proj|fc)\.weight$")  # GPT-2 has these as (in, out)
STRUCTURE = {"position": "learned", "activation": "gelu", "tie_weights": True}
SIZES = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd")
TOKENS = (50257, 50304)  # of GPT-2, and with what nanoGPT adds for speed
LARGEST = 2**24  # bytes of a meta.pkl


def is_one(content: Mapping[str, Any]) -> bool:
    """Whether `content`, of a file that torch.save wrote, is that of a ckpt.pt."""
    return {"model", "model_args"} <= content.keys()


def checkpoint_of(path: Path, content: Mapping[str, Any]) -> Checkpoint:
    """What `content` of the file `path` is in our terms. Raises UserError."""
    try:
        config, weights = translate(content)
        chars = read_chars(path, content, config.vocab_size)
        step = coerce(content.get("iter_num", 0), int, "iter_num")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    for name in ("wte.weight", HEAD):  # ids that are padding are no characters
        weights[name] = weights[name][: len(chars)]
    config.vocab_size = len(chars)
    progress = {"step": max(0, step)}
    return Checkpoint(config, chars, weights, {}, ELSEWHERE, optimizer=[], progress=progress)


def translate(content: Mapping[str, Any]) -> tuple[GPTConfig, dict[str, Tensor]]:
    """The structure and the weights of the model that `content` holds. Raises UserError."""
    args, weights = content["model_args"], content["model"]
    if not (isinstance(args, dict) and isinstance(weights, dict)):
        raise UserError("model or model_args is no dict; name a ckpt.pt of nanoGPT's train.py")
    if not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise UserError("model holds more than weights; name a ckpt.pt of nanoGPT's train.py")
    weights = {str(name).removeprefix(COMPILED): weight for name, weight in weights.items()}
    sizes = {name: coerce(args.get(name), int, name) for name in SIZES}
    dropout = coerce(args.get("dropout", 0.0), float, "dropout")
    bias = f"{PREFIX}ln_f.bias" in weights
    try:
        config = GPTConfig(**sizes, **STRUCTURE, dropout=dropout, bias=bias)
    except ValueError as error:
        raise UserError(str(error)) from None
    turned = {
        name: weight.t() if MATRIX.search(name) and weight.dim() == 2 else weight
        for name, weight in weights.items()
    }
    ours = from_gpt2(turned, config)
    return config, {name: weight.float().contiguous() for name, weight in ours.items()}


def read_chars(path: Path, content: Mapping[str, Any], vocab_size: int) -> str:
    """The characters of the model in `path`, in the order of its ids. Raises UserError."""
    settings = content.get("config")
    dataset = settings.get("dataset") if isinstance(settings, dict) else None
    found = next((meta for meta in metas(path, dataset) if meta.is_file()), None)
    if found is None and vocab_size in TOKENS:
        raise UserError(
            "it was trained on GPT-2's tokens, which are no characters; name a model of "
            "characters, or write with nanoGPT's own sample.py"
        )
    if found is None:
        raise UserError(
            f"there is no {META} that says which its {vocab_size} characters are; copy it from "
            f"nanoGPT's data/{dataset if isinstance(dataset, str) else '...'}/ to {path.parent}"
        )
    chars = chars_in(found)
    if len(chars) > vocab_size:
        raise UserError(
            f"{found} has {len(chars)} characters, and the model {vocab_size}; copy the {META} of "
            f"its text to {path.parent}"
        )
    return chars


def metas(path: Path, dataset: object) -> Iterator[Path]:
    """Where the meta.pkl of `path` may be: beside it, or where nanoGPT's prepare.py writes it."""
    yield path.parent / META
    if isinstance(dataset, str) and PureWindowsPath(dataset).name == dataset:  # leads nowhere else
        for base in (path.resolve().parent.parent, Path()):
            yield base / "data" / dataset / META


def chars_in(meta: Path) -> str:
    """The characters that the meta.pkl `meta` lists. Never runs code from it. Raises UserError."""
    wanted = f"copy the {META} that nanoGPT's prepare.py wrote"
    try:
        if meta.stat().st_size > LARGEST:
            raise UserError(f"{meta} is too large for a list of characters; {wanted}")
        itos = plain.loads(meta.read_bytes())["itos"]
        chars = [itos[i] for i in range(len(itos))]
        if not chars or any(len(char) != 1 for char in chars) or len({*chars}) != len(chars):
            raise ValueError("these are no characters")
        return "".join(chars)
    except OSError as error:
        raise UserError(f"{meta} cannot be read: {error.strerror}; {wanted}") from None
    except UserError:
        raise
    except Exception as error:  # made-up bytes can make it raise anything
        raise UserError(
            f"{meta} is damaged or more than a plain list of characters, and is not read; {wanted}"
        ) from error
