"""Labels of pictures: every character of a user's text is drawn as itself or as its number."""

import io
import unicodedata
import warnings

import pytest
from matplotlib.figure import Figure

from analysis import text
from analysis.labels import label, visible

LACKED = "क漢"  # DejaVu, which comes with matplotlib, has neither


def drawn(name: str) -> list[str]:
    """What matplotlib draws for a title `name`: the text, and whether it is mathematics."""
    figure = Figure(figsize=(1, 1))
    title = figure.suptitle(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "Glyph 2325 missing from font"
        figure.savefig(io.BytesIO())
    return list(title._preprocess_math(title.get_text()))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("runs/é", "runs/é"),
        ("क漢.pt", "U+0915U+6F22.pt"),
        ("$^$", "$^$"),
        ("$a$ and \\$b", "$a$ and \\$b"),
        ("$", "$"),
        ("_mine", " _mine"),
        ("a\x1b\nb", "aU+001BU+000Ab"),
    ],
)
def test_a_name_is_drawn_as_it_is(name: str, shown: str) -> None:
    assert drawn(label(name)) == [shown, False]


def test_a_character_alone_is_visible() -> None:
    chars = " \n\t\r\x00\x1b\x9b$aक\u0301\u0940\ud800\u200d\u202eش"
    shown = "␣ ↵ ⇥ U+000D U+0000 U+001B U+009B \\$ a U+0915 ◌\u0301 U+0940 U+D800 U+200D U+202E ش"
    assert list(map(visible, chars)) == shown.split(" ")


def test_every_kind_of_character_can_be_drawn() -> None:
    """One of each hundred of Unicode, in one picture, without a warning."""
    chars = [chr(code) for code in range(0, 0x110000, 101)]
    assert len({unicodedata.category(char) for char in chars}) > 20
    drawn("".join(map(label, chars))[:5000])
    assert all(visible(char).strip() for char in chars)


def test_a_picture_of_a_text_with_hard_characters() -> None:
    losses = dict.fromkeys("$^_\\\n\x1bक\u0301ש{", 1.5)
    found = [text.TextLoss(name, "trained", 1, 1.5, [2.0, 1.0], losses) for name in ("_$^$", "क$")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = []
        original = Figure.savefig

        def keep(self: Figure, *args: object, **options: object) -> None:
            original(self, io.BytesIO(), **{**options, "format": "png"})
            figures.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Figure, "savefig", keep)
            patch.setattr(text, "write_whole", lambda path, write: write(None))
            text.draw("unused", found, list(losses))
    [figure] = figures
    for ax in figure.axes:
        names = [entry.get_text() for entry in ax.get_legend().get_texts()]
        assert names == [r" _\$^\$", r"U+0915\$"]
