"""The ready pods behind targets, kept up to date by a live view of each namespace that is used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.lookup import ObjectLookup
from hatchway.kube.objects import is_finished, key_of
from hatchway.kube.readyendpoints import format_selector, selector_of
from hatchway.kube.view import View
from hatchway.kube.workload import label_selector_of
from hatchway.route.podport import ReadyPods, pod_port, service_pods, workload_pods
from hatchway.target import Target, format_argument

# The seconds for which the answer of the API server is cached when the user may not watch the objects.
_ASKED_SECONDS = 1.0
# The seconds for which a workload's object is cached. Its selector never changes (apps/v1, batch/v1).
_WORKLOAD_SECONDS = 10.0
# The maximum number of targets whose pods are cached.
_MOST_TARGETS = 4096

# Called with the namespace and the name of a pod that has ended, or was deleted.
PodGone = Callable[[str, str], None]


class _NamespacePods:
    """The live view of one namespace, and the ready pods of its targets.

    changed: set whenever an object of the namespace has changed. A task clears it before it waits.
    """

    def __init__(self, view: View, name: str, gone: PodGone) -> None:
        self.view = view
        self.changed = asyncio.Event()
        self.found: dict[Target, ReadyPods] = {}
        self._name = name
        self._gone = gone
        view.subscribe(self._change)

    def _change(self, kind: str, event: str, obj: Object) -> None:
        self.found.clear()
        self.changed.set()
        if kind != "pods" or not (event == "DELETED" or is_finished(obj)):
            return
        # The view also reports DELETED when the user may no longer see a pod, or when the connection now leads to
        # another cluster. Such pods may still run, so connections to them are not ended.
        if self.view.scopes and self.view.sees_pods(self._name):
            self._gone(*key_of(obj))


class PodFinder:
    """Finds ready pods. Objects that the user may not watch are read when they are needed, like kubectl does."""

    def __init__(self, connection: Connection, gone: PodGone) -> None:
        """Make a finder. gone: called with each pod that has ended, to end the sessions with it."""
        self._connection = connection
        self._lookup = ObjectLookup(connection)
        self._gone = gone
        self._namespaces: dict[str, _NamespacePods] = {}
        self._group: asyncio.TaskGroup | None = None
        self._asked: dict[Target, tuple[float, object, ReadyPods]] = {}
        self._workloads: dict[Target, tuple[float, object, Object]] = {}

    async def run(self) -> None:
        """Keep the views up to date until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for name, known in self._namespaces.items():
                group.create_task(known.view.run(), name=f"view of {name}")
            try:
                await asyncio.Event().wait()
            finally:
                self._group = None

    def _namespace(self, name: str) -> _NamespacePods:
        known = self._namespaces.get(name)
        if known is None:
            view = View(self._connection, [name])
            known = self._namespaces[name] = _NamespacePods(view, name, self._gone)
            if self._group is not None:
                self._group.create_task(view.run(), name=f"view of {name}")
        return known

    def find_now(self, target: Target) -> ReadyPods | None:
        """Return the ready pods by the view; None when it is incomplete, or lacks objects that the user may not see."""
        known = self._namespace(target.namespace)
        found = known.found.get(target)
        if found is not None:
            return found
        if known.view.state.name == "connecting":
            return None
        found = self._in_view(known.view, target)
        if found is not None:
            if len(known.found) >= _MOST_TARGETS:
                known.found.clear()
            known.found[target] = found
        return found

    async def find(self, target: Target) -> ReadyPods:
        """Return the ready pods of a target.

        Raises:
            ApiError: the pods cannot be listed (403: the right in the message is missing; 503: the API server is away).
        """
        if target.is_workload and await self._read_workload(target) is None:
            return _missing(target)
        found = self.find_now(target)
        if found is None:
            known = self._namespace(target.namespace)
            if known.view.state.name == "connecting":
                await self._until_complete(known.view)
                found = self.find_now(target)
        # A missing object may have been created a moment ago, before the view got it. So the API server is asked.
        if found is not None and not found.missing:
            return found
        kept = self._asked.get(target)
        now, identity = time.monotonic(), self._connection.identity
        if kept is not None and kept[0] > now and kept[1] == identity:
            return kept[2]
        cache = self._asked
        found = await self._ask(target)
        if len(cache) >= _MOST_TARGETS:
            cache.clear()
        cache[target] = now + _ASKED_SECONDS, identity, found
        return found

    async def _read_workload(self, target: Target) -> Object | None:
        """Return a workload's object, which may be some seconds old; None when there is none. Raises ApiError."""
        known, now = self._workload_now(target), time.monotonic()
        if known is not None and self._workloads[_whole(target)][0] > now:
            return known
        try:
            found = await self._connection.client.get(target.kind, target.name, target.namespace)
        except ApiError as error:
            if error.code == 404:
                self._workloads.pop(_whole(target), None)
                return None
            raise
        if len(self._workloads) >= _MOST_TARGETS:
            self._workloads.clear()
        self._workloads[_whole(target)] = now + _WORKLOAD_SECONDS, self._connection.identity, found
        return found

    def _workload_now(self, target: Target) -> Object | None:
        kept = self._workloads.get(_whole(target))
        return None if kept is None or kept[1] != self._connection.identity else kept[2]

    async def wait_for_change(self, target: Target, seconds: float) -> None:
        """Wait until an object of the target's namespace has changed, but not longer than `seconds`."""
        changed = self._namespace(target.namespace).changed
        changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await changed.wait()
        except TimeoutError:
            return  # objects that the user may not watch may have changed

    def forget(self) -> None:
        """Forget the cached results, because a failed connection has shown that something has changed."""
        self._asked = {}  # a new one, because unfinished requests still write to the former cache
        self._lookup.forget()

    async def _until_complete(self, view: View) -> None:
        """Wait until a view is complete, or its API server cannot be reached."""
        settled = asyncio.Event()

        def look(kind: str, name: str, _: Object) -> None:
            if kind == "state" and name != "connecting":
                settled.set()

        stop = view.subscribe(look)
        try:
            if view.state.name == "connecting":
                await settled.wait()
        finally:
            stop()

    def _in_view(self, view: View, target: Target) -> ReadyPods | None:
        namespace = target.namespace
        key = namespace, target.name
        sees_pods = view.sees_pods(namespace) and bool(view.scopes)
        if target.kind == "pods":
            if not sees_pods:
                return None
            pod = view.pods.get(key)
            return _missing(target) if pod is None else pod_port(pod, target.port)
        if target.is_workload:
            workload = self._workload_now(target)
            return workload_pods(workload, target.port, view.pods.values()) if workload and sees_pods else None
        services = view.scopes.get("services")
        if services is None or not services.covers(namespace):
            return None
        service = view.services.get(key)
        if service is None:
            return _missing(target)
        slices = view.slices_of(namespace, target.name)
        if slices is None and not sees_pods:
            return None
        return service_pods(service, target.port, slices, view.pods.values() if sees_pods else None)

    async def _ask(self, target: Target) -> ReadyPods:
        client = self._connection.client
        try:
            if target.kind == "pods":
                return pod_port(await client.get("pods", target.name, target.namespace), target.port)
            if target.is_workload:
                workload = await client.get(target.kind, target.name, target.namespace)
                selector = label_selector_of(workload)
                pods = await client.list("pods", target.namespace, label_selector=selector) if selector else []
                return workload_pods(workload, target.port, pods)
            service = await client.get("services", target.name, target.namespace)
        except ApiError as error:
            if error.code == 404:
                return _missing(target)
            raise
        selector = format_selector(selector_of(service))
        pods = await client.list("pods", target.namespace, label_selector=selector) if selector else []
        return service_pods(service, target.port, None, pods)


def _whole(target: Target) -> Target:
    return replace(target, port="", scheme="")


def _missing(target: Target) -> ReadyPods:
    return ReadyPods(
        (), f"there is no {format_argument(_whole(target))} in namespace {target.namespace}", missing=True, absent=True
    )
