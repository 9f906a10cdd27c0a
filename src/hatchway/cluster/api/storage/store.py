"""The store of all objects. Objects are kept in memory; every acknowledged change is also in SQLite.

One thread writes. It commits all waiting changes in one transaction (group commit), so that many writers share one
fsync. A change is acknowledged, shown to readers and sent to watches only after its transaction is on disk (WAL,
synchronous=FULL), in the order of resourceVersions. Everything but the SQL runs on the event loop.

All resources share one counter for their resourceVersions, like etcd's revision. The counter is stored with every
transaction, so no version is used twice, even after a crash.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import msgspec

from hatchway.cluster.api.storage import storefile
from hatchway.cluster.api.storage.history import Event, EventType, History
from hatchway.cluster.api.storage.storefile import Fault
from hatchway.cluster.api.work import HEAVY, check_object
from hatchway.errors import ApiError, already_exists, bad_request, conflict, internal, not_found
from hatchway.kube.api import Object

__all__ = ["Event", "Store", "StoreKey"]

StoreKey = tuple[str, str, str]  # (resource, namespace, name); namespace "" for a cluster-scoped object
StoreCallback = Callable[[EventType, Object | None, Object | None], None]

# The history of each resource has at least this many events (fewer if they are large), and at most twice as many. A
# watch that needs older events expires. An event of a pod takes some 20 KB with both states of the pod.
HISTORY = 1024


class ChangeCount:
    """Counts committed changes, except those of some resources.

    Attributes:
        value: the number of changes so far.
    """

    __slots__ = ("ignored", "value")

    def __init__(self, ignored: frozenset[str]) -> None:
        self.ignored = ignored
        self.value = 0


@dataclass(slots=True)
class _Write:
    key: StoreKey
    type: EventType
    revision: int
    old: Object | None
    new: Object  # of a deletion: the last state with the deletion's resourceVersion
    data: bytes  # `new` as JSON
    done: asyncio.Future[Object]


_Batch = list[_Write]
_Objects = list[Object]
_Names = list[str]
_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class Store:
    """The objects of the cluster. Create it with `Store.open`; one event loop uses it.

    Objects that it returns or takes are shared by all readers and must not be changed in place.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        revision: int,
        objects: dict[str, dict[str, dict[str, Object]]],
        weights: dict[str, dict[tuple[str, str], int]] | None = None,
    ) -> None:
        self._connection = connection
        self._objects = objects
        # The sorted names in each namespace, cached after its first list.
        self._names: dict[tuple[str, str], list[str]] = {}
        # Sizes of the large objects (bytes of JSON), by resource and (namespace, name), including writes in progress.
        self._weights = weights if weights is not None else {}
        self._allocated = revision
        self.revision = revision
        self._started_at = revision
        # For each object with writes that are not on disk yet: the last of these writes.
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
        self._subscribers: dict[str, list[StoreCallback]] = {}
        self._counts: list[ChangeCount] = []
        self._jobs: SimpleQueue[_Batch | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write_forever, name="store-writer", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    @classmethod
    def open(cls, path: Path | None, fault: Fault = lambda *_: "", *, durable: bool = True) -> Store:
        """Open or create the store at `path` (None: in memory only) and read everything.

        fault: returns the reason why an object cannot be used; "" for a usable object. Unusable objects are set aside.
        durable: False for a store that is not needed after a crash of the machine. Its writes do not wait for the disk.

        Raises HatchwayError when the file cannot be opened or is not a store of Hatchway.
        """
        loaded = storefile.load(path, fault, durable=durable)
        return cls(loaded.connection, loaded.revision, loaded.objects, loaded.weights)

    # Reading

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return the committed object, or None."""
        return self._objects.get(resource, {}).get(namespace, {}).get(name)

    def list(self, resource: str, namespace: str | None = None) -> _Objects:
        """Return the committed objects, sorted by namespace and name. namespace: None for all namespaces."""
        spaces = self._objects.get(resource)
        if not spaces:
            return []
        chosen = sorted(spaces) if namespace is None else [namespace] if namespace in spaces else []
        return [spaces[one][name] for one in chosen for name in self._sorted(resource, one, spaces[one])]

    def _sorted(self, resource: str, namespace: str, space: dict[str, Object]) -> _Names:
        names = self._names.get((resource, namespace))
        if names is None:
            names = self._names[resource, namespace] = sorted(space)
        return names

    def weight(self, resource: str, namespace: str, name: str) -> int:
        """Return the JSON size of an object's latest state if it is large; 0 if it is small or does not exist."""
        weights = self._weights.get(resource)
        return weights.get((namespace, name), 0) if weights else 0

    def has_large(self, resource: str) -> bool:
        """Return True when any object of the resource is large."""
        return bool(self._weights.get(resource))

    def latest(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return the object as it will be once all current writes are on disk; None when it will be deleted.

        Changes start from this state.
        """
        key = (resource, namespace, name)
        write = self._pending.get(key)
        if write is None:
            return self.get(*key)
        return None if write.type == "DELETED" else write.new

    def pending(self, resource: str | None) -> Iterator[tuple[StoreKey, Object | None]]:
        """Yield the keys that are being written, each with the object as it will be; None when it will be deleted.

        resource: None for all resources.
        """
        for key, write in self._pending.items():
            if resource is None or key[0] == resource:
                yield key, None if write.type == "DELETED" else write.new

    def history(self, resource: str) -> History:
        """Return the latest events of a resource, for watches."""
        found = self._histories.get(resource)
        if found is None:
            # No change of this resource was forgotten since the start, so watches can begin at any version since then.
            found = self._histories[resource] = History(self._started_at, HISTORY)
            if self._unwatched:
                found.close()
        return found

    async def wait_for_revision(self, revision: int, seconds: float) -> bool:
        """Wait at most `seconds` until the store has reached a revision. Return True if it has."""
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
        """End all watches, also those that have not begun yet. Reads and writes continue to work."""
        self._unwatched = True
        for history in self._histories.values():
            history.close()

    def end_watches_of(self, resource: str) -> None:
        """End the watches of a resource that is no longer served."""
        history = self._histories.pop(resource, None)
        if history is not None:
            history.close()

    def subscribe(self, resource: str, callback: StoreCallback) -> Callable[[], None]:
        """Call `callback(type, old, new)` on the event loop after each committed change of a resource, in order.

        old: None when the object was added. new: None when it was deleted. The callback must be quick and must not
        raise. Returns a function that ends the subscription.
        """
        callbacks = self._subscribers.setdefault(resource, [])
        callbacks.append(callback)
        return lambda: callbacks.remove(callback) if callback in callbacks else None

    def count_changes(self, ignored: frozenset[str]) -> ChangeCount:
        """Return a counter of the changes from now on. ignored: resources whose changes are not counted."""
        self._counts.append(ChangeCount(ignored))
        return self._counts[-1]

    # Writing

    async def create(self, resource: str, obj: Object) -> Object:
        """Store a new object under the namespace and name in its metadata. Return it with its resourceVersion.

        Raises ApiError 409 when it exists, 413 when it is too large, 500 when it cannot be written.
        """
        key = _key(resource, obj)
        if self.latest(*key) is not None:
            plural, _, group = resource.partition(".")
            raise already_exists(plural, key[2], group)
        return await self._submit(key, "ADDED", None, obj)

    async def update(self, resource: str, obj: Object, old: Object, *, bounded: bool = True) -> Object:
        """Replace `old` (an object that `latest` returned) with `obj`. Return `obj` with its resourceVersion.

        bounded: False for changes that must be possible at any size, such as marking an object as deleted.

        Raises ApiError 404, 409 when `old` is no longer the latest, 413 when it is too large, 500 when it cannot be
        written.
        """
        key = _key(resource, obj)
        self._check(key, old)
        return await self._submit(key, "MODIFIED", old, obj, bounded)

    def begin_update(self, resource: str, obj: Object, old: Object) -> None:
        """Replace `old` with `obj` without waiting for the disk: `latest` returns the new object at once.

        A later write is never on disk before this one, and fails when this one fails. Raises like `update`, except
        when the write to the disk fails.
        """
        key = _key(resource, obj)
        self._check(key, old)
        # The exception is retrieved, so that asyncio does not report an error of the disk a second time.
        self._submit(key, "MODIFIED", old, obj).add_done_callback(lambda done: done.cancelled() or done.exception())

    async def delete(self, resource: str, old: Object) -> Object:
        """Remove `old` (an object that `latest` returned). Raises like `update`.

        Returns the object's last state with the resourceVersion of the deletion.
        """
        key = _key(resource, old)
        self._check(key, old)
        return await self._submit(key, "DELETED", old, old, False)

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

    def _submit(
        self, key: StoreKey, type: EventType, old: Object | None, obj: Object, bounded: bool = True
    ) -> asyncio.Future[Object]:
        if self._closed:
            raise internal("the store is closed")
        loop = self._start()
        revision = self._allocated + 1
        new = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(revision)}}
        try:
            data = _encode(new)
        except (ValueError, TypeError, OverflowError) as error:
            raise bad_request(f"the object cannot be stored as JSON: {error}") from error
        if len(data) >= HEAVY and type != "DELETED":
            if bounded:
                check_object(data, new["metadata"].get("managedFields"))
            self._weights.setdefault(key[0], {})[key[1:]] = len(data)
        self._allocated = revision
        write = _Write(key, type, revision, old, new, data, loop.create_future())
        self._pending[key] = write
        self._queue.append(write)
        if not self._writing and not self._scheduled:
            # The transaction begins after this turn of the loop, so that it has all changes of the turn.
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
                return  # the loop was closed without closing the store

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
                    # On a full disk, SQLite rolls back by itself; the next "begin" shows whether the file is usable
                    # again.
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
        # Queued changes may start from a change that has failed. So they fail, too. Objects in memory are unchanged.
        batch = batch + self._queue
        self._queue = []
        self._pending.clear()
        for write in batch:
            if self.get(*write.key) is None:
                self._remove_weight(write.key)
            if not write.done.done():
                write.done.set_exception(_storage_error(error))

    def _apply(self, write: _Write) -> None:
        resource, namespace, name = write.key
        space = self._objects.setdefault(resource, {}).setdefault(namespace, {})
        removed = write.type == "DELETED"
        names = self._names.get((resource, namespace))
        if removed:
            if space.pop(name, None) is not None and names is not None:
                del names[bisect_left(names, name)]
        else:
            if name not in space and names is not None:
                insort(names, name)
            space[name] = write.new
        self.revision = write.revision
        for count in self._counts:
            if resource not in count.ignored:
                count.value += 1
        if self._pending.get(write.key) is write:
            del self._pending[write.key]
            if len(write.data) < HEAVY or removed:
                self._remove_weight(write.key)
        self.history(resource).append(Event(write.type, write.revision, write.old, write.new, len(write.data)))
        for callback in tuple(self._subscribers.get(resource, ())):
            try:
                callback(write.type, write.old, None if removed else write.new)
            except Exception:  # noqa: BLE001  the other callbacks must still be called
                _log.exception("a callback for changes of %s failed", resource)

    def _remove_weight(self, key: StoreKey) -> None:
        weights = self._weights.get(key[0])
        if weights:
            weights.pop(key[1:], None)

    async def close(self) -> None:
        """Finish the writes in progress, then close the file. Later writes fail."""
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
