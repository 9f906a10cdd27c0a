"""The machine's Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import functools
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


# Debian's chromium-headless-shell has the same engine and network code. It needs a quarter of the processor time for a
# page, because it draws no toolbar.
_WITHOUT_WINDOWS = ("chromium-headless-shell",)
_WITH_WINDOWS = ("chromium", "chromium-browser", "google-chrome")


def find_chromium(windows: bool = False) -> str:
    """Return the path of Chromium: $CHROMIUM, or the fastest one installed. Skip the test if it cannot be used.

    windows: whether to prefer the full Chromium to the headless shell.
    """
    names = _WITH_WINDOWS + _WITHOUT_WINDOWS if windows else _WITHOUT_WINDOWS + _WITH_WINDOWS
    executable = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    if not _driver_runs():
        pytest.skip("Playwright's driver does not run on this machine: apt-get install libatomic1")
    return executable


@functools.cache
def _driver_runs() -> bool:
    """Return whether Playwright's driver can report its version, for which it starts Python and Node.js."""
    return subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True).returncode == 0


@contextlib.contextmanager
def chromium(arguments: Sequence[str] = (), windows: bool = False) -> Iterator[Browser]:
    """Run a headless Chromium with command-line arguments. windows: whether to prefer the full Chromium."""
    executable = find_chromium(windows)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_with_own(arguments))
        yield browser
        browser.close()


@contextlib.contextmanager
def another(browser: Browser, arguments: Sequence[str]) -> Iterator[Browser]:
    """Run a second headless Chromium beside `browser`: the full Chromium, with other arguments."""
    found = browser.browser_type.launch(executable_path=find_chromium(windows=True), args=_with_own(arguments))
    yield found
    found.close()


def _with_own(arguments: Sequence[str]) -> list[str]:
    return [*_QUIET, *(["--no-sandbox"] if os.getuid() == 0 else []), *arguments]
