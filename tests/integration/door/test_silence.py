"""A door in front of an API server that accepts connections and sends no answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from hatchway.door.door import Door
from hatchway.door.dooroptions import DoorOptions
from hatchway.kube import client, http
from hatchway.kube.connection import Connection
from hatchway.proxy.limits import Limits

CONFIG = """
clusters: [{{name: c, cluster: {{server: "{server}", insecure-skip-tls-verify: true}}}}]
contexts: [{{name: work, context: {{cluster: c}}}}]
current-context: work
users: []
"""


@pytest.mark.parametrize(("scheme", "waited"), [("http", "no answer in 0.2 s"), ("https", "TLS handshake in 0.2 s")])
async def test_a_target_is_given_up_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, waited: str
) -> None:
    monkeypatch.setattr(client, "_OBJECT_TIMEOUT", 0.2)
    monkeypatch.setattr(http, "_LIMITS", Limits(upstream_tls_timeout=0.2))
    ends = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ends.wait()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server, asyncio.timeout(20):
        config = tmp_path / "config"
        address = f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        config.write_text(CONFIG.format(server=address))
        async with Door(Connection.load(str(config)), DoorOptions(port=0)).running() as listening:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(listening.addresses[0].rpartition(":")[2]))
            writer.write(b"GET / HTTP/1.1\r\nHost: web.default.svc.localhost\r\nConnection: close\r\n\r\n")
            answer = (await reader.read()).decode()
            writer.close()
            assert answer.startswith("HTTP/1.1 504 ")
            assert "X-Hatchway-Problem: time-out" in answer
            assert f'connected to context \\"work\\" ({address}), but it sends nothing: ' in answer
            assert waited in answer
        ends.set()


async def test_an_answer_of_the_api_has_no_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only connecting has a timeout, because long polling and a watch without events are silent, too."""
    monkeypatch.setattr(client, "_OBJECT_TIMEOUT", 0.05)
    asked = asyncio.Event()
    goes_on = asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await goes_on.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(slow, "127.0.0.1", 0) as server, asyncio.timeout(20):
        config = tmp_path / "config"
        config.write_text(CONFIG.format(server=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
        async with Door(Connection.load(str(config)), DoorOptions(port=0)).running() as listening:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(listening.addresses[0].rpartition(":")[2]))
            writer.write(b"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            await asked.wait()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.15):
                    await reader.read(1)
            goes_on.set()
            assert (await reader.read()).endswith(b"\r\n\r\nok")
            writer.close()
