"""Draw docs/look.png, look_break.png, look_phone.png and board.png: the page in Chromium.

python -m docs.screens      after python train.py --config tiny_shakespeare.yaml
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import look

HERE = Path(__file__).parent
PROMPT = "ROMEO:\nWhat say'st thou, my lord, that"


def trained(page) -> None:
    """Write a text, shade it by counts against net, and choose a character."""
    page.fill("#prompt", PROMPT)
    page.fill("#length", "220")
    page.click("#begin")
    page.wait_for_timeout(200)
    page.locator("#status", has_text="ready").wait_for()
    page.select_option("#shading", "counts")
    page.click("#place-100")
    page.evaluate("document.getElementById('look').scrollIntoView()")


def broken(page) -> None:
    """Break the proof of the one-head model."""
    page.get_by_role("button", name="Query: 24").click()
    page.evaluate("document.getElementById('proof').scrollIntoView()")


def playing(page) -> None:
    """Take two squares, and see what decided the second answer."""
    for square in (5, 3):
        page.get_by_label(f"square {square}, free").click()
        page.wait_for_timeout(200)
        page.locator("#status", has_text="ready").wait_for()


def main() -> int:
    """Write the pages, open them, and save what is seen."""
    from playwright.sync_api import Page, sync_playwright  # here: it is no part of the project

    screens: list[tuple[str, list[str], Callable[[Page], None], int, int, str]] = [
        ("look", ["--ckpt", "checkpoints/tiny_shakespeare"], trained, 1280, 900, "light"),
        ("look_break", ["--handmade"], broken, 1280, 690, "light"),
        ("board", ["--handmade", "tictactoe"], playing, 1100, 720, "light"),
        ("look_phone", ["--ckpt", "checkpoints/tiny_shakespeare"], trained, 360, 740, "dark"),
    ]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, options, steps, width, height, scheme in screens:
            file = Path(folder) / f"{name}.html"
            if status := look.main([*options, "--out", str(file)]):
                return status
            size = {"width": width, "height": height}
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(file.as_uri())
            page.locator("#status", has_text="ready").wait_for()
            steps(page)
            page.wait_for_timeout(500)
            page.screenshot(path=HERE / f"{name}.png")
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
