"""Reads the metrics of all kubelets at intervals (metrics-server `pkg/scraper`)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hatchway import __version__
from hatchway.addons.metrics.exposition import parse
from hatchway.addons.metrics.usage import METRICS, UsageStore
from hatchway.kube.api import Object
from hatchway.kube.dial import connect
from hatchway.kube.http import HttpClient
from hatchway.proxy.routing import ProxyError, Upstream

__all__ = ["Scraper"]

log = logging.getLogger(__name__)

# Seconds between two readings.
_EVERY = 15.0
# After this program's start, and after the start of a pod, the metrics are read `_SOON_TIMES` times more, with pauses
# of `_SOON` seconds, so that the pod's usage is available soon. The second reading is for autoscalers, which need a
# measurement that began after the pod was ready.
_SOON, _SOON_TIMES = 2.0, 2
# Seconds from the very first reading to the second one: kubelets measure at most once in a second.
_FIRST = 1.2
_TIMEOUT = 5.0
_AT_ONCE = 16
_LIMIT = 16 * 1024 * 1024
_PATH = b"/metrics/resource"
_KUBELET_PORT = 10250
# In the order of preference (metrics-server's kubelet-preferred-address-types).
_ADDRESS_TYPES = ("InternalIP", "ExternalIP")


class Scraper:
    """Reads the kubelets of all nodes every 15 seconds.

    nodes: the nodes by (namespace, name). usage: gets the metrics. account: the service account's directory.

    Attributes:
        scraped: set when all kubelets have been read once.
    """

    def __init__(self, nodes: Mapping[tuple[str, str], Object], usage: UsageStore, account: Path) -> None:
        self._nodes = nodes
        self._usage = usage
        self._account = account
        self._tls = ssl.create_default_context(cafile=str(account / "ca.crt"))
        self._tls.set_alpn_protocols(["http/1.1"])
        self._http = HttpClient()
        self._known: set[str] = set()
        self._soon = asyncio.Event()
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.scraped = asyncio.Event()

    def read_soon(self) -> None:
        """Request a reading in a moment, because a pod was started."""
        self._soon.set()

    async def run(self, clock: Callable[[], float] = time.time) -> None:
        """Read until cancelled."""
        quick, pause = _SOON_TIMES, _FIRST
        try:
            while True:
                await self._scrape_all(clock)
                if not quick:
                    try:
                        async with asyncio.timeout(_EVERY):
                            await self._soon.wait()
                    except TimeoutError:
                        continue
                if self._soon.is_set():
                    self._soon.clear()
                    quick = _SOON_TIMES
                quick -= 1
                await asyncio.sleep(pause)
                pause = _SOON
        finally:
            await self._http.aclose()

    async def _scrape_all(self, clock: Callable[[], float]) -> None:
        nodes = {name: node for (_, name), node in self._nodes.items()}
        for gone in self._known - nodes.keys():
            self._usage.forget(gone)
        self._known = set(nodes)
        await asyncio.gather(*(self._scrape(name, node, clock) for name, node in nodes.items()))
        self.scraped.set()

    async def _scrape(self, name: str, node: Object, clock: Callable[[], float]) -> None:
        async with self._slots:
            try:
                async with asyncio.timeout(_TIMEOUT):
                    text = await self._read(node)
            except (ProxyError, OSError, ValueError) as error:
                # TimeoutError is an OSError.
                log.warning("the metrics of node %s were not read: %s", name, error or "timed out")
                return
            self._usage.add(name, parse(text, METRICS), clock())

    async def _read(self, node: Object) -> str:
        """Read a kubelet's metrics, and return their text. Raises ProxyError, OSError, ValueError."""
        status = node.get("status") or {}
        addresses = {one.get("type"): one.get("address") for one in status.get("addresses") or ()}
        address = next((addresses[kind] for kind in _ADDRESS_TYPES if addresses.get(kind)), None)
        if address is None:
            raise ValueError("the node has no address")
        endpoints = status.get("daemonEndpoints") or {}
        port = (endpoints.get("kubeletEndpoint") or {}).get("Port") or _KUBELET_PORT
        upstream = Upstream((address, port), partial(connect, address, port), self._tls, address)
        # The kubelet replaces the token's file before it expires, so the file is read each time.
        token = (self._account / "token").read_bytes().strip()
        fields = [b"Host: " + address.encode(), b"User-Agent: hatchway/" + __version__.encode()]
        lines = b"\r\n".join([b"GET %b HTTP/1.1" % _PATH, *fields, b"Authorization: Bearer " + token, b"", b""])
        answer = await self._http.ask(upstream, "GET", lines, b"", _TIMEOUT)
        try:
            body = bytearray()
            async for piece in answer.pieces(_TIMEOUT):
                body += piece
                if len(body) > _LIMIT:
                    raise ValueError(f"the answer is longer than {_LIMIT} bytes")
            if answer.status != 200:
                raise ValueError(f"the kubelet answers {answer.status}: {bytes(body[:200]).decode('utf-8', 'replace')}")
            return body.decode("utf-8", "replace")
        finally:
            answer.leave()
