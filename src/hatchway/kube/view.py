"""A live view of what this user may reach: services, EndpointSlices, pods and nodes, kept up to date by watches.

Access reviews find out what the user may list (`kube/scopes.py`), for each kind separately. They are repeated every
minute, after a refusal, and when the connection has changed to another cluster or user.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from hatchway.errors import ApiError, NoCredentials
from hatchway.kube import access
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.informer import Informer
from hatchway.kube.objects import Key
from hatchway.kube.readyendpoints import slice_of_endpoints
from hatchway.kube.scopes import KINDS, RESOURCES, ViewKind, ViewScope, find_scopes
from hatchway.kube.wellknown import SERVICE_NAME

log = logging.getLogger(__name__)

# ("services" | "slices" | "pods" | "nodes", "ADDED" | "MODIFIED" | "DELETED", object), or ("state", state's name, {}).
ViewCallback = Callable[[str, str, Object], None]

# Seconds between two reviews of the user's rights.
_ASK_AGAIN = 60.0
# The fewest seconds between two reviews of the user's rights that follow a refusal.
_REFUSED_PAUSE = 5.0
# The shortest and the longest pause before another attempt, in seconds.
_FIRST_RETRY, _LAST_RETRY = 0.2, 5.0


@dataclass(frozen=True, slots=True)
class State:
    """The state of a view's connection.

    name: "connecting" until everything was listed once; then "live", or "away" while the API server cannot be reached
    or refuses the credentials. In the state "away" the view keeps the objects that it received last.
    reason, hint: why the server is away, and what to do; "" otherwise.
    since: when the state began, in POSIX seconds.
    """

    name: Literal["connecting", "live", "away"]
    reason: str
    hint: str
    since: float


class View:
    """Live objects by (namespace, name). They are shared, so never change them. `run` keeps them up to date.

    services, slices, pods, nodes: the objects. On clusters before 1.21 the EndpointSlices are made from Endpoints.
    scopes: the namespaces that the user may read, for each of these kinds; empty until the first reviews have ended.
    """

    def __init__(
        self,
        connection: Connection,
        namespaces: Sequence[str] | None = None,
        kinds: Sequence[ViewKind] = KINDS,
    ) -> None:
        """Make a view; `run` fills it.

        Args:
            connection: the API server.
            namespaces: the only namespaces to show, without nodes; None for all that the user may read.
            kinds: the kinds to show.
        """
        self.services: dict[Key, Object] = {}
        self.slices: dict[Key, Object] = {}
        self.pods: dict[Key, Object] = {}
        self.nodes: dict[Key, Object] = {}
        self.scopes: dict[ViewKind, ViewScope] = {}
        self.state = State("connecting", "", "", time.time())
        self._connection = connection
        self._kinds = tuple(kinds)
        self._namespaces = tuple(namespaces) if namespaces is not None else None
        self._items: dict[ViewKind, dict[Key, Object]] = {
            "services": self.services,
            "slices": self.slices,
            "pods": self.pods,
            "nodes": self.nodes,
        }
        self._by_service: dict[Key, dict[str, Object]] = {}
        self._subscribers: list[ViewCallback] = []
        self._feeds: dict[tuple[ViewKind, str], asyncio.Task[None]] = {}
        self._synced: set[tuple[ViewKind, str]] = set()
        self._complete = asyncio.Event()
        self._wake = asyncio.Event()
        self._forbidden: dict[tuple[ViewKind, str], float] = {}
        self._absent: set[ViewKind] = set()
        self._old_endpoints = False
        self._refusal: ApiError | None = None
        self._identity = connection.identity

    def subscribe(self, callback: ViewCallback) -> Callable[[], None]:
        """Call `callback` at once for each known object, and after each change. Return a function that unsubscribes.

        The callback must return quickly. After a change of `state` it is called with ("state", the state's name, {}).
        """
        for kind, items in self._items.items():
            for obj in list(items.values()):
                callback(kind, "ADDED", obj)
        self._subscribers.append(callback)
        return lambda: self._subscribers.remove(callback)

    def slices_of(self, namespace: str, service: str) -> Iterable[Object] | None:
        """Return the EndpointSlices of a service; None when the user may not read them."""
        scope = self.scopes.get("slices")
        if scope is not None and not scope.covers(namespace):
            return None
        return self._by_service.get((namespace, service), {}).values()

    def sees_pods(self, namespace: str) -> bool:
        """Return True when the user may read the pods of a namespace."""
        scope = self.scopes.get("pods")
        return scope is None or scope.covers(namespace)

    async def complete(self) -> None:
        """Wait until all objects that the user may list were listed once."""
        await self._complete.wait()

    async def run(self) -> None:
        """Keep the objects up to date until cancelled. Errors of the API server only change `state`."""
        stop = self._connection.subscribe(self._connection_changed)
        try:
            async with asyncio.TaskGroup() as group:
                await self._plan_for_ever(group)
        finally:
            stop()
            self._feeds.clear()

    async def _plan_for_ever(self, group: asyncio.TaskGroup) -> None:
        wait = _FIRST_RETRY
        while True:
            self._wake.clear()
            if self._identity != self._connection.identity:
                await self._start_over()
            pause = _ASK_AGAIN
            if self._connection.trouble is not None:
                # Cached answers would not show whether the server can be reached again.
                access.forget(self._connection.client)
            try:
                scopes = await find_scopes(
                    self._connection.client, self._connection.namespace, self._namespaces, self._kinds
                )
                self._refused(None)
                self._follow(group, scopes)
                wait = _FIRST_RETRY
            except ApiError as error:
                if error.code != 503:
                    self._refused(error)
                pause, wait = wait, min(wait * 2, _LAST_RETRY)
            self._update_state()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    def _follow(self, group: asyncio.TaskGroup, scopes: dict[ViewKind, ViewScope]) -> None:
        """Start the watches that these scopes need, and end all others."""
        for kind in self._absent:
            scopes[kind] = ViewScope((), f"this cluster has no {kind}")
        if scopes != self.scopes:
            self.scopes = scopes
            self._notify("state", self.state.name, {})
        wanted: set[tuple[ViewKind, str]] = set()
        for kind, scope in scopes.items():
            wanted |= {(kind, namespace) for namespace in (("",) if scope.namespaces is None else scope.namespaces)}
        for feed in [feed for feed in self._feeds if feed not in wanted]:
            self._feeds.pop(feed).cancel()
            self._synced.discard(feed)
        # Remove objects that the user may no longer read.
        for kind, scope in scopes.items():
            if scope.namespaces is not None:
                gone = [obj for (where, _), obj in self._items[kind].items() if where not in scope.namespaces]
                for obj in gone:
                    self._change(kind, "DELETED", obj)
        for feed in wanted:
            task = self._feeds.get(feed)
            if task is None or task.done():
                self._feeds[feed] = group.create_task(self._feed(feed), name=f"view of {feed[0]} {feed[1]}")

    async def _feed(self, feed: tuple[ViewKind, str]) -> None:
        """Watch one resource in one namespace ("" for all) until the server refuses it."""
        kind, namespace = feed
        wait = _FIRST_RETRY
        while True:
            old = kind == "slices" and self._old_endpoints
            resource = "endpoints" if old else RESOURCES[kind]
            informer = Informer(self._connection.client, resource, namespace or None)
            informer.subscribe(self._receiver(kind, old))
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(informer.run(), name=f"informer {resource}")
                    await informer.synced()
                    self._prune(feed, set(informer.items))
                    self._synced.add(feed)
                    wait = _FIRST_RETRY
                    self._refused(None)
            except* ApiError as errors:
                error = next(found for found in _leaves(errors) if isinstance(found, ApiError))
            self._synced.discard(feed)
            if error.code in (404, 405):
                if kind == "slices" and not self._old_endpoints:
                    self._old_endpoints = True
                    continue
                self._absent.add(kind)
                self._wake.set()
                return
            if error.code == 403:
                # Review the rights again. Until the reviews have ended, the view keeps its objects.
                log.info("the API server now refuses to list or watch %s: %s", kind, error.message)
                access.forget(self._connection.client)
                before, self._forbidden[feed] = self._forbidden.get(feed), time.monotonic()
                if before is not None and time.monotonic() - before < _ASK_AGAIN:
                    # The reviews allow this watch, but the server refuses it again. Pause, so that this loop does not
                    # flood the server.
                    await asyncio.sleep(_REFUSED_PAUSE)
                self._wake.set()
                return
            self._refused(error)
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _receiver(self, kind: ViewKind, old: bool) -> Callable[[str, Object], None]:
        if old:
            return lambda event, obj: self._change(kind, event, slice_of_endpoints(obj))
        return lambda event, obj: self._change(kind, event, obj)

    def _change(self, kind: ViewKind, event: str, obj: Object) -> None:
        metadata = obj["metadata"]
        key = metadata.get("namespace", ""), metadata["name"]
        if event == "DELETED":
            if self._items[kind].pop(key, None) is None:
                return
        else:
            event = "MODIFIED" if key in self._items[kind] else "ADDED"
            self._items[kind][key] = obj
        if kind == "slices":
            service = key[0], (metadata.get("labels") or {}).get(SERVICE_NAME, "")
            if event == "DELETED":
                self._by_service.get(service, {}).pop(key[1], None)
            else:
                self._by_service.setdefault(service, {})[key[1]] = obj
        self._notify(kind, event, obj)

    def _prune(self, feed: tuple[ViewKind, str], seen: set[Key]) -> None:
        """Remove objects that were deleted while there was no watch."""
        kind, namespace = feed
        for key, obj in list(self._items[kind].items()):
            if key not in seen and (not namespace or key[0] == namespace):
                self._change(kind, "DELETED", obj)

    async def _start_over(self) -> None:
        """Drop all objects and scopes, because the connection now has another cluster or user."""
        tasks = list(self._feeds.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._feeds.clear()
        self._synced.clear()
        self._absent.clear()
        self._old_endpoints = False
        self._refusal = None
        self._identity = self._connection.identity
        self.scopes = {}
        self._complete.clear()
        for kind, items in self._items.items():
            for obj in list(items.values()):
                self._change(kind, "DELETED", obj)
        self._by_service.clear()
        self._update_state()

    def _connection_changed(self) -> None:
        if self._identity != self._connection.identity or self.state.name == "away":
            self._wake.set()
        self._update_state()

    def _refused(self, error: ApiError | None) -> None:
        self._refusal = error
        self._update_state()

    def _update_state(self) -> None:
        """Compute the state again."""
        trouble, refusal = self._connection.trouble, self._refusal
        # The objects are useless when the connection has changed to another cluster or user.
        own = self._identity == self._connection.identity
        synced = own and bool(self.scopes) and self._feeds.keys() <= self._synced
        if synced:
            self._complete.set()
        name: Literal["connecting", "live", "away"]
        if trouble is not None:
            name, reason, hint, since = "away", trouble.reason, trouble.hint, trouble.since
        elif refusal is not None:
            label = self._connection.label
            if isinstance(refusal, NoCredentials):
                # The plugin's error already begins with the label.
                why = refusal.message.removeprefix(f"{label}: ")
                reason, advice = f"{label}: no credentials: {why}", "log in again"
            elif refusal.code in (401, 403):
                reason, advice = f"{label} refuses: {refusal.message}", "log in again"
            else:
                reason, advice = f"{label} answers: {refusal.message}", "look into the API server's log"
            name, hint, since = "away", refusal.hint or advice, time.time()
        else:
            name, reason, hint, since = "live" if synced else "connecting", "", "", time.time()
        if (name, reason) != (self.state.name, self.state.reason):
            self.state = State(name, reason, hint, self.state.since if name == self.state.name else since)
            self._notify("state", name, {})

    def _notify(self, kind: str, event: str, obj: Object) -> None:
        for callback in list(self._subscribers):
            callback(kind, event, obj)


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
