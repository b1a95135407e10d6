"""Write a trained model as a folder that Hugging Face's transformers can load.

    python export.py --to my-gpt2                          the newest run
    python export.py --ckpt checkpoints/mine --to my-gpt2

The model has to be built as GPT-2 is, as with --config tiny_shakespeare_gpt2.yaml. Then, elsewhere,

    AutoTokenizer.from_pretrained("my-gpt2"), AutoModelForCausalLM.from_pretrained("my-gpt2")
"""

from system.interrupt import quiet

if __name__ == "__main__":
    quiet()  # while all of this is imported

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gpt2.hub import CONFIG, WEIGHTS, optional
from gpt2.names import HEAD, config_to_gpt2, to_gpt2
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import Parser, UserError, forgive_output, run
from system.files import clear_temporary, write_whole


def parser() -> Parser:
    """The command line of export.py."""
    p = Parser(prog="export.py", description=__doc__)
    add = p.add_argument
    newest = "a run folder or file; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    add("--to", type=Path, metavar="FOLDER", required=True, help="folder to write, new or empty")
    add("--overwrite", action="store_true", help="write into a folder that is not empty, too")
    return p


def tokenizer(chars: str) -> dict[str, Any]:
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


def contents(saved: Checkpoint) -> Iterator[tuple[str, bytes]]:
    """The name and the content of each file of the folder, the weights last. Raises UserError."""
    save = optional("safetensors.torch").save
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": saved.model.block_size,
        "clean_up_tokenization_spaces": False,
    }
    for name, content in (
        (CONFIG, config_to_gpt2(saved.model)),
        ("tokenizer.json", tokenizer(saved.chars)),
        ("tokenizer_config.json", settings),
    ):
        yield name, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n"
    weights = to_gpt2(saved.weights, saved.model)
    del weights[HEAD]  # it is wte.weight, by config.json
    yield WEIGHTS, save(weights, metadata={"format": "pt"})


def prepare(folder: Path, *, overwrite: bool) -> None:
    """Raise UserError where `folder` is not to be written to.

    Weights that are there are removed: they must not be taken for those of another config.json.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder} is no folder; name one, or a path where none is yet")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--to {folder} is not empty; name another folder, or say --overwrite")
    (folder / WEIGHTS).unlink(missing_ok=True)


def command(args: argparse.Namespace) -> int:
    """Export as `args` say."""
    forgive_output()
    path = checkpoint.locate(args.ckpt or None)  # False: --ckpt without a path
    saved = checkpoint.load(path)
    files = list(contents(saved))
    prepare(args.to, overwrite=args.overwrite)
    for name, content in files:
        clear_temporary(args.to / name)
        write_whole(args.to / name, content)
    print(f"{path}, step {saved.progress['step']}, written to {args.to}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
