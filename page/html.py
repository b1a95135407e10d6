"""The page as text: one template, filled with the scripts, the style, and the models."""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PURE = ("decode", "engine", "counts", "writing", "explain")  # scripts that know of no page
DRAWING = ("dom", "side", "text", "duel", "place", "weights", "contexts", "board", "page")


def script(name: str) -> str:
    """The text of one script of the page."""
    return (HERE / f"{name}.js").read_text("utf-8")


def sha256(text: str) -> str:
    """The hash of a script or a style as a Content-Security-Policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def plain(value: Any) -> str:
    """JSON that can stand in a <script>: no `<` in it may begin a tag."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")


def fill(template: str, parts: dict[str, str]) -> str:
    """Put each of `parts` where its name stands in brackets, once through, so that no part is
    looked into."""
    names = "|".join(map(re.escape, parts))
    return re.sub(rf"\[({names})\]", lambda found: parts[found[1]], template)


def page(title: str, about: list[str], given: dict[str, Any], large: dict[str, str]) -> str:
    """The HTML of a page that needs nothing else.

    about: sentences below the title; given: what page.js reads; large: base64 by the name of its
    element, weights-0 and counts-0 for the first side
    """
    code = "\n".join(map(script, (*PURE, *DRAWING)))
    style = (HERE / "page.css").read_text("utf-8")
    data = [f'<script type="application/json" id="given">{plain(given)}</script>']
    data += [
        f'<script type="application/octet-stream" id="{name}">{text}</script>'
        for name, text in large.items()
    ]
    parts = {
        "title": html.escape(title),
        "about": "\n  ".join(f"<p>{html.escape(line)}</p>" for line in about),
        "style": style,
        "style-hash": sha256(style),
        "script": code,
        "script-hash": sha256(code),
        "data": "\n".join(data),
    }
    return fill((HERE / "page.html").read_text("utf-8"), parts)
