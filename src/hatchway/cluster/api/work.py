"""Limits of the work that one request makes.

The API server has one event loop. What takes long to read, patch or check is done on a thread, which shares the
interpreter with the loop a few milliseconds at a time. A single call into C cannot be interrupted so, and its time grows
with the number of values: therefore a request holds no more of them than MAX_VALUES, far above what any object of
Kubernetes has within its 1.5 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from hatchway.errors import ApiError

P = ParamSpec("P")
R = TypeVar("R")

MAX_VALUES = 100_000
# From this size on (bytes of JSON) a request or an object is dealt with on the thread.
HEAVY = 32 * 1024
_CHUNK = 64 * 1024
# One thread: more of them would only share the interpreter with the loop in smaller parts.
_thread = ThreadPoolExecutor(1, thread_name_prefix="large requests")


async def run_sized(size: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function that touches nothing that others change: at once for small sizes, else on the thread.

    size: bytes of JSON that it works on.
    """
    if size < HEAVY:
        return function(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(_thread, lambda: function(*args, **kwargs))


def too_many_values() -> ApiError:
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: it holds more than {MAX_VALUES} values")


def check_values(body: bytes) -> None:
    """Raise ApiError 413 when a JSON text may hold more than MAX_VALUES values. Reads no more than it must."""
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= MAX_VALUES:
        return
    # Commas and brackets inside strings do not count.
    count, inside, at = 0, False, 0
    while at < len(body):
        end = min(at + _CHUNK, len(body))
        while end < len(body) and body[end - 1] == 0x5C:
            end += 1
        chunk = body[at:end]
        at = end
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        outside = b"".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0
        count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
        if count > MAX_VALUES:
            raise too_many_values()
