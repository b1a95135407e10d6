"""Samples: beginnings are continued, those of one length together, each with a seed of its own."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from generate import generate
from system import device
from system.errors import UserError
from writing.source import Source
from writing.texts import Text, texts

READ_EVERY = 32  # characters between looks at a GPU, which has to wait for them
MOST_ROWS = 256  # are written together; more are hardly faster and take memory
SEEDS = 2**63


@dataclass
class Sample:
    """A text, what it continues, and the seed with which it alone would be the same.

    most: how many ids it may have
    """

    prompt: str
    text: Text
    seed: int
    most: int

    @property
    def ended(self) -> Literal["stop", "length"]:
        """What ended the text, once all of it is read: itself counts as a stop."""
        full = len(self.text.ids) == self.most and not self.text.stop
        return "length" if full else "stop"


class Writer:
    """What writes, where, and how, as the options `args` say.

    temperature: may be changed between two calls of `write`
    Raises UserError where the window cannot roll.
    """

    def __init__(
        self, source: Source, args: argparse.Namespace, place: torch.device, stops: Sequence[str]
    ) -> None:
        if args.window == "roll" and source.model.config.position != "rotary":
            raise UserError(
                "--window roll takes rotary positions, and this model has learned ones; use half"
            )
        self.model, self.tokenizer = source.model.to(place), source.tokenizer
        self.place, self.dtype = place, device.set_precision(source.dtype, place)
        self.temperature = source.temperature if args.temperature is None else args.temperature
        self.narrowed = {"top_k": args.top_k, "top_p": args.top_p, "window": args.window}
        self.most, self.stops = args.max_new_tokens, stops

    @property
    def draws(self) -> bool:
        """Whether another seed may write another text."""
        return self.temperature > 0 and self.narrowed["top_k"] != 1

    def write(self, prompts: Sequence[Tensor], seed: int) -> Iterator[Sample]:
        """Continue `prompts`, ids (T,) with T >= 1, in order; each has the seed after the last one.

        A single batch is written while it is read, each of several as a whole.
        """
        batches = {numbers[0]: numbers for numbers in self.batches(prompts)}
        streams, ready = len(batches) == 1, {}
        for number in range(len(prompts)):
            if number not in ready:
                numbers = batches[number]
                written = self.batch(
                    [prompts[i] for i in numbers], [following(seed, i) for i in numbers]
                )
                for sample in () if streams else written:
                    sample.text.finish()
                ready |= zip(numbers, written, strict=True)
            yield ready.pop(number)

    def batches(self, prompts: Sequence[Tensor]) -> Iterator[list[int]]:
        """The numbers of prompts that are written together: they fill the context equally far."""
        by_length: dict[int, list[int]] = {}
        for number, idx in enumerate(prompts):
            by_length.setdefault(len(self.seen(idx)), []).append(number)
        for numbers in by_length.values():
            yield from (numbers[i : i + MOST_ROWS] for i in range(0, len(numbers), MOST_ROWS))

    def seen(self, idx: Tensor) -> Tensor:
        """What the model sees of a prompt: its end."""
        return idx[-self.model.config.block_size :]

    def batch(self, prompts: Sequence[Tensor], seeds: Sequence[int]) -> list[Sample]:
        """Continue prompts of one length, together."""
        steps = generate(
            self.model,
            torch.stack([self.seen(idx) for idx in prompts]).to(self.place),  # (B, T)
            self.most,
            [torch.Generator(self.place).manual_seed(seed) for seed in seeds],
            temperature=self.temperature,
            dtype=self.dtype,
            **self.narrowed,
        )
        every = 1 if self.place.type == "cpu" else READ_EVERY
        written = texts(steps, self.tokenizer, len(prompts), stops=self.stops, every=every)
        return [
            Sample(self.tokenizer.decode(idx), text, seed, self.most)
            for idx, text, seed in zip(prompts, written, seeds, strict=True)
        ]


def following(seed: int, count: int = 1) -> int:
    """The seed `count` after `seed`."""
    return (seed + count) % SEEDS
