"""The description of a web application for tests: how to install it, how to start it, and how a user uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page


@dataclass(frozen=True)
class Running:
    """A started application. url: ends with a slash. work: its directory; a test may change files in it.

    log: returns the last lines of its output.
    """

    url: str
    work: Path
    mode: str
    log: Callable[[], str]

    def at(self, path: str = "") -> str:
        """Return the address of a path, which has no leading slash."""
        return self.url + path


@dataclass(frozen=True)
class App:
    """A web application under test.

    check: uses the application in the browser as a user does; raises if something does not work.
    command, env: may contain {venv}, {node} (the directory of `node`), {modules}, {work}, {bind} and {port}.
    python, npm, debian: packages to install: pinned requirements of PyPI and npm, names of Debian packages.
    sources: a directory of `tests/apps/sources` that is copied to {work}.
    setup: commands that are run once in {work} before the start, with the same placeholders.
    credentials: user and password for HTTP authentication in the browser.
    extra: whether it is tested only with --all-apps.
    fails: mode -> why the application cannot work there; the key "stranger" means every mode with --stranger.
    """

    name: str
    check: Callable[[Page, Running], None]
    command: tuple[str, ...]
    python: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    debian: tuple[str, ...] = ()
    sources: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    setup: tuple[tuple[str, ...], ...] = ()
    credentials: tuple[str, str] | None = None
    extra: bool = False
    fails: Mapping[str, str] = field(default_factory=dict)
