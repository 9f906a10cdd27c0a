"""The name server's process: `python -m hatchway.cluster.addons.dns`, in a pod with a service account.

Environment: KUBERNETES_SERVICE_HOST and _PORT (the API server), HATCHWAY_POD_IP (the address to serve on; all when it
is not set), HATCHWAY_ROOT (below which the pod's volumes are, where they cannot be mounted), HATCHWAY_DNS_PORT (53).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

from hatchway.cluster.addons.dns import http
from hatchway.cluster.addons.dns.message import Resolver
from hatchway.cluster.addons.dns.server import DnsServer
from hatchway.cluster.addons.dns.upstream import Upstream, read_servers
from hatchway.cluster.addons.dns.zone import Zone
from hatchway.errors import HatchwayError
from hatchway.kube.http import HttpClient
from hatchway.kube.informer import Informer
from hatchway.kube.paths import SERVICE_ACCOUNT

log = logging.getLogger("hatchway.dns")

_PORT, _UNPRIVILEGED_PORT = 53, 10053


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    # The HTTP library's own notes of each request say nothing that matters here.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    code = 0
    try:
        asyncio.run(_run())
    except* HatchwayError as group:
        code = _report(group)
    except* OSError as group:
        code = _report(group)
    return code


def _report(group: BaseExceptionGroup[BaseException]) -> int:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            _report(error)
        else:
            log.error("%s", error.message if isinstance(error, HatchwayError) else error)
    return 1


async def _run() -> None:
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise HatchwayError("KUBERNETES_SERVICE_HOST is not set", "this program runs in a pod")
    address = os.environ.get("HATCHWAY_POD_IP") or "0.0.0.0"
    account = Path(os.environ.get("HATCHWAY_ROOT") or "/") / SERVICE_ACCOUNT.relative_to("/")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            HttpClient.in_cluster(host=host, port=os.environ.get("KUBERNETES_SERVICE_PORT", "443"), account=account)
        )
        server = DnsServer(Resolver(Zone()), Upstream(read_servers(Path("/etc/resolv.conf"), address)))
        stack.push_async_callback(server.close)
        await _listen(server, address)
        async with asyncio.TaskGroup() as group:
            synced = asyncio.Event()
            following = group.create_task(_follow(client, server.resolver.zone, synced))
            probing = group.create_task(server.upstream.start())
            probes = await _serve_probes(address, server, synced)
            log.info("serving on %s:%d", address, server.port)
            await stop.wait()
            following.cancel()
            probing.cancel()
            for probe in probes:
                probe.close()


async def _listen(server: DnsServer, address: str) -> None:
    wanted = int(os.environ.get("HATCHWAY_DNS_PORT") or _PORT)
    try:
        await server.start(address, wanted)
    except PermissionError:
        # On loopback addresses without root no process may have port 53.
        log.warning("port %d is not for an ordinary user here; serving on %d", wanted, _UNPRIVILEGED_PORT)
        await server.start(address, _UNPRIVILEGED_PORT)


async def _follow(client: HttpClient, zone: Zone, synced: asyncio.Event) -> None:
    """Keep the zone up to date for ever. Raises ApiError when the API server refuses for good."""
    informers = []
    for resource, changed in (
        ("namespaces", zone.namespace_changed),
        ("services", zone.service_changed),
        ("endpointslices.discovery.k8s.io", zone.slice_changed),
    ):
        informer = Informer(client, resource)
        informer.subscribe(changed)
        informers.append(informer)
    async with asyncio.TaskGroup() as group:
        for informer in informers:
            group.create_task(informer.run())
        for informer in informers:
            await informer.synced()
        synced.set()


async def _serve_probes(address: str, server: DnsServer, synced: asyncio.Event) -> list[asyncio.Server]:
    def ready() -> http.Answer:
        return (200, "OK", "OK") if synced.is_set() else (503, "Service Unavailable", "kubernetes")

    found = [await http.serve(address, http.READY_PORT, "/ready", ready)]
    for port, path, answer in (
        (http.HEALTH_PORT, "/health", lambda: (200, "OK", "OK")),
        (http.METRICS_PORT, "/metrics", lambda: (200, "OK", http.metrics_text(server.metrics))),
    ):
        try:
            found.append(await http.serve(address, port, path, answer))
        except OSError as error:
            # Another process of a shared loopback may have the port; names are served all the same.
            log.warning("%s is not served: %s", path, error)
    return found


if __name__ == "__main__":
    sys.exit(main())
