"""What two texts share, against trying every stretch."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from analysis.copied import LONG, copied, shared
from data.tokenizer import code_points

often = settings(max_examples=150, deadline=None, derandomize=True)
texts = st.one_of(st.text("ab", max_size=50), st.text("a\0é🙂日", max_size=30))


def tried(text: str, source: str) -> list[int]:
    """How long a stretch from each place of `text` on is in `source`."""
    lengths = []
    for start in range(len(text)):
        size = 0
        while start + size < len(text) and text[start : start + size + 1] in source:
            size += 1
        lengths.append(size)
    return lengths


@often
@given(text=texts, source=texts)
@example("ab" * 90, "ba" * 40)
@example("a" * 33, "a" * 32)
def test_every_place(text: str, source: str) -> None:
    assert shared(code_points(text), code_points(source)).tolist() == tried(text, source)


@often
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 45)), max_size=5))
def test_what_is_copied(cuts: list[tuple[int, int]]) -> None:
    """The text is made of stretches of the source, with a character between that it has not."""
    source = "".join(chr(0x4E00 + i * i) for i in range(100))  # no character twice
    stretches = [source[start : start + size] for start, size in cuts]
    found, text = copied("|".join(stretches), source), "|".join(stretches)
    long = [stretch for stretch in stretches if len(stretch) >= LONG]
    assert found.share == (sum(map(len, long)) / len(text) if text else 0)
    assert found.longest == max(map(len, stretches), default=0)
    named = [text[place : place + size] for place, size in found.stretches]
    assert sorted(named) == sorted(set(long) or set(named)) and len(named) <= max(1, len(long))
    assert [size for _, size in found.stretches] == sorted(map(len, named), reverse=True)
