"""Text as a picture shows it: no character is missing, and none is taken for mathematics."""

import unicodedata

from matplotlib.font_manager import FontProperties, findfont, get_font

NAMED = {" ": "␣", "\n": "↵", "\t": "⇥"}


def has_glyph(char: str, family: str) -> bool:
    """Whether the font that matplotlib takes for `family` can draw `char`."""
    font = get_font(findfont(FontProperties(family=[family])))
    return char.isprintable() and font.get_char_index(ord(char)) != 0


def label(text: str, family: str = "sans-serif") -> str:
    """`text` for a picture: a character that cannot be drawn becomes its number, such as U+0915.

    A dollar sign stands for itself: two of them would begin and end a formula. A legend leaves out
    what begins with _, so a space comes before that.
    """
    drawn = [char if has_glyph(char, family) else f"U+{ord(char):04X}" for char in text]
    return (" " * text.startswith("_") + "".join(drawn)).replace("$", r"\$")


def visible(char: str, family: str = "monospace") -> str:
    """One character that stands alone, as a label that one can see."""
    mark = unicodedata.category(char)[0] == "M" and has_glyph(char, family)
    return f"◌{char}" if mark else label(NAMED.get(char, char), family)
