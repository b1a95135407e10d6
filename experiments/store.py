"""What an experiment has found so far: one file, written whole after each run, and the weights."""

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.arms import Run
from experiments.twin import Recipe, Result
from model import GPT
from system import checkpoint
from system.checkpoint import Checkpoint
from system.errors import UserError
from system.files import write_whole

RESULTS = "results.json"


@dataclass
class Store:
    """The results of an experiment in a folder.

    rule: the content of the rule file, which all of its runs are about
    recipe: how its twins are trained; both decide whether it can go on with what is there
    """

    folder: Path
    rule: str
    recipe: Recipe
    found: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        path = self.folder / RESULTS
        if not path.exists():
            write_whole(self.rule_file, self.rule.encode())
            return
        try:
            content = json.loads(path.read_text("utf-8"))
            runs = content["runs"].items()
            self.found = {name: result_of(plain) for name, plain in runs}
            same = (content["rule"], content["recipe"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{path} holds no results of an experiment; name another folder with --out"
            ) from None
        if same != (self.rule, dataclasses.asdict(self.recipe)):
            raise UserError(
                f"{path} holds runs with {self.difference(*same)}; give the same, or another "
                "folder with --out"
            )

    @property
    def rule_file(self) -> Path:
        """The rule as a file, which the processes read that make the runs."""
        return self.folder / "rule.yaml"

    def difference(self, rule: str, recipe: dict[str, Any]) -> str:
        """What the runs that are there have that differs, in words."""
        if rule != self.rule:
            return "another rule"
        ours = dataclasses.asdict(self.recipe)
        apart = [name for name in ours if recipe.get(name) != ours[name]]
        return " ".join(f"--{name.replace('_', '-')} {recipe.get(name)}" for name in apart)

    def weights_of(self, run: Run) -> Path:
        """The file with the weights of a run."""
        return self.folder / run.file

    def save(self, run: Run, model: GPT, result: Result, chars: str) -> None:
        """Write the weights of a run, as a checkpoint like any other."""
        settings = {"train": {"dtype": "float32"}}
        weights, progress = model.state_dict(), {"step": result.steps}
        saved = Checkpoint(model.config, chars, weights, settings, "", [], progress)
        checkpoint.save(self.weights_of(run), saved)

    def keep(self, run: Run, result: Result) -> None:
        """Write down what became of a run, whose weights are there by now."""
        self.found[str(run)] = result
        content = {
            "rule": self.rule,
            "recipe": dataclasses.asdict(self.recipe),
            "runs": {name: each.plain() for name, each in sorted(self.found.items())},
        }
        write_whole(self.folder / RESULTS, json.dumps(content, indent=1).encode())


def result_of(plain: dict[str, Any]) -> Result:
    """A result as JSON has it. Raises TypeError where it is none."""
    line = plain["between"]
    return Result(**{**plain, "between": None if line is None else [tuple(p) for p in line]})
