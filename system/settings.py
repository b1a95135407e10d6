"""Every setting of a run, declared once.

Name, type and default are a field of a dataclass, the meaning is the line of its docstring that
begins with the name, the range is in `__post_init__`. `config.py` reads them, --help shows them.
"""

import dataclasses
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, Literal

from model import GPTConfig

LARGEST_INT = 2**31 - 1  # what sizes, counts and seeds have to fit in


def at_least(section: object, low: float, *names: str) -> None:
    """Raise ValueError unless each named field that is set is `low` or more."""
    for name in names:
        value = getattr(section, name)
        if value is not None and value < low:
            raise ValueError(f"{name} must be at least {low}, not {value}")


@dataclass
class DataConfig:
    """The text that is learned.

    dataset: tiny_shakespeare, aab, rules:FILE, the path of a UTF-8 text or a folder, or [PATH,PATH]
    folder: deep takes its .txt files at any depth, in lines of their own; flat as earlier versions
    val_fraction: share of the text kept for validation
    val_from: end takes that from the end of the text, spread in blocks from all over it
    val_dataset: a text to validate on instead, named as dataset is; null means none
    min_count: characters that come less often are left out of the text
    normalize_newlines: read CRLF and CR as LF
    map_above_mb: ids that take more megabytes than this stay on disk, memory-mapped
    """

    dataset: str | list[str] = "tiny_shakespeare"
    folder: Literal["deep", "flat"] = "deep"
    val_fraction: float = 0.1
    val_from: Literal["end", "spread"] = "end"
    val_dataset: str | None = None
    min_count: int = 1
    normalize_newlines: bool = True
    map_above_mb: int = 512

    def __post_init__(self) -> None:
        at_least(self, 0, "map_above_mb")
        at_least(self, 1, "min_count")
        if self.val_dataset is not None and self.val_from != "end":
            raise ValueError(
                f"val_from={self.val_from} takes validation from the text itself, and "
                f"val_dataset={self.val_dataset} is another one; leave one out"
            )
        if not 0.001 <= self.val_fraction <= 0.999:
            raise ValueError(
                f"val_fraction must lie between 0.001 and 0.999, not {self.val_fraction}"
            )


