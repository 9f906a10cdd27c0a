"""The base class of controllers, with their reconcile loop, and the objects that all controllers share.

It works like client-go: watch events put keys into a queue (`workqueue.py`). Workers take one key after the other, and
change the cluster until it matches the key's object, which is in a cache (`objectcache.py`). `reconcile` must be
idempotent: when it raises an exception, it is called again after a pause that gets longer each time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

from hatchway.cluster import plan, watchdog
from hatchway.cluster.controllers.metricsapis import MetricsApis, NoMetricsApis
from hatchway.cluster.controllers.objectcache import ObjectCache
from hatchway.cluster.controllers.objectfields import controller_of, is_deleting, now
from hatchway.cluster.controllers.podmetrics import FetchPodMetrics, unavailable
from hatchway.cluster.controllers.scheduling.deviceallocation import SelectDevice
from hatchway.cluster.controllers.servedtypes import ServedTypes
from hatchway.cluster.controllers.workqueue import WorkQueue
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import key_of

log = logging.getLogger(__name__)

# A reconcile that takes longer is cancelled and tried again later.
_DEADLINE_SECONDS = 120.0
# After a reconcile that took T seconds of processor time, its object is not reconciled for _REST * T seconds. This
# limits each object to a fifth of the event loop's time. Otherwise a Service with thousands of pods that end one after
# another would use all of this time.
_REST = 4


class VolumeDirectories(Protocol):
    """Makes and deletes directories of nodes, for volumes (`cluster/localvolumes.py`)."""

    def problem(self) -> str:
        """Return why no directories can be made or deleted; "" when they can."""
        ...

    def make(self, node: str, name: str) -> None:
        """Make a directory. Blocks. Raises OSError, ValueError."""
        ...

    def remove(self, node: str, name: str) -> None:
        """Delete a directory. Blocks. Raises OSError, ValueError."""
        ...


@dataclass(frozen=True, slots=True)
class ControllerConfig:
    """The settings of the controllers.

    ca_certificate: the certificate of the cluster's CA (PEM), which is published in every namespace.
    certificate_authority: the files of this CA's certificate and key, which sign certificate requests; None to sign
      no requests.
    types: the types that the cluster stores. When a namespace is deleted, its objects of all these types are deleted.
    scalable: (API group, kind) → resource, for each kind that has a Scale.
    pod_metrics: fetches the usage of pods. metrics_apis: reads other metrics, for autoscalers.
    ingress_controller: the ingress controller's name in IngressClasses; "" when it is switched off.
    ingress_manifests: the ingress controller's objects, each with its resource; empty when it is switched off.
    select_device: evaluates expressions that select devices; None to allocate no devices.
    volume_directories: makes the directories of the default StorageClass; None to provision no volumes.

    The times (seconds) and the tolerance of autoscalers are kube-controller-manager's defaults.
    """

    ca_certificate: str = ""
    certificate_authority: tuple[Path, Path] | None = None
    types: ServedTypes = field(default_factory=ServedTypes)
    scalable: Mapping[tuple[str, str], str] = field(default_factory=dict)
    node_monitor_grace: float = 40.0
    eviction_after: float = 300.0
    orphan_grace: float = 40.0
    cluster_domain: str = plan.CLUSTER_DOMAIN
    pod_metrics: FetchPodMetrics = unavailable
    metrics_apis: MetricsApis = field(default_factory=NoMetricsApis)
    autoscaler_sync: float = 15.0
    autoscaler_tolerance: float = 0.1
    downscale_stabilization: float = 300.0
    cpu_initialization: float = 300.0
    initial_readiness: float = 30.0
    ingress_controller: str = ""
    ingress_manifests: tuple[tuple[str, Object], ...] = ()
    volume_directories: VolumeDirectories | None = None
    select_device: SelectDevice | None = None


class Recorder(Protocol):
    """The part of `kube.events.EventRecorder` that controllers use."""

    def event(self, obj: Object, type: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Report an Event about `obj`. type, reason, message: as `kubectl describe` shows them."""
        ...


