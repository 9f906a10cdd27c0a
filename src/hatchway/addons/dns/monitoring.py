"""Serves /health, /ready and /metrics, each on its own port, as CoreDNS' plugins of these names do.

Each connection carries one request and is then closed, so no HTTP library is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from hatchway import __version__
from hatchway.addons.dns.server import DnsMetrics

HEALTH_PORT, READY_PORT, METRICS_PORT = 8080, 8181, 9153
_SECONDS = 5.0
_HEAD_LIMIT = 16 * 1024

# (status, reason, body)
ProbeAnswer = tuple[int, str, str]


async def serve(host: str, port: int, path: str, answer: Callable[[], ProbeAnswer]) -> asyncio.Server:
    """Answer GET and HEAD of `path` with `answer()`. Raises OSError when the address cannot be bound."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(_respond(head, path, answer))
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # The client sent no whole request in time, so there is nothing to answer.
            return
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    return await asyncio.start_server(connected, host, port, limit=_HEAD_LIMIT)


def _respond(head: bytes, path: str, answer: Callable[[], ProbeAnswer]) -> bytes:
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
        status, reason, body = 400, "Bad Request", "Bad Request\n"
    elif words[0] not in (b"GET", b"HEAD"):
        status, reason, body = 405, "Method Not Allowed", "Method Not Allowed\n"
    elif words[1].split(b"?")[0] != path.encode():
        # For a person who opens the Service in a browser.
        about = f"This is the cluster's DNS server. There is {path} on this port.\n"
        body = about if words[1] == b"/" else "404 page not found\n"
        status, reason = 404, "Not Found"
    else:
        status, reason, body = answer()
    kind = "text/plain; version=0.0.4; charset=utf-8" if path == "/metrics" else "text/plain; charset=utf-8"
    fields = f"Content-Type: {kind}\r\nContent-Length: {len(body.encode())}\r\nConnection: close\r\n\r\n"
    response = f"HTTP/1.1 {status} {reason}\r\n{fields}"
    return (response + ("" if words[0] == b"HEAD" else body)).encode()


def metrics_text(metrics: DnsMetrics) -> str:
    """Return the counts in Prometheus' text format, with CoreDNS' names where the meaning is the same."""
    lines = [
        "# HELP hatchway_build_info A metric with a constant '1' value labelled by the version of Hatchway.",
        "# TYPE hatchway_build_info gauge",
        f'hatchway_build_info{{version="{__version__}"}} 1',
    ]
    for name, help_text, label, counts in (
        ("coredns_dns_requests_total", "Counter of DNS requests made per protocol.", "proto", metrics.requests),
        ("coredns_dns_responses_total", "Counter of response status codes.", "rcode", metrics.responses),
        ("hatchway_dns_forwards_total", "Counter of forwarded queries, by outcome.", "outcome", metrics.forwards),
    ):
        lines += [f"# HELP {name} {help_text}", f"# TYPE {name} counter"]
        lines += [f'{name}{{{label}="{key}"}} {count}' for key, count in sorted(counts.items())]
    return "\n".join(lines) + "\n"
