"""Serves a kubelet's paths `/exec`, `/attach`, `/portForward` and `/run` (`pkg/kubelet/server/server.go`)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.node.container import ContainerWorker
from hatchway.cluster.node.descriptorio import DescriptorReader
from hatchway.cluster.node.streaming.attachsession import AttachSession
from hatchway.cluster.node.streaming.clientlink import LinkUser, SocketLink
from hatchway.cluster.node.streaming.command import CommandSession, WantedStreams
from hatchway.cluster.node.streaming.execsession import ExecSession
from hatchway.cluster.node.streaming.podports import PodPorts
from hatchway.cluster.node.streaming.portchannels import PortChannelServer
from hatchway.cluster.node.streaming.portforwarding import PortForwardServer
from hatchway.cluster.node.streaming.spdyclient import SpdyCommandClient
from hatchway.cluster.node.streaming.websocketclient import WebSocketCommandClient
from hatchway.cluster.node.streaming.websockettunnel import TunnelLink
from hatchway.cluster.node.worker import PodWorker
from hatchway.cluster.runtime import StartError
from hatchway.kube.informer import Informer
from hatchway.proxy.routing import AcceptUpgrade, App, Decision, Headers, RequestHead, Respond
from hatchway.wire import channels
from hatchway.wire.portforwardstreams import (
    OFFER_FIELD,
    SINGLE_STREAM_PROTOCOL,
    SPDY_PROTOCOL,
    TUNNEL_PROTOCOL,
    PortChannels,
    PortForwardError,
    parse_ports,
)
from hatchway.wire.wshandshake import HandshakeError, OpeningRequest, parse_request, response_fields

log = logging.getLogger(__name__)

# The first segments of these paths.
PATHS: Final = frozenset((b"exec", b"attach", b"portForward", b"run"))
_VERSION_FIELD: Final = b"x-stream-protocol-version"
# Fields of a response 101 that the engine writes itself.
_WRITTEN_BY_ENGINE: Final = frozenset((b"Connection", b"Upgrade"))
# The maximum number of bytes of output that `/run` returns.
_RUN_OUTPUT: Final = 1 << 20
_RUN_SECONDS: Final = 120.0
_LONGEST_QUERY: Final = 1 << 20
# The share of this process's descriptors for forwarded connections. Most others are for Services (`services/`).
_SHARE: Final = 0.1


class StreamRefused(Exception):
    """A request is refused. headers: additional fields of the answer."""

    def __init__(self, status: int, text: str, headers: Headers | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or []


@cache
def _connections_of_all_nodes() -> ClientQuota:
    """Return the quota that all nodes share, because one process runs them."""
    return ClientQuota.of_process(_SHARE)


class StreamServer:
    """The streams of one node's pods. `close` ends all sessions.

    pods: the pods that the kubelet knows.
    workers: the kubelet's workers, by the pod's UID.
    quota: counts forwarded connections; None for the quota that all nodes share.
    """

    def __init__(self, pods: Informer, workers: Mapping[str, PodWorker], quota: ClientQuota | None = None) -> None:
        self._quota = quota if quota is not None else _connections_of_all_nodes()
        self._pods = pods
        self._workers = workers
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """End all sessions."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def route(self, head: RequestHead) -> Decision:
        """Return the answer to an allowed request whose path begins with one of `PATHS`."""
        try:
            return self._route(head)
        except StreamRefused as error:
            fields = [(b"Content-Type", b"text/plain; charset=utf-8"), (b"X-Content-Type-Options", b"nosniff")]
            return Respond(error.status, [*fields, *error.headers], error.text.encode())

    def _route(self, head: RequestHead) -> Decision:
        first, *rest = [unquote(part.decode("latin-1")) for part in head.path.strip(b"/").split(b"/")]
        needed = 2 if first == "portForward" else 3
        # There may be one more segment after the pod's name: its UID.
        if len(rest) not in (needed, needed + 1) or not all(rest):
            raise StreamRefused(404, "404 page not found\n")
        if head.method not in (("POST",) if first == "run" else ("GET", "POST")):
            raise StreamRefused(405, "Method Not Allowed", [(b"Allow", b"POST" if first == "run" else b"GET, POST")])
        uid = rest[2] if len(rest) > needed else ""
        query = _parse_query(head.query)
        if first == "portForward":
            return self._forward(head, self._worker(rest[0], rest[1], uid), query)
        if first == "run":
            container = self._container(self._worker(rest[0], rest[1], uid), rest[-1])
            return App(_run_app(container, query.get("cmd", [""])[0].split(" ")))
        streams = _streams(query)
        worker = self._worker(rest[0], rest[1], uid)
        container = self._container(worker, rest[-1])
        if first == "exec":
            argv = query.get("command", [])
            if not argv:
                raise StreamRefused(400, "command is required")
            return self._command(head, streams, lambda: ExecSession(container, argv, streams, self._spawn))
        source = container.streams
        if source is None:
            raise StreamRefused(500, f'container not found ("{container.name}")')
        # For attach, the running process decides whether there is a terminal, not the request.
        tty = source.has_terminal
        streams = WantedStreams(streams.stdin, streams.stdout, streams.stderr and not tty, tty)
        once = bool(container.spec.get("stdinOnce"))
        return self._command(head, streams, lambda: AttachSession(source, streams, self._spawn, once=once))

    def _worker(self, namespace: str, name: str, uid: str) -> PodWorker:
        pod = self._pods.items.get((namespace, name))
        worker = self._workers.get(pod["metadata"]["uid"]) if pod is not None else None
        if worker is None or (uid and uid != worker.uid):
            raise StreamRefused(404, "pod does not exist")
        return worker

    def _container(self, worker: PodWorker, name: str) -> ContainerWorker:
        container = next((found for found in worker.containers.all if found.name == name), None)
        if container is None or container.process is None:
            raise StreamRefused(500, f'container not found ("{name}")')
        return container

    # Exec and attach

    def _command(
        self,
        head: RequestHead,
        streams: WantedStreams,
        make: Callable[[], CommandSession],
    ) -> AcceptUpgrade:
        request = _opening_request(head)
        if request is None:
            version = _spdy_version(head, channels.SPDY_PROTOCOLS)
            return self._accept_spdy(version, lambda: SpdyCommandClient(make(), version, streams))
        # Like an API server, prefer version 5 wherever it is in the list (`IsWebSocketRequestWithStreamCloseProtocol`).
        newest = [name for name in request.protocols if name == channels.V5.name]
        protocol = channels.choose(newest or request.protocols)
        if protocol is None:
            raise _unknown_protocols(request)

        def make_link_user() -> LinkUser:
            return WebSocketCommandClient(make(), protocol, streams)

        return _accept_websocket(request, protocol.name, make_link_user)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a stream of a pod has failed", exc_info=error)

    # Port-forward

    def _forward(self, head: RequestHead, worker: PodWorker, query: dict[str, list[str]]) -> AcceptUpgrade:
        if not worker.has_sandbox:
            raise StreamRefused(500, f"pod {worker.name} is not running")
        reached = PodPorts(
            worker.dial, worker.pod["metadata"]["namespace"], f"{worker.name}, uid {worker.uid}", self._quota
        )
        request = _opening_request(head)
        if request is None:
            version = _spdy_version(head, (SPDY_PROTOCOL,))
            return self._accept_spdy(version, lambda: PortForwardServer(reached, self._spawn))
        if TUNNEL_PROTOCOL in request.protocols:

            def tunnel() -> LinkUser:
                return TunnelLink(PortForwardServer(reached, self._spawn))

            accepted = _accept_websocket(request, TUNNEL_PROTOCOL, tunnel)
            # Also offer Hatchway's own protocol. The API server in front of this kubelet serves it, if the API server
            # can reach the pod.
            accepted.headers.append((OFFER_FIELD, SINGLE_STREAM_PROTOCOL.encode()))
            return accepted
        # Clients also offer version 5, which does not define port-forward.
        usable = [name for name in request.protocols if name != channels.V5.name]
        protocol = channels.choose(usable) if usable or not request.protocols else None
        if protocol is None:
            raise _unknown_protocols(request)
        try:
            ports = parse_ports([*query.get("port", ()), *query.get("ports", ())])
        except PortForwardError as error:
            raise StreamRefused(400, str(error)) from error
        forwarded = PortChannels(protocol, ports)
        return _accept_websocket(
            request,
            protocol.name,
            lambda: PortChannelServer(forwarded, protocol.is_base64, reached, self._spawn),
        )

    def _accept_spdy(self, version: str, make_link_user: Callable[[], LinkUser]) -> AcceptUpgrade:
        return AcceptUpgrade(
            b"SPDY/3.1", [(b"X-Stream-Protocol-Version", version.encode())], lambda: SocketLink(make_link_user())
        )


