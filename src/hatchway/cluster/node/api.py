"""The kubelet's API on each node's port 10250 (`pkg/kubelet/server/server.go`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from hatchway.cluster.node import clock, metrics
from hatchway.cluster.node.access import Access, Denied
from hatchway.cluster.node.logreader import LogOptions, parts_of, read_log
from hatchway.cluster.node.logs import LogFile, log_path, pod_log_directory
from hatchway.cluster.node.worker import PodWorker
from hatchway.kube.api import Object
from hatchway.kube.informer import Informer
from hatchway.numerals import is_digits, parse_int
from hatchway.proxy.routing import App, ASGIApp, Decision, RequestHead, Respond, Scope

Send = Callable[[Any], Awaitable[None]]

_TEXT = b"text/plain; charset=utf-8"


class BadQuery(Exception):
    """A query that cannot be understood: 400, or 422 where it contradicts itself."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class KubeletApi:
    """Answers for one node."""

    def __init__(
        self,
        node: str,
        pods: Informer,
        workers: Mapping[str, PodWorker],
        logs: Path,
        resources: Mapping[str, str],
    ) -> None:
        self._node = node
        self._pods = pods
        self._workers = workers
        self._logs = logs
        self._resources = resources

    def guarded(self, access: Access) -> Callable[[RequestHead], Awaitable[Decision]]:
        """The routing function: nothing is answered before the request is allowed."""

        async def route(head: RequestHead) -> Decision:
            try:
                await access.check(head)
            except Denied as error:
                headers = [(b"WWW-Authenticate", b'Bearer realm="kubelet"')] if error.status == 401 else []
                return _text(error.status, error.text, headers)
            return self.route(head)

        return route

    def route(self, head: RequestHead) -> Decision:
        """The answer to an allowed request."""
        path = head.path.decode("latin-1")
        plain: dict[str, Callable[[], Respond]] = {
            "/healthz": lambda: _text(200, "ok"),
            "/healthz/ping": lambda: _text(200, "ok"),
            "/healthz/log": lambda: _text(200, "ok"),
            "/healthz/syncloop": lambda: _text(200, "ok"),
            "/pods": lambda: _json(self._pod_list(self._pods.items.values())),
            "/runningpods/": lambda: _json(self._pod_list(worker.pod for worker in self._workers.values())),
            "/metrics": lambda: Respond(
                200, [(b"Content-Type", metrics.CONTENT_TYPE)], metrics.render(self._node, self._workers).encode()
            ),
            "/stats/summary": lambda: _json(metrics.summary(self._node, self._workers)),
        }
        if path in plain or path.rstrip("/") in plain:
            if head.method not in ("GET", "HEAD"):
                return _text(405, "405: Method Not Allowed", [(b"Allow", b"GET, HEAD")])
            return plain[path if path in plain else path.rstrip("/")]()
        parts = path.split("/")
        if len(parts) == 5 and parts[1] == "containerLogs":
            if head.method != "GET":
                return _text(405, "405: Method Not Allowed", [(b"Allow", b"GET")])
            namespace, name, container = map(unquote, parts[2:])
            return self._container_logs(namespace, name, container, head.query)
        return _text(404, "404 page not found\n")

    def _pod_list(self, pods: Any) -> Object:
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": list(pods)}

    def _container_logs(self, namespace: str, name: str, container: str, query: bytes | None) -> Decision:
        if not namespace or not name or not container:
            what = "podNamespace" if not namespace else "podID" if not name else "containerName"
            return _text(400, f'{{"message": "Missing {what}."}}\n')
        pod = self._pods.items.get((namespace, name))
        if pod is None:
            return _text(404, f'pod "{name}" does not exist\n')
        try:
            options, previous = parse_options(query)
            path, live = self._find_log(pod, container, previous)
        except BadQuery as error:
            return _text(error.status, f"{error}\n")
        return App(_stream(path, options, live))

    def _find_log(self, pod: Object, container: str, previous: bool) -> tuple[Path | None, LogFile | None]:
        """The file of the attempt that is asked for, None when it has none. Raises BadQuery."""
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
        specs = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
        name = metadata["name"]
        if not any(found["name"] == container for found in specs):
            raise BadQuery(404, f'container "{container}" not found in pod "{name}"')
        directory = pod_log_directory(self._logs, metadata.get("namespace", ""), name, metadata["uid"])
        worker = self._workers.get(metadata["uid"])
        live = worker.live_log(container) if worker is not None else None
        if previous:
            attempts = _attempts(directory / container)
            if live is not None:
                attempts = [attempt for attempt in attempts if attempt < int(live.path.stem)]
            else:
                attempts = attempts[:-1]
            if not attempts:
                raise BadQuery(400, f'previous terminated container "{container}" in pod "{name}" not found')
            return log_path(directory, container, attempts[-1]), None
        if live is not None:
            return live.path, live
        attempts = _attempts(directory / container)
        if attempts:
            return log_path(directory, container, attempts[-1]), None
        statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        state = next((found.get("state") or {} for found in statuses if found["name"] == container), {})
        waiting = state.get("waiting")
        if waiting is not None or not state:
            reason = (waiting or {}).get("reason") or "ContainerCreating"
            message = f'container "{container}" in pod "{name}" is waiting to start: '
            if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName"):
                message += (
                    "trying and failing to pull image" if reason != "InvalidImageName" else "image can't be pulled"
                )
            else:
                message += reason
            raise BadQuery(400, message)
        return None, None


