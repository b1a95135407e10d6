"""One run of training: its model, its optimizer, its batches, and where it stands."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from data.corpus import Batches, Corpus, mix
from mixture import Mixture
from model import GPT
from system.checkpoint import Checkpoint
from system.device import autocast, seed, set_precision
from system.errors import Fault, UserError
from system.settings import Config
from training.counting import Counting
from training.memory import Memory
from training.objective import is_wide, minimised
from training.optim import Optimizer, schedule
from training.parallel import ALONE, World
from training.predecessor import Packed, Predecessors, pack
from training.progress import Progress
from training.teacher import Teacher


class Trainer:
    """Updates a model. Every update is a pure function of the state and the step.

    teachers: the GPTs that teach it; where there are some, no counts do
    """

    def __init__(
        self,
        model: GPT,
        corpus: Corpus,
        config: Config,
        device: torch.device,
        *,
        teachers: Sequence[Packed] = (),
    ) -> None:
        self.model, self.corpus, self.config, self.device = model, corpus, config, device
        train = config.train
        self.dtype = set_precision(train.dtype, device)
        self.optimizer = Optimizer(model, config.optim)
        self.batches = Batches(corpus.train, train.batch_size, model.config.block_size, train.seed)
        self.world, self.forward = ALONE, model
        memory, vocab_size = config.memory, len(corpus.tokenizer.chars)
        self.memory: Memory | None = None
        self.teacher: Teacher | Predecessors | None = None
        if teachers:
            self.teacher = Predecessors(teachers, train.teach, device, self.dtype)
        if memory.order:
            with Counting(corpus.calibration, corpus.train, vocab_size, memory) as counting:
                if memory.teach and not teachers:
                    self.teacher = Teacher(counting, vocab_size, memory, device)
                self.memory = Memory(counting, vocab_size, memory, device)
        self.wide = is_wide(vocab_size, device)
        self.progress = Progress()
        self.loss_sum = torch.zeros((), device=device)  # read only now and then: a GPU would wait
        self.grad_norm = torch.zeros((), device=device)  # of the latest update, before clipping
        self.started: float | None = None  # when the clock was set going

    def connect(self, world: World) -> None:
        """Before the first update: share the batches with `world`, and compile if that is wanted.

        Raises UserError when a batch cannot be shared equally.
        """
        train = self.config.train
        if train.batch_size % (world.size * train.grad_accum):
            raise UserError(
                f"train.batch_size={train.batch_size} cannot be shared equally by {world.size} "
                f"processes with train.grad_accum={train.grad_accum}; make it a multiple of "
                f"{world.size * train.grad_accum}"
            )
        self.world, self.forward = world, world.spread(self.model)
        if train.compile:
            self.forward = self.compiled()

    def disconnect(self) -> None:
        """Let go of the other processes, before they part."""
        self.world, self.forward = ALONE, self.model

    def compiled(self) -> Callable[[Tensor], Tensor]:
        """What computes logits, compiled, or with a warning as it is if that fails."""
        idx = self.world.share(self.batches(0, self.device)[0])
        try:
            forward = torch.compile(self.forward)
            with autocast(self.device, self.dtype):
                forward(idx.chunk(self.config.train.grad_accum)[0]).sum().backward()
        except Exception as error:  # whatever a compiler throws, training goes on
            reason = " ".join(str(error).split())[:200]
            print(f"torch.compile failed ({reason}); going on without it", file=sys.stderr)
            forward = self.forward
        self.model.zero_grad()
        return forward

    def succeed(self) -> None:
        """Begin the next generation: a new model of the same shape, taught by the one so far."""
        world = self.world
        self.disconnect()
        self.progress.advance()
        self.teacher = self.as_teacher()
        torch.manual_seed(mix(self.config.train.seed, "generation", self.progress.generation))
        self.model = GPT(self.model.config).to(self.device)
        self.optimizer = Optimizer(self.model, self.config.optim)
        self.connect(world)

    def as_teacher(self) -> Predecessors:
        """The model as it is now, as what teaches another one."""
        share = self.config.train.teach
        return Predecessors([pack(self.model)], share, self.device, self.dtype)

    @property
    def teachers(self) -> list[GPT]:
        """The GPTs that teach the model; none where counts do, or nothing."""
        return self.teacher.models if isinstance(self.teacher, Predecessors) else []

    def share_of_peak(self, step: int) -> float:
        """Share of the peak learning rate at `step`, by the schedule of this generation."""
        began, end = self.progress.began, self.progress.end(self.config.train)
        return schedule(step - began, end - began, self.config.optim)

    def learning_rate(self) -> float:
        """Of the latest update, for the matrices."""
        latest = max(self.progress.began, self.progress.step - 1)
        return self.config.optim.learning_rate * self.share_of_peak(latest)

    def update(self) -> None:
        """One step: this process's share of the batch in `grad_accum` parts, then the optimizer."""
        self.started = self.started or time.perf_counter()
        config, step = self.config.train, self.progress.step
        seed(mix(config.seed, "dropout", step, self.world.rank), self.device)
        batch = (*self.batches(step, self.device), self.batches.starts_of(step))
        idx, targets, starts = map(self.world.share, batch)  # (B / size, T), twice, and (B / size)
        parts = config.grad_accum
        loss = torch.zeros((), device=self.device)
        *before, last = zip(*(each.chunk(parts) for each in (idx, targets, starts)), strict=True)
        with self.world.apart(self.forward):
            for part in before:
                loss += self.backward(*part)
        loss += self.backward(*last)
        clip = self.config.optim.grad_clip or math.inf
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step(self.share_of_peak(step))
        self.loss_sum += loss + 0 * self.grad_norm  # one that is not finite shows as NaN
        self.progress.loss_count += 1
        self.progress.step += 1

    def backward(self, idx: Tensor, targets: Tensor, starts: Tensor) -> Tensor:
        """Add the gradient of one part of the batch, and return its part of the loss."""
        with autocast(self.device, self.dtype):
            logits = self.forward(idx)
        parts = self.config.train.grad_accum
        aim, loss = minimised(logits, targets, self.teacher, idx=idx, starts=starts, wide=self.wide)
        (aim / parts).backward()
        return loss.detach() / parts

    def pause(self) -> float:
        """Stop the clock and return the mean loss of the updates since the last evaluation.

        Raises Fault when a loss or a gradient was not finite.
        """
        progress = self.progress
        [total] = self.world.sum(self.loss_sum.item(), device=self.device)
        progress.loss_sum = total / self.world.size
        self.loss_sum.fill_(progress.loss_sum)  # where a resumed run begins, to the last bit
        if self.started is not None:
            progress.seconds += time.perf_counter() - self.started
        self.started = None
        self.check_finite(torch.tensor(progress.loss_sum))
        return progress.loss_sum / max(1, progress.loss_count)

    def check_finite(self, *tensors: Tensor) -> None:
        """Raise Fault when a value is not finite: the weights are then lost."""
        if not all(tensor.isfinite().all() for tensor in tensors):
            raise Fault(
                f"loss, gradient or weights are not finite at step {self.progress.step}, with "
                f"learning_rate {self.learning_rate():.3g}; go on from the last save with --resume "
                "and a lower optim.learning_rate or optim.grad_clip"
            )

    def forget_losses(self) -> None:
        """Begin the mean of the training loss anew, after an evaluation."""
        self.progress.loss_sum, self.progress.loss_count = 0.0, 0
        self.loss_sum.zero_()

    def chars_per_second(self) -> float:
        """Characters trained on per second of updates, over the whole run."""
        chars = self.progress.step * self.batches.batch_size * self.batches.block_size
        return chars / max(self.progress.seconds, 1e-9)

    def done(self) -> bool:
        """Whether all steps are made, or the patience is used up."""
        return self.progress.done(self.config.train)

    def checkpoint(self) -> Checkpoint:
        """Everything that going on exactly from here takes. Raises Fault as check_finite does."""
        self.check_finite(*self.model.parameters())
        return Checkpoint(
            model=self.model.config,
            chars=self.corpus.tokenizer.chars,
            weights=dict(self.model.state_dict()),
            settings=self.config.to_dict(),
            fingerprint=self.corpus.fingerprint,
            optimizer=self.optimizer.state(),
            progress=dataclasses.asdict(self.progress),
            counts=self.memory.packed if self.memory else [],
            shares=self.memory.shares.tolist() if self.memory else [],
            teachers=[pack(model) for model in self.teachers],
        )

    def writer(self) -> GPT | Mixture:
        """What writes text: the model, with the counts if there are any."""
        return self.memory.mixed(self.model) if self.memory else self.model

    def resume(self, saved: Checkpoint) -> None:
        """Take up the optimizer and the progress of `saved`, whose weights the model has.

        Raises UserError when they do not fit.
        """
        try:
            self.optimizer.load_state(saved.optimizer)
            if self.memory:
                self.memory.shares.copy_(torch.tensor(saved.shares))
            before = {"lowest": saved.progress["best_loss"]}  # of a run that had one generation
            self.progress = Progress(**(before | saved.progress))
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(
                "the optimizer or progress in the checkpoint does not fit the run; start a new run "
                "with train.init_from, which takes the weights alone"
            ) from error
        self.loss_sum.fill_(self.progress.loss_sum)
