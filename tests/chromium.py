"""The machine's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_QUIET = (
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def find_chromium() -> str:
    """Its path; skips the test when there is none or when Playwright cannot drive it."""
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    if subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True).returncode:
        pytest.skip("Playwright's driver does not run on this machine: apt-get install libatomic1")
    return executable


@contextlib.contextmanager
def chromium(arguments: Sequence[str] = ()) -> Iterator[Browser]:
    """A headless Chromium with these command-line arguments."""
    executable = find_chromium()
    from playwright.sync_api import sync_playwright

    own = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=[*_QUIET, *own, *arguments])
        yield browser
        browser.close()