@dataclass
class OptimConfig:
    """How the weights follow the gradient.

    optimizer: muon takes the matrices inside the blocks, and adamw the rest
    learning_rate: peak for the matrices inside the blocks
    embedding_learning_rate: peak for the embeddings; null means learning_rate
    head_learning_rate: peak for the output head; null means learning_rate
    vector_learning_rate: peak for LayerNorms and biases; null means learning_rate
    beta1: adamw's decay of the mean gradient
    beta2: adamw's decay of the mean squared gradient
    momentum: muon's decay of the mean gradient
    weight_decay: pull of the matrices towards zero, times the learning rate
    grad_clip: largest norm of the gradient, above which it is scaled down; 0 turns it off
    warmup_steps: steps over which the learning rate rises to its peak
    decay: how the learning rate falls after that
    final_share: what would be left of the peak right after the last step
    """

    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    embedding_learning_rate: float | None = None
    head_learning_rate: float | None = None
    vector_learning_rate: float | None = None
    beta1: float = 0.9
    beta2: float = 0.99
    momentum: float = 0.95
    weight_decay: float = 0.1
    grad_clip: float = 1.0
    warmup_steps: int = 100
    decay: Literal["cosine", "linear", "none"] = "cosine"
    final_share: float = 0.1

    def __post_init__(self) -> None:
        at_least(self, 0, "learning_rate", "embedding_learning_rate", "head_learning_rate")
        at_least(self, 0, "vector_learning_rate", "weight_decay", "grad_clip", "warmup_steps")
        for name in ("beta1", "beta2", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                value = getattr(self, name)
                raise ValueError(f"{name} must be at least 0 and below 1, not {value}")
        if not 0 <= self.final_share <= 1:
            raise ValueError(f"final_share must lie between 0 and 1, not {self.final_share}")


@dataclass
class MemoryConfig:
    """Counts of the text beside the trained model.

    order: longest stretch of characters that is counted; 0 means no counts
    share: of the counts in the mixture, from 0 to 1; auto estimates it from text that no one saw
    calibration_fraction: share of the training split, at its start, kept for that
    teach: share of the counts in the target of training, where no GPT teaches; 0 means none
    folds: parts of the text, each of which is taught by counts of the others
    characters: most that are counted of the text; null means 20 million, or what memory allows
    """

    order: int = 0
    share: float | Literal["auto"] = "auto"
    calibration_fraction: float = 0.02
    teach: float = 0.0
    folds: int = 7
    characters: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.order <= 20:
            raise ValueError(f"order must lie between 0 and 20, not {self.order}")
        if self.share != "auto" and not 0 <= self.share <= 1:
            raise ValueError(f"share must be auto, or lie between 0 and 1, not {self.share}")
        if not 0.001 <= self.calibration_fraction <= 0.5:
            value = self.calibration_fraction
            raise ValueError(f"calibration_fraction must lie between 0.001 and 0.5, not {value}")
        if not 0 <= self.teach < 1:
            raise ValueError(f"teach must be at least 0 and below 1, not {self.teach}")
        if self.teach and not self.order:
            raise ValueError(
                "teach takes counts; set memory.order, such as memory.order=8, or memory.teach=0"
            )
        if not 2 <= self.folds <= 100:
            raise ValueError(f"folds must lie between 2 and 100, not {self.folds}")
        at_least(self, 10_000, "characters")


@dataclass
class TrainConfig:
    """The run: how long it is, what a step is, where it is kept.

    out_dir: the run's folder; null means checkpoints/ and the name of the settings file
    init_from: a checkpoint, or handmade:NAME, whose weights and vocabulary to start from
    teacher: checkpoints parted by commas, or handmade:NAME, that teach the model; null means none
    teach: share of the target that comes from these, or from the generation before
    generations: models trained one after the other, each but the first taught by the one before
    first_share: share of the steps that the first of them gets; null means an equal one
    seed: decides the first weights, the batches and dropout
    minutes: for all of the run, turned into max_steps before it; null means max_steps alone
    max_steps: updates of the weights; the most of them, where there are minutes
    batch_size: windows of the text in one update
    grad_accum: parts in which a batch passes through the model, to save memory
    eval_every: steps between evaluations, each of which also saves
    eval_characters: of a longer validation split, how many an evaluation reads, from all over it
    sample_characters: that each evaluation shows of what the model writes by now; 0 means none
    keep_every: evaluations between checkpoints that stay, as step_001200.pt; 0 means none stay
    patience: evaluations without a better val_loss before the run ends early; 0 turns it off
    dtype: of the matrix products; auto means bfloat16 where the hardware has it
    compile: whether torch.compile makes the steps faster after a start that is slower
    tensorboard: whether the run is shown in TensorBoard too, in its folder
    """

    out_dir: str | None = None
    init_from: str | None = None
    teacher: str | None = None
    teach: float = 0.5
    generations: int = 1
    first_share: float | None = None
    seed: int = 1
    minutes: float | None = None
    max_steps: int = 5000
    batch_size: int = 64
    grad_accum: int = 1
    eval_every: int = 250
    eval_characters: int = 200_000
    sample_characters: int = 80
    keep_every: int = 0
    patience: int = 0
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        at_least(self, 1, "generations", "max_steps", "batch_size", "grad_accum", "eval_every")
        at_least(self, 1, "eval_characters")
        at_least(self, 0, "seed", "patience", "sample_characters", "keep_every")
        if self.minutes is not None and self.minutes <= 0:
            raise ValueError(
                f"minutes must be above 0, not {self.minutes}; null makes train.max_steps steps"
            )
        if self.batch_size % self.grad_accum:
            raise ValueError(
                f"batch_size={self.batch_size} cannot be cut into grad_accum={self.grad_accum} "
                "equal parts; change one of them"
            )
        if not 0 < self.teach <= 1:
            raise ValueError(f"teach must be above 0 and at most 1, not {self.teach}")
        if self.first_share is not None and not 0 < self.first_share < 1:
            raise ValueError(f"first_share must lie between 0 and 1, not {self.first_share}")
        if self.generations > self.max_steps:
            raise ValueError(
                f"generations={self.generations} are more than max_steps={self.max_steps}; each "
                "takes a step, so change one of them"
            )

    def limit(self, asked: Set[str], named: Set[str]) -> None:
        """Let of minutes and max_steps those count that were meant.

        `asked` are the names of the settings on the command line, `named` also those in the file.
        Steps that are asked for turn minutes off. Minutes that are asked for are bound by no steps
        but such as are, too; those in a file by no steps but such as are named somewhere.
        """
        if "max_steps" in asked and "minutes" not in asked:
            self.minutes = None
        if self.minutes and "max_steps" not in (asked if "minutes" in asked else named):
            self.max_steps = LARGEST_INT


@dataclass
class Config:
    """All settings of a run. `model.vocab_size` is 1 until the text is known."""

    model: GPTConfig = field(default_factory=lambda: GPTConfig(vocab_size=1))
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain containers, as they stand in a settings file; `build` reads them back."""
        sections = dataclasses.asdict(self)
        model = sections["model"]
        del model["vocab_size"]
        if model["head_size"] * model["n_head"] == model["n_embd"]:
            model["head_size"] = None  # so that it still follows, in a file that is used again
        if model["ffn_size"] == 4 * model["n_embd"]:
            model["ffn_size"] = None
        return sections
