"""The metrics server's process: `python -m hatchway.addons.metrics`, in a pod with a service account.

Environment:
    KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: the API server.
    HATCHWAY_POD_IP: the address to serve on; all addresses when it is not set.
    HATCHWAY_ROOT: the directory that contains the pod's volumes, on machines that cannot mount them.
    HATCHWAY_METRICS_TLS: the directory of tls.crt and tls.key.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import ssl
import sys
from pathlib import Path

from hatchway.addons.metrics.metricsapi import MetricsApi
from hatchway.addons.metrics.scraper import Scraper
from hatchway.addons.metrics.statemetrics import PORT as STATE_PORT
from hatchway.addons.metrics.statemetrics import StateMetrics
from hatchway.addons.metrics.usage import UsageStore
from hatchway.addons.program import run_program
from hatchway.errors import HatchwayError
from hatchway.kube.api import Client, Object
from hatchway.kube.connection import Connection
from hatchway.kube.contexts import from_service_account
from hatchway.kube.informer import Informer
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.proxy.server import serve

log = logging.getLogger("hatchway.metrics")

PORT = 10250
_TRUST = ("extension-apiserver-authentication", "kube-system")
_TRUST_KEY = "requestheader-client-ca-file"
# Seconds between two attempts to read the ConfigMap. The API server creates it when it starts.
_PAUSE = 1.0


def main() -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code: 0, or 1 after an error, which is logged."""
    return run_program(_run, log)


async def _run() -> None:
    if not os.environ.get("KUBERNETES_SERVICE_HOST"):
        raise HatchwayError("KUBERNETES_SERVICE_HOST is not set", "this program runs in a pod")
    root = Path(os.environ.get("HATCHWAY_ROOT") or "/")
    account = root / SERVICE_ACCOUNT.relative_to("/")
    files = root / (os.environ.get("HATCHWAY_METRICS_TLS") or "/etc/metrics-server").lstrip("/")
    address = os.environ.get("HATCHWAY_POD_IP") or "0.0.0.0"
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(Connection.fixed(from_service_account(account=account)).client)
        nodes, pods = Informer(client, "nodes"), Informer(client, "pods")
        usage = UsageStore()
        scraper = Scraper(nodes.items, usage, account)
        pods.subscribe(_StartedPods(scraper).changed)
        api = MetricsApi(usage, nodes.items, pods.items, scraper.scraped.is_set)
        tls = _tls(files, await _read_authority(client))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(nodes.run()), group.create_task(pods.run())]
            await nodes.synced()
            await pods.synced()
            state = StateMetrics(client)
            tasks += [group.create_task(scraper.run()), group.create_task(state.run())]
            servers = [
                await serve(api.route, host=address, port=PORT, ssl=tls),
                await serve(state.route, host=address, port=STATE_PORT),
            ]
            log.info("serving on %s:%d and %d", address, PORT, STATE_PORT)
            await stop.wait()
            await asyncio.gather(*(server.close(1.0) for server in servers))
            for task in tasks:
                task.cancel()


async def _read_authority(client: Client) -> str:
    """Wait for the CA certificate that verifies the API server's client certificate, and return it (PEM)."""
    while True:
        found = (await client.get("configmaps", *_TRUST)).get("data") or {}
        if found.get(_TRUST_KEY):
            return str(found[_TRUST_KEY])
        await asyncio.sleep(_PAUSE)


def _tls(files: Path, authority: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(files / "tls.crt", files / "tls.key")
    context.load_verify_locations(cadata=authority)
    # Probes come without a client certificate.
    context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


class _StartedPods:
    """Requests an early reading of the metrics when a pod begins to run."""

    def __init__(self, scraper: Scraper) -> None:
        self._scraper = scraper
        self._running: set[str] = set()

    def changed(self, kind: str, pod: Object) -> None:
        """Apply an informer's event about a pod."""
        uid = pod["metadata"].get("uid", "")
        if kind == "DELETED":
            self._running.discard(uid)
        elif (pod.get("status") or {}).get("phase") == "Running" and uid not in self._running:
            self._running.add(uid)
            self._scraper.read_soon()


if __name__ == "__main__":
    sys.exit(main())
