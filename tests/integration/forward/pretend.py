"""An API server with objects in memory; programs of this machine take the place of pods, behind `streamserver`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hatchway.errors import ApiError
from tests.integration.kube.world import write_kubeconfig
from tests.streamserver import StreamServer
from tests.unit.route.pods import Handler, World

_GROUPS = {"discovery.k8s.io": "endpointslices.discovery.k8s.io"}


class PretendCluster(StreamServer):
    """An API server. It serves `/portforward` like a kubelet, and the objects of `world`; its pods listen on loopback.

    requests: the requests for port-forward. others: the paths of all other requests.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.world = World()
        self.others: list[str] = []
        self._servers: list[asyncio.Server] = []

    async def __aexit__(self, *exc: object) -> None:
        for server in self._servers:
            server.close()
        await super().__aexit__(*exc)

    def write_kubeconfig(self, path: Path) -> Path:
        write_kubeconfig(path, {"server": f"http://127.0.0.1:{self.port}"}, {"token": "t"}, namespace="shop")
        return path

    async def add_pod(self, name: str, handler: Handler, app: str = "web") -> int:
        """Add a ready pod of a Service, whose program listens on its own port; return that port."""
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        self._servers.append(server)
        await self.world.add_pod(name, app=app)
        return int(server.sockets[0].getsockname()[1])

    async def add_service(self, name: str, pod: str, port: int) -> None:
        """Add a Service with port 80 and one pod, whose program listens on `port`."""
        await self.world.add_service(name, 80, port, selector={"app": name})
        await self.world.set_endpoints(pod, service=name)
        key = ("endpointslices.discovery.k8s.io", "shop", f"{name}-1")
        ports = [{"name": "http", "port": port, "protocol": "TCP"}]
        await self.world.client.update(key[0], {**self.world.client.objects[key], "ports": ports})

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A new reader begins with the head, because the stream server must read it, too.
        head = await reader.readuntil(b"\r\n\r\n")
        target = head.split(b" ", 2)[1].decode()
        if urlsplit(target).path.endswith("/portforward"):
            again = asyncio.StreamReader()
            again.feed_data(head)
            self.spawn(_pump(reader, again))
            await super().serve(again, writer)
            return
        await self._answer(head.decode("latin-1"), target, reader, writer)

    async def _answer(self, head: str, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.split("\r\n"))
        }
        body = await reader.readexactly(int(fields.get("content-length", "0")))
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        self.others.append(path)
        try:
            if "watch" in query:
                await self._watch(path, writer)
                return
            found = await self._object(head.split(" ")[0], path, query, body)
            status = 200
        except ApiError as error:
            status, found = error.code, error.status()
        text = json.dumps(found).encode()
        writer.write(
            b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
            % (status, len(text), text)
        )
        await writer.drain()

    async def _object(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Any:
        client = self.world.client
        if path == "/version":
            return {"gitVersion": "v1.36.2"}
        resource, namespace, name = _split(path)
        if method == "POST":
            return await client.create(resource, json.loads(body), namespace)
        if name:
            return await client.get(resource, name, namespace)
        items = await client.list(resource, namespace, label_selector=query.get("labelSelector", [""])[0])
        return {"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": items}

    async def _watch(self, path: str, writer: asyncio.StreamWriter) -> None:
        resource, namespace, _ = _split(path)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
        events = self.world.client.watch(resource, namespace)
        with contextlib.suppress(asyncio.CancelledError):
            async for event in events:
                if event.type != "SYNCED":
                    writer.write(json.dumps({"type": event.type, "object": event.object}).encode() + b"\n")
                    await writer.drain()


def _split(path: str) -> tuple[str, str | None, str]:
    """Return (resource, namespace, name) of an API path."""
    parts = path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if group else parts[2:]
    namespace = None
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource = f"{rest[0]}.{group}" if group else rest[0]
    return resource, namespace, rest[1] if len(rest) > 1 else ""


async def _pump(source: asyncio.StreamReader, to: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            to.feed_data(data)
    to.feed_eof()
