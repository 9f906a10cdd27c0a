"""The search for a container's shell, which starts it in one round trip where there is `sh`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

# In the order in which people want them.
_WANTED: Final = ("bash", "zsh", "ash")
# Where a shell is without being `sh` of the search path: distroless debug images, Nix, and images without a link.
_ELSEWHERE: Final = ("/bin/bash", "/busybox/sh", "/usr/bin/bash", "/bin/busybox")
_TERM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.-]{0,40}\Z")


# What an attached shell waits for, so that its first prompt is not printed before anybody sees it.
WAKE: Final = b"\n"


def shell_commands(wanted: str, environment: Mapping[str, str], *, tty: bool) -> list[list[str]]:
    """Return command lines that start a shell, to be tried one after the other.

    The first finds the best shell by itself, so that one attempt is enough for nearly every image.

    Args:
        wanted: the shell that the user has chosen; "" for the best one.
        environment: this process's; TERM of it is passed on to the shell.
        tty: the shell gets a terminal.
    """
    if wanted:
        return [[wanted]]
    others = [[path, "sh"] if path.endswith("busybox") else [path] for path in _ELSEWHERE]
    return [["sh", "-c", _script(environment, tty=tty)], *others]


def attached_shell(environment: Mapping[str, str], *, tty: bool) -> list[str]:
    """Return the command of a container that is attached to: a shell that begins when `WAKE` has come."""
    return ["sh", "-c", f"read -r _; {_script(environment, tty=tty)}"]


def _script(environment: Mapping[str, str], *, tty: bool) -> str:
    if not tty:
        # Without a terminal the input is a script, which expects `sh`.
        return "exec sh"
    term = environment.get("TERM", "")
    setting = f"TERM={term}; export TERM; " if _TERM.match(term) else ""
    search = f'for s in {" ".join(_WANTED)}; do command -v "$s" >/dev/null 2>&1 && exec "$s"; done; '
    return f"{setting}{search}exec sh"
