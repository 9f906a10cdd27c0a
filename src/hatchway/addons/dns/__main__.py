"""The name server's process: `python -m hatchway.addons.dns`, in a pod with a service account.

Environment:
    KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT: the API server.
    HATCHWAY_POD_IP: the address to serve on; all addresses when it is not set.
    HATCHWAY_ROOT: the directory that contains the pod's volumes, on machines that cannot mount them.
    HATCHWAY_DNS_PORT: 53 unless set.
    HATCHWAY_DNS_DOMAIN: cluster.local unless set.
    HATCHWAY_DNS_RANGES: the cluster's own address ranges (`10.96.0.0/16,10.244.0.0/16`); none when it is not set.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import signal
import sys
from pathlib import Path

from hatchway.addons.dns import monitoring
from hatchway.addons.dns.message import Resolver
from hatchway.addons.dns.server import DnsServer
from hatchway.addons.dns.zone import Zone
from hatchway.addons.program import run_program
from hatchway.errors import HatchwayError
from hatchway.kube.api import Client
from hatchway.kube.connection import Connection
from hatchway.kube.contexts import from_service_account
from hatchway.kube.informer import Informer
from hatchway.kube.paths import SERVICE_ACCOUNT
from hatchway.kube.wellknown import ENDPOINT_SLICES
from hatchway.outsideresolvers import OutsideResolvers, read_servers

log = logging.getLogger("hatchway.dns")

_PORT, _UNPRIVILEGED_PORT = 53, 10053
# Seconds that all resolvers outside the cluster may take together: less than the 5 that clients wait (resolv.conf(5)).
_OUTSIDE_SECONDS = 4.5


def main() -> int:
    """Serve until SIGTERM or SIGINT. Return the exit code: 0, or 1 after an error, which is logged."""
    return run_program(_run, log)


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
        client = await stack.enter_async_context(Connection.fixed(from_service_account(account=account)).client)
        servers = read_servers(Path("/etc/resolv.conf"), address)
        seconds = _OUTSIDE_SECONDS / max(1, len(servers))
        server = DnsServer(_resolver(), OutsideResolvers(servers, seconds, seconds))
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


def _resolver() -> Resolver:
    """Return the resolver that the environment describes. Raises HatchwayError for a malformed range."""
    text = os.environ.get("HATCHWAY_DNS_RANGES", "")
    try:
        ranges = [ipaddress.IPv4Network(one.strip()) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise HatchwayError(
            f"HATCHWAY_DNS_RANGES: {error}", "it is a list of IPv4 ranges such as 10.96.0.0/16"
        ) from None
    return Resolver(Zone(), os.environ.get("HATCHWAY_DNS_DOMAIN") or "cluster.local", ranges)


async def _listen(server: DnsServer, address: str) -> None:
    wanted = int(os.environ.get("HATCHWAY_DNS_PORT") or _PORT)
    try:
        await server.start(address, wanted)
    except PermissionError:
        # On loopback, only root may use port 53.
        log.warning("port %d needs rights that this user lacks; serving on port %d", wanted, _UNPRIVILEGED_PORT)
        await server.start(address, _UNPRIVILEGED_PORT)


async def _follow(client: Client, zone: Zone, synced: asyncio.Event) -> None:
    """Keep the zone up to date until cancelled. Raises ApiError when the API server refuses the requests."""
    informers = []
    for resource, changed in (
        ("namespaces", zone.namespace_changed),
        ("services", zone.service_changed),
        (ENDPOINT_SLICES, zone.slice_changed),
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
    def ready() -> monitoring.ProbeAnswer:
        return (200, "OK", "OK") if synced.is_set() else (503, "Service Unavailable", "kubernetes")

    found = [await monitoring.serve(address, monitoring.READY_PORT, "/ready", ready)]
    for port, path, answer in (
        (monitoring.HEALTH_PORT, "/health", lambda: (200, "OK", "OK")),
        (monitoring.METRICS_PORT, "/metrics", lambda: (200, "OK", monitoring.metrics_text(server.metrics))),
    ):
        try:
            found.append(await monitoring.serve(address, port, path, answer))
        except OSError as error:
            # On loopback, another process may use the port. DNS is served without this endpoint.
            log.warning("%s is not served: %s", path, error)
    return found


if __name__ == "__main__":
    sys.exit(main())
