"""A list of texts as one word of a command line, much as YAML has it: `[a.txt,'b, c']`."""

import re

ITEM = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"([^"]*)"|([^,]*?))\s*(,|\Z)""")  # up to a comma


def read(word: str) -> str | list[str]:
    """The texts of a word in brackets; any other word as it is."""
    if not (word.startswith("[") and word.endswith("]")):
        return word
    texts, place, inner = [], 0, word[1:-1]
    while inner.strip():
        item = ITEM.match(inner, place)
        single, double, plain, comma = item.groups()
        texts.append(single.replace("''", "'") if single is not None else double or plain or "")
        place = item.end()
        if not comma:
            break
    return texts


def write(texts: str | list[str]) -> str:
    """The word that `read` makes `texts` of."""
    if isinstance(texts, str):
        return texts
    return f"[{','.join(map(quoted, texts))}]"


def quoted(text: str) -> str:
    """A text in quotes, where it could be misread without."""
    if text and text.strip() == text and not set(text) & set(",'\"[]{}"):
        return text
    doubled = text.replace("'", "''")
    return f"'{doubled}'"
