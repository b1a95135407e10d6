"""Write a model as a folder that Hugging Face's transformers can load, or as an ONNX file.

    python export.py --to my-gpt2                             the newest run
    python export.py --ckpt checkpoints/mine --to my-gpt2     a run, or a file
    python export.py --handmade abc --to abc-gpt2             weights set by hand
    python export.py --handmade ngram --order 4 --to ngrams   weights made by counting
    python export.py --as onnx --to mine.onnx                 any model, in one file

For a folder, a trained model needs model.shift=0: it becomes a Jais2, or a GPT-2 where it is built
as that is, as with --config tiny_shakespeare_gpt2.yaml. One set by hand is made as wide as GPT-2's
are, and proved again from the files. Then, elsewhere,

    AutoTokenizer.from_pretrained("my-gpt2"), AutoModelForCausalLM.from_pretrained("my-gpt2")
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import handmade
from data import rules
from data.counts import count
from data.ngrams import Ngrams
from data.rules import RuleTask
from exchange import card, models, onnx
from exchange.folder import CONFIG, contents, optional, read
from exchange.kinds import needs
from handmade.options import add_counted, counted
from model import GPT
from proof.certificate import assure
from proof.exported import assure_counts, assure_same, assure_task, tried
from system.checkpoint import Checkpoint
from system.commandline import Parser, bounded, run
from system.errors import UserError
from system.files import write_whole
from system.folders import beside, check_free
from system.output import forgive_output, unbroken


def parser() -> Parser:
    """The command line of export.py."""
    p = Parser(prog="export.py", about=__doc__)
    add = p.add_argument_group("what is exported").add_argument
    newest = "a run folder or file; default: newest"
    add("--ckpt", nargs="?", const=False, type=Path, metavar="PATH", help=newest)
    names = ", ".join((*handmade.MODELS, handmade.NGRAM, *rules.examples()))
    add("--handmade", metavar="NAME", help=f"weights set by hand: {names}, or a rule file")
    add_counted(add)
    places = "places of a hand-set model's context; default: as without exporting"
    add("--window", type=bounded(int, 2, 4096), metavar="N", help=places)

    add = p.add_argument_group("where to").add_argument
    forms = "a folder for transformers, or an ONNX file; default: folder"
    add("--as", dest="form", choices=("folder", "onnx"), default="folder", help=forms)
    to = "folder to write, new or empty; with --as onnx, a file"
    add("--to", type=Path, metavar="PATH", required=True, help=to)
    over = "write into a folder that is not empty, or over a file, too"
    add("--overwrite", action="store_true", help=over)
    return p


@dataclass
class Source:
    """What is exported.

    what: it in a line
    assure: proves the model that was read back, and says how
    about: sections of the card
    notes: more lines for the user
    """

    saved: Checkpoint
    what: str
    assure: Callable[[GPT], str]
    about: list[tuple[str, str]]
    notes: Sequence[str] = ()


def trained(args: argparse.Namespace) -> Source:
    """The trained model that `args` name. Raises UserError where nobody trained it."""
    path = models.locate(args.ckpt or None)  # False: --ckpt without a path
    saved = models.load(path)
    if not saved.fingerprint and args.form == "folder":
        raise UserError(
            f"{path} was set by hand, and the rule that an export is proved by is not in it; name "
            "the model in place of the file, as in: python export.py --handmade abc --to abc-gpt2"
        )
    what = f"{path}, step {saved.progress['step']}"
    behind = "the counts stay behind: what was exported is the trained model alone"
    needed = needs(saved.model) if args.form == "folder" else None
    notes = [*([needed] if needed else []), *([behind] if saved.counts else [])]
    return Source(saved, what, partial(assure_same, saved=saved), card.trained(saved), notes)


def by_hand(args: argparse.Namespace) -> Source:
    """The hand-set model that `args` name, in GPT-2's widths. Raises UserError."""
    name, window = args.handmade, args.window
    saved = handmade.load(name, window=window, portable=args.form == "folder")
    rule = handmade.rule_of(name, window)
    if rule is None:
        task = handmade.task_of(name)
        says, check = task.says, partial(assure_task, task=task, name=name)
    else:
        says, check = card.code(rules.write(rule)), partial(assure, rule=rule, name=name)
    if args.form == "onnx":
        check = partial(tried, task=handmade.task_of(name) if rule is None else RuleTask(rule))
    made = f"{name}: a GPT-2 whose weights were set by hand, by a rule. Nobody trained it."
    return Source(saved, f"{name}, set by hand", check, [("", made), ("The rule", says)])


def ngrams(args: argparse.Namespace) -> Source:
    """The n-grams that `args` name, in GPT-2's widths. Raises UserError."""
    dataset, order = counted(args, args.handmade)
    window = args.window or handmade.BLOCK_SIZE
    saved = handmade.load_ngrams(dataset, order, window=window, portable=args.form == "folder")
    text = handmade.read_text(dataset, window)
    V = len(saved.chars)
    counts = Ngrams(count([text.train.numpy()], V, order), vocab_size=V)
    what = f"{dataset}, counted to order {order}"
    made = (
        f"{Path(dataset).name}, counted: every stretch of up to {order} characters, smoothed as by "
        "Kneser and Ney, as the weights of a GPT-2. Nobody trained it. It holds stretches of the "
        "text."
    )
    return Source(saved, what, partial(assure_counts, counts=counts, ids=text.val), [("", made)])


def source(args: argparse.Namespace) -> Source:
    """What `args` ask to export. Raises UserError."""
    if args.ckpt is not None and args.handmade is not None:
        raise UserError("--ckpt and --handmade exclude each other; give one")
    counted(args, args.handmade)
    if args.window is not None and args.handmade is None:
        raise UserError("--window goes with --handmade; a trained model keeps its own")
    if args.handmade is None:
        return trained(args)
    return ngrams(args) if args.handmade == handmade.NGRAM else by_hand(args)


def write(chosen: Source, folder: Path) -> str:
    """Write the model to `folder`, prove it as it is read back, and say how. Raises UserError."""
    with beside(folder, key=CONFIG) as new:
        for name, content in contents(chosen.saved):
            write_whole(new / name, content)
        proof = chosen.assure(read(new)[0])
        checked = ("What was checked", f"By the weights as these files have them: {proof}.")
        text = card.card(chosen.saved, folder.resolve().name, *chosen.about, checked)
        write_whole(new / card.CARD, text.encode())
    return proof


def to_onnx(chosen: Source, path: Path, *, trained: bool) -> str:
    """Write the file `path`, run it, and say what was found. Raises UserError."""
    saved = chosen.saved
    about = f"trained for {saved.progress['step']} steps" if trained else chosen.what
    metadata = {"chars": saved.chars, "block_size": saved.model.block_size, "about": about}
    prove = None if trained else chosen.assure  # its logits are compared in any case
    return onnx.write(path, saved.build(), metadata, prove)


def command(args: argparse.Namespace) -> int:
    """Export as `args` say."""
    forgive_output()
    if args.form == "onnx":
        onnx.check_free(args.to, overwrite=args.overwrite)
        chosen = source(args)
        proof = to_onnx(chosen, args.to, trained=args.handmade is None)
    else:
        check_free(args.to, overwrite=args.overwrite)
        for package in ("transformers", "safetensors.torch"):
            optional(package)
        chosen = source(args)
        proof = write(chosen, args.to)
    with unbroken("stdout"):
        print(f"{chosen.what}; {proof}; written to {args.to}", *chosen.notes, sep="\n")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
