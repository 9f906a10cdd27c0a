"""The logs of all pods of a workload at once, followed through restarts of containers and of the API server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.objects import Key, get_condition, is_finished, key_of
from hatchway.kube.paths import parse_resource
from hatchway.kube.workload import PodSet, choose_container, containers, in_order
from hatchway.remote.loglines import LogReader

# Seconds of silence before a connection counts as dead. It is long because logs may be silent for hours; TCP keep-alive
# finds dead connections much earlier.
_SILENCE: Final = 4 * 3600.0
# The maximum number of logs that are followed at the same time. Each needs a connection.
MOST: Final = 100
_FIRST_RETRY, _LAST_RETRY = 0.1, 2.0
# The number of failed attempts before a message is printed. A node that restarts is usually back by then.
_QUIET_ATTEMPTS: Final = 5


@dataclass(frozen=True, slots=True)
class LogOptions:
    """Which logs are read, and from which line.

    container: the container's name; "" for the default container of the pod.
    every_container: True to read all containers of each pod.
    previous: True to read the log of the container's previous run.
    tail: the number of last lines; None for all.
    since: read only lines of the last `since` seconds; None for all.
    timestamps: True to print the time before each line.
    """

    container: str = ""
    every_container: bool = False
    previous: bool = False
    tail: int | None = None
    since: int | None = None
    timestamps: bool = False


@dataclass(frozen=True, slots=True)
class LogSource:
    """The container to whose log a line belongs."""

    pod: str
    container: str


# Called with a piece of a line, and True when the line begins with it.
Sink = Callable[[LogSource, bytes, bool], None]
Notice = Callable[[str], None]


class LogFollower:
    """Reads the logs of a set of pods.

    sink: called with every piece. While `sink` blocks, nothing more is read.
    notice: called with messages for the user that are not lines of a log.
    """

    def __init__(self, client: ConnectionClient, pods: PodSet, options: LogOptions, sink: Sink, notice: Notice) -> None:
        self._client = client
        self._pods = pods
        self._options = options
        self._sink = sink
        self._notice = notice
        self._known: dict[Key, Object] = {}
        self._changed = asyncio.Event()
        self._following: dict[tuple[Key, str, str], asyncio.Task[None]] = {}
        self._told: set[str] = set()
        # True once following has begun: logs of pods that appear later are read from their first line.
        self._begun = False

    async def print_once(self) -> None:
        """Read the present content of all logs, one log after the other.

        Raises:
            HatchwayError: there are no pods.
            ApiError: the API server cannot be reached, or refuses the request.
        """
        found = await self._list()
        if not found:
            raise HatchwayError(f"{self._pods.workload} has no pods")
        failed: ApiError | None = None
        read = False
        for pod in sorted(found, key=key_of):
            for container in self._containers(pod):
                source = LogSource(pod["metadata"]["name"], container)
                reader = LogReader(keep_stamps=True, stamped=self._options.timestamps)
                try:
                    async for data in self._body(pod, container, self._query(stamps=self._options.timestamps)):
                        self._emit(source, reader.feed(data))
                    self._emit(source, reader.end())
                    read = True
                except ApiError as error:
                    # When one pod cannot start, the logs of the other pods are still printed.
                    if self._pods.is_one_pod or error.code in (401, 403, 503):
                        raise
                    failed = error
                    self._notice(f"{source.pod}: {error.message}")
        if failed is not None and not read:
            raise failed

    async def follow(self) -> None:
        """Read all logs, and follow them until no more lines can arrive. For a service this never returns.

        Raises:
            ApiError: the API server refuses the request.
        """
        found = await self._list()
        if self._pods.is_one_pod:
            # Raises an error when there is no such container, before any log is followed.
            self._containers(found[0])
        for pod in in_order(found):
            self._known[key_of(pod)] = pod
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch())
                self._follow_new(group)
                self._begun = True
                if not self._following:
                    self._tell(f"waiting for pods of {self._pods.workload} to run")
                while not await self._is_over():
                    changed = self._changed
                    self._follow_new(group)
                    await changed.wait()
                watching.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from None

    async def _is_over(self) -> bool:
        if any(not task.done() for task in self._following.values()):
            return False
        workload = self._pods.workload
        pods = list(self._known.values())
        if self._pods.is_one_pod:
            return not pods or is_finished(pods[0]) or self._stays_ended(pods[0], self._containers(pods[0]))
        if workload.resource == "jobs.batch" and all(is_finished(pod) for pod in pods):
            try:
                job = await self._client.get(workload.resource, workload.name, workload.namespace)
            except ApiError as error:
                return error.code == 404
            ended = (get_condition(job, kind) for kind in ("Complete", "Failed"))
            return any(one is not None and one.get("status") == "True" for one in ended)
        return False

    def _stays_ended(self, pod: Object, names: list[str]) -> bool:
        """Return True when these containers of a pod have ended and will not be started again."""
        policy = (pod.get("spec") or {}).get("restartPolicy", "Always")
        statuses = _statuses(pod)
        for container in names:
            ended = ((statuses.get(container) or {}).get("state") or {}).get("terminated")
            if ended is None or not (policy == "Never" or (policy == "OnFailure" and ended.get("exitCode") == 0)):
                return False
        return True

    async def _list(self) -> list[Object]:
        workload = self._pods.workload
        if self._pods.is_one_pod:
            return [await self._client.get("pods", workload.name, workload.namespace)]
        return await self._client.list("pods", workload.namespace, label_selector=self._pods.label_selector)

    async def _watch(self) -> None:
        """Keep `_known` up to date."""
        pods = self._pods
        try:
            async for event in self._client.watch(
                "pods",
                pods.workload.namespace,
                label_selector=pods.label_selector,
                field_selector=pods.field_selector,
            ):
                if event.type == "DELETED":
                    self._known.pop(key_of(event.object), None)
                elif event.type != "SYNCED":
                    self._known[key_of(event.object)] = event.object
                self._notify()
        except ApiError as error:
            if error.code != 403 or not pods.is_one_pod:
                raise
            # The user may get the pod but not watch it: poll it to notice its end.
            await self._poll()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(_LAST_RETRY)
            try:
                found = await self._list()
            except ApiError as error:
                if error.code == 404:
                    self._known.clear()
            else:
                self._known = {key_of(pod): pod for pod in found}
            self._notify()

    def _notify(self) -> None:
        """Wake up everything that waits for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _follow_new(self, group: asyncio.TaskGroup) -> None:
        """Follow running containers that are not followed yet; drop removed containers."""
        for pod in self._known.values():
            try:
                names = self._containers(pod)
            except ApiError as error:
                self._tell(error.message)
                continue
            for name in names:
                key = key_of(pod), str(pod["metadata"].get("uid")), name
                task = self._following.get(key)
                if (task is not None and not task.done()) or not self._has_more(pod, name, again=task is not None):
                    continue
                if task is None and sum(not one.done() for one in self._following.values()) >= MOST:
                    self._tell(f"only {MOST} logs are followed at the same time; name fewer pods")
                    return
                following = group.create_task(self._follow_container(pod, name, first=not self._begun))
                following.add_done_callback(lambda _: self._notify())
                self._following[key] = following
        for key, task in list(self._following.items()):
            if task.done() and key[0] not in self._known:
                del self._following[key]

    def _has_more(self, pod: Object, container: str, *, again: bool) -> bool:
        """Return True when a container has a log to follow. again: True when it was already followed to its end."""
        state = (_statuses(pod).get(container) or {}).get("state") or {}
        return "running" in state or ("terminated" in state and not again)

    async def _follow_container(self, pod: Object, container: str, *, first: bool) -> None:
        """Follow a container's log until the container is removed, also when the container or API server restarts."""
        key, source = key_of(pod), LogSource(pod["metadata"]["name"], container)
        uid = pod["metadata"].get("uid")
        reader = LogReader(keep_stamps=self._options.timestamps)
        wait, failed = _FIRST_RETRY, 0
        while True:
            status = _statuses(self._known.get(key, pod)).get(container) or {}
            run = status.get("containerID")
            whole = False
            reader.restart()
            query = self._query(stamps=True, limited=first, after=reader.last_stamp)
            try:
                async for data in self._body(pod, container, {**query, "follow": "true"}):
                    wait, failed = _FIRST_RETRY, 0
                    self._emit(source, reader.feed(data))
                whole = True
                self._emit(source, reader.end())
            except ApiError as error:
                if error.code in (401, 403):
                    raise
                if error.code == 404:
                    return
                failed += 1
                # 400: the container has not started yet; 503: the API server cannot be reached.
                if error.code not in (400, 503) and failed > _QUIET_ATTEMPTS:
                    self._tell(f"{source.pod}: {error.message}")
            while True:
                changed = self._changed
                latest = self._known.get(key)
                if latest is None or latest["metadata"].get("uid") != uid:
                    return
                now = _statuses(latest).get(container) or {}
                if not (whole and "terminated" in (now.get("state") or {}) and now.get("containerID") == run):
                    break
                # The log of this run is complete.
                if is_finished(latest) or self._stays_ended(latest, [container]):
                    return
                await changed.wait()
            # A log ends shortly before the container's status shows its end. The log also ends when the API server
            # stops.
            await asyncio.sleep(wait)
            wait = min(wait * 2, _LAST_RETRY)

    def _containers(self, pod: Object) -> list[str]:
        if self._options.every_container:
            return containers(pod)
        return [choose_container(pod, self._options.container)]

    def _query(self, *, stamps: bool, limited: bool = True, after: str = "") -> dict[str, str]:
        options = self._options
        found: dict[str, str] = {}
        if stamps:
            found["timestamps"] = "true"
        if options.previous:
            found["previous"] = "true"
        if after:
            found["sinceTime"] = after
        elif limited:
            if options.tail is not None:
                found["tailLines"] = str(options.tail)
            if options.since is not None:
                found["sinceSeconds"] = str(options.since)
        return found

    async def _body(self, pod: Object, container: str, query: dict[str, str]) -> AsyncIterator[bytes]:
        metadata = pod["metadata"]
        path = parse_resource("pods").path(metadata["namespace"], metadata["name"], "log")
        pieces = self._client.pieces(f"{path}?{urlencode({'container': container, **query})}", _SILENCE)
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                yield piece

    def _emit(self, source: LogSource, pieces: Iterator[tuple[bytes, bool]]) -> None:
        for piece, begins in pieces:
            self._sink(source, piece, begins)

    def _tell(self, text: str) -> None:
        """Report a message once."""
        if text not in self._told and len(self._told) < MOST:
            self._told.add(text)
            self._notice(text)


def _first(errors: BaseExceptionGroup) -> BaseException:
    """Return the first error of a group, which may contain other groups."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _statuses(pod: Object) -> dict[str, Object]:
    """Return the statuses of a pod's containers by their names."""
    status = pod.get("status") or {}
    return {
        str(one.get("name")): one
        for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for one in status.get(key) or ()
    }
