"""The kubelet's API on each node's port 10250 (`pkg/kubelet/server/server.go`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from hatchway.cluster.node import clock, configz, kubeletmetrics
from hatchway.cluster.node.apiaccess import Access, Denied
from hatchway.cluster.node.cadvisormetrics import render_cadvisor
from hatchway.cluster.node.logfiles import ContainerLog, log_path, pod_log_directory
from hatchway.cluster.node.logreader import LogReadOptions, parts_of, read_log
from hatchway.cluster.node.measures import Measures, summary
from hatchway.cluster.node.metricstext import CONTENT_TYPE
from hatchway.cluster.node.nodelogs import NodeLogs
from hatchway.cluster.node.podcontext import NodeServices
from hatchway.cluster.node.processusage import Meter
from hatchway.cluster.node.streaming.streamserver import PATHS, StreamServer
from hatchway.cluster.node.worker import PodWorker
from hatchway.kube.api import Object
from hatchway.kube.informer import Informer
from hatchway.numerals import is_digits, parse_int
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead, Respond, Scope

Send = Callable[[Any], Awaitable[None]]

_TEXT = b"text/plain; charset=utf-8"
_NOT_DECODED, _INVALID = '{"message": "Unable to decode query."}', '{"message": "Invalid request."}'
_CHECKS = ("ping", "log", "syncloop")


class BadLogQuery(Exception):
    """A query is malformed (400) or contradictory (422), or there is no such log (400, 404)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class KubeletApi:
    """The API of one node's kubelet. port: a function that returns the port on which it listens."""

    def __init__(
        self,
        shared: NodeServices,
        pods: Informer,
        workers: Mapping[str, PodWorker],
        meter: Meter,
        port: Callable[[], int],
    ) -> None:
        self._shared = shared
        self._pods = pods
        self._workers = workers
        self._logs = shared.logs
        self._port = port
        self._measures = Measures(meter, workers, shared.logs)
        self._measuring = asyncio.Lock()
        self._node_logs = NodeLogs(shared.runtime, shared.node.index, shared.node.name, shared.logs)
        self._streams = StreamServer(pods, workers)

    async def close(self) -> None:
        """End the streams of its clients."""
        await self._streams.close()

    def guarded(self, access: Access) -> Callable[[RequestHead], Awaitable[Decision]]:
        """Return the routing function, which checks that a request is allowed before it is answered."""

        async def route(head: RequestHead) -> Decision:
            try:
                await access.check(head)
            except Denied as error:
                headers = [(b"WWW-Authenticate", b'Bearer realm="kubelet"')] if error.status == 401 else []
                return _text(error.status, error.text, headers)
            return await self.route(head)

        return route

    async def route(self, head: RequestHead) -> Decision:
        """Return the answer to an allowed request."""
        if head.path.strip(b"/").partition(b"/")[0] in PATHS:
            # Use the same bytes of the path as the authorization, without decoding them.
            return self._streams.route(head)
        path = unquote(head.path.decode("latin-1"))
        first, _, rest = path.strip("/").partition("/")
        if first == "healthz":
            return _healthz(rest, head.query)
        if first in ("metrics", "stats", "configz"):
            return await self._measured(path.strip("/"))
        if first not in ("pods", "runningpods", "logs", "containerLogs"):
            return _text(404, "404 page not found\n")
        if head.method != "GET":
            return _text(405, "Method Not Allowed", [(b"Allow", b"GET")])
        if first == "logs":
            return await self._node_logs.answer(path.removeprefix("/logs").removeprefix("/"))
        if first == "containerLogs":
            # Split the path before decoding it, because names may contain escaped slashes.
            parts = head.path.decode("latin-1").split("/")
            if len(parts) == 5:
                namespace, name, container = map(unquote, parts[2:])
                return self._container_logs(namespace, name, container, head.query)
        elif not rest:
            return _json(_pod_list(self._pods.items.values() if first == "pods" else self._running_pods()))
        return _text(404, "404 page not found\n")

    async def _measured(self, path: str) -> Decision:
        """Answer a request for metrics or statistics."""
        shared = self._shared
        if path == "configz":
            return _json(configz.configuration(shared.config, shared.node, self._port()))
        if path == "metrics":
            return _metrics(kubeletmetrics.render(shared.node.name, self._workers))
        if path == "metrics/probes":
            return _metrics(kubeletmetrics.render_probes(self._workers))
        if path not in ("metrics/resource", "metrics/cadvisor", "stats/summary"):
            return _text(404, "404 page not found\n")
        async with self._measuring:
            measure = await asyncio.to_thread(self._measures.take)
        if path == "metrics/resource":
            return _metrics(kubeletmetrics.render_resources(measure))
        if path == "metrics/cadvisor":
            return _metrics(render_cadvisor(measure, shared.allocatable))
        disk = Path(shared.config.state_dir)
        return _json(await asyncio.to_thread(summary, shared.node.name, measure, disk, kubeletmetrics.STARTED))

    def _running_pods(self) -> Iterator[Object]:
        """Yield the running pods, with their names and their running containers (GetRunningPods)."""
        for worker in self._workers.values():
            running = [container for container in worker.containers.all if container.state.running]
            if running:
                metadata = worker.pod["metadata"]
                yield {
                    "metadata": {key: metadata[key] for key in ("name", "namespace", "uid") if key in metadata},
                    "spec": {
                        "containers": [
                            {"name": container.name, "image": container.state.image, "resources": {}}
                            for container in running
                        ]
                    },
                    "status": {},
                }

    def _container_logs(self, namespace: str, name: str, container: str, query: bytes | None) -> Decision:
        if not namespace or not name or not container:
            what = "podID" if not name else "container name" if not container else "podNamespace"
            return _text(400, f'{{"message": "Missing {what}."}}')
        try:
            options, previous = parse_options(query)
            pod = self._pods.items.get((namespace, name))
            if pod is None:
                raise BadLogQuery(404, f'pod "{name}" does not exist')
            path, live = self._find_log(pod, container, previous)
        except BadLogQuery as error:
            return _text(error.status, str(error))
        return App(_stream(path, options, live))

    def _find_log(self, pod: Object, container: str, previous: bool) -> tuple[Path | None, ContainerLog | None]:
        """Return the log of the requested attempt; (None, None) when the attempt has no log. Raises BadLogQuery."""
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        kinds = ("initContainers", "containers", "ephemeralContainers")
        specs = [found for kind in kinds for found in spec.get(kind) or ()]
        name = metadata["name"]
        if not any(found["name"] == container for found in specs):
            raise BadLogQuery(404, f'container "{container}" not found in pod "{name}"')
        directory = pod_log_directory(self._logs, metadata.get("namespace", ""), name, metadata["uid"])
        worker = self._workers.get(metadata["uid"])
        live = worker.containers.live_log(container) if worker is not None else None
        if previous:
            attempts = _attempts(directory / container)
            # While a container waits for its next start, its last attempt also counts as the previous one
            # (validateContainerLogStatus).
            running = live is not None and (worker is None or not worker.containers.is_waiting(container))
            if running or live is None:
                current = int(live.path.stem) if live is not None else attempts[-1] if attempts else 0
                attempts = [attempt for attempt in attempts if attempt < current]
            if not attempts:
                raise BadLogQuery(400, f'previous terminated container "{container}" in pod "{name}" not found')
            return log_path(directory, container, attempts[-1]), None
        if live is not None:
            return live.path, live
        attempts = _attempts(directory / container)
        if attempts:
            return log_path(directory, container, attempts[-1]), None
        kinds = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        statuses = [found for kind in kinds for found in status.get(kind) or ()]
        state = next((found.get("state") or {} for found in statuses if found["name"] == container), {})
        waiting = state.get("waiting")
        if waiting is not None or not state:
            reason = (waiting or {}).get("reason") or "ContainerCreating"
            message = f'container "{container}" in pod "{name}" is waiting to start: '
            # `validateContainerLogStatus` of `kubelet_pods.go`.
            pulling = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
            raise BadLogQuery(400, message + pulling.get(reason, reason))
        return None, None


