"""Text <-> ids: one id for each distinct character."""

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from system.errors import UserError, name_all

CODE_POINTS = 0x110000  # how many characters Unicode can have


class UnknownCharacters(UserError):
    """Text has characters that are not in a vocabulary; the message lacks the text's name."""


def code_points(text: str) -> np.ndarray:
    """The Unicode numbers of the characters of `text`, (len(text),) uint32."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


class CharTokenizer:
    """A vocabulary, `chars`: the distinct characters as one string, in the order of their ids.

    Raises ValueError when `chars` is empty or a character stands in it twice.
    """

    def __init__(self, chars: str) -> None:
        if not chars or len(set(chars)) != len(chars):
            raise ValueError("a vocabulary is one or more characters, each of them once")
        self.chars = chars
        self.dtype = torch.uint8 if len(chars) <= 256 else torch.int32
        self.table = np.full(CODE_POINTS, -1, dtype=np.int32)  # code point -> id
        self.table[code_points(chars)] = np.arange(len(chars), dtype=np.int32)

    @property
    def default_prompt(self) -> str:
        """Where a text may begin: a line end, or the first character where there is none."""
        return "\n" if "\n" in self.chars else self.chars[0]

    @classmethod
    def from_text(cls, text: str) -> "CharTokenizer":
        """The vocabulary of `text`: its distinct characters in the order of their code points."""
        return cls("".join(sorted(set(text))))

    def encode(self, text: str, unknown: Literal["error", "skip"] = "error") -> Tensor:
        """Ids of `text`, (len(text),), uint8 where the vocabulary allows, otherwise int32.

        A character outside the vocabulary is left out with `skip`; otherwise all of them are
        named in an UnknownCharacters.
        """
        ids = self.table.take(code_points(text))
        if ids.min(initial=0) < 0:
            known = ids >= 0
            if unknown == "error":
                strange = sorted({text[i] for i in np.flatnonzero(~known)})
                raise UnknownCharacters(
                    f"{name_all(strange)} not among the {len(self.chars)} known"
                )
            ids = ids[known]
        return torch.from_numpy(ids).to(self.dtype)

    def known(self, text: str) -> np.ndarray:
        """Which characters of `text` are in the vocabulary, (len(text),) bool."""
        return self.table.take(code_points(text)) >= 0

    def decode(self, ids: Tensor) -> str:
        """The text of `ids` (T,)."""
        return "".join(self.stream(ids.tolist()))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The characters of `ids`, one by one."""
        return (self.chars[i] for i in ids)
