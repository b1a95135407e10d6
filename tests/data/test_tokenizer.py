"""Text <-> ids: there and back, the order of ids, and characters that have none."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.tokenizer import CharTokenizer, UnknownCharacters

LETTERS = "".join(map(chr, range(0x100, 0x201)))  # 257 of them


@settings(deadline=None, derandomize=True)
@given(text=st.text(min_size=1))
@example(
    text="na\u00efve nai\u0308ve \U0001f600\U0001f469\u200d\U0001f52c \0 \r\n\r \ufeff\U0010ffff"
)
def test_there_and_back(text: str) -> None:
    tokenizer = CharTokenizer.from_text(text)
    ids = tokenizer.encode(text)
    assert ids.tolist() == [tokenizer.chars.index(char) for char in text]
    assert tokenizer.decode(ids) == tokenizer.decode(ids.long()) == text
    assert [ord(char) for char in tokenizer.chars] == sorted({ord(char) for char in text})


@pytest.mark.parametrize(("size", "dtype"), [(256, torch.uint8), (257, torch.int32)])
def test_ids_are_as_small_as_the_vocabulary_allows(size: int, dtype: torch.dtype) -> None:
    tokenizer = CharTokenizer.from_text(LETTERS[:size])
    ids = tokenizer.encode(LETTERS[:size])
    assert (ids.dtype, ids.tolist()) == (dtype, list(range(size)))


def test_given_vocabulary_keeps_its_order() -> None:
    tokenizer = CharTokenizer("zya")
    assert tokenizer.encode("zay").tolist() == [0, 2, 1]
    assert tokenizer.decode(torch.tensor([2, 0])) == "az"


def test_nothing_is_no_ids() -> None:
    assert CharTokenizer("a").encode("").shape == (0,)
    assert CharTokenizer("a").decode(torch.tensor([])) == ""


UNKNOWN = [
    ("aéb", "'é' (U+00E9)"),
    ("😀é€é", "'é' (U+00E9), '€' (U+20AC) and '😀' (U+1F600)"),
    ("a\r\nb\0", r"'\x00' (U+0000), '\n' (U+000A) and '\r' (U+000D)"),
    ("\ud800", r"'\ud800' (U+D800)"),
]


@pytest.mark.parametrize(("text", "names"), UNKNOWN)
def test_all_unknown_characters_are_named(text: str, names: str) -> None:
    with pytest.raises(UnknownCharacters) as caught:
        CharTokenizer("abc").encode(text)
    assert str(caught.value) == f"{names} not among the 3 known"


@pytest.mark.parametrize(("count", "rest"), [(20, "(U+0113)"), (21, "1 more"), (257, "237 more")])
def test_many_unknown_characters_are_counted(count: int, rest: str) -> None:
    with pytest.raises(UnknownCharacters, match=r"\(U\+0112\)(, .*)? and ") as caught:
        CharTokenizer("a").encode(LETTERS[:count])
    assert str(caught.value).endswith(f"{rest} not among the 1 known")
    assert str(caught.value).count("U+") == 20


def test_unknown_characters_can_be_skipped() -> None:
    tokenizer = CharTokenizer("abc")
    assert tokenizer.decode(tokenizer.encode("caé€b\n", unknown="skip")) == "cab"
    assert tokenizer.encode("é", unknown="skip").shape == (0,)


@pytest.mark.parametrize("chars", ["", "aba"])
def test_bad_vocabulary_is_refused(chars: str) -> None:
    with pytest.raises(ValueError, match="one or more characters, each of them once"):
        CharTokenizer(chars)


@pytest.mark.parametrize(("chars", "prompt"), [("ab\nc", "\n"), ("bac", "b")])
def test_default_prompt_is_known(chars: str, prompt: str) -> None:
    assert CharTokenizer(chars).default_prompt == prompt
