"""Where the objects live: all of them in memory, every acknowledged change in SQLite.

One thread writes. It takes whatever is waiting as one transaction (group commit), so that many writers share one
fsync; a change is acknowledged, shown to readers and sent to watchers only after its transaction is on disk
(WAL, synchronous=FULL), in the order of resourceVersions. Everything but the SQL runs on the event loop.

resourceVersions are one counter for all resources, as etcd's revision: persisted with every transaction, so that a
version is never given twice, not even after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import msgspec

from hatchway.cluster.api import storefile
from hatchway.cluster.api.history import Event, EventType, History
from hatchway.cluster.api.storefile import Fault
from hatchway.errors import ApiError, already_exists, bad_request, conflict, internal, not_found
from hatchway.kube.api import Object

__all__ = ["Event", "Store", "StoreKey"]

StoreKey = tuple[str, str, str]  # (resource, namespace, name); namespace "" for what has none
Callback = Callable[[EventType, Object | None, Object | None], None]

_SERVICE_NAME = "kubernetes.io/service-name"
_SLICES = "endpointslices.discovery.k8s.io"
# So many of the latest events of a resource are kept at least, and twice as many at most; watches from before them
# expire. An event of a pod takes some 20 KB with both of its objects.
HISTORY = 1024


@dataclass(slots=True)
class _Write:
    key: StoreKey
    type: EventType
    revision: int
    old: Object | None
    new: Object  # of a deletion: the last state with the deletion's resourceVersion
    data: bytes  # `new` as it is written
    done: asyncio.Future[Object]


_Batch = list[_Write]
_Objects = list[Object]
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class Store:
    """All objects of the cluster. Create it with `Store.open`; one event loop uses it.

    Objects handed out and taken in are shared with every reader: nobody changes them in place.
    """

    def __init__(
        self, connection: sqlite3.Connection, revision: int, objects: dict[str, dict[str, dict[str, Object]]]
    ) -> None:
        self._connection = connection
        self._objects = objects
        self._allocated = revision
        self.revision = revision
        self._started_at = revision
        # The last write of each object that is not on disk yet.
        self._pending: dict[StoreKey, _Write] = {}
        self._queue: _Batch = []
        self._writing: _Batch = []
        self._scheduled = False
        self._closed = False
        # Why the last write failed; "" while writes succeed (for health checks).
        self.problem = ""
        self._histories: dict[str, History] = {}
        self._revision_waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._unwatched = False
        self._subscribers: dict[str, list[Callback]] = {}
        self._slices: dict[tuple[str, str], dict[str, Object]] = {}
        for obj in self.list(_SLICES):
            self._index_slice(None, obj)
        self._jobs: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(cls, path: Path | None, fault: Fault = lambda *_: "") -> Store:
        """Open or make the store at `path` (None: in memory only) and read everything.

        fault: tells which objects cannot be used; they are set aside. Raises HatchwayError when the file cannot be
        opened or is no store of Hatchway.
        """
        loaded = storefile.load(path, fault)
        return cls(loaded.connection, loaded.revision, loaded.objects)

    # Reading

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """The committed object, or None."""
        return self._objects.get(resource, {}).get(namespace, {}).get(name)

    def list(self, resource: str, namespace: str | None = None) -> _Objects:
        """The committed objects in the order of namespace and name; `namespace` None: of all namespaces."""
        spaces = self._objects.get(resource)
        if not spaces:
            return []
        chosen = sorted(spaces) if namespace is None else [namespace] if namespace in spaces else []
        return [space[name] for space in map(spaces.__getitem__, chosen) for name in sorted(space)]

    def latest(self, resource: str, namespace: str, name: str) -> Object | None:
        """The object as it will be once everything that is now being written is on disk: what a change builds on."""
        key = (resource, namespace, name)
        write = self._pending.get(key)
        if write is None:
            return self.get(*key)
        return None if write.type == "DELETED" else write.new

    def latest_all(self, resource: str) -> Iterator[Object]:
        """All objects as `latest` gives them, in no order (for allocators)."""
        pending = {key: write for key, write in self._pending.items() if key[0] == resource}
        for write in pending.values():
            if write.type != "DELETED":
                yield write.new
        for namespace, space in self._objects.get(resource, {}).items():
            for name, obj in space.items():
                if (resource, namespace, name) not in pending:
                    yield obj

    def endpoint_slices(self, namespace: str, service: str) -> _Objects:
        """The EndpointSlices of a service, by their label kubernetes.io/service-name."""
        return [*self._slices.get((namespace, service), {}).values()]

    def history(self, resource: str) -> History:
        """The latest events of a resource, for watches."""
        found = self._histories.get(resource)
        if found is None:
            # Nothing of this resource was changed and forgotten since the start, so every version since then can be watched.
            found = self._histories[resource] = History(self._started_at, HISTORY)
            if self._unwatched:
                found.close()
        return found

    async def reach(self, revision: int, seconds: float) -> bool:
        """Wait until the store has a revision, for some seconds at most. Returns whether it has."""
        if revision <= self.revision:
            return True
        waiter = asyncio.get_running_loop().create_future()
        self._revision_waiters.append((revision, waiter))
        try:
            await asyncio.wait_for(waiter, seconds)
        except TimeoutError:
            return revision <= self.revision
        finally:
            self._revision_waiters = [one for one in self._revision_waiters if one[1] is not waiter]
        return True

    def end_watches(self) -> None:
        """End every watch, those that have not begun yet too. Reading and writing go on."""
        self._unwatched = True
        for history in self._histories.values():
            history.close()

    def subscribe(self, resource: str, callback: Callback) -> Callable[[], None]:
        """Call `callback(type, old, new)` on the event loop after each commit, in order (`old` None when added, `new`
        None when deleted). It must be quick and not raise. Returns a function that ends the subscription."""
        callbacks = self._subscribers.setdefault(resource, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    # Writing

    async def create(self, resource: str, obj: Object) -> Object:
        """Store a new object under its metadata's namespace and name. Raises ApiError 409 when it exists, 500 when it
        cannot be written."""
        key = _key(resource, obj)
        if self.latest(*key) is not None:
            plural, _, group = resource.partition(".")
            raise already_exists(plural, key[2], group)
        return await self._submit(key, "ADDED", None, obj)

    async def update(self, resource: str, obj: Object, old: Object) -> Object:
        """Replace `old` (an object that `latest` gave) with `obj`. Raises ApiError 404, 409 when it is no longer the
        latest, 500 when it cannot be written."""
        key = _key(resource, obj)
        self._check(key, old)
        return await self._submit(key, "MODIFIED", old, obj)

    async def delete(self, resource: str, old: Object) -> Object:
        """Remove `old` (an object that `latest` gave). Returns its last state with the resourceVersion of the deletion.
        Raises like `update`."""
        key = _key(resource, old)
        self._check(key, old)
        return await self._submit(key, "DELETED", old, old)

    def _check(self, key: StoreKey, old: Object) -> None:
        current = self.latest(*key)
        if current is old:
            return
        plural, _, group = key[0].partition(".")
        if current is None:
            raise not_found(plural, key[2], group)
        raise conflict(
            plural,
            key[2],
            "the object has been modified; please apply your changes to the latest version and try again",
            group,
        )

    def _submit(self, key: StoreKey, type: EventType, old: Object | None, obj: Object) -> asyncio.Future[Object]:
        if self._closed:
            raise internal("the store is closed")
        loop = self._start()
        revision = self._allocated + 1
        new = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        try:
            data = _encode(new)
        except (ValueError, TypeError, OverflowError) as error:
            raise bad_request(f"the object cannot be stored as JSON: {error}") from error
        self._allocated = revision
        write = _Write(key, type, revision, old, new, data, loop.create_future())
        self._pending[key] = write
        self._queue.append(write)
        if not self._writing and not self._scheduled:
            # At the end of this turn of the loop, so that what is written in the same turn shares the transaction.
            self._scheduled = True
            loop.call_soon(self._flush)
        return asyncio.shield(write.done)

    def _start(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        return self._loop

    def _flush(self) -> None:
        self._scheduled = False
        if self._queue and not self._writing:
            self._writing, self._queue = self._queue, []
            self._jobs.put(self._writing)

    def _write_forever(self) -> None:
        assert self._loop is not None
        while (batch := self._jobs.get()) is not None:
            error = self._commit(batch)
            try:
                self._loop.call_soon_threadsafe(self._committed, batch, error)
            except RuntimeError:
                return  # the loop was closed without closing the store: nobody is left to be told

    def _commit(self, batch: _Batch) -> Exception | None:
        execute = self._connection.execute
        try:
            execute("begin immediate")
            for write in batch:
                if write.type == "DELETED":
                    execute("delete from objects where resource = ? and namespace = ? and name = ?", write.key)
                else:
                    execute(
                        "insert into objects (resource, namespace, name, revision, data) values (?, ?, ?, ?, ?)"
                        " on conflict do update set revision = excluded.revision, data = excluded.data",
                        (*write.key, write.revision, write.data),
                    )
            execute(
                "insert into meta values ('revision', ?) on conflict do update set value = excluded.value",
                (batch[-1].revision,),
            )
            execute("commit")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                try:
                    execute("rollback")
                except sqlite3.Error:
                    # A full disk rolls back by itself; the next "begin" tells whether the file is usable again.
                    return error
            return error
        return None

    def _committed(self, batch: _Batch, error: Exception | None) -> None:
        self._writing = []
        self.problem = str(error) if error is not None else ""
        if error is not None:
            self._fail(batch, error)
            return
        for write in batch:
            self._apply(write)
            if not write.done.done():
                write.done.set_result(write.new)
        for revision, waiter in self._revision_waiters:
            if revision <= self.revision and not waiter.done():
                waiter.set_result(None)
        if self._queue:
            self._flush()

    def _fail(self, batch: _Batch, error: Exception) -> None:
        # What waits was built on what has just failed, so it fails too; memory never moved.
        batch = batch + self._queue
        self._queue = []
        self._pending.clear()
        for write in batch:
            if not write.done.done():
                write.done.set_exception(_storage_error(error))

    def _apply(self, write: _Write) -> None:
        resource, namespace, name = write.key
        space = self._objects.setdefault(resource, {}).setdefault(namespace, {})
        removed = write.type == "DELETED"
        if removed:
            space.pop(name, None)
        else:
            space[name] = write.new
        self.revision = write.revision
        if self._pending.get(write.key) is write:
            del self._pending[write.key]
        if resource == _SLICES:
            self._index_slice(write.old, None if removed else write.new)
        self.history(resource).append(Event(write.type, write.revision, write.old, write.new, len(write.data)))
        for callback in tuple(self._subscribers.get(resource, ())):
            try:
                callback(write.type, write.old, None if removed else write.new)
            except Exception:  # noqa: BLE001  an index that fails must not keep others from hearing of the change
                _log.exception("an index over %s failed", resource)

    def _index_slice(self, old: Object | None, new: Object | None) -> None:
        for obj in (old, new):
            if obj is None:
                continue
            metadata = obj["metadata"]
            service = (metadata.get("labels") or {}).get(_SERVICE_NAME)
            if service is None:
                continue
            slices = self._slices.setdefault((metadata["namespace"], service), {})
            if obj is new:
                slices[metadata["name"]] = obj
            else:
                slices.pop(metadata["name"], None)

    async def close(self) -> None:
        """Finish what is being written, then close the file. Writes after this fail."""
        if self._closed:
            return
        self._closed = True
        self.problem = "the store is closed"
        if self._loop is not None:
            while self._queue or self._writing:
                pending = [write.done for write in (*self._writing, *self._queue)]
                self._flush()
                await asyncio.wait(pending)
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
        self.end_watches()
        self._connection.close()


def _key(resource: str, obj: Object) -> StoreKey:
    metadata = obj["metadata"]
    return resource, metadata.get("namespace") or "", metadata["name"]


def _storage_error(error: Exception) -> ApiError:
    full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
    return internal("the disk is full: the change was not stored" if full else f"the change was not stored: {error}")
