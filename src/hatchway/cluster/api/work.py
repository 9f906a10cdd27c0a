"""Limits the work of one request, and keeps the event loop responsive meanwhile.

The API server has one event loop. When many small requests arrive together, `begin_request` spreads them over several
turns of the loop. Long work is done in one of two ways:

- on a worker thread (`run_sized`, `run_apart`), when it uses no shared mutable state. The interpreter switches between
the thread and the loop every few milliseconds, but it cannot interrupt a single call into C, whose time grows with the
number of values. So a request or a stored object may have at most MAX_VALUES values, and some more in its managed
fields. Few Kubernetes objects of up to 1.5 MiB have so many values;
- on the loop in slices (`Pace`), when it consists of many small steps, such as encoding the items of a list. Each turn
of the loop runs only one slice of all such work, however many requests there are.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

import msgspec

from hatchway.errors import ApiError, bad_request

P = ParamSpec("P")
R = TypeVar("R")

MAX_VALUES = 50_000
# The limit for an object with managed fields. In `managedFields`, each field of each manager counts as two values (a
# comma and a bracket). The limit lets two managers own the same 20,000 fields.
_MAX_WITH_MANAGED = 120_000
# Requests and objects of at least this size (bytes of JSON) are handled on the worker thread.
HEAVY = 32 * 1024
# The largest object (bytes of JSON), which is also the largest body of a request.
MAX_OBJECT = 3 * 1024 * 1024
_CHUNK = 64 * 1024
# Seconds: the length of the first slice, which most requests do not use up, and of each later slice.
_FIRST_SLICE, _SLICE = 0.002, 0.005
# How many waiting requests begin in one turn of the loop.
_BEGIN_LIMIT = 8
# A single thread, because more threads would only divide the interpreter's time further.
_thread = ThreadPoolExecutor(1, thread_name_prefix="large requests")

_under_way = 0


def is_busy() -> bool:
    """Return True while the worker thread has work."""
    return _under_way > 0


async def run_apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function on the worker thread. The function must not use shared mutable state."""
    global _under_way
    _under_way += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_thread, lambda: function(*args, **kwargs))
    finally:
        _under_way -= 1


async def run_sized(size: int, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function directly if its input is small, else on the worker thread.

    size: bytes of JSON that the function works on. The function must not use shared mutable state.
    """
    if size < HEAVY:
        return function(*args, **kwargs)
    return await run_apart(function, *args, **kwargs)


class _Turns:
    """Lets one slice of long work run in each turn of the event loop, first come, first served."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def next(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # A process has one loop at a time. The tasks that waited in a former loop ended with that loop.
            self._loop = loop
            self._waiting.clear()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if len(self._waiting) == 1:
            loop.call_soon(self._grant)
        await waiter

    def _grant(self) -> None:
        waiting = self._waiting
        # A cancelled waiter must not use up a turn.
        while waiting and waiting[0].done():
            waiting.popleft()
        if waiting:
            waiting[0].set_result(None)
            waiting.popleft()
        if waiting:
            asyncio.get_running_loop().call_soon(self._grant)


_turns = _Turns()


class _Beginnings:
    """Spreads requests that arrive together over several turns of the event loop (`begin_request`)."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._until = 0.0

    async def next(self) -> None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # A process has one loop at a time. The tasks that waited in a former loop ended with that loop.
            self._loop = loop
            self._waiting.clear()
            self._until = 0.0
        if not self._until:
            self._until = time.perf_counter() + _SLICE
            loop.call_soon(self._end_turn)
        elif self._waiting or time.perf_counter() >= self._until:
            waiter = loop.create_future()
            self._waiting.append(waiter)
            await waiter

    def _end_turn(self) -> None:
        self._until = 0.0
        waiting, begun = self._waiting, 0
        while waiting and begun < _BEGIN_LIMIT:
            waiter = waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                begun += 1
        if begun:
            self._until = time.perf_counter() + _SLICE
            asyncio.get_running_loop().call_soon(self._end_turn)


_beginnings = _Beginnings()


async def begin_request() -> None:
    """Return at once, or in a later turn of the event loop if other requests have used up this turn.

    The number of requests that begin in one turn is limited, because a small write does most of its work in that turn.
    """
    await _beginnings.next()


class Pace:
    """Measures the slices of one piece of long work on the event loop.

    When `due` returns True, call `rest` at a point where other tasks may run:

        for item in many:
            if pace.due():
                await pace.rest()
            ...
    """

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a first slice: at the start, and again after a time without work."""
        self._until = time.perf_counter() + _FIRST_SLICE

    def due(self) -> bool:
        """Return True when the slice is used up."""
        return time.perf_counter() >= self._until

    async def rest(self) -> None:
        """Let other tasks run, then begin a new slice."""
        await _turns.next()
        self._until = time.perf_counter() + _SLICE


def too_many_values() -> ApiError:
    """Return the error for a request that holds more than MAX_VALUES values: 413."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity too large: it holds more than {MAX_VALUES} values")


def object_too_large() -> ApiError:
    """Return the error for an object that would have more than MAX_OBJECT bytes of JSON: 413."""
    return ApiError(413, "RequestEntityTooLarge", f"the object would become too large: limit is {MAX_OBJECT} bytes")


# Parses a text without creating values from it.
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_encode = msgspec.json.Encoder().encode


def check_values(body: bytes) -> None:
    """Raise ApiError 413 when a JSON text may hold more than MAX_VALUES values; 400 when it is nested too deeply.

    A text with managed fields may have more values (_MAX_WITH_MANAGED).
    """
    if _estimate(body) > MAX_VALUES:
        limit = _MAX_WITH_MANAGED if b'"managedFields"' in body else MAX_VALUES
        if _count(body, limit) > limit:
            raise _refused(body)


def _estimate(text: bytes) -> int:
    """Return an upper bound of the number of values in a JSON text: the number of its commas and opening brackets."""
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def _count(text: bytes, limit: int) -> int:
    """Return the number of values in a JSON text, or any number over `limit` if there are more."""
    # Commas and brackets inside strings do not count. A chunk never ends with a backslash, so that no escape sequence
    # is divided.
    count, inside, at = 0, False, 0
    while at < len(text) and count <= limit:
        end = min(at + _CHUNK, len(text))
        while end < len(text) and text[end - 1] == 0x5C:
            end += 1
        chunk = text[at:end]
        at = end
        if b"\\" in chunk:
            chunk = chunk.replace(b"\\\\", b"").replace(b'\\"', b"")
        parts = chunk.split(b'"')
        outside = b"".join(parts[1 if inside else 0 :: 2])
        inside ^= len(parts) % 2 == 0
        count += outside.count(b",") + outside.count(b"[") + outside.count(b"{")
    return count


def _refused(body: bytes) -> ApiError:
    """Return the error for a JSON text with too many values: 400 if it is also nested too deeply, else 413."""
    try:
        _skim(body)
    except RecursionError:
        return bad_request("json parse error: nested too deep")
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    return too_many_values()


def check_object(data: bytes, managed: object = None) -> None:
    """Raise ApiError 413 when an object is too large as JSON. (Many small changes can make an object too large, too.)

    managed: its managed fields. They are counted separately, because the server writes them.
    """
    if len(data) > MAX_OBJECT:
        raise object_too_large()
    if _estimate(data) <= MAX_VALUES:
        return
    limit = _MAX_WITH_MANAGED
    found, own = _count(data, limit), _count(_encode(managed), limit) if managed else 0
    if found > limit or found - own > MAX_VALUES:
        raise _refused(data)
