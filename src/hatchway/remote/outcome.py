"""Turns the result of a remote command into an exit code and a message for the user."""

from __future__ import annotations

import re
from typing import Final

from hatchway.wire.channels import ChannelError, CommandResult, decode_status

# Messages of container runtimes about a missing program (runc, crun, containerd, CRI-O, Hatchway's own).
_NOT_FOUND: Final = re.compile(
    r'exec: \\?"(?P<quoted>[^"\\]*)\\?": (?:executable file not found|stat .*no such file)|'
    r"executable file `(?P<ticked>[^`']*)[`'] not found"
)
_PREFIXES: Final = ("Internal error occurred: ", "error executing command in container: ")


def outcome_of(status: bytes) -> tuple[int, str]:
    """Return (exit code, message) for the Status that a server has sent. The message is "" when the command has run."""
    try:
        return describe(decode_status(status))
    except ChannelError as error:
        return 1, f"it is not known how the command ended: {error}"


def describe(result: CommandResult) -> tuple[int, str]:
    """Return (exit code, message) for a result. The code is 1 for a command that could not be run, as with kubectl."""
    if result.exit_code is not None:
        return result.exit_code, ""
    message = result.message
    for prefix in _PREFIXES:
        message = message.removeprefix(prefix)
    missing = _NOT_FOUND.search(message)
    if missing is not None:
        return 1, f'the container has no command "{missing["quoted"] or missing["ticked"]}"'
    return 1, message or "the command could not be run"


def is_missing_command(result: CommandResult) -> bool:
    """Return True when a command was not run because the container has no such file."""
    return result.exit_code is None and (
        _NOT_FOUND.search(result.message) is not None or "no such file or directory" in result.message
    )
