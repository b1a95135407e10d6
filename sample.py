"""Write text with a trained model, with one whose weights were set by hand, or with GPT-2.

    python sample.py --ckpt --prompt "ROMEO:"              the newest run
    python sample.py --interactive                         type a beginning, read, type the next
    python sample.py --prompts lines.txt --json            a prompt a line in, an object a line out
    python sample.py --handmade rules.yaml                 weights made from rules that you write
    python sample.py --gpt2 gpt2 --prompt "Hello, I'm"     from Hugging Face's hub, or a folder

Text goes to standard output as it is made, everything else to standard error.
"""

from system.commandline import begin

if __name__ == "__main__":
    begin()  # before the imports, which take most of a second

import argparse
import sys

from system import device
from system.commandline import Parser, bounded, only_one, run
from system.output import check_output
from writing import output, source
from writing.interactive import SEED, TEMPERATURE, Talk
from writing.prompts import ESCAPES, read_prompts, read_stops, tell_of_escapes, unescaped
from writing.samples import Writer, following

MOST_SAMPLES = 10_000
LENGTH = 500  # of a text, unless --max-new-tokens says otherwise
EXCLUSIVE = (  # of each of these at most one makes sense
    ("prompt", "prompt_file", "prompts", "interactive"),
    *(("interactive", other) for other in ("num_samples", "separator", "json")),
    ("separator", "json"),
)


def parser() -> Parser:
    """The command line of sample.py."""
    p = Parser(prog="sample.py", about=__doc__)
    source.add_options(p)

    add = p.add_argument_group("what it continues").add_argument
    start = r"text to continue; default: a newline, or where GPT-2's texts begin; \n is a line end"
    add("--prompt", metavar="TEXT", help=start)
    add("--prompt-file", metavar="PATH", help="file with the text to continue; - reads a pipe")
    each = "file with one prompt a line, each of them continued; - reads a pipe"
    add("--prompts", metavar="FILE", help=each)
    talk = "what is typed, line by line; :help there lists its commands"
    add("--interactive", action="store_true", default=None, help=talk)
    unknown = "what becomes of characters the model has never seen; default: error"
    add("--unknown", choices=("error", "skip"), default="error", help=unknown)

    add = p.add_argument_group("how much").add_argument
    most = f"characters to write, or GPT-2's tokens; default: {LENGTH}, or a turn of a game"
    add("--max-new-tokens", type=bounded(int, 0), metavar="N", help=most)
    samples = bounded(int, 1, MOST_SAMPLES)
    add("--num-samples", type=samples, metavar="N", help="texts to write of each; default: 1")
    stop = r"end a sample before this text; may be given several times; \n is a line end"
    add("--stop", metavar="TEXT", action="append", default=[], help=stop)
    add_choice(p)

    add = p.add_argument_group("what comes out").add_argument
    add("--no-prompt", action="store_true", help="leave out what was continued")
    between = r"what parts samples, where \n and \0 are known; default: a line of three dashes"
    add("--separator", metavar="TEXT", help=between)
    as_json = "one line a sample: prompt, text, ended, seed, model"
    add("--json", action="store_true", default=None, help=as_json)
    return p


def add_choice(p: Parser) -> None:
    """The options that say how a character is chosen."""
    add = p.add_argument_group("how the next character is chosen").add_argument
    greedy = "0 always takes the likeliest; default: 0.8, or 0 with --handmade"
    add("--temperature", type=TEMPERATURE, metavar="T", help=greedy)
    add("--top-k", type=bounded(int, 1), metavar="K", help="among the K likeliest characters only")
    share = "among the fewest characters only that have probability P together"
    add("--top-p", type=bounded(float, 1e-9, 1), metavar="P", help=share)
    same = "same seed, same text; each further text has the next one; default: 1"
    add("--seed", type=SEED, default=1, metavar="N", help=same)
    full = (
        "when the context is full: slide on by one; keep its last half (faster); or roll on, each "
        "character computed once (as fast, rotary positions only). Losses are the same to 0.002, "
        "texts are not; default: slide"
    )
    add("--window", choices=("slide", "half", "roll"), default="slide", help=full)


def about_seeds(writer: Writer, seed: int, total: int) -> str:
    """The seeds of `total` texts, and how to get others, behind the line about the model."""
    if not writer.draws:
        return ""
    after = following(seed, total)
    if total == 1:
        return f"; seed {seed}, --seed {after} writes another text"
    return f"; seeds {seed} to {following(seed, total - 1)}, --seed {after} writes other texts"


def command(args: argparse.Namespace) -> int:
    """Write the samples that `args` ask for."""
    for names in EXCLUSIVE:
        only_one(args, *names)
    place = device.pick(args.device)
    device.keep_memory()
    found = source.find(args)
    tokenizer = found.tokenizer
    if args.max_new_tokens is None:
        args.max_new_tokens = (args.interactive and found.rule and found.rule.turn) or LENGTH
    writer = Writer(found, args, place, read_stops(args, tokenizer))
    separator = None if args.separator is None else unescaped(args.separator, ESCAPES)
    check_output("" if args.json else tokenizer.chars + (separator or ""))
    if args.interactive:
        talk = Talk(writer, args, found.rule)
        seeds = f"; seed {args.seed}, then the next for each text" if writer.draws else ""
        print(f"{found.what}{seeds}", file=sys.stderr)
        tell_of_escapes(args, tokenizer)
        talk.run()
        return 0
    prompts = [idx for idx in read_prompts(args, tokenizer) for _ in range(args.num_samples or 1)]
    print(f"{found.what}{about_seeds(writer, args.seed, len(prompts))}", file=sys.stderr)
    tell_of_escapes(args, tokenizer)
    samples, with_prompt = writer.write(prompts, args.seed), not args.no_prompt
    if args.json:
        output.as_json(samples, found.what, with_prompt=with_prompt)
    else:
        output.as_text(samples, len(prompts), separator=separator, with_prompt=with_prompt)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` and return the exit status."""
    return run(command, parser(), argv)


if __name__ == "__main__":
    sys.exit(main())
