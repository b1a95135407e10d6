"""Make docs/does_training_find_it.md's tables and pictures from results of experiment.py.

    python -m docs.does_training_find_it FOLDER...     gather results, then write
    python -m docs.does_training_find_it               write again from what was gathered

FOLDER is a folder of experiment.py. What is gathered is docs/does_training_find_it.json; the page's
tables stand between lines such as <!-- aab --> and <!-- end -->.
"""

import dataclasses
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docs.predictions import PREDICTIONS, Prediction
from experiments.arms import FROZEN, Run, Start
from experiments.picture import FROM_RANDOM, draw
from experiments.store import RESULTS
from experiments.table import between, games, grouped, sentence, summary
from experiments.twin import Result
from system.files import write_whole

HERE = Path(__file__).parent
PAGE, GATHERED = HERE / "does_training_find_it.md", HERE / "does_training_find_it.json"
FIELDS = [field.name for field in dataclasses.fields(Result)]


@dataclass
class Experiment:
    """What one command found.

    name: of the folder; recipe: how twins were trained
    """

    name: str
    recipe: dict[str, Any]
    found: dict[str, Result]

    @property
    def runs(self) -> list[Run]:
        """All of them, in the order in which the command has them."""
        return sorted(map(run_of, self.found), key=order)


def run_of(name: str) -> Run:
    """The run with this name, as `str` gives it."""
    start, data, seed = name.split(", ")
    kind, _, strength = start.rpartition(" ")
    known = Start(start) if start in ("same", "roomier", *FROZEN) else Start(kind, float(strength))
    return Run(known, data, int(seed.removeprefix("seed ")))


def order(run: Run) -> tuple:
    """Where a run comes in a table."""
    kinds = ["same", "roomier", "blurred", "noisy", *FROZEN]
    texts = ["own", "restarts", "every"]
    return texts.index(run.data), kinds.index(run.start.kind), run.start.strength, run.seed


def rounded(value: Any) -> Any:
    """A number with as many digits as the page may show."""
    if isinstance(value, float):
        return float(f"{value:.3g}")
    return [rounded(each) for each in value] if isinstance(value, list | tuple) else value


def row(name: str, plain: dict[str, Any]) -> list[Any]:
    """What the page needs of a run: losses only of those that its picture draws."""
    drawn = run_of(name).start.kind in FROM_RANDOM
    return [name, *(rounded(plain[f] if drawn or f != "losses" else []) for f in FIELDS)]


def gather(folders: Sequence[Path]) -> None:
    """Write down what is in these folders, a line a run."""
    lines = []
    for folder in folders:
        content = json.loads((folder / RESULTS).read_text("utf-8"))
        runs = [f"  {json.dumps(row(*each))}" for each in content["runs"].items()]
        about = {"name": folder.name, "recipe": content["recipe"]}
        listed = ",\n".join(runs)
        lines.append(f'{json.dumps(about)[:-1]}, "runs": [\n{listed}]}}')
    text = f'{{"fields": {json.dumps(["name", *FIELDS])}, "experiments": [\n'
    write_whole(GATHERED, (text + ",\n".join(lines) + "]}\n").encode())


def gathered() -> dict[str, Experiment]:
    """The experiments that were gathered, by name."""
    content, experiments = json.loads(GATHERED.read_text("utf-8")), {}
    for each in content["experiments"]:
        rows = [dict(zip(content["fields"], row, strict=True)) for row in each["runs"]]
        found = {row.pop("name"): Result(**row) for row in rows}
        experiments[each["name"]] = Experiment(each["name"], each["recipe"], found)
    return experiments


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table; the first row is its head."""
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def of_rule(experiment: Experiment) -> str:
    """The tables of one rule: what was found, the games, the lines to the hand's weights."""
    groups = grouped(experiment.runs, experiment.found)
    return "\n\n".join(
        markdown(rows) for rows in (summary(groups), games(groups), between(groups)) if rows
    )


def from_random(experiments: dict[str, Experiment]) -> list[Result]:
    """The results of all runs that begin with random weights, none of them fixed."""
    return [
        result
        for experiment in experiments.values()
        for name, result in experiment.found.items()
        if run_of(name).start.kind in FROM_RANDOM
    ]


def outcome(prediction: Prediction, experiments: dict[str, Experiment]) -> str:
    """What came out where a prediction was made: of each arm and text, in a few numbers."""
    said = []
    for name, start, data in prediction.about:
        experiment = experiments[name]
        results = grouped(experiment.runs, experiment.found)[start, data]
        right = sorted(result.right for result in results)
        span = f"{right[0]:,}" if right[0] == right[-1] else f"{right[0]:,} to {right[-1]:,}"
        said.append(
            f"{name}, {start}, {data}: proved {sum(r.proved for r in results)}/{len(results)}, "
            f"right {span} of {results[0].total:,}, the hand's way "
            f"{sum(r.hands_way for r in results)}/{len(results)}"
        )
    return "; ".join(said)


def blocks(experiments: dict[str, Experiment]) -> dict[str, str]:
    """What stands on the page between the line of each name and the next end."""
    everyone = [result for each in experiments.values() for result in each.found.values()]
    predicted = [("rule", "prediction", "what came out", "")]
    predicted += [(p.rule, p.said, outcome(p, experiments), p.verdict) for p in PREDICTIONS]
    return {
        "from random weights": sentence(from_random(experiments)),
        "all runs": sentence(everyone),
        "predictions": markdown(predicted),
        **{name: of_rule(experiment) for name, experiment in experiments.items()},
    }


def filled(page: str, parts: dict[str, str]) -> str:
    """The page with `parts` in place of what stands between its lines."""

    def block(found: re.Match) -> str:
        return f"<!-- {found[1]} -->\n{parts[found[1]]}\n<!-- end -->"

    return re.sub(r"<!-- ([^>]+) -->\n.*?\n?<!-- end -->", block, page, flags=re.DOTALL)


def write(folders: Sequence[Path]) -> None:
    """Gather, where folders are named, and write the page's tables and pictures."""
    if folders:
        gather(folders)
    experiments = gathered()
    page = PAGE.read_text("utf-8")
    write_whole(PAGE, filled(page, blocks(experiments)).encode())
    for name, each in experiments.items():
        draw(HERE / "found" / f"{name}.png", name, each.runs, each.found)


if __name__ == "__main__":
    write([Path(folder) for folder in sys.argv[1:]])
