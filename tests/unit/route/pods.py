"""A cluster without an API server: objects in memory, pods' programs on loopback, and sessions that connect to them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.paths import parse_resource
from hatchway.kube.trouble import Trouble
from hatchway.kube.wellknown import SERVICE_NAME
from hatchway.proxy.routing import ProxyError
from hatchway.route.portforward import PortForwardRoute
from hatchway.target import Kind, Target
from tests.unit.fake_client import FakeClient

REFUSED = "error forwarding port 80 to pod x, uid : failed to connect to localhost:80: connect: connection refused"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]


class Client(FakeClient):
    """Objects in memory, and access reviews.

    denied: pairs (verb, resource[/subresource]) for which the user has no right. held_review: the answer of the next
    review of the right to port-forward arrives when this event is set. review_begun: set when that review has been
    requested.
    """

    def __init__(self) -> None:
        super().__init__()
        self.denied: set[tuple[str, str]] = set()
        self.held_review: asyncio.Event | None = None
        self.review_begun = asyncio.Event()
        self.identity = ("server",)

    async def create(self, resource: str, obj: Object, namespace: str | None = None, **more: Any) -> Object:
        kind = obj.get("kind", "")
        if kind == "SelfSubjectAccessReview":
            asked = obj["spec"]["resourceAttributes"]
            name = asked["resource"] + (f"/{asked['subresource']}" if asked.get("subresource") else "")
            allowed = (asked["verb"], name) not in self.denied
            if name == "pods/portforward" and self.held_review is not None:
                held, self.held_review = self.held_review, None
                self.review_begun.set()
                await held.wait()
            return {"status": {"allowed": allowed}}
        if kind == "SelfSubjectRulesReview":
            return {"status": {"resourceRules": [], "incomplete": True}}
        if kind == "SelfSubjectReview":
            return {"status": {"userInfo": {"username": "jane"}}}
        return await super().create(resource, obj, namespace, **more)

    async def get(self, resource: str, name: str, namespace: str | None = None, **more: Any) -> Object:
        self._check("get", resource)
        return await super().get(resource, name, namespace, **more)

    async def list(self, resource: str, namespace: str | None = None, **selectors: Any) -> list[Object]:
        self._check("list", resource)
        found = await super().list(resource, namespace)
        labels = dict(part.split("=") for part in selectors.get("label_selector", "").split(",") if part)
        return [one for one in found if labels.items() <= (one["metadata"].get("labels") or {}).items()]

    def _check(self, verb: str, resource: str) -> None:
        if (verb, resource.partition(".")[0]) in self.denied:
            raise ApiError(403, "Forbidden", f'{resource} is forbidden: User "jane" cannot {verb}')


class FakeConnection:
    """The part of `kube.connection.Connection` that the route uses."""

    context, namespace, label, server = "test", "shop", "the test cluster", "https://test"
    identity: tuple[str, ...] = ("server",)
    generation = 1
    trouble: Trouble | None = None
    problem = None
    fresh = True

    def __init__(self, client: Client) -> None:
        self.client = client
        self.upstream = cast(Any, type("Upstream", (), {"key": "key"})())
        self._fields: list[tuple[bytes, bytes]] = []
        self._callbacks: list[Callable[[], None]] = []

    def fields(self) -> list[tuple[bytes, bytes]]:
        return self._fields

    def subscribe(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._callbacks.append(callback)
        return lambda: self._callbacks.remove(callback)

    async def ready(self) -> None:
        pass

    async def renew(self) -> bool:
        return False

    def be_away(self, away: bool) -> None:
        error = ProxyError("dial", "connection refused")
        self.trouble = Trouble("cannot reach the test cluster", "is it running?", 0.0, error) if away else None
        self._tell()

    def change_credentials(self) -> None:
        self._fields = [(b"Authorization", b"another")]
        self.generation += 1
        self._tell()

    def _tell(self) -> None:
        for callback in list(self._callbacks):
            callback()


class FakeSession:
    """A session with a pod; its connections lead to programs on loopback."""

    stalled = False
    has_flow_control = True

    def __init__(self, world: World, pod: str) -> None:
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.transports: set[asyncio.Transport] = set()
        self._world = world
        self._pod = pod

    @property
    def can_connect(self) -> bool:
        return not self.closed.done()

    def connect(self, port: int) -> asyncio.Transport:
        self._world.dialed.append((self._pod, port))
        number = self._world.programs.get((self._pod, port))
        if number is None:
            refused = _Refused(self._world.refusals)
            self.transports.add(refused)
            return refused
        sock = socket.create_connection(("127.0.0.1", number))
        sock.setblocking(False)
        transport = _selector_transport(sock)
        self.transports.add(transport)
        return transport

    async def check(self, patience: float) -> bool:
        return not self.closed.done()

    def close(self) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        for transport in self.transports:
            transport.abort()


def _selector_transport(sock: socket.socket) -> asyncio.Transport:
    """Return a transport that waits for a protocol, and reads nothing before `resume_reading`."""
    loop = cast(Any, asyncio.get_running_loop())
    transport = loop._make_socket_transport(sock, asyncio.Protocol())
    # Otherwise the transport would begin to read in the loop's next turn.
    transport.pause_reading()
    return cast(asyncio.Transport, transport)


class _Refused(asyncio.Transport):
    """A stream to a pod that refuses the connection. As in real sessions, the connection ends with the reason.

    arrives: the reason arrives when this event is set.
    """

    def __init__(self, arrives: asyncio.Event) -> None:
        super().__init__()
        self._arrives = arrives
        self._task: asyncio.Task[None] | None = None
        self._protocol: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        await self._arrives.wait()
        self._end(REFUSED)

    def _end(self, why: str) -> None:
        protocol, self._protocol = self._protocol, None
        if protocol is not None:
            protocol.connection_lost(ConnectionError(why))

    def write(self, data: Any) -> None:
        pass

    def write_eof(self) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def abort(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._end("the session was closed")

    def close(self) -> None:
        self.abort()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class World:
    """The cluster.

    programs: (pod, port) -> port on loopback. refusals: when it is set, refusals of other ports arrive.
    silent: pods that never answer. dialed: the (pod, port) of each connection. sessions: the opened sessions, with
    their pods' names. held_session: the next session is open when this event is set.
    session_begun: set when that session is being opened.
    """

    def __init__(self) -> None:
        self.client = Client()
        self.connection = FakeConnection(self.client)
        self.programs: dict[tuple[str, int], int] = {}
        self.refusals = asyncio.Event()
        self.refusals.set()
        self.silent: set[str] = set()
        self.held_session: asyncio.Event | None = None
        self.session_begun = asyncio.Event()
        self.dialed: list[tuple[str, int]] = []
        self.sessions: list[tuple[str, FakeSession]] = []
        self.route = PortForwardRoute(cast(Connection, self.connection), self._open)
        self._servers: list[asyncio.Server] = []

    async def _open(self, namespace: str, pod: str) -> FakeSession:
        await asyncio.sleep(0)
        if self.held_session is not None:
            held, self.held_session = self.held_session, None
            self.session_begun.set()
            await held.wait()
        if pod in self.silent:
            await asyncio.get_running_loop().create_future()
        if self.connection.trouble is not None:
            raise service_unavailable("away")
        if ("create", "pods/portforward") in self.client.denied:
            raise ApiError(403, "Forbidden", 'pods "x" is forbidden: User "jane" cannot create pods/portforward')
        session = FakeSession(self, pod)
        self.sessions.append((pod, session))
        return session

    async def add_service(self, name: str = "web", port: int = 80, target: int | str = 8080, **spec: Any) -> Target:
        ports = [{"name": "http", "port": port, "targetPort": target, "protocol": "TCP"}]
        obj = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"app": name}, "ports": ports, **spec},
        }
        await self.client.create("services", obj, "shop")
        return Target("services", name, "shop", port=str(port))

    async def add_workload(self, kind: Kind, name: str = "web", port: str = "8080", **spec: Any) -> Target:
        """Add a workload whose pods are those with the label `app: NAME`."""
        parsed = parse_resource(kind)
        obj = {
            "apiVersion": parsed.api_version,
            "kind": "Workload",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": name}}, **spec},
        }
        await self.client.create(kind, obj, "shop")
        return Target(kind, name, "shop", port=port)

    async def add_pod(self, name: str, app: str = "web", ready: bool = True, handler: Handler | None = None) -> None:
        """Add a pod with port 8080; with `handler` a program listens on it."""
        obj = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": app}},
            "spec": {
                "nodeName": "n1",
                "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}],
            },
            "status": {
                "phase": "Running",
                "podIP": "10.0.0.9",
                "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            },
        }
        await self.client.create("pods", obj, "shop")
        if handler is not None:
            server = await asyncio.start_server(handler, "127.0.0.1", 0)
            self._servers.append(server)
            self.programs[name, 8080] = server.sockets[0].getsockname()[1]

    async def set_endpoints(self, *pods: str, service: str = "web", not_ready: tuple[str, ...] = ()) -> None:
        """Write the service's EndpointSlice."""
        key = ("endpointslices.discovery.k8s.io", f"{service}-1", "shop")
        obj: Object = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": f"{service}-1", "namespace": "shop", "labels": {SERVICE_NAME: service}},
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {
                    "addresses": ["10.0.0.9"],
                    "conditions": {"ready": pod not in not_ready},
                    "targetRef": {"kind": "Pod", "name": pod, "namespace": "shop", "uid": pod},
                }
                for pod in (*pods, *not_ready)
            ],
        }
        try:
            await self.client.get(key[0], key[1], key[2])
        except ApiError:
            await self.client.create(key[0], obj, key[2])
        else:
            await self.client.update(key[0], obj)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """Run the route during a block."""
        task = asyncio.get_running_loop().create_task(self.route.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait([task])
            for server in self._servers:
                server.close()


class Collector(asyncio.Protocol):
    """Collects the data of a connection."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.eof = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.changed.set()

    def eof_received(self) -> bool:
        self.eof.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)
        self.changed.set()

    async def until(self, size: int) -> bytes:
        """Wait until a number of bytes was received."""
        while len(self.data) < size and not self.lost.done():
            self.changed.clear()
            await self.changed.wait()
        return bytes(self.data)


def speaks(name: str) -> Handler:
    """Return a program that answers each line with its name and the line."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                writer.write(name.encode() + b" " + line)
        writer.close()

    return serve
