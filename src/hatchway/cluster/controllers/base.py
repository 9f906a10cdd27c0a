"""What every controller stands on: a queue of keys, watched caches, and a loop that reconciles one key at a time.

The shape is client-go's (`util/workqueue`, `tools/cache`): watch events put keys into a queue, workers take a key and
bring the world to where its object says it should be. `reconcile` must be idempotent; whatever it raises is retried
with back-off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeVar

from hatchway.cluster import plan, watchdog
from hatchway.cluster.controllers.objects import Key, key_of, now, uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.informer import Informer
from hatchway.numerals import parse_int

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)

_FIRST_RETRY, _LAST_RETRY = 0.005, 30.0
# How long a reconcile waits for the cache to show its own writes. The cache is a function call away; past this
# something is badly wrong, and a late retry is safer than acting on what is known to be stale.
_CATCH_UP_SECONDS = 30.0
# A reconcile that takes longer is ended and tried again later.
_DEADLINE_SECONDS = 120.0
# A key that is taken more often than this within so many seconds goes in a circle: from then on it waits between turns.
_WINDOW_SECONDS, _WINDOW_RUNS = 10.0, 1000
_SLOWED_SECONDS = 0.5


class WorkQueue(Generic[K]):
    """Keys waiting for a worker, each at most once; a key is never with two workers at a time.

    A key that comes back without end is slowed down, so that two controllers that undo each other's work, or objects
    that point at each other, cost little and hold up no others. name: of the controller, for logs.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name
        self._runs: dict[K, int] = {}
        self._window = 0.0
        self._ready: deque[K] = deque()
        self._waiting: set[K] = set()
        self._busy: set[K] = set()
        self._wake = asyncio.Event()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is with a worker (keys due later do not count)."""
        return not self._waiting and not self._busy

    def add(self, key: K) -> None:
        """Queue a key now. One that is with a worker comes again when that worker is done."""
        if self._runs.get(key, 0) > _WINDOW_RUNS and self._slow_down(key):
            return
        self._drop_timer(key)
        if key in self._waiting:
            return
        self._waiting.add(key)
        if key not in self._busy:
            self._ready.append(key)
            self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Queue a key later; an earlier date that was given before stays."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None and timer.when() <= loop.time() + seconds:
            return
        self._drop_timer(key)
        self._timers[key] = loop.call_later(seconds, self._due, key)

    def retry(self, key: K) -> float:
        """Queue a key again after its own, growing back-off; returns the seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        seconds = min(_FIRST_RETRY * 2.0 ** min(failures, 30), _LAST_RETRY)
        self.add_after(key, seconds)
        return seconds

    def forget(self, key: K) -> None:
        """The key went well: its next failure starts the back-off anew."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next key, which is busy until `done`."""
        while not self._ready:
            self._wake.clear()
            await self._wake.wait()
        key = self._ready.popleft()
        self._waiting.discard(key)
        self._busy.add(key)
        self._count(key)
        return key

    def _count(self, key: K) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._window > _WINDOW_SECONDS:
            self._window = now
            self._runs.clear()
        self._runs[key] = self._runs.get(key, 0) + 1

    def _slow_down(self, key: K) -> bool:
        """Put off a key that was taken too often; False when it has waited already."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._window > _WINDOW_SECONDS:
            return False
        if self._runs[key] == _WINDOW_RUNS + 1:
            self._runs[key] += 1
            log.warning(
                "%s: %s was reconciled %d times in %.0f s; it is slowed down",
                self._name,
                key,
                _WINDOW_RUNS,
                loop.time() - self._window,
            )
        if key not in self._timers and key not in self._waiting:
            self._timers[key] = loop.call_later(_SLOWED_SECONDS, self._due, key, True)
        return True

    def _due(self, key: K, slowed: bool = False) -> None:
        """The time of a key has come. slowed: it was put off, and is not put off again."""
        self._timers.pop(key, None)
        if not slowed:
            self.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            if key not in self._busy:
                self._ready.append(key)
                self._wake.set()

    def done(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._waiting:
            self._ready.append(key)
            self._wake.set()

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _drop_timer(self, key: K) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()


# (type, object, the object before or None)
Changed = Callable[[str, Object, "Object | None"], None]


class Cache:
    """One watched resource, shared by all controllers, indexed by namespace. Objects in it are never changed."""

    def __init__(self, client: Client, resource: str) -> None:
        self.resource = resource
        self._informer = Informer(client, resource)
        self._namespaces: dict[str, dict[str, Object]] = {}
        self._version = 0
        self._subscribers: list[Changed] = []
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._informer.subscribe(self._apply)

    async def run(self) -> None:
        await self._informer.run()

    async def synced(self) -> None:
        await self._informer.synced()

    def subscribe(self, changed: Changed) -> None:
        """Call `changed` for each change from now on, and at once as ADDED for what is known already."""
        for obj in list(self):
            changed("ADDED", obj, None)
        self._subscribers.append(changed)

    def __iter__(self) -> Iterator[Object]:
        for items in self._namespaces.values():
            yield from items.values()

    def get(self, key: Key) -> Object | None:
        return self._namespaces.get(key[0], {}).get(key[1])

    def in_namespace(self, namespace: str) -> list[Object]:
        return list(self._namespaces.get(namespace, {}).values())

    async def shows(self, obj: Object) -> None:
        """Wait until the cache is at least as new as `obj`, an answer to a write of this resource."""
        version = _version(obj)
        await self._until(lambda: self._version >= version)

    async def shows_deletion(self, obj: Object) -> None:
        """Wait until `obj` is gone from the cache or marked as being deleted."""
        key, uid = key_of(obj), uid_of(obj)

        def gone() -> bool:
            found = self.get(key)
            return found is None or uid_of(found) != uid or "deletionTimestamp" in found["metadata"]

        await self._until(gone)

    async def _until(self, condition: Callable[[], bool]) -> None:
        if condition():
            return
        waiter = (condition, asyncio.get_running_loop().create_future())
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                await waiter[1]
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)

    def _apply(self, kind: str, obj: Object) -> None:
        namespace, name = key_of(obj)
        items = self._namespaces.setdefault(namespace, {})
        before = items.get(name)
        if kind == "DELETED":
            items.pop(name, None)
            if not items:
                del self._namespaces[namespace]
        else:
            items[name] = obj
        self._version = max(self._version, _version(obj))
        for changed in self._subscribers:
            try:
                with watchdog.section(f"a subscriber to {self.resource}"):
                    changed(kind, obj, before)
            except Exception:
                # An object that one controller cannot read must not hide it, and all others, from the rest.
                log.exception("a subscriber to %s failed on %s/%s", self.resource, namespace, name)
        for waiter in [waiter for waiter in self._waiters if waiter[0]()]:
            self._waiters.remove(waiter)
            if not waiter[1].done():
                waiter[1].set_result(None)


def _version(obj: Object) -> int:
    return parse_int(obj["metadata"].get("resourceVersion")) or 0


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """What the controllers must be told.

    ca_certificate: PEM of the cluster's CA, published in every namespace. resources: where objects of (API group,
    kind) live, for all that are stored; namespaced ones are emptied when a namespace goes. The times (seconds) are
    kube-controller-manager's defaults.
    """

    ca_certificate: str = ""
    resources: dict[tuple[str, str], str] = field(default_factory=lambda: dict(RESOURCES))
    node_monitor_grace: float = 40.0
    eviction_after: float = 300.0
    orphan_grace: float = 40.0
    cluster_domain: str = plan.CLUSTER_DOMAIN


# The types of this release. The server passes its registry's when it knows more.
RESOURCES: dict[tuple[str, str], str] = {
    ("", "Namespace"): "namespaces",
    ("", "Node"): "nodes",
    ("", "Pod"): "pods",
    ("", "Service"): "services",
    ("", "Endpoints"): "endpoints",
    ("", "ConfigMap"): "configmaps",
    ("", "Secret"): "secrets",
    ("", "ServiceAccount"): "serviceaccounts",
    ("", "Event"): "events",
    ("discovery.k8s.io", "EndpointSlice"): "endpointslices.discovery.k8s.io",
    ("coordination.k8s.io", "Lease"): "leases.coordination.k8s.io",
    ("apps", "Deployment"): "deployments.apps",
    ("apps", "ReplicaSet"): "replicasets.apps",
    ("rbac.authorization.k8s.io", "Role"): "roles.rbac.authorization.k8s.io",
    ("rbac.authorization.k8s.io", "RoleBinding"): "rolebindings.rbac.authorization.k8s.io",
    ("rbac.authorization.k8s.io", "ClusterRole"): "clusterroles.rbac.authorization.k8s.io",
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): "clusterrolebindings.rbac.authorization.k8s.io",
}


class Recorder(Protocol):
    """What controllers need of `kube.events.EventRecorder`."""

    def event(self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str) -> None: ...


class Context:
    """What controllers share: the client, the configuration, one cache per resource, the clock.

    recorder: gives the recorder of Events of a component.
    """

    def __init__(
        self,
        client: Client,
        config: ControllerConfig,
        recorder: Callable[[str], Recorder],
        clock: Callable[[], datetime] = now,
    ) -> None:
        self.client = client
        self.config = config
        self.recorder = recorder
        self.now = clock
        self.caches: dict[str, Cache] = {}

    def cache(self, resource: str) -> Cache:
        found = self.caches.get(resource)
        if found is None:
            found = self.caches[resource] = Cache(self.client, resource)
        return found


class Controller:
    """A controller: subclasses subscribe to caches in `__init__`, putting keys into `queue`, and write `reconcile`."""

    name = ""
    workers = 4
    # Seconds that one reconcile may take.
    deadline = _DEADLINE_SECONDS

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client = context.client
        self.queue: WorkQueue[Any] = WorkQueue(self.name)

    async def reconcile(self, key: Any) -> float | None:
        """Bring the world to what the object `key` asks for. Returns seconds after which to look again, or None."""
        raise NotImplementedError

    def enqueue(self, obj: Object) -> None:
        self.queue.add(key_of(obj))

    def enqueue_changed(self, _kind: str, obj: Object, _before: Object | None) -> None:
        """A cache's subscriber that queues the object itself."""
        self.queue.add(key_of(obj))

    async def run(self) -> None:
        """Work until cancelled. The caches must be running."""
        for cache in list(self.context.caches.values()):
            await cache.synced()
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(self.workers):
                    group.create_task(self._work(), name=f"{self.name} {number}")
        finally:
            self.queue.close()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            try:
                async with asyncio.timeout(self.deadline) as limit:
                    again = await watchdog.guarded(self.reconcile(key), f"{self.name}: {key}")
            except TimeoutError as error:
                seconds = self.queue.retry(key)
                why = f"took longer than {self.deadline:.0f} s and was ended" if limit.expired() else f"failed: {error}"
                log.error("%s: %s %s; again in %.3f s", self.name, key, why, seconds)
            except ApiError as error:
                seconds = self.queue.retry(key)
                # A conflict only says that the cache is a moment behind.
                level = logging.DEBUG if error.code in (404, 409) else logging.WARNING
                log.log(level, "%s: %s: %s; again in %.3f s", self.name, key, error.message, seconds)
            except Exception:
                seconds = self.queue.retry(key)
                log.exception("%s: %s failed; again in %.3f s", self.name, key, seconds)
            else:
                self.queue.forget(key)
                if again is not None:
                    self.queue.add_after(key, again)
            finally:
                self.queue.done(key)
            # A reconcile that waits for nothing, and a queue that is never empty, must leave the others their turn.
            await asyncio.sleep(0)


async def supervise(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run something that should never end; log its end and start it again with back-off, until cancelled."""
    wait = 0.1
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await run()
            log.error("%s has ended; it is started again", name)
        except Exception:
            log.exception("%s has failed; it is started again in %.1f s", name, wait)
        if loop.time() - started > 60:
            wait = 0.1
        await asyncio.sleep(wait)
        wait = min(wait * 2, 30.0)
