"""A real browser, where there is one: Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.helpers.posix import is_root

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MISSING = "no browser: none of " + ", ".join(NAMES) + " is installed"


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser. Without one a test is skipped, or fails where REQUIRE_BROWSER is 1."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None and os.environ.get("REQUIRE_BROWSER") == "1":
        pytest.fail(MISSING)
    if path is None:
        pytest.skip(MISSING)
    with sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if is_root() else []  # root has none
        browser = playwright.chromium.launch(executable_path=path, args=sandbox)
        yield browser
        browser.close()
