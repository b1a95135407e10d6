"""Text <-> ids of GPT-2: byte-level BPE, whose ids stand for pieces of UTF-8 and not of text."""

import codecs
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from data.tokenizer import UnknownCharacters
from system.errors import name_all

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def byte_alphabet() -> dict[str, int]:
    """The characters with which a vocabulary writes bytes, which GPT-2 made up.

    A byte that prints in Latin-1 stands for itself; the others follow from U+0100 on.
    """
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(256 + i): b for i, b in enumerate(others)}


BYTES = byte_alphabet()


class BytePairs:
    """A byte-level BPE tokenizer of transformers, with the methods of CharTokenizer.

    Every text has ids. The token that ends a text is where one begins, too, and is never shown.
    """

    chars = "é\N{REPLACEMENT CHARACTER}\N{SLIGHTLY SMILING FACE}"  # some of those it may write

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_token_id
        self.default_prompt = tokenizer.eos_token or ""
        self.added = {new: str(token) for new, token in tokenizer.added_tokens_decoder.items()}
        self.special = frozenset(tokenizer.all_special_ids)

    def encode(self, text: str, unknown: Literal["error", "skip"] = "error") -> Tensor:
        """Ids of `text`, (T,) int64.

        Surrogates, which are bytes that were no text, have none: they are left out with `skip`;
        otherwise all of them are named in an UnknownCharacters.
        """
        strange = sorted({char for char in text if "\ud800" <= char <= "\udfff"})
        if strange and unknown == "error":
            raise UnknownCharacters(f"{name_all(strange)} not among the characters known")
        text = "".join(char for char in text if char not in strange)
        ids = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        return torch.tensor(ids, dtype=torch.long)

    def decode(self, ids: Tensor) -> str:
        """The text of `ids` (T,), without special tokens."""
        return b"".join(map(self.bytes_of, ids.tolist())).decode(errors="replace")

    def bytes_of(self, token: int) -> bytes:
        """What an id adds to a text: often not whole characters, for special tokens nothing."""
        if token in self.special:
            return b""
        if token in self.added:
            return self.added[token].encode()
        return bytes(BYTES[char] for char in self.tokenizer.convert_ids_to_tokens(token) or "")

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The characters of `ids` up to the end of the text, each as soon as it is whole.

        Bytes that are no UTF-8 become U+FFFD. A character that is cut off at the end is left out.
        """
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in ids:
            if token == self.end:
                return
            yield from decoder.decode(self.bytes_of(token))
