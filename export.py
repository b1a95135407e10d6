"""Write a trained model as a folder that Hugging Face's transformers can load, or as ONNX.

    python export.py --to my-gpt2                             the newest run
    python export.py --ckpt checkpoints/mine --to my-gpt2     a run, or a file
    python export.py --as onnx --to mine.onnx                 any model, in one file

The model has to be built as GPT-2 is, as with --config tiny_shakespeare_gpt2.yaml. Then, elsewhere,

    AutoTokenizer.from_pretrained("my-gpt2"), AutoModelForCausalLM.from_pretrained("my-gpt2")
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import sys
from pathlib import Path

from exchange import models, onnx
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
    forms = "a folder for transformers, or an ONNX file; default: folder"
    add("--as", dest="form", choices=("folder", "onnx"), default="folder", help=forms)
    to = "folder to write, new or empty; with --as onnx, a file"
    add("--to", type=Path, metavar="PATH", required=True, help=to)
    over = "write into a folder that is not empty, or over a file, too"
    add("--overwrite", action="store_true", help=over)
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


def to_onnx(saved: Checkpoint, path: Path) -> str:
    """Write the file `path`, run it, and say what was found. Raises UserError."""
    about = f"trained for {saved.progress['step']} steps" if saved.optimizer else "set by hand"
    metadata = {"chars": saved.chars, "block_size": saved.model.block_size, "about": about}
    return onnx.write(path, saved.build(), metadata)


def command(args: argparse.Namespace) -> int:
    """Export as `args` say."""
    forgive_output()
    path = models.locate(args.ckpt or None)  # False: --ckpt without a path
    saved = models.load(path)
    if args.form == "onnx":
        onnx.check_free(args.to, overwrite=args.overwrite)
        found, said = f"; {to_onnx(saved, args.to)};", ""
    else:
        found, said = ",", needs(saved.model)
        check_trained(path, saved)
        files = list(contents(saved))
        prepare(args.to, overwrite=args.overwrite)
        for name, content in files:
            clear_temporary(args.to / name)
            write_whole(args.to / name, content)
    with unbroken("stdout"):
        print(f"{path}, step {saved.progress['step']}{found} written to {args.to}")
        if said:
            print(said)
        if saved.counts:
            print("the counts stay behind: what was exported is the trained model alone")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
