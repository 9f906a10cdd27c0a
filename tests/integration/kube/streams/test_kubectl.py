"""The server's side of a SPDY session, with kubectl as the client."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import BIN
from tests.integration.kube.streams.kubelet import OwnServer


@contextlib.asynccontextmanager
async def kubectl(tmp_path: Path, ports: list[int], websockets: bool) -> AsyncIterator[tuple[list[int], list[str]]]:
    """Run `kubectl port-forward` of these ports; yield the local ports, and the upgrades that kubectl asked for."""
    async with OwnServer().serving() as server, port_forward(tmp_path, server.url, ports, websockets) as local:
        yield local, server.upgrades


@contextlib.asynccontextmanager
async def port_forward(tmp_path: Path, url: str, ports: list[int], websockets: bool) -> AsyncIterator[list[int]]:
    process = await asyncio.create_subprocess_exec(
        BIN / "kubectl",
        *("--server", url, "port-forward", "--address", "127.0.0.1", "pod/web", *(f":{port}" for port in ports)),
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "KUBECTL_PORT_FORWARD_WEBSOCKETS": str(websockets).lower(),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        local = []
        for _ in ports:
            found = re.search(rb"Forwarding from 127.0.0.1:(\d+)", await process.stdout.readline())
            assert found is not None
            local.append(int(found[1]))
        yield local
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.communicate()
        process._transport.close()  # type: ignore[attr-defined]


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read to the end of the stream; answer with the length, then with as many bytes."""
    data = await reader.read(-1)
    writer.write(b"%d\n" % len(data) + data)
    await writer.drain()
    writer.close()


@pytest.mark.parametrize("websockets", [True, False])
async def test_kubectl_forwards_many_connections(tmp_path: Path, websockets: bool) -> None:
    pod = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = pod.sockets[0].getsockname()[1]
    async with pod, kubectl(tmp_path, [port], websockets) as ((local,), upgrades):

        async def one(size: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", local)
            data = bytes(range(251)) * size
            writer.write(data)
            writer.write_eof()
            assert await reader.read(-1) == b"%d\n" % len(data) + data
            writer.close()

        await asyncio.gather(*(one(size) for size in (0, 1, 100, 5_000, 5_000, 40_000)))
        assert upgrades == ["websocket" if websockets else "spdy/3.1"]


@pytest.mark.parametrize("websockets", [True, False])
async def test_kubectl_is_told_of_a_refused_port(tmp_path: Path, websockets: bool) -> None:
    async with kubectl(tmp_path, [1], websockets) as ((local,), _):
        reader, writer = await asyncio.open_connection("127.0.0.1", local)
        assert await reader.read(-1) == b""
        writer.close()
