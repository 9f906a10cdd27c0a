"""A server in this process that behaves like a kube-apiserver: objects, reviews, and the proxy verb of Kubernetes 1.36.

The proxy verb is the embedded cluster's with Kubernetes' rewriting; tests/conformance compares it with recordings.
Where the embedded cluster differs on purpose, this server behaves as recorded: a Service without endpoints is
`not found`; `Authorization`, Hatchway's own fields and the query of an upgrade are removed; deflated HTML is a 500.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from hatchway.cluster.api.connect.answers import status_response
from hatchway.cluster.api.connect.handler import ConnectRequest
from hatchway.cluster.api.connect.proxyverb import ProxyVerb
from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.cluster.api.http.requestinfo import RequestInfo, parse
from hatchway.door.door import Door
from hatchway.door.dooroptions import DoorOptions
from hatchway.errors import ApiError, forbidden, not_found
from hatchway.kube.connection import Connection
from hatchway.proxy.routing import Decision, Forward, RequestHead, Respond, ResponseHead, Transform
from hatchway.proxy.server import serve
from tests.conformance.backends import dial
from tests.conformance.cluster import FakeCluster, decide

USER = "ada"
CONFIG = """
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
contexts: [{{name: work, context: {{cluster: c}}}}]
current-context: work
users: []
"""
_KINDS = {"services": "Service", "pods": "Pod", "nodes": "Node", "namespaces": "Namespace"}


class Kubernetes:
    """The server. cluster: its objects. unreadable: types that the user may not get or list. seen: proxied requests.

    says: (resource, name) of a target -> (code, message), the answer of its proxy verb. Without an entry, the server
    connects to the target.
    """

    def __init__(self) -> None:
        self.cluster = FakeCluster()
        self.cluster.add_node("node-1", "127.0.0.1", "127.0.0.0/8")
        self.unreadable: set[str] = set()
        self.says: dict[tuple[str, str], tuple[int, str]] = {}
        self.seen: list[RequestHead] = []
        tls = ssl.create_default_context()
        locator = Locator(lookup=self.cluster, dial=dial, kubelet_tls=tls, allow_loopback_pods=True)
        self._verb = ProxyVerb(locator, "kubernetes")

    def route(self, head: RequestHead) -> Decision:
        if head.path == b"/version":
            return _json(200, {"gitVersion": "v1.36.2"})
        try:
            info = parse(head.method, head.path, head.query)
            return self._proxy(head, info) if info.subresource == "proxy" else self._rest(head, info)
        except ApiError as error:
            return status_response(error)

    def _proxy(self, head: RequestHead, info: RequestInfo) -> Decision:
        self.seen.append(head)
        name = info.name.split(":")[len(info.name.split(":")) // 3]
        if (known := self.says.get((info.resource, name))) is not None:
            return status_response(ApiError(known[0], "ServiceUnavailable" if known[0] == 503 else "", known[1]))
        if info.resource == "services" and not self.cluster.endpoint_slices(info.namespace, name):
            raise not_found("services", name)
        query = None if head.upgrade is not None else head.query
        lost = (b"x-hatchway-", b"authorization")
        fields = [field for field in head.headers if not field[0].lower().startswith(lost)]
        path = info.prefix + info.rest
        sent = RequestHead(head.method, path, path, query, fields, head.http_version, head.peer, head.upgrade)
        request = ConnectRequest(info.resource, info.namespace, info.name, info.prefix, info.rest, head.method, query)
        decision = decide(self._verb, sent, request)
        return _without_deflate(decision) if isinstance(decision, Forward) else decision

    def _rest(self, head: RequestHead, info: RequestInfo) -> Respond:
        if info.resource == "selfsubjectreviews":
            return _json(201, {"status": {"userInfo": {"username": USER}}})
        if info.resource in self.unreadable:
            verb, where = info.verb, f'in the namespace "{info.namespace}"'
            why = f'User "{USER}" cannot {verb} resource "{info.resource}" in API group "{info.api_group}" {where}'
            raise forbidden(info.resource, info.name, why, info.api_group)
        if info.verb == "get":
            found = self.cluster.get(info.resource, info.namespace, info.name)
            if found is None:
                raise not_found(info.resource, info.name)
            return _json(200, {"apiVersion": "v1", "kind": _KINDS.get(info.resource, ""), **found})
        selector = parse_qs((head.query or b"").decode()).get("labelSelector", [""])[0]
        return _json(200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": self._list(info, selector)})

    def _list(self, info: RequestInfo, selector: str) -> list[Any]:
        wanted = dict(pair.split("=", 1) for pair in selector.split(",") if pair)
        if info.resource == "endpointslices":
            service = wanted["kubernetes.io/service-name"]
            slices = self.cluster.endpoint_slices(info.namespace, service)
            return [{**one, "metadata": {**one["metadata"], "labels": wanted}} for one in slices]
        return [
            obj
            for (resource, namespace, _), obj in self.cluster.objects.items()
            if (resource, namespace) == (info.resource, info.namespace)
            and wanted.items() <= (obj["metadata"].get("labels") or {}).items()
        ]


def _json(status: int, document: dict[str, Any]) -> Respond:
    return Respond(status, [(b"Content-Type", b"application/json")], json.dumps(document).encode())


class _Broken:
    def feed(self, data: bytes) -> bytes:
        return b""

    def finish(self) -> bytes:
        return status_response(ApiError(500, "", "flate: corrupt input before offset 1")).body


def _without_deflate(forward: Forward) -> Forward:
    """Let deflated HTML fail: kube-apiserver expects raw deflate, and servers send the zlib format."""

    def edit(head: ResponseHead) -> Transform | None:
        html = (head.header(b"content-type") or b"").startswith(b"text/html")
        if html and head.header(b"content-encoding") == b"deflate":
            head.status, head.headers = 500, [(b"Content-Type", b"application/json")]
            return _Broken()
        assert forward.edit_response is not None
        return forward.edit_response(head)

    return Forward(
        forward.upstream, forward.target, forward.headers, forward.error_response, edit, forward.next_upstream
    )


class Answer:
    """A response of the door."""

    def __init__(self, data: bytes) -> None:
        head, _, self.body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def problem(self) -> str:
        return self.headers.get("x-hatchway-problem", "")


class Front:
    """A door in front of the simulated API server."""

    def __init__(self, kubernetes: Kubernetes, door: Door, port: int) -> None:
        self.kubernetes = kubernetes
        self.door = door
        self.port = port

    async def ask(
        self, host: str, path: str = "/", method: str = "GET", *, page: bool = True, body: bytes = b"", **fields: str
    ) -> Answer:
        """Send a request.

        host: the host name without `.localhost`; "" for the door's own host. page: as a browser's navigation, not as a
        tool. fields: header fields, with _ for -.
        """
        name = f"{host}.localhost" if host else "localhost"
        lines = [f"{method} {path} HTTP/1.1", f"Host: {name}:{self.port}", "Connection: close"]
        if page:
            lines += [
                "Accept: text/html",
                "Sec-Fetch-Mode: navigate",
                "Sec-Fetch-Site: none",
                "Sec-Fetch-Dest: document",
            ]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        async with asyncio.timeout(20):
            data = await reader.read()
        writer.close()
        return Answer(data)


@contextlib.asynccontextmanager
async def front(directory: Path) -> AsyncIterator[Front]:
    """Yield an API server without objects, and a door in front of it."""
    kubernetes = Kubernetes()
    server = await serve(kubernetes.route, host="127.0.0.1", port=0)
    config = directory / "config"
    config.write_text(CONFIG.format(port=server.port))
    door = Door(Connection.load(str(config)), DoorOptions(port=0))
    try:
        async with door.running() as listening:
            yield Front(kubernetes, door, int(listening.addresses[0].rpartition(":")[2]))
    finally:
        await server.close()
