"""A comparison in words: the table, and the contexts that a model gets wrong."""

from collections.abc import Callable

from analysis.measure import MOST, STEPS, HeadEffect, Measured
from data.aab import Task
from data.rules import RuleTask
from system.output import in_one_line

NAMED = 60  # wrong contexts that are named for each reason; --json names all


def tabulate(numbers: list[Measured], task: Task | RuleTask) -> str:
    """All numbers as lines of text, a column for each model."""
    cells = [["", *(m.label for m in numbers)]]
    for name, cell in rows(task, max(len(m.heads) for m in numbers)):
        cells.append([name, *(cell(m) for m in numbers)])
    return align(cells)


def align(cells: list[list[str]], left: int = 1) -> str:
    """Rows of cells as lines of text: the first `left` columns begin, the others end, as one."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    sides = [str.ljust] * left + [str.rjust] * (len(widths) - left)
    return "\n".join(
        "  ".join(
            side(cell, width) for side, cell, width in zip(sides, row, widths, strict=True)
        ).rstrip()
        for row in cells
    )


def rows(task: Task | RuleTask, heads: int) -> list[tuple[str, Callable[[Measured], str]]]:
    """The rows of the table: a name, and what stands there for a column."""
    steps = len(STEPS)
    table = [
        ("parameters", lambda m: f"{m.parameters:,}"),
        ("parameters that are not zero", lambda m: f"{m.nonzero_parameters:,}"),
        ("loss on the task, nats per character", lambda m: f"{m.loss:.4f}"),
        ("  after two characters or more", lambda m: f"{m.loss_after_two:.4f}"),
        ("contexts right, of those in the text", lambda m: f"{m.task.right:,}/{m.task.total:,}"),
        ("  worst margin", lambda m: f"{m.task.worst_margin:+.4f}"),
        (f"contexts right, {of_which(task)}", lambda m: f"{m.all.right:,}/{m.all.total:,}"),
        ("  worst margin", lambda m: f"{m.all.worst_margin:+.4f}"),
        ("attention distance to the hand-set head", lambda m: f"{m.attention_distance:.3f}"),
    ]
    if task.word:
        floor = ("  its floor, the entropy of the text", lambda m: f"{m.entropy_floor:.4f}")
        right = (
            f"right in {task.word} repeated, {steps} steps",
            lambda m: f"{m.steps_right}/{steps}",
        )
        table[3:3], table[5:5] = [floor], [right]
    else:
        table.insert(0, ("the text that was learned", lambda m: m.learned or "-"))
    for place in range(heads if task.endings else 0):
        name = of_head(place, lambda head: f"layer {head.layer} head {head.head}")
        table.append((f"what head {place + 1} adds to the logit of b", name))
        for ending in task.endings:
            value = of_head(place, lambda head, ending=ending: f"{head.to_b[ending]:+.2f}")
            table.append((f"  after {ending}", value))
    return table


def of_which(task: Task | RuleTask) -> str:
    """Which contexts were tried: all, or some that were drawn of those that the rule is about."""
    drawn = not task.word and task.share(MOST)
    return f"of {drawn}" if drawn and "drawn" in drawn else "of all"


def of_head(place: int, cell: Callable[[HeadEffect], str]) -> Callable[[Measured], str]:
    """The cell of a model's head at `place`; empty where it has none."""

    def of(measured: Measured) -> str:
        head = measured.heads[place] if place < len(measured.heads) else None
        return cell(head) if head else ""

    return of


def name_wrong(measured: Measured, task: Task | RuleTask) -> str:
    """The contexts that a model gets wrong, by what in them never occurs in the text."""
    wrong = measured.all.wrong
    if not wrong:
        return f"{measured.label} is right in all {measured.all.total:,} contexts"
    lines = [f"{measured.label} is wrong in {len(wrong):,} of {measured.all.total:,} contexts"]
    never, groups = task.never(), {}
    for context in wrong:
        strange = next((part for part in never if part in context), None)
        group = f"with {strange}, which never occurs in the text" if strange else "of the text"
        groups.setdefault(group, []).append(context)
    for group, contexts in groups.items():
        more = f" and {len(contexts) - NAMED:,} more" if len(contexts) > NAMED else ""
        named = " ".join(map(in_one_line, contexts[:NAMED]))
        lines.append(f"  {len(contexts):,} {group}: {named}{more}")
    return "\n".join(lines)
