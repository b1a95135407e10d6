"""Where a run stands, and which of its models, one generation after the other, is being trained.

The steps of a run are counted through. Where a generation ends follows from the settings and from
where it began, so that a run goes on exactly wherever it was stopped.
"""

import dataclasses
import math
from dataclasses import dataclass

from system.settings import TrainConfig


@dataclass
class Progress:
    """Where a run stands; saved with it.

    step: updates so far
    best_loss: lowest val_loss so far, nats per character
    stale: evaluations since the lowest val_loss of this generation
    seconds: time spent in updates, evaluations and saves left out
    loss_sum, loss_count: training loss of the updates since the last evaluation
    generation, began: which one this is, 1 for the first, and the step at which it began
    lowest: lowest val_loss of this generation
    """

    step: int = 0
    best_loss: float = math.inf
    stale: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    generation: int = 1
    began: int = 0
    lowest: float = math.inf

    def note(self, val_loss: float) -> None:
        """Take notice of an evaluation."""
        self.stale += 1
        if val_loss < self.lowest:
            self.lowest, self.stale = val_loss, 0
        self.best_loss = min(self.best_loss, val_loss)

    def advance(self) -> None:
        """Begin the next generation here."""
        self.generation, self.began = self.generation + 1, self.step
        self.stale, self.lowest = 0, math.inf

    def end(self, train: TrainConfig) -> int:
        """The step at which this generation ends, unless it is out of patience before.

        The steps that are left are for it and those to come, each of which has one at least.
        """
        to_come = max(0, train.generations - self.generation)
        left = train.max_steps - self.began
        share = 1 / (to_come + 1)
        if self.generation == 1 and to_come and train.first_share is not None:
            share = train.first_share
        return self.began + max(1, min(round(share * left), left - to_come))

    def ends(self, train: TrainConfig) -> list[int]:
        """The steps at which this generation and those to come end."""
        there, ends = dataclasses.replace(self), []
        for _ in range(self.generation, max(self.generation, train.generations) + 1):
            there.step = there.end(train)
            ends.append(there.step)
            there.advance()
        return ends

    def over(self, train: TrainConfig) -> bool:
        """Whether this generation has made all its steps, or its patience is used up."""
        return 0 < train.patience <= self.stale or self.step >= self.end(train)

    def done(self, train: TrainConfig) -> bool:
        """Whether the run has made all its steps, or its last generation is over."""
        last = self.generation >= train.generations
        return self.step >= train.max_steps or (last and self.over(train))
