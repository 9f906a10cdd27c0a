"""Finds and starts a shell in a container. If the container has `sh`, this takes one round trip."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# The shells in the order of preference.
_WANTED: Final = ("bash", "zsh", "ash")
# Other places of a shell, for images without `sh` in the search path (distroless debug images, Nix ...).
_ELSEWHERE: Final = ("/bin/bash", "/busybox/sh", "/usr/bin/bash", "/bin/busybox")
_TERM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]{0,40}\Z")


# The input for which an attached shell waits, so that its first prompt is not printed before the user is attached.
WAKE: Final = b"\n"


def shell_commands(wanted: str, environment: Mapping[str, str], *, tty: bool) -> list[list[str]]:
    """Return command lines that start a shell. The caller tries the command lines in this order.

    The first command line is a script that finds the best shell, so that one attempt is enough for nearly every image.

    Args:
        wanted: the shell that the user has chosen; "" for the best one.
        environment: this process's environment; TERM is passed on to the shell.
        tty: True when the shell gets a terminal.
    """
    if wanted:
        return [[wanted]]
    others = [[path, "sh"] if path.endswith("busybox") else [path] for path in _ELSEWHERE]
    return [["sh", "-c", _script(environment, tty=tty)], *others]


def attached_shell(environment: Mapping[str, str], *, tty: bool) -> list[str]:
    """Return the command of a container to which the user attaches: a shell that begins when `WAKE` has arrived."""
    return ["sh", "-c", f"read -r _; {_script(environment, tty=tty)}"]


def _script(environment: Mapping[str, str], *, tty: bool) -> str:
    if not tty:
        # Without a terminal, the input is probably a script for `sh`.
        return "exec sh"
    term = environment.get("TERM", "")
    setting = f"TERM={term}; export TERM; " if _TERM.match(term) else ""
    search = f'for s in {" ".join(_WANTED)}; do command -v "$s" >/dev/null 2>&1 && exec "$s"; done; '
    return f"{setting}{search}exec sh"
