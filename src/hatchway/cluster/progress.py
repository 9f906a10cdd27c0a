"""Reports a control plane's progress, as JSON lines on standard output, to the process that has started it."""

from __future__ import annotations

import contextlib
import json
from typing import Any


def report(event: str, **more: Any) -> None:
    """Report an event to the process that has started this one, if it still listens. more: further JSON values."""
    with contextlib.suppress(BrokenPipeError, ValueError):
        print(json.dumps({"event": event, **more}), flush=True)