def _unknown_protocols(request: OpeningRequest) -> StreamRefused:
    return StreamRefused(403, f"none of the WebSocket protocols is served here: {', '.join(request.protocols)}")


def _accept_websocket(request: OpeningRequest, protocol: str, make_link_user: Callable[[], LinkUser]) -> AcceptUpgrade:
    fields = [field for field in response_fields(request.key, protocol) if field[0] not in _WRITTEN_BY_ENGINE]
    return AcceptUpgrade(b"websocket", fields, lambda: SocketLink(make_link_user()))


def _opening_request(head: RequestHead) -> OpeningRequest | None:
    """Return the request of a WebSocket's handshake; None for a handshake of SPDY. Raises StreamRefused."""
    upgrade = (head.upgrade or b"").lower()
    if upgrade == b"spdy/3.1":
        return None
    if upgrade != b"websocket":
        raise StreamRefused(400, "Upgrade request required")
    if head.method != "GET":
        raise StreamRefused(405, "Method Not Allowed", [(b"Allow", b"GET")])
    try:
        return parse_request(head.headers)
    except HandshakeError as error:
        raise StreamRefused(400, error.message) from error


def _spdy_version(head: RequestHead, served: tuple[str, ...]) -> str:
    """Return the first version in the client's list that is served here (apimachinery `httpstream.Handshake`)."""
    values = [value.decode("latin-1") for name, value in head.headers if name.lower() == _VERSION_FIELD]
    offered = [version.strip() for value in values for version in value.split(",")]
    if not offered:
        raise StreamRefused(400, "unable to upgrade: X-Stream-Protocol-Version header is required")
    for version in offered:
        if version in served:
            return version
    accepted = [(b"X-Accepted-Stream-Protocol-Versions", version.encode()) for version in served]
    text = f"client supports [{' '.join(offered)}], server accepts [{' '.join(served)}]"
    raise StreamRefused(403, f"unable to upgrade: unable to negotiate protocol: {text}", accepted)


