"""The end of a remote command, as an exit code and a message for people."""

from __future__ import annotations

import re
from typing import Final

from hatchway.wire.channels import ChannelError, CommandResult, decode_status

# What container runtimes say of a command that is not there (runc, crun, containerd, CRI-O, Hatchway's own).
_NOT_FOUND: Final = re.compile(
    r'exec: \\?"(?P<quoted>[^"\\]*)\\?": (?:executable file not found|stat .*no such file)|'
    r"executable file `(?P<ticked>[^`']*)[`'] not found"
)
_PREFIXES: Final = ("Internal error occurred: ", "error executing command in container: ")


def outcome_of(status: bytes) -> tuple[int, str]:
    """Return (exit code, message) of the Status that a server has sent; the message is "" when the command has run."""
    try:
        return describe(decode_status(status))
    except ChannelError as error:
        return 1, f"it is not known how the command ended: {error}"


def describe(result: CommandResult) -> tuple[int, str]:
    """Return (exit code, message) of a result. A command that could not be run counts as 1, as with kubectl."""
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
