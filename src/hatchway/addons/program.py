"""Runs an add-on's program: sets up its log, and turns errors into an exit code."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from hatchway.errors import HatchwayError


def run_program(
    serve: Callable[[], Coroutine[Any, Any, None]],
    log: logging.Logger,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run `serve()` to its end in a new event loop. Return the exit code: 0, or 1 after an error, which is logged.

    loop_factory: makes the event loop; None for asyncio's own.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    code = 0
    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(serve())
    except* HatchwayError as group:
        code = _report(group, log)
    except* OSError as group:
        code = _report(group, log)
    return code


def _report(group: BaseExceptionGroup[BaseException], log: logging.Logger) -> int:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _report(error, log)
        else:
            log.error("%s", error.message if isinstance(error, HatchwayError) else error)
    return 1
