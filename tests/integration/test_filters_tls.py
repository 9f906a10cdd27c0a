"""The request filters of the API server behind the real engine, over TLS, with every kind of credential."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import argon2
import pytest

from hatchway.cluster.api.http.connectroutes import ConnectRoutes
from hatchway.cluster.api.http.filters import Filters
from hatchway.cluster.api.registry.types import ROWS
from hatchway.cluster.auth import basic, credentialfiles, pki
from hatchway.cluster.auth.audit import AuditLog
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.bootstrap import bootstrap_objects
from hatchway.cluster.auth.pki import KeyPair, Pki
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.state import StateDir
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.proxy.server import serve
from tests.unit.cluster.auth.fakes import FakeSource


async def whoami(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the user that the filters have found."""
    user = scope["state"]["user"]
    body = json.dumps([user.name, list(user.groups)]).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})


class Nothing:
    def prepare(self, head: RequestHead, *_: Any) -> Respond:
        return Respond(200, [], json.dumps([head.state["user"].name, []]).encode())


class Running:
    def __init__(self, keys: Pki, state: StateDir, port: int) -> None:
        self.keys, self.state, self.port = keys, state, port

    async def get(
        self, path: str = "/api", *, cert: KeyPair | None = None, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.keys.client_context(cert), server_hostname="localhost"
        )
        try:
            fields = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"} | {
                name.replace("_", "-"): value for name, value in headers.items()
            }
            lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
            writer.write("\r\n".join(lines).encode())
            head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        if not head:
            raise ConnectionError("closed without an answer")
        status, *found = head.decode("latin-1").split("\r\n")
        answered = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in found)}
        return int(status.split()[1]), answered, json.loads(body)


@pytest.fixture
async def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    monkeypatch.setattr(basic, "_HASHER", argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    state = StateDir(tmp_path / "c")
    state.create()
    keys = pki.ensure(state.pki, cluster_name="c", node_names=["node-1"], node_ips=["172.18.0.3"])
    source = FakeSource()
    for resource, obj in bootstrap_objects():
        source.put(resource, obj)
    authenticator = Authenticator(keys, state.tokens_file, state.basic_file, source)
    authenticator.file_check_seconds = 0.0
    log = AuditLog(state.audit_file)
    filters = Filters(
        authenticator=authenticator,
        authorizer=Authorizer(source),
        connections=ConnectRoutes(ROWS, lambda _: Nothing()),
        app=whoami,
        log=log,
    )
    server = await serve(filters.route, host="127.0.0.1", port=0, ssl=keys.server_context())
    yield Running(keys, state, server.port)
    await server.close()
    authenticator.close()
    log.close()
    assert filters.requests.in_flight == 0


async def test_certificates(running: Running) -> None:
    keys = running.keys
    status, _, body = await running.get(cert=keys.admin)
    assert (status, body) == (200, ["kubernetes-admin", ["system:masters", "system:authenticated"]])
    status, _, body = await running.get(cert=keys.kubelet("node-1"))
    assert (status, body[0]) == (200, "system:node:node-1")


async def test_certificates_that_are_not_accepted_end_the_handshake(running: Running, tmp_path: Path) -> None:
    other = pki.ensure(tmp_path / "other", cluster_name="c", node_names=[], node_ips=[])
    # One certificate is of another cluster; the other is only for servers.
    for pair in (other.admin, running.keys.apiserver):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await running.get(cert=pair)


async def test_requests_with_tokens_and_without_credentials(running: Running) -> None:
    admin = credentialfiles.ensure_admin_token(running.state)
    minted = credentialfiles.mint_token(running.state, user="ada", groups=["devs"], seconds=60)
    status, headers, body = await running.get(Authorization=f"Bearer {admin}", Audit_ID="mine")
    assert (status, body[0], headers["audit-id"]) == (200, "kubernetes-admin", "mine")
    status, _, body = await running.get(Authorization=f"Bearer {minted}")
    assert (status, body) == (200, ["ada", ["devs", "system:authenticated"]])
    status, headers, body = await running.get(Authorization=f"Bearer {minted}x")
    assert (status, body["message"], headers["content-type"]) == (401, "Unauthorized", "application/json")
    status, headers, body = await running.get()
    assert (status, body["message"]) == (403, 'forbidden: User "system:anonymous" cannot get path "/api"')
    assert headers["x-content-type-options"] == "nosniff"
    status, _, body = await running.get("/healthz")
    assert (status, body[0]) == (200, "system:anonymous")


async def test_a_password(running: Running) -> None:
    credentialfiles.set_password(running.state, user="ada", groups=["system:masters"], password="x")
    page = {"Accept": "text/html", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Site": "none"}
    status, headers, _ = await running.get(**page)
    assert (status, headers["www-authenticate"].split()[0]) == (401, "Basic")
    good = "Basic " + base64.b64encode(b"ada:x").decode()
    answers = await asyncio.gather(*(running.get(Authorization=good, **page) for _ in range(4)))
    assert [(status, body[0]) for status, _, body in answers] == [(200, "ada")] * 4
    status, headers, _ = await running.get(Authorization="Basic " + base64.b64encode(b"ada:y").decode(), **page)
    assert (status, "www-authenticate" in headers) == (401, True)


async def test_a_websockets_token(running: Running) -> None:
    token = base64.urlsafe_b64encode(credentialfiles.ensure_admin_token(running.state).encode()).rstrip(b"=").decode()
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec_WebSocket_Protocol": f"chat, base64url.bearer.authorization.k8s.io.{token}",
    }
    reader_path = "/api/v1/nodes/node-1/proxy/ws"
    status, _, body = await asyncio.wait_for(running.get(reader_path, **upgrade), 20)
    assert (status, body[0]) == (200, "kubernetes-admin")