class ControllerContext:
    """The things that controllers share: the client, the configuration, one cache per resource, the clock.

    recorder: returns the recorder of Events for a component.
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
        self.caches: dict[str, ObjectCache] = {}
        self._start: Callable[[ObjectCache], None] | None = None
        self._stop: Callable[[str], None] | None = None

    def cache(self, resource: str) -> ObjectCache:
        """Return the cache of a resource (`deployments.apps`), which all controllers share. The first call makes it."""
        found = self.caches.get(resource)
        if found is None:
            found = self.caches[resource] = ObjectCache(self.client, resource)
            if self._start is not None:
                self._start(found)
        return found

    def run_caches(self, start: Callable[[ObjectCache], None], stop: Callable[[str], None]) -> None:
        """Call `start` for each cache, also for caches that are made later. stop: ends the watch of a resource."""
        self._start, self._stop = start, stop
        for cache in self.caches.values():
            start(cache)

    def drop_cache(self, resource: str) -> None:
        """Forget the cache of a resource that is no longer served."""
        if self.caches.pop(resource, None) is not None and self._stop is not None:
            self._stop(resource)


class Controller:
    """A controller. A subclass subscribes to caches in `__init__`, puts keys into `queue`, and defines `reconcile`."""

    name = ""
    workers = 4
    # Seconds that one reconcile may take.
    deadline = _DEADLINE_SECONDS

    def __init__(self, context: ControllerContext) -> None:
        self.context = context
        self.client = context.client
        self.queue: WorkQueue[Any] = WorkQueue(self.name)

    async def reconcile(self, key: Any) -> float | None:
        """Make the cluster match the object `key`. Return the seconds after which to reconcile it again, or None."""
        raise NotImplementedError

    def enqueue(self, obj: Object) -> None:
        """Queue the key (namespace, name) of `obj`."""
        self.queue.add(key_of(obj))

    def enqueue_changed(self, _kind: str, obj: Object, _before: Object | None) -> None:
        """Queue a changed object. This method can be passed to `ObjectCache.subscribe`."""
        self.queue.add(key_of(obj))

    def enqueue_owners(
        self,
        kind: str,
        owned: Object,
        before: Object | None,
        adopters: Callable[[Object], Iterable[Object]] = lambda _owned: (),
    ) -> None:
        """Queue the owners of a changed object: its controllers before and after the change.

        Args:
            kind: the kind of the owners that this controller reconciles.
            owned: the object after its change, or as it was when it was deleted.
            before: the object before its change; None for a new object.
            adopters: returns the objects that may adopt an object without a controller. They are queued, too.
        """
        for version in (owned, before):
            if version is None:
                continue
            ref = controller_of(version)
            if ref is not None:
                if ref.get("kind") == kind:
                    self.queue.add((version["metadata"]["namespace"], ref["name"]))
            elif not is_deleting(version):
                for owner in adopters(version):
                    self.enqueue(owner)

    async def run(self) -> None:
        """Reconcile keys until cancelled. The caches must be running."""
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
            spent = watchdog.WorkTime()
            try:
                async with asyncio.timeout(self.deadline) as limit:
                    again = await watchdog.guarded(self.reconcile(key), f"{self.name}: {key}", spent)
            except TimeoutError as error:
                seconds = self.queue.retry(key)
                why = f"took longer than {self.deadline:.0f} s and was ended" if limit.expired() else f"failed: {error}"
                log.error("%s: %s %s; again in %.3f s", self.name, key, why, seconds)
            except ApiError as error:
                seconds = self.queue.retry(key)
                # A conflict only means that the cache is not yet up to date.
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
                self.queue.done(key, spent.seconds * _REST)
            # Let other tasks run, even when no reconcile awaits anything and the queue is never empty.
            await asyncio.sleep(0)


async def supervise(
    name: str, run: Callable[[], Awaitable[None]], problems: MutableMapping[str, str] | None = None
) -> None:
    """Run a function that should never end, until cancelled. When it ends, log that, and start it again with back-off.

    problems: while the function does not run, `problems[name]` is the reason.
    """
    problems = {} if problems is None else problems
    wait = 0.1
    loop = asyncio.get_running_loop()
    while True:
        started = loop.time()
        try:
            await run()
            problems[name] = "it has ended"
            log.error("%s has ended; it is started again", name)
        except Exception as error:
            problems[name] = f"it has failed: {error}"
            log.exception("%s has failed; it is started again in %.1f s", name, wait)
        if loop.time() - started > 60:
            wait = 0.1
        await asyncio.sleep(wait)
        problems.pop(name, None)
        wait = min(wait * 2, 30.0)
