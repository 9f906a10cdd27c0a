"""A TLS relay between the door and the embedded API server, which hides that both are parts of Hatchway.

The relay renames Hatchway's header fields. With `--rewrite kubernetes`, the API server behaves like kube-apiserver: it
changes HTML and Location, accepts seven methods, does not forward `Authorization` and the query of an upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.tls import self_signed
from tests.conftest import Cluster

# Replaced names, in header fields and in the version. The lengths are equal, so that no body's length changes.
_OWN = {b"x-hatchway-": b"x-nobody-s-", b"+hatchway.": b"+nobody-s."}
_LONGEST = max(map(len, _OWN))
# How long bytes that may be the beginning of a name are held, in seconds.
_PATIENCE = 0.05


def _blind(data: bytes) -> bytes:
    for own, nobodys in _OWN.items():
        lower = data.lower()
        at = lower.find(own)
        while at >= 0:
            data = data[:at] + nobodys + data[at + len(own) :]
            at = lower.find(own, at + 1)
    return data


def _begun(data: bytes) -> int:
    """Return how many bytes at the end of the data may be the beginning of a name."""
    sizes = range(min(_LONGEST - 1, len(data)), 0, -1)
    return next((size for size in sizes if any(own.startswith(data[-size:].lower()) for own in _OWN)), 0)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    held = b""
    with contextlib.suppress(OSError):
        while True:
            try:
                # The held bytes may instead be the end of a message. Its reader waits for them, so send them after a
                # time.
                async with asyncio.timeout(_PATIENCE if held else None):
                    data = await reader.read(65536)
            except TimeoutError:
                writer.write(held)
                held = b""
                continue
            if not data:
                break
            data = _blind(held + data)
            keep = _begun(data)
            held = data[len(data) - keep :]
            writer.write(data[: len(data) - keep])
            await writer.drain()
        writer.write(held)
    writer.close()


@contextlib.contextmanager
def stranger(cluster: Cluster, directory: Path) -> Iterator[Path]:
    """Run the relay in front of a cluster; yield a kubeconfig for the relay, with the administrator's token."""
    certificate, key = self_signed(directory, ["127.0.0.1"])
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(certificate, key)
    outside = ssl.create_default_context(cafile=str(cluster.ca))
    host, _, port = cluster.server.removeprefix("https://").partition(":")
    started: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = queue.Queue()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(host, int(port), ssl=outside)
        await asyncio.gather(_pump(reader, up_writer), _pump(up_reader, writer))

    async def serve() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=inside)
        stop = asyncio.Event()
        started.put((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
        await stop.wait()
        server.close()

    # A separate thread, because Playwright runs a loop in the tests' thread. The end of the loop closes open
    # connections.
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    loop, stop, own_port = started.get(timeout=20)
    kubeconfig = directory / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "stranger",
                "contexts": [{"name": "stranger", "context": {"cluster": "stranger", "user": "admin"}}],
                "clusters": [
                    {
                        "name": "stranger",
                        "cluster": {
                            "server": f"https://127.0.0.1:{own_port}",
                            "certificate-authority": str(certificate),
                        },
                    }
                ],
                "users": [{"name": "admin", "user": {"token": cluster.token()}}],
            }
        )
    )
    try:
        yield kubeconfig
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
