"""An API server without sockets: requests go directly to the ASGI application, by default as an administrator."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hatchway.cluster.api.http import requestinfo
from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError
from hatchway.proxy.asgi import WRITE_NOW

ADMIN = UserInfo("admin", ("system:masters", "system:authenticated"))


@dataclass
class Reply:
    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


class World:
    # Seconds that a request may take.
    patience = 20.0

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = Registry()
        self.api = Api(store, self.registry)
        self.client = LocalClient(self.api)
        self.app = RestApp(self.api)

    async def namespace(self, name: str) -> None:
        """Create a namespace if it does not exist, with the objects that controllers create in a new namespace."""
        if self.store.get("namespaces", "", name) is None:
            await self.client.create("namespaces", {"metadata": {"name": name}})
        await self.client.create("serviceaccounts", {"metadata": {"name": "default", "namespace": name}})
        ca = {"metadata": {"name": "kube-root-ca.crt", "namespace": name}, "data": {"ca.crt": "PEM"}}
        await self.client.create("configmaps", ca)

    def scope(self, method: str, target: str, headers: Mapping[str, str], user: UserInfo) -> dict[str, Any]:
        path, _, query = target.partition("?")
        info = requestinfo.parse(method, path.encode("latin-1"), query.encode("latin-1"))
        return {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode("latin-1"),
            "headers": [(key.lower().encode(), value.encode()) for key, value in headers.items()],
            "state": {"user": user, "info": info},
        }

    async def send(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        user: UserInfo = ADMIN,
    ) -> Reply:
        """Send a request; return the complete response. body: bytes or text are sent unchanged, the rest as JSON."""
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        messages = [{"type": "http.request", "body": b"" if body is None else data, "more_body": False}]
        reply = Reply()
        pieces: list[bytes] = []

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = [(key.decode(), value.decode()) for key, value in message["headers"]]
            else:
                pieces.append(message["body"])

        try:
            scope = self.scope(method, target, headers or {}, user)
        except ApiError as error:
            return Reply(error.code, [], json.dumps(error.status()).encode())
        await asyncio.wait_for(self.app(scope, receive, send), self.patience)
        reply.body = b"".join(pieces)
        return reply

    @asynccontextmanager
    async def watch(
        self,
        target: str,
        headers: Mapping[str, str] | None = None,
        full: Callable[[], bool] | None = None,
        at_once: list[bool] | None = None,
    ) -> AsyncIterator[asyncio.Queue[Any]]:
        """Watch during a block; yield a queue of the events. The client disconnects when the block ends.

        full: returns True while the simulated connection has no room for an immediate write; None for a connection that
            never writes immediately.
        at_once: a list that gets True for each chunk that was written immediately, and False for each other chunk.
        """
        events: asyncio.Queue[Any] = asyncio.Queue()
        left = asyncio.Event()

        async def receive() -> dict[str, Any]:
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            for line in message.get("body", b"").splitlines():
                events.put_nowait(json.loads(line))

        def write_now(piece: bytes) -> bool:
            assert full is not None and at_once is not None
            at_once.append(not full())
            if at_once[-1]:
                for line in piece.splitlines():
                    events.put_nowait(json.loads(line))
            return at_once[-1]

        scope = self.scope("GET", target, headers or {}, ADMIN)
        if full is not None:
            scope["extensions"] = {WRITE_NOW: write_now}
        task = asyncio.create_task(self.app(scope, receive, send))
        try:
            yield events
        finally:
            left.set()
            await asyncio.wait_for(task, 5)


@asynccontextmanager
async def world(path: Path | None = None) -> AsyncIterator[World]:
    store = Store.open(path)
    try:
        made = World(store)
        for name in ("default", "kube-system"):
            await made.namespace(name)
        yield made
    finally:
        await store.close()
