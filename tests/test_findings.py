"""The page of what training finds, held to the results that were gathered."""

import re

import pytest

from docs import does_training_find_it as finding
from docs.predictions import PREDICTIONS
from experiments.arms import Run, Start

PAGE = finding.PAGE.read_text("utf-8")
EXPERIMENTS = finding.gathered()


def test_the_page_says_what_was_found() -> None:
    parts = finding.blocks(EXPERIMENTS)
    assert finding.filled(PAGE, parts) == PAGE
    assert {*re.findall(r"^<!-- (?!end)(.+) -->$", PAGE, re.MULTILINE)} == {*parts}
    assert finding.GATHERED.stat().st_size < 300_000


def test_every_experiment_has_its_picture() -> None:
    pictures = {path.stem for path in (finding.HERE / "found").glob("*.png")}
    assert pictures == {*EXPERIMENTS}
    assert all(f"(found/{name}.png)" in PAGE for name in pictures)


def test_the_numbers_count() -> None:
    """The two sentences, counted here."""
    said = re.findall(r"Of (\d+) runs, (\d+) reached .* Of these, (\d+) were .*, and (\d+) ", PAGE)
    counted = []
    for kinds in (("same", "roomier"), ("",)):
        found = [
            result
            for each in EXPERIMENTS.values()
            for name, result in each.found.items()
            if name.startswith(kinds)
        ]
        low = [result for result in found if result.above < 0.01]
        proved = [result for result in low if result.right == result.total and result.proved]
        ways = [result for result in low if result.distance < 0.1]
        counted.append(tuple(str(len(part)) for part in (found, low, proved, ways)))
    assert said == counted


def test_every_prediction_is_judged() -> None:
    assert len(PREDICTIONS) == 14
    for prediction in PREDICTIONS:
        assert prediction.verdict.startswith(("held", "wrong", "partly")), prediction.rule
        assert PAGE.count(f"| {prediction.said} |") == 1


@pytest.mark.parametrize(
    "run",
    [
        Run(Start("same"), "own", 3),
        Run(Start("blurred", 16.0), "every", 1),
        Run(Start("noisy", 0.03), "restarts", 12),
        Run(Start("feed-forward at random"), "every", 2),
    ],
)
def test_a_run_by_its_name(run: Run) -> None:
    assert finding.run_of(str(run)) == run
