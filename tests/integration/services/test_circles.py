"""Services whose endpoints are addresses of the service proxy itself: connections must not form a loop."""

# ruff: noqa: ASYNC110  the proxy reports no events

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

from hatchway.cluster import plan
from hatchway.cluster.network.loopbacksockets import LoopbackSockets
from hatchway.cluster.runtime import Runtime
from tests.integration.network.services import Services, service_proxy
from tests.integration.services.echoes import free_node_ports

HOST = plan.HOST_IP


def _web(protocol: str, node_port: int) -> dict[str, Any]:
    port = {"port": 80, "protocol": protocol, "nodePort": node_port}
    spec = {"type": "NodePort", "clusterIP": "10.96.3.4", "ports": [port]}
    return {"metadata": {"name": protocol.lower(), "namespace": "default"}, "spec": spec}


def _slice(protocol: str, port: int) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": protocol.lower()}
    return {
        "metadata": {"name": f"{protocol.lower()}-1", "namespace": "default", "labels": labels},
        "ports": [{"port": port, "protocol": protocol}],
        "endpoints": [{"addresses": [HOST]}],
    }


async def test_a_service_that_leads_to_itself() -> None:
    services = Services()
    node_ports = dict(zip(("TCP", "UDP"), free_node_ports(2), strict=True))
    for protocol, node_port in node_ports.items():
        services.set("services", _web(protocol, node_port))
        services.set("endpointslices.discovery.k8s.io", _slice(protocol, node_port))
    runtime = cast(Runtime, SimpleNamespace(isolation="loopback", sockets=LoopbackSockets([HOST])))
    proxy = service_proxy(runtime, services, host_ips=[HOST])
    running = asyncio.ensure_future(proxy.run())
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        while await _outcome(node_ports["TCP"]) == "refused":
            await asyncio.sleep(0.01)
        assert await _outcome(node_ports["TCP"]) == "reset"
        # The proxy has opened the UDP port once the test cannot bind it.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            while _is_free(node_ports["UDP"]):
                await asyncio.sleep(0.01)
            client.connect((HOST, node_ports["UDP"]))
            # In a loop, this datagram would come back as its own answer, and use a flow each time.
            for _ in range(20):
                await loop.sock_sendall(client, b"round and round")
                await asyncio.sleep(0)
        assert proxy.quotas["TCP"].held == proxy.quotas["UDP"].held == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def _outcome(port: int) -> str:
    try:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            return (await reader.read()).decode()
        finally:
            writer.close()
    except ConnectionRefusedError:
        return "refused"
    except ConnectionResetError:
        return "reset"


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((HOST, port))
        except OSError:
            return False
    return True
