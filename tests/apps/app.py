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
    """A started application. url: ends with a slash. work: its directory, shared with whoever runs it.

    log: gives the last lines that it has printed.
    """

    url: str
    work: Path
    mode: str
    log: Callable[[], str]

    def at(self, path: str = "") -> str:
        """The address of a path, which is given without a slash in front."""
        return self.url + path


@dataclass(frozen=True)
class App:
    """An application.

    check: does in the browser what a person does; raises when something does not work.
    command, env: may contain {venv}, {node} (the directory of `node`), {modules}, {work}, {bind} and {port}.
    python, npm, debian: what is installed: pinned requirements of PyPI and npm, names of Debian packages.
    sources: a folder of `tests/apps/sources` that is copied to {work}.
    setup: commands that are run once in {work} before the start, with the same placeholders.
    credentials: user and password that the browser gives when it is asked by HTTP.
    extra: taken only with --all-apps.
    fails: mode, or "stranger" for both behind a kube-apiserver → why it cannot work there.
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
