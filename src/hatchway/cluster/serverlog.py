"""Shows the control plane's log in error messages: its path, and its last lines."""

from __future__ import annotations

from hatchway.cluster.state import StateDir


def log_hint(state: StateDir) -> str:
    """Return the hint with the path of the control plane's log; "" when it is deleted (ephemeral cluster)."""
    return f"see {state.server_log}" if state.server_log.exists() else ""


def log_tail(state: StateDir, lines: int = 5) -> str:
    """Return the last lines of the control plane's log, each on a line of its own; "" without one."""
    try:
        text = state.server_log.read_text(errors="replace")
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in text.splitlines()[-lines:])