def _attempts(directory: Path) -> list[int]:
    if not directory.is_dir():
        return []
    return sorted(int(file.stem) for file in directory.glob("*.log") if is_digits(file.stem))


def parse_options(query: bytes | None) -> tuple[LogOptions, bool]:
    """(options, previous) of `/containerLogs`. Raises BadQuery."""
    given = {key: values[-1] for key, values in parse_qs((query or b"").decode("latin-1")).items()}

    def flag(name: str) -> bool:
        return given.get(name, "false").lower() not in ("0", "false", "f")

    def number(name: str, least: int) -> int | None:
        text = given.get(name)
        if text is None:
            return None
        found = parse_int(text)
        if found is None:
            raise BadQuery(400, f"unable to decode query: {name} {text[:64]!r} is no number")
        if found < least:
            raise BadQuery(422, f"{name} must be at least {least}")
        return found

    tail = None if given.get("tailLines") == "all" else number("tailLines", 0)
    seconds = number("sinceSeconds", 1)
    since = ""
    try:
        if seconds is not None:
            since = clock.rfc3339_utc(clock.now() - timedelta(seconds=seconds))
        elif given.get("sinceTime"):
            # A "+" of a zone that was not escaped has become a blank.
            since = clock.rfc3339_utc(clock.parse(given["sinceTime"].replace(" ", "+")))
    except (ValueError, OverflowError) as error:
        raise BadQuery(400, f"unable to decode query: {error}") from error
    options = LogOptions(
        follow=flag("follow"),
        timestamps=flag("timestamps"),
        tail_lines=tail,
        limit_bytes=number("limitBytes", 1),
        since=since,
    )
    return options, flag("previous")


def _stream(path: Path | None, options: LogOptions, live: LogFile | None) -> ASGIApp:
    """An ASGI application that sends a log."""

    async def transmit(send: Send) -> None:
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if path is not None and (live is not None or parts_of(path)):
            async with contextlib.aclosing(read_log(path, options, live)) as chunks:
                async for chunk in chunks:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def app(_: Scope, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
        # A container may say nothing for hours: who has gone must be noticed without anything to send.
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


def _json(value: Object) -> Respond:
    return Respond(200, [(b"Content-Type", b"application/json")], msgspec.json.encode(value))