def _parse_query(query: bytes | None) -> dict[str, list[str]]:
    if query and len(query) > _LONGEST_QUERY:
        raise StreamRefused(400, "the query is too long")
    # Arguments of commands are bytes that need not be UTF-8.
    return parse_qs((query or b"").decode("latin-1"), keep_blank_values=True, errors="surrogateescape")


def _streams(query: dict[str, list[str]]) -> WantedStreams:
    stdin, stdout, stderr, tty = (query.get(name, [""])[0] == "1" for name in ("input", "output", "error", "tty"))
    if not (stdin or stdout or stderr):
        raise StreamRefused(400, "you must specify at least 1 of stdin, stdout, stderr")
    # A terminal has only one output.
    return WantedStreams(stdin, stdout, stderr and not tty, tty)


def _run_app(container: ContainerWorker, argv: list[str]) -> Any:
    """Return an application that runs a command and answers with its output (`RunInContainer`)."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        status, body = await _run(container, argv)
        headers = [(b"content-type", b"application/json"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def _run(container: ContainerWorker, argv: list[str]) -> tuple[int, bytes]:
    output = bytearray()
    ended = asyncio.Event()
    reading, writing = os.pipe()

    def received(data: bytes) -> None:
        output.extend(data[: _RUN_OUTPUT - len(output)])

    reader = DescriptorReader(reading, received, ended.set)
    try:
        try:
            process = await container.execute(argv, stdout=writing, stderr=writing)
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(_RUN_SECONDS):
                end = await process.wait()
                await ended.wait()
        finally:
            process.kill(signal.SIGKILL)
    except StartError as error:
        return 500, f"command '{' '.join(argv)}' failed: {error}\n".encode()
    except TimeoutError:
        return 500, f"command '{' '.join(argv)}' timed out after {_RUN_SECONDS:g}s\n".encode()
    finally:
        reader.close()
        os.close(reading)
    if end.code:
        return 500, f"command '{' '.join(argv)}' exited with {end.code}: ".encode() + output
    return 200, bytes(output)
