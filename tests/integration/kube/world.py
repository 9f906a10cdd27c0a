"""API servers, proxies, plugins and kubeconfigs for tests of the connection, with real sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import yaml

from hatchway.kube.connection import Connection
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.proxy.server import Server, serve

V1 = "client.authentication.k8s.io/v1"


async def eventually(what: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait until `what` returns a true value; return that value."""
    async with asyncio.timeout(seconds):
        while not (found := what()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found


class ApiServer:
    """Answers every request with an empty list, unless `answers` has its path: path -> (status, document).

    accepts: values of Authorization; requests with another one get a 401; None to accept all. seen: the heads of all
    requests, in order.
    """

    def __init__(self) -> None:
        self.accepts: set[str] | None = None
        self.answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self.seen: list[RequestHead] = []
        self.server: Server | None = None
        self.connections: set[tuple[str, int] | None] = set()

    async def start(self, context: ssl.SSLContext | None, port: int = 0, host: str = "127.0.0.1") -> None:
        self.server = await serve(self._route, host=host, port=port, ssl=context)

    @property
    def port(self) -> int:
        assert self.server is not None
        return self.server.port

    def _route(self, head: RequestHead) -> Respond:
        self.seen.append(head)
        self.connections.add(head.peer.address)
        given = (head.header(b"authorization") or b"").decode()
        if self.accepts is not None and given not in self.accepts:
            status = {"kind": "Status", "code": 401, "reason": "Unauthorized", "message": "Unauthorized"}
            return Respond(401, [(b"Content-Type", b"application/json")], json.dumps(status).encode())
        page = {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []}
        status, document = self.answers.get(head.path.decode(), (200, page))
        # Each watch ends at once, and clients send the request again.
        watch = status == 200 and b"watch=1" in (head.query or b"")
        body = b"" if watch else json.dumps(document).encode()
        return Respond(status, [(b"Content-Type", b"application/json")], body)

    def fields(self) -> dict[str, str]:
        """Return the header fields of the last request."""
        return {name.decode().lower(): value.decode() for name, value in self.seen[-1].headers}

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.close(0)
            self.server = None


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class ForwardProxy:
    """An HTTP CONNECT and SOCKS 5 proxy that connects every name to 127.0.0.1.

    asked: the authorities (host:port) that clients asked for. credentials: the demanded "user:password", or "".
    """

    def __init__(self, credentials: str = "") -> None:
        self.asked: list[str] = []
        self.credentials = credentials
        self._server: asyncio.Server | None = None
        self._running: set[asyncio.Task[Any]] = set()

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        """Start the proxy. context: for clients that connect by TLS; None for plain connections."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            first = await reader.readexactly(1)
            port = await (self._socks(reader, writer) if first == b"\x05" else self._connect(reader, writer))
            if port:
                answers, there = await asyncio.open_connection("127.0.0.1", port)
                try:
                    await asyncio.gather(_copy(reader, there), _copy(answers, writer))
                finally:
                    there.close()
        writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        head = (b"C" + await reader.readuntil(b"\r\n\r\n")).decode()
        authority = head.split(" ")[1]
        self.asked.append(authority)
        wanted = "Basic " + base64.b64encode(self.credentials.encode()).decode()
        if self.credentials and f"Proxy-Authorization: {wanted}\r\n" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            return 0
        writer.write(b"HTTP/1.1 200 Connection established\r\nX-Own: y\r\n\r\n")
        return int(authority.rpartition(":")[2])

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        methods = await reader.readexactly((await reader.readexactly(1))[0])
        if self.credentials:
            assert 2 in methods
            writer.write(b"\x05\x02")
            await reader.readexactly(1)
            user = await reader.readexactly((await reader.readexactly(1))[0])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = f"{user.decode()}:{password.decode()}" == self.credentials
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return 0
        else:
            writer.write(b"\x05\x00")
        kind = (await reader.readexactly(4))[3]
        if kind == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            host = ".".join(map(str, await reader.readexactly(4)))
        port = int.from_bytes(await reader.readexactly(2), "big")
        self.asked.append(f"{host}:{port}")
        writer.write(b"\x05\x00\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
        return port

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


class FakePlugin:
    """A credential plugin that prints the file `answer` and records its runs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.script = directory / "login"
        self.script.write_text(
            f'#!/bin/sh\necho "$KUBERNETES_EXEC_INFO" >>{directory}/runs\n'
            f'echo "$EXTRA $1" >{directory}/given\n[ -e {directory}/slow ] && sleep 0.3\n'
            f"cat {directory}/said >&2\ncat {directory}/answer\nexit $(cat {directory}/code)\n"
        )
        self.script.chmod(0o755)
        self.fail(0)

    def answer(self, version: str = V1, **status: str) -> None:
        document = {"kind": "ExecCredential", "apiVersion": version, "status": status}
        (self.directory / "answer").write_text(json.dumps(document))

    def say(self, text: str) -> None:
        """Set the output that the plugin prints."""
        (self.directory / "answer").write_text(text)

    def fail(self, code: int, message: str = "") -> None:
        (self.directory / "code").write_text(str(code))
        (self.directory / "said").write_text(message)

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Return the input of each run so far."""
        path = self.directory / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def user(self) -> dict[str, Any]:
        return {
            "exec": {
                "apiVersion": V1,
                "command": str(self.script),
                "args": ["one"],
                "env": [{"name": "EXTRA", "value": "more"}],
                "interactiveMode": "IfAvailable",
                "provideClusterInfo": True,
                "installHint": "get it from the shelf",
            }
        }


def write_kubeconfig(
    path: Path, cluster: dict[str, Any], user: dict[str, Any], *, namespace: str = "", current: str = "work"
) -> None:
    """Write a kubeconfig with the context `work`, by an atomic replacement of the file, as editors and kubectl do."""
    context = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": current,
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "work", "context": context}],
    }
    replace_file(path, yaml.safe_dump(document))


def replace_file(path: Path, text: str) -> None:
    new = path.with_name(path.name + ".new")
    new.write_text(text)
    os.replace(new, path)


@contextlib.asynccontextmanager
async def followed(connection: Connection) -> Any:
    """Watch the connection's files during a block."""
    task = asyncio.get_running_loop().create_task(connection.watch_files())
    try:
        yield connection
    finally:
        task.cancel()
        await asyncio.wait([task])
        await connection.aclose()
