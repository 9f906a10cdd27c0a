"""/health, /ready and /metrics on ports of their own, as CoreDNS' plugins of these names serve them.

A probe's request is answered and its connection closed; nothing here needs an HTTP library.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hatchway import __version__
from hatchway.cluster.addons.dns.server import Metrics

HEALTH_PORT, READY_PORT, METRICS_PORT = 8080, 8181, 9153
_SECONDS = 5.0
_HEAD_LIMIT = 16 * 1024

# (status, reason, body)
Answer = tuple[int, str, str]


async def serve(host: str, port: int, path: str, answer: Callable[[], Answer]) -> asyncio.Server:
    """Answer GET and HEAD of `path` with `answer()`. Raises OSError."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(head, path, answer))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever sends no request gets no answer.
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return await asyncio.start_server(connected, host, port, limit=_HEAD_LIMIT)


def _respond(head: bytes, path: str, answer: Callable[[], Answer]) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        status, reason, body = 400, "Bad Request", "Bad Request\n"
    elif words[0] not in (b"GET", b"HEAD"):
        status, reason, body = 405, "Method Not Allowed", "Method Not Allowed\n"
    elif words[1].split(b"?")[0] != path.encode():
        status, reason, body = 404, "Not Found", "404 page not found\n"
    else:
        status, reason, body = answer()
    kind = "text/plain; version=0.0.4; charset=utf-8" if path == "/metrics" else "text/plain; charset=utf-8"
    fields = f"Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n"
    response = f"HTTP/1.1 {status} {reason}\r\n{fields}"
    return (response + ("" if words[0] == b"HEAD" else body)).encode()


def metrics_text(metrics: Metrics) -> str:
    """The counts in Prometheus' text format, under CoreDNS' names where they mean the same."""
    lines = [
        "# HELP hatchway_build_info A metric with a constant '1' value labelled by the version of Hatchway.",
        "# TYPE hatchway_build_info gauge",
        f'hatchway_build_info{{version="{__version__}"}} 1',
    ]
    for name, help_text, label, counts in (
        ("coredns_dns_requests_total", "Counter of DNS requests made per protocol.", "proto", metrics.requests),
        ("coredns_dns_responses_total", "Counter of response status codes.", "rcode", metrics.responses),
        ("hatchway_dns_forwards_total", "Counter of queries handed on, by outcome.", "outcome", metrics.forwards),
    ):
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} counter"]
        lines += [f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(counts.items())]
    return "\n".join(lines) + "\n"
