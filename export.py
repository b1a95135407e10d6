"""Write a trained model as a folder that Hugging Face's transformers can load.

    python export.py --to my-gpt2                             the newest run
    python export.py --ckpt checkpoints/mine --to my-gpt2     a run, or a file

The model has to be built as GPT-2 is, as with --config tiny_shakespeare_gpt2.yaml. Then, elsewhere,

    AutoTokenizer.from_pretrained("my-gpt2"), AutoModelForCausalLM.from_pretrained("my-gpt2")
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import sys
from pathlib import Path

from exchange import models
from exchange.folder import WEIGHTS, contents
from exchange.kinds import needs
from system.checkpoint import Checkpoint
from system.commandline import Parser, run
from system.errors import UserError
from system.files import clear_temporary, write_whole
from system.output import forgive_output, unbroken


def parser() -> Parser:
    """The command line of export.py."""
    p = Parser(prog="export.py", about=__doc__)
    add = p.add_argument
    newest = "a run folder or file; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    add("--to", type=Path, metavar="FOLDER", required=True, help="folder to write, new or empty")
    add("--overwrite", action="store_true", help="write into a folder that is not empty, too")
    return p


def prepare(folder: Path, *, overwrite: bool) -> None:
    """Raise UserError where `folder` is not to be written to.

    Weights that are there are removed: they must not be taken for those of another config.json.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--to {folder} is no folder; name one, or a path where none is yet")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise UserError(f"--to {folder} is not empty; name another folder, or say --overwrite")
    (folder / WEIGHTS).unlink(missing_ok=True)


def check_trained(path: Path, saved: Checkpoint) -> None:
    """Raise UserError where nobody trained the model: no hand-set one has GPT-2's structure."""
    if not saved.fingerprint:
        raise UserError(
            f"{path} was set by hand and is not built as GPT-2 is, whose output shares the "
            "embedding's weights; pass the file itself on, which sample.py --ckpt reads, or export "
            "a model that was trained with --config tiny_shakespeare_gpt2.yaml"
        )


def command(args: argparse.Namespace) -> int:
    """Export as `args` say."""
    forgive_output()
    path = models.locate(args.ckpt or None)  # False: --ckpt without a path
    saved = models.load(path)
    check_trained(path, saved)
    files = list(contents(saved))
    prepare(args.to, overwrite=args.overwrite)
    for name, content in files:
        clear_temporary(args.to / name)
        write_whole(args.to / name, content)
    with unbroken("stdout"):
        print(f"{path}, step {saved.progress['step']}, written to {args.to}")
        if said := needs(saved.model):
            print(said)
        if saved.counts:
            print("the counts stay behind: what was exported is the trained model alone")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
