"""Encodes lists and tables in pieces, so that long ones neither block the event loop nor need much memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from hatchway.cluster.api.http.negotiation import PROTOBUF, YAML, AnswerFormat, dump_yaml
from hatchway.cluster.api.registry.schema.protobufwriter import encode_whole_list, list_item
from hatchway.cluster.api.registry.schema.table import GVK
from hatchway.cluster.api.work import HEAVY, Pace, run_apart

__all__ = ["FEW", "joined_pieces", "list_pieces"]

Json = dict[str, Any]

# Lists with at most this many items are encoded in one step, unless an item is large.
FEW = 32
# The number of pieces that are made between two checks of the clock.
_STEP = 16
_JOINED_STEP = 64
_PIECE = 128 * 1024
_encode = msgspec.json.Encoder().encode


async def list_pieces(
    head: Json,
    key: str,
    items: Sequence[Json],
    show: Callable[[Json], Any],
    weight: Callable[[Json], int] | None,
    view: AnswerFormat,
) -> AsyncIterator[bytes]:
    """Yield the document `{**head, key: [show(item), ...]}` in pieces of about 128 KiB.

    show: returns the value that is written for an item; it may be called on a thread.
    weight: returns the bytes of an item's JSON, 0 for a small item; None when all items are small.
    """
    if view.media_type == PROTOBUF:
        async for piece in _protobuf_pieces(head, items, show, weight):
            yield piece
        return
    if view.media_type == YAML:
        writer: _Json | _Yaml = _Yaml(head, key)
    else:
        writer = _PrettyJson(head, key) if view.pretty else _Json(head, key)
    pace = Pace()
    held: list[bytes] = [writer.begin(bool(items))]
    size = 0

    def write(batch: Sequence[Json], first: bool) -> bytes:
        return writer.items([show(one) for one in batch], first)

    at = 0
    while at < len(items):
        if pace.due():
            await pace.rest()
        end, heavy = _batch(items, at, _STEP, weight)
        if heavy or writer.slow:
            found = await run_apart(write, items[at:end], not at)
        else:
            found = write(items[at:end], not at)
        held.append(found)
        size += len(found)
        at = end
        if size >= _PIECE:
            yield b"".join(held)
            held, size = [], 0
    held.append(writer.end(bool(items)))
    yield b"".join(held)


async def _protobuf_pieces(
    head: Json, items: Sequence[Json], show: Callable[[Json], Any], weight: Callable[[Json], int] | None
) -> AsyncIterator[bytes]:
    """Yield a list in protobuf. The whole list is encoded first, because its length comes before its first item."""
    kind = head["kind"].removesuffix("List")
    item = kind if kind == "PartialObjectMetadata" else GVK.of(head["apiVersion"], kind)
    pace = Pace()
    encoded: list[bytes] = []
    for obj in items:
        if pace.due():
            await pace.rest()
        if weight is not None and weight(obj) >= HEAVY:
            encoded.append(await run_apart(_protobuf_item, item, obj, show))
        else:
            encoded.append(_protobuf_item(item, obj, show))
    whole = await run_apart(encode_whole_list, head, encoded)
    for at in range(0, len(whole), _PIECE):
        yield whole[at : at + _PIECE]


def _protobuf_item(item: tuple[str, str, str] | str, obj: Json, show: Callable[[Json], Any]) -> bytes:
    return list_item(item, show(obj))


async def joined_pieces(
    head: Json, items: Sequence[Json], encoded: Callable[[Json], bytes], weight: Callable[[Json], int] | None
) -> AsyncIterator[bytes]:
    """Yield the compact JSON of `{**head, "items": [...]}` in pieces of about 128 KiB.

    encoded: returns the JSON of an item; for a large item it is called on a thread.
    weight: as in `list_pieces`.
    """
    pace = Pace()
    before = _encode(head)[:-1] + b',"items":['
    held: list[bytes] = []
    at = size = 0
    while at < len(items):
        if pace.due():
            await pace.rest()
        end, heavy = _batch(items, at, _JOINED_STEP, weight)
        found = [await run_apart(encoded, items[at])] if heavy else [encoded(one) for one in items[at:end]]
        held += found
        size += sum(map(len, found))
        at = end
        if size >= _PIECE and at < len(items):
            yield before + b",".join(held)
            before, held, size = b",", [], 0
    yield before + b",".join(held) + b"]}\n"


def _batch(items: Sequence[Json], at: int, most: int, weight: Callable[[Json], int] | None) -> tuple[int, bool]:
    """Return the end index of the next batch, and True if the batch is a single large item."""
    if weight is None:
        return at + most, False
    end = at
    while end < len(items) and end < at + most:
        if weight(items[end]) >= HEAVY:
            return (end, False) if end > at else (end + 1, True)
        end += 1
    return end, False


class _Json:
    slow = False

    def __init__(self, head: Json, key: str) -> None:
        self._head, self._key = head, key

    def begin(self, _any: bool) -> bytes:
        return _encode(self._head)[:-1] + b"," + _encode(self._key) + b":["

    def items(self, items: list[Any], first: bool) -> bytes:
        text = _encode(items)[1:-1]
        return text if first else b"," + text

    def end(self, _any: bool) -> bytes:
        return b"]}\n"


class _PrettyJson(_Json):
    """JSON with the layout of `msgspec.json.format`."""

    def begin(self, any: bool) -> bytes:
        head = msgspec.json.format(_encode(self._head), indent=2)[:-2]
        return head + b",\n  " + _encode(self._key) + (b": [\n" if any else b": [")

    def items(self, items: list[Any], first: bool) -> bytes:
        # JSON strings contain no line breaks, so every line can be indented.
        text = b"  " + msgspec.json.format(_encode(items), indent=2)[2:-2].replace(b"\n", b"\n  ")
        return text if first else b",\n" + text

    def end(self, any: bool) -> bytes:
        return b"\n  ]\n}\n" if any else b"]\n}\n"


class _Yaml:
    """YAML with sorted keys, as `dump_yaml` writes them."""

    slow = True

    def __init__(self, head: Json, key: str) -> None:
        self._key = key
        self._before = {name: value for name, value in head.items() if name < key}
        self._after = {name: value for name, value in head.items() if name > key}

    def begin(self, any: bool) -> bytes:
        before = dump_yaml(self._before) if self._before else b""
        return before + self._key.encode() + (b":\n" if any else b": []\n")

    def items(self, items: list[Any], _first: bool) -> bytes:
        return dump_yaml(items)

    def end(self, _any: bool) -> bytes:
        return dump_yaml(self._after) if self._after else b""