def _healthz(check: str, query: bytes | None) -> Respond:
    """Answer that all checks have passed. (A kubelet that is not healthy does not answer at all.)"""
    if check:
        return _text(200, "ok") if check in _CHECKS else _text(404, "404 page not found\n")
    if b"verbose" in parse_qs(query or b"", keep_blank_values=True):
        return _text(200, "".join(f"[+]{name} ok\n" for name in _CHECKS) + "healthz check passed\n")
    return _text(200, "ok")


def _attempts(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(file.stem) for file in directory.glob("*.log") if is_digits(file.stem))


def parse_options(query: bytes | None) -> tuple[LogReadOptions, bool]:
    """Parse the query of `/containerLogs` into (options, previous). Raises BadLogQuery."""
    given = {key: values[-1] for key, values in parse_qs((query or b"").decode("latin-1")).items()}

    def flag(name: str) -> bool:
        return given.get(name, "false").lower() not in ("0", "false", "f")

    def number(name: str, least: int) -> int | None:
        text = given.get(name)
        if text is None:
            return None
        found = parse_int(text)
        if found is None:
            raise BadLogQuery(400, _NOT_DECODED)
        if found < least:
            raise BadLogQuery(422, _INVALID)
        return found

    if "tail" in given:
        # Older releases of Kubernetes call the parameter `tail`.
        given["tailLines"] = given.pop("tail")
    tail = None if given.get("tailLines") == "all" else number("tailLines", 0)
    if given.get("sinceSeconds") and given.get("sinceTime"):
        raise BadLogQuery(422, _INVALID)
    seconds = number("sinceSeconds", 1)
    since = ""
    try:
        if seconds is not None:
            since = clock.rfc3339_utc(clock.now() - timedelta(seconds=seconds))
        elif given.get("sinceTime"):
            # If the "+" of a time zone was not escaped, it was decoded as a space.
            since = clock.rfc3339_utc(clock.parse(given["sinceTime"].replace(" ", "+")))
    except (ValueError, OverflowError) as error:
        raise BadLogQuery(400, _NOT_DECODED) from error
    options = LogReadOptions(
        follow=flag("follow"),
        timestamps=flag("timestamps"),
        tail_lines=tail,
        limit_bytes=number("limitBytes", 1),
        since=since,
    )
    return options, flag("previous")


def _stream(path: Path | None, options: LogReadOptions, live: ContainerLog | None) -> ASGIApp:
    """Return an ASGI application that sends a log."""

    async def transmit(send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # The server sends the head together with the first piece of the body. This empty piece makes it send the head
        # at once, even when the container writes nothing.
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        if path is not None and (live is not None or parts_of(path)):
            async with contextlib.aclosing(read_log(path, options, live)) as chunks:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def app(_: Scope, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        # A container may write nothing for hours, so a disconnected client must be noticed without sending anything.
        sending = asyncio.ensure_future(transmit(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        finally:
            for task in (sending, gone):
                task.cancel()
            await asyncio.wait([sending, gone])

    return app


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _text(status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> Respond:
    own = [(b"Content-Type", _TEXT), (b"X-Content-Type-Options", b"nosniff")]
    return Respond(status, [*own, *(headers or ())], text.encode())


def _metrics(body: bytes) -> Respond:
    return Respond(200, [(b"Content-Type", CONTENT_TYPE)], body)


def _pod_list(pods: Iterable[Object]) -> Object:
    return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}


def _json(value: Object) -> Respond:
    return Respond(200, [(b"Content-Type", b"application/json")], msgspec.json.encode(value))
