"""Sends a watch over HTTP. The watch ends when the client disconnects, at a timeout, or when events were missed.

The body has one JSON object per line, or frames of protobuf.

Source: apiserver's `endpoints/handlers/watch.go`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec

from hatchway.cluster.api.describe import tables
from hatchway.cluster.api.http.negotiation import JSON, PROTOBUF, AnswerFormat
from hatchway.cluster.api.operations.changes import Change
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.protobufwriter import encode_watch_event
from hatchway.cluster.api.work import HEAVY, Pace, run_sized
from hatchway.errors import ApiError
from hatchway.kube.api import Object

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# A watch without timeoutSeconds ends after a random time between one and two times this many seconds
# (--min-request-timeout).
_TIMEOUT = 1800
_PIECE = 64 * 1024
# The maximum number of events that are written at once, without the watch's task.
_FEW = 16
_encode = msgspec.json.Encoder().encode


def frame(change: Change, row: Resource, view: AnswerFormat, include_object: tables.IncludeObject) -> bytes:
    """Return the line (JSON) or frame (protobuf) for one event. A whole object is encoded once for all watches."""
    write = encode_watch_event if view.media_type == PROTOBUF else _line
    if view.as_ == "Table":
        metadata = {"resourceVersion": change.object["metadata"]["resourceVersion"]}
        shown = tables.to_table(row, [change.object], include_object=include_object, list_meta=metadata)
    elif view.as_:
        shown = tables.partial_object(change.object)
    elif change.source is not None:
        key = (change.type, row.api_version, view.media_type == PROTOBUF)
        cached = change.source.encoded.get(key)
        if cached is None:
            cached = change.source.encoded[key] = write(change.type, change.object)
        return cached
    else:
        shown = change.object
    return write(change.type, shown)


def _line(type: str, obj: Object) -> bytes:
    return _encode({"type": type, "object": obj}) + b"\n"


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines into pieces, one for each write. A piece is made only when the previous piece has been written."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _PIECE:
            yield b"".join(piece)
            piece, size = [], 0
    if piece:
        yield b"".join(piece)


async def stream(
    receive: Receive,
    send: Send,
    begin: Callable[[Callable[[list[Change]], bool] | None], AsyncGenerator[list[Change], None]],
    pace: Pace,
    *,
    write_now: Callable[[bytes], bool] | None,
    row: Resource,
    view: AnswerFormat,
    include_object: tables.IncludeObject,
    weight: Callable[[Object], int],
    timeout: int | None,
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Send the events of a watch.

    begin: begins the watch (`watching.watch`). Its argument is a function that writes a few events at once; None if
        `write_now` is None.
    pace: the Pace of the watch.
    write_now: writes a piece at once and returns True, or does nothing and returns False (`proxy.asgi.WRITE_NOW`);
    None if it is not available.
    weight: returns the bytes of an object's JSON, 0 for a small object.
    timeout: seconds; None or 0 to let the server choose.
    """
    seconds = timeout if timeout and timeout > 0 else random.uniform(_TIMEOUT, 2 * _TIMEOUT)
    in_protobuf = view.media_type == PROTOBUF
    content_type = f"{PROTOBUF};stream=watch" if in_protobuf else JSON
    headers = [(b"content-type", content_type.encode()), (b"cache-control", b"no-cache, private"), *headers]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": True})

    def size_of(change: Change) -> int:
        return change.source.size if change.source is not None else weight(change.object)

    def deliver(batch: list[Change]) -> bool:
        """Write a few small events at once. Return False, and write nothing, if they are too many or too large."""
        assert write_now is not None
        if len(batch) > _FEW:
            return False
        frames = []
        for change in batch:
            if size_of(change) >= HEAVY:
                return False
            frames.append(frame(change, row, view, include_object))
        return write_now(b"".join(frames))

    batches = begin(deliver if write_now is not None else None)

    async def send_frames(batch: list[Change]) -> None:
        """Send events in protobuf. Large objects are encoded on a thread, because the encoder is slow."""
        for change in batch:
            data = await run_sized(size_of(change), frame, change, row, view, include_object)
            if pace.due():
                await pace.rest()
            await send({"type": "http.response.body", "body": data, "more_body": True})

    async def pump() -> None:
        try:
            async for batch in batches:
                if in_protobuf:
                    await send_frames(batch)
                    continue
                for lines in _pieces(frame(change, row, view, include_object) for change in batch):
                    if pace.due():
                        # Let other tasks run, even when the client reads so fast that sending never waits.
                        await pace.rest()
                    await send({"type": "http.response.body", "body": lines, "more_body": True})
        except ApiError as error:
            line = (encode_watch_event if in_protobuf else _line)("ERROR", error.status())
            await send({"type": "http.response.body", "body": line, "more_body": True})

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = {asyncio.ensure_future(pump()), asyncio.ensure_future(gone())}
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await batches.aclose()
    for task in done:
        with contextlib.suppress(OSError):  # the client has closed the connection
            task.result()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
