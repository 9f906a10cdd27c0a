"""Keeps versions and deltas of the portal's content, and sends them to open pages.

While no page is open, the view's callback only records which items are out of date. When a page is open, the feed
updates them. Items are kept as encoded JSON, so that a snapshot of thousands of items is only a join of strings.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from functools import partial
from itertools import islice

import msgspec

from hatchway.door.portal.model import (
    KINDS,
    ClusterView,
    DoorInfo,
    Item,
    node_item,
    pod_item,
    scope_json,
    service_item,
    state_json,
)
from hatchway.door.portal.serviceindex import ServiceIndex
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of
from hatchway.target import Target, TargetError

logger = logging.getLogger("hatchway.door")

# The maximum number of items that are made in one iteration of the event loop; this takes two milliseconds.
_BATCH = 25
# The maximum number of items in one message, so that a page can display the first items while the others are made.
_SEND = 400
# The maximum number of changes that are remembered. A page that has missed more gets all items again.
_HISTORY = 20_000

# In seconds: the least time between two messages to a page, the longest silence, and how long `snapshot` waits for the
# cluster's first answer.
INTERVAL = 0.2
HEARTBEAT = 15.0
FIRST_ANSWERS = 5.0

_encoder = msgspec.json.Encoder()


class Feed:
    """The state of the cluster, which open pages follow.

    version: a number that is increased by every change of an item.
    """

    def __init__(self, view: ClusterView, door: DoorInfo) -> None:
        self._view = view
        self._door = door
        self._index = ServiceIndex()
        self._items: dict[str, bytes] = {}
        self._dirty: dict[tuple[str, Key], None] = {}
        self._changes: deque[tuple[int, str]] = deque(maxlen=_HISTORY)
        self._wakers: set[asyncio.Event] = set()
        self.version = 0
        self._index.sees_slices = partial(self._sees, "slices")
        self._index.sees_pods = partial(self._sees, "pods")
        view.subscribe(self._changed)

    def _sees(self, kind: str, namespace: str) -> bool:
        scope = self._view.scopes.get(kind)
        return scope is None or scope.namespaces is None or namespace in scope.namespaces

    def _changed(self, kind: str, event: str, obj: Object) -> None:
        gone = event == "DELETED"
        touched: Iterable[Key] = ()
        if kind == "services":
            touched = self._index.service_changed(obj, gone)
        elif kind == "slices":
            touched = self._index.slice_changed(obj, gone)
        elif kind == "pods":
            touched = self._index.pod_changed(obj, gone)
            self._dirty["pods", key_of(obj)] = None
        elif kind == "nodes":
            self._dirty["nodes", key_of(obj)] = None
        for key in touched:
            self._dirty["services", key] = None
        self._wake()

    def mark_changed(self, kind: str, namespace: str, name: str) -> None:
        """Record that an item must be made again, because `DoorInfo.facts` has changed for it."""
        self._dirty[kind, (namespace, name)] = None
        self._wake()

    def _wake(self) -> None:
        for waker in self._wakers:
            waker.set()

    async def refresh(self, limit: float = math.inf) -> None:
        """Update every item, or about `limit` of them, one batch at a time."""
        done = 0
        while self._dirty and done < limit:
            batch = list(islice(self._dirty, _BATCH))
            for dirty in batch:
                del self._dirty[dirty]
                self._update(*dirty)
            done += len(batch)
            await asyncio.sleep(0)

    def _update(self, kind: str, key: Key) -> None:
        name = f"{kind}/{key[0]}/{key[1]}"
        item = self._make(kind, key)
        encoded = None if item is None else _encoder.encode(item)
        if encoded == self._items.get(name):
            return
        if encoded is None:
            del self._items[name]
        else:
            self._items[name] = encoded
        self.version += 1
        self._changes.append((self.version, name))

    def _make(self, kind: str, key: Key) -> Item | None:
        try:
            return self._shown(kind, key)
        except (LookupError, TypeError, ValueError, AttributeError, TargetError) as error:
            # No API server should store such an object. If one does, all other objects are still displayed.
            logger.warning("%s %s/%s cannot be shown: %r", kind, *key, error)
            return None

    def _shown(self, kind: str, key: Key) -> Item | None:
        view = self._view
        if kind == "services":
            service = view.services.get(key)
            return None if service is None else service_item(service, self._index, view.pods, self._door)
        if kind == "pods":
            pod = view.pods.get(key)
            return None if pod is None else pod_item(pod, self._door)
        node = view.nodes.get(key)
        return None if node is None else node_item(node, self._door)

    def about(self) -> Item:
        """Return the state of the cluster as a whole.

        The keys are "context", "server", "example", "state" and "scopes". "example" is a pattern of a service's URL.
        """
        scopes = self._view.scopes
        return {
            "context": self._door.context,
            "server": self._door.server,
            "example": self._door.host_url(Target("services", "name", "namespace")),
            "state": state_json(self._view.state),
            "scopes": {kind: scope_json(scopes, kind) for kind in KINDS},
        }

    async def snapshot(self) -> bytes:
        """Return everything as one JSON object: `about`, and {"version", "items"}.

        Before the cluster has answered for the first time, this waits for `FIRST_ANSWERS` seconds at most.
        """
        await self._first_answers()
        await self.refresh()
        about = _encoder.encode({**self.about(), "version": self.version})
        return about[:-1] + b',"items":[' + b",".join(self._items.values()) + b"]}"

    async def _first_answers(self) -> None:
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            async with asyncio.timeout(FIRST_ANSWERS):
                while self._view.state.name == "connecting":
                    waker.clear()
                    await waker.wait()
        except TimeoutError:
            return  # the page displays `state`, which says that the cluster has not answered yet
        finally:
            self._wakers.discard(waker)

    async def follow(self) -> AsyncGenerator[bytes]:
        """Yield server-sent events for one page, without end.

        An event `about` has the result of the method `about`; it comes first, and again after each change of the
        result. An event `items` has {"put": [item], "gone": [key]}. When all items are sent, an event `begin` comes
        before them and `synced` {"version"} after them; the page then removes all other items. Comments are heartbeats.
        """
        waker = asyncio.Event()
        self._wakers.add(waker)
        try:
            about = b""
            sent: int | None = None
            complete = False
            while True:
                waker.clear()
                if (now := _encoder.encode(self.about())) != about:
                    about = now
                    yield _event("about", about)
                await self.refresh(_SEND)
                before, names = sent, self._since(sent)
                sent = self.version
                if names is None:
                    complete = False
                    yield _event("begin", b"{}")
                    names = list(self._items)
                for message in self._messages(names):
                    yield message
                if self._dirty:
                    continue
                if not complete:
                    complete = True
                    yield _event("synced", b'{"version":%d}' % sent)
                if before != sent:
                    await asyncio.sleep(INTERVAL)
                while not waker.is_set():
                    try:
                        await asyncio.wait_for(waker.wait(), HEARTBEAT)
                    except TimeoutError:
                        yield b":\n\n"
        finally:
            self._wakers.discard(waker)

    def _since(self, version: int | None) -> list[str] | None:
        """Return the items that changed after `version`, each once; None when all must be sent.

        version: None when nothing was sent before.
        """
        if version is None:
            return None
        if version == self.version:
            return []
        if self._changes[0][0] > version + 1:
            return None
        found: dict[str, None] = {}
        for changed, name in reversed(self._changes):
            if changed <= version:
                break
            found[name] = None
        return list(reversed(found))

    def _messages(self, names: list[str]) -> Iterable[bytes]:
        for start in range(0, len(names), _SEND):
            chunk = names[start : start + _SEND]
            put = b",".join(self._items[name] for name in chunk if name in self._items)
            gone = _encoder.encode([name for name in chunk if name not in self._items])
            yield _event("items", b'{"put":[' + put + b'],"gone":' + gone + b"}")


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
