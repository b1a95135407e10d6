"""What a file is that is no UTF-8 text, by its first bytes, and how to make a text of it."""

import codecs
import shlex
from pathlib import Path

HEAD = 4096  # bytes that are looked at
FEWEST = 8  # characters that tell something
UNPACK = "unpack it and give the text in it"
CONVERT = "save it as UTF-8: in Notepad with Save as, Encoding, UTF-8; elsewhere with"
OFFICE = "in the program that wrote it, save it as plain text (.txt) with the encoding UTF-8"
PICTURE = "take a text"

SIGNATURES = {  # how a file begins: what it is, and what helps
    b"%PDF-": ("a PDF", "save its text as .txt in a PDF reader, or with pdftotext"),
    b"\x1f\x8b": ("a gzip archive", f"{UNPACK}, with 7-Zip on Windows and gunzip elsewhere"),
    b"PK\x03\x04": ("a zip archive", UNPACK),
    b"\xd0\xcf\x11\xe0": ("an Office document", OFFICE),
    b"\x89PNG": ("a PNG picture", PICTURE),
    b"\xff\xd8\xff": ("a JPEG picture", PICTURE),
}
IN_ZIP = {  # what stands at the beginning of such an archive
    b"[Content_Types].xml": ("an Office document", OFFICE),
    b"mimetypeapplication/vnd.oasis": ("an Office document", OFFICE),
    b"mimetypeapplication/epub": ("an e-book (EPUB)", "save it as .txt, with Calibre for example"),
}


def refusal(path: Path, head: bytes) -> str | None:
    """Why a file that begins with `head` is not read, and the remedy; None where it may be text.

    UTF-16 with a byte order mark may be. Without one, it is known by its NUL bytes.
    """
    for beginning, (kind, remedy) in SIGNATURES.items():
        if head.startswith(beginning):
            for inner, other in IN_ZIP.items() if beginning == b"PK\x03\x04" else ():
                kind, remedy = other if inner in head else (kind, remedy)
            return f"{path} is {kind}, no text; {remedy}"
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return other_encoding(path, "UTF-32", "UTF-32")
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return None
    for name, codec in (("UTF-32LE", "utf-32-le"), ("UTF-32BE", "utf-32-be")):
        if is_utf32(head, codec):
            return other_encoding(path, "UTF-32", name)
    for name, high in (("UTF-16LE", 1), ("UTF-16BE", 0)):
        if is_utf16(head, high):
            return other_encoding(path, "UTF-16 without a byte order mark", name)
    return None


def is_utf32(head: bytes, codec: str) -> bool:
    """Whether `head` reads as UTF-32, which four characters of UTF-8 never do but for NULs."""
    whole = head[: len(head) // 4 * 4]
    try:
        text = whole.decode(codec)
    except UnicodeDecodeError:
        return False
    return len(text) >= FEWEST and 2 * text.count("\0") < len(text)


def is_utf16(head: bytes, high: int) -> bool:
    """Whether the bytes at places `high`, `high` + 2, ... are high ones of UTF-16.

    They are NUL in all letters without an accent, and in blanks and line ends of any language;
    the bytes between them then never are. Where `head` could be UTF-8, three in four have to be.
    """
    highs, lows = head[high::2], head[1 - high :: 2]
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        share = 0.75
    except UnicodeDecodeError:
        share = 0.02
    return len(lows) >= FEWEST and 0 not in lows and highs.count(0) >= share * len(highs) > 0


def other_encoding(path: Path, kind: str, name: str) -> str:
    """The message about a text of a known encoding, called `name` by iconv."""
    command = f"iconv -f {name} -t UTF-8 {shlex.quote(str(path))} > utf8.txt"
    return f"{path} is {kind}; {CONVERT} {command}"


def broken(path: Path, encoding: str, offset: int, line: int) -> str:
    """The message about bytes that are not of the `encoding`."""
    if encoding != "utf-8":
        return (
            f"{path} is UTF-16, but broken at byte offset {offset}, in line {line}; mend that line"
        )
    command = f"iconv -f WINDOWS-1252 -t UTF-8 {shlex.quote(str(path))} > utf8.txt"
    return (
        f"{path} is not UTF-8 at byte offset {offset}, in line {line}; {CONVERT} {command}, or the "
        "name of its encoding in place of WINDOWS-1252"
    )
