"""Scenarios of the service proxy. Only the API server is simulated (`Services`)."""

# ruff: noqa: ASYNC110  conditions change in other processes

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from hatchway.cluster import plan
from hatchway.cluster.descriptors import ClientQuota
from hatchway.cluster.runtime import Runtime, Sandbox
from hatchway.cluster.services.nodeplaces import NodePlace, NodePlaces
from hatchway.cluster.services.refusals import OPENED, REFUSED
from hatchway.cluster.services.serviceproxy import ServiceProxy
from hatchway.kube.api import Object, WatchEvent
from tests.integration.network.inside import GREETER, config, dialed, run, sandbox

WEB, DNS, NODE = "10.96.3.4", "10.96.0.10", plan.node_ip(1)

# Answers with its name and the received data in upper case. Over TCP, the answer comes after the end of the data.
ECHO = """
import os, socket, sys, threading
name = os.environ["NAME"].encode()
def tcp():
    server = socket.create_server(("", 7))
    while True:
        connection, _ = server.accept()
        data = b"".join(iter(lambda: connection.recv(65536), b""))
        connection.sendall(name + b" " + data.upper())
        connection.close()
threading.Thread(target=tcp, daemon=True).start()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    data, client = server.recvfrom(65536)
    server.sendto(name + b" " + data.upper(), client)
"""

# A client in a pod: prints what it receives over TCP or UDP, or the error.
CLIENT = """
import errno, socket, sys
kind, ip, port, data = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4].encode() * int(sys.argv[5])
try:
    if kind == "tcp":
        with socket.create_connection((ip, port), timeout=20) as sock:
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.3)
            sock.connect((ip, port))
            # The kernel sends few ICMP errors in a row (icmp_ratelimit): ask again.
            for attempt in range(60):
                sock.send(data)
                try:
                    answer = sock.recv(65536)
                    break
                except TimeoutError:
                    answer = b""
    name, _, rest = answer.decode().partition(" ")
    print(name, rest == data.decode().upper())
except OSError as error:
    print(errno.errorcode.get(error.errno or 0, str(error)))
"""


class Services:
    """A client of a simulated API server with Services and EndpointSlices. Tests change them by `set` and `delete`.

    events: reason -> messages of the Events that were written.
    """

    def __init__(self) -> None:
        self.events: dict[str, list[str]] = {}
        self._objects: dict[str, dict[str, Object]] = {"services": {}, "endpointslices.discovery.k8s.io": {}}
        self._queues: dict[str, asyncio.Queue[WatchEvent]] = {name: asyncio.Queue() for name in self._objects}
        for queue in self._queues.values():
            queue.put_nowait(WatchEvent("SYNCED", {}))

    def set(self, resource: str, obj: Object) -> None:
        self._queues[resource].put_nowait(WatchEvent("MODIFIED", obj))

    def delete(self, resource: str, obj: Object) -> None:
        self._queues[resource].put_nowait(WatchEvent("DELETED", obj))

    async def create(self, resource: str, obj: Object, *_: Any, **__: Any) -> Object:
        assert resource == "events"
        self.events.setdefault(obj["reason"], []).append(obj["message"])
        return obj

    async def watch(self, resource: str, *_: Any, **__: Any) -> AsyncIterator[WatchEvent]:
        while True:
            yield await self._queues[resource].get()


def service(name: str, ip: str, *ports: Object, **spec: Any) -> Object:
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"clusterIP": ip, "ports": list(ports), **spec}}


def slices(name: str, pods: list[Sandbox], *ports: Object) -> Object:
    return {
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": list(ports),
        "endpoints": [{"addresses": [pod.ip], "conditions": {"ready": True}} for pod in pods],
    }


def service_proxy(runtime: Runtime, services: Services, **options: Any) -> ServiceProxy:
    """Return a service proxy for the nodes of these tests."""
    loopback = runtime.isolation == "loopback"
    nodes = NodePlaces(
        NodePlace(name, plan.node_ip(index, loopback=loopback), plan.pod_cidr(index, loopback=loopback))
        for index, name in enumerate(plan.node_names(2))
    )
    options = {"cluster_ips": not loopback, **options}
    return ServiceProxy(services, nodes=nodes, sockets=runtime.sockets, **options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def proxied(runtime: Runtime, services: Services, **options: Any) -> AsyncIterator[None]:
    proxy = service_proxy(runtime, services, **options)
    task = asyncio.ensure_future(proxy.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ask(pod: Sandbox, kind: str, ip: str, port: int, data: str = "hello", times: int = 1) -> str:
    _, output = await run(pod, ["python3", "-c", CLIENT, kind, ip, str(port), data, str(times)])
    return output.strip()


async def eventually(pod: Sandbox, wanted: str, *arguments: Any) -> str:
    """Send requests until the answer is the wanted one, because the proxy follows the API with a delay; return it."""
    while (answer := await ask(pod, *arguments)) != wanted:
        await asyncio.sleep(0.01)
    return answer


async def until_dialed(runtime: Runtime, ip: str, port: int) -> socket.socket:
    """Dial until there is a connection: the proxy retries only after some time to listen at an address in use."""
    while True:
        try:
            return await runtime.dial(ip, port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)


async def _echoes(runtime: Runtime) -> tuple[Sandbox, Sandbox, Sandbox]:
    client, one, two = [await sandbox(runtime, name, node=i) for i, name in enumerate(("client", "one", "two"))]
    for name, pod in (("one", one), ("two", two)):
        await pod.start(config(["python3", "-c", ECHO], 2, env={"NAME": name}))
        while await ask(client, "udp", pod.ip, 53) != f"{name} True":
            await asyncio.sleep(0.01)
    return client, one, two


PORTS = (
    {"name": "echo", "port": 80, "targetPort": 7, "nodePort": 30080},
    {"name": "dns", "port": 53, "protocol": "UDP"},
)
TARGETS = ({"name": "echo", "port": 7}, {"name": "dns", "port": 53, "protocol": "UDP"})


async def service_addresses(runtime: Runtime, directory: Path) -> Any:
    """Use service addresses inside a pod, by TCP and UDP, while endpoints are added and removed."""
    client, one, two = await _echoes(runtime)
    services = Services()
    found: dict[str, Any] = {
        "before": [await ask(client, kind, WEB, port) for kind, port in (("tcp", 80), ("udp", 53))]
    }
    async with proxied(runtime, services):
        services.set("services", service("web", WEB, *PORTS, type="NodePort"))
        services.set("endpointslices.discovery.k8s.io", slices("web", [one], *TARGETS))
        found["tcp"] = await eventually(client, "one True", "tcp", WEB, 80)
        found["udp"] = await eventually(client, "one True", "udp", WEB, 53)
        found["node port"] = await ask(client, "tcp", NODE, 30080)
        found["other port"] = await ask(client, "tcp", WEB, 81)
        found["other service"] = await ask(client, "tcp", "10.96.200.200", 80)
        found["large"] = await ask(client, "tcp", WEB, 80, "x" * 1000, 20_000)
        found["itself"] = await ask(one, "tcp", WEB, 80)
        services.set("endpointslices.discovery.k8s.io", slices("web", [one, two], *TARGETS))
        await eventually(client, "two True", "tcp", WEB, 80)
        found["both"] = sorted({await ask(client, "tcp", WEB, 80) for _ in range(20)})
        services.set("endpointslices.discovery.k8s.io", slices("web", [two], *TARGETS))
        await one.remove()
        found["moved"] = [
            await eventually(client, "two True", kind, WEB, port) for kind, port in (("tcp", 80), ("udp", 53))
        ]
        services.set("endpointslices.discovery.k8s.io", slices("web", [], *TARGETS))
        found["without endpoints"] = [
            await eventually(client, "ECONNREFUSED", kind, WEB, port) for kind, port in (("tcp", 80), ("udp", 53))
        ]
        services.set("endpointslices.discovery.k8s.io", slices("web", [two], *TARGETS))
        await eventually(client, "two True", "tcp", WEB, 80)
        services.delete("services", service("web", WEB, *PORTS))
        found["deleted"] = await eventually(client, "ECONNREFUSED", "tcp", WEB, 80)
    return found


# Opens connections, or UDP flows from different ports; prints how many got an answer, and keeps them open.
_GREEDY = """
import socket, sys
kind, ip, port, number = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
kept, answered = [], 0
for _ in range(number):
    sock = socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(5)
    try:
        sock.connect((ip, port))
        sock.send(b"hello")
        answered += bool(sock.recv(100))
        kept.append(sock)
    except OSError:
        pass
print(answered, flush=True)
sys.stdin.close()
import time
time.sleep(1000)
"""


# Answers at once, on any number of connections.
_PATIENT = """
import socket, socketserver, threading
class Tcp(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(b"one " + data.upper())
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(b"one " + self.request[0].upper(), self.client_address)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads, request_queue_size = True, 128
threading.Thread(target=Server(("", 7), Tcp).serve_forever).start()
socketserver.UDPServer(("", 53), Udp).serve_forever()
"""


async def service_quotas(runtime: Runtime, directory: Path) -> Any:
    """Let a pod open as many connections and flows as it can; another pod must still be served."""
    client, one, two = [await sandbox(runtime, name, node=i) for i, name in enumerate(("client", "one", "two"))]
    await one.start(config(["python3", "-c", _PATIENT], 2))
    services = Services()
    services.set("services", service("web", WEB, *PORTS))
    services.set("endpointslices.discovery.k8s.io", slices("web", [one], *TARGETS))
    found: dict[str, Any] = {}
    proxy = service_proxy(runtime, services)
    proxy.quotas = {"TCP": ClientQuota(40, 20), "UDP": ClientQuota(40, 20)}
    task = asyncio.ensure_future(proxy.run())
    await eventually(two, "one True", "tcp", WEB, 80)
    for kind, port in (("tcp", 80), ("udp", 53)):
        reading, writing = os.pipe()
        argv = ["python3", "-c", _GREEDY, kind, WEB, str(port), "40"]
        greedy = await client.start(config(argv, writing, name=kind))
        os.close(writing)
        found[kind] = int(await asyncio.to_thread(os.read, reading, 100))
        os.close(reading)
        found[f"{kind} of another pod"] = await ask(two, kind, WEB, port)
        greedy.kill(signal.SIGKILL)
        await greedy.wait()
        if kind == "tcp":
            # After the pod has closed its connections, there is room again.
            found["again"] = await eventually(client, "one True", kind, WEB, port)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return found


async def service_affinity(runtime: Runtime, directory: Path) -> Any:
    client, one, two = await _echoes(runtime)
    services = Services()
    async with proxied(runtime, services):
        services.set("endpointslices.discovery.k8s.io", slices("web", [one, two], *TARGETS))
        services.set("services", service("web", WEB, *PORTS, sessionAffinity="ClientIP"))
        while (first := await ask(client, "tcp", WEB, 80)) == "ECONNREFUSED":
            await asyncio.sleep(0.01)
        return len({first} | {await ask(client, "tcp", WEB, 80) for _ in range(10)})


async def service_connections(runtime: Runtime, directory: Path) -> Any:
    """Return results of connections after changes of their Service, with unreachable endpoints, and at used ports."""
    client, one, two = await _echoes(runtime)
    services = Services()
    found: dict[str, Any] = {}
    taken = await runtime.listen("10.96.0.1", 443)
    async with proxied(runtime, services):
        services.set("services", service("kubernetes", "10.96.0.1", {"name": "echo", "port": 443}))
        services.set("endpointslices.discovery.k8s.io", slices("kubernetes", [one], *TARGETS))
        services.set("endpointslices.discovery.k8s.io", slices("web", [one], *TARGETS))
        services.set("services", service("web", WEB, *PORTS))
        await eventually(client, "one True", "tcp", WEB, 80)
        taken.close()
        reader, writer = await asyncio.open_connection(sock=await runtime.dial(WEB, 80))
        writer.write(b"before ")
        services.set("endpointslices.discovery.k8s.io", slices("web", [two], *TARGETS))
        await eventually(client, "two True", "tcp", WEB, 80)
        services.delete("services", service("web", WEB, *PORTS))
        await eventually(client, "ECONNREFUSED", "tcp", WEB, 80)
        writer.write(b"after")
        writer.write_eof()
        found["kept"] = (await reader.read()).decode()
        writer.close()
        nobody = await sandbox(runtime, "nobody")
        services.set("endpointslices.discovery.k8s.io", slices("web", [nobody, two], *TARGETS))
        services.set("services", service("web", WEB, *PORTS))
        await eventually(client, "two True", "tcp", WEB, 80)
        found["passed over"] = sorted({await ask(client, "tcp", WEB, 80) for _ in range(10)})
        services.set("endpointslices.discovery.k8s.io", slices("web", [nobody], *TARGETS))
        found["dead"] = await eventually(client, "ECONNRESET", "tcp", WEB, 80)
        reader, writer = await asyncio.open_connection(sock=await until_dialed(runtime, "10.96.0.1", 443))
        writer.write_eof()
        found["freed"] = (await reader.read()).decode()
        writer.close()
    return found


async def service_on_node_ports(runtime: Runtime, directory: Path) -> Any:
    """Return the answer of a node port at a node's address, as in a cluster without a private network."""
    pod = await sandbox(runtime)
    await pod.start(config(["python3", "-c", GREETER, "8080"], 2, env={"NAME": "one"}))
    await dialed(runtime, pod.ip, 8080)
    services = Services()
    async with proxied(runtime, services):
        port = {"port": 80, "targetPort": 8080, "nodePort": 30123}
        services.set("services", service("web", WEB, port, type="NodePort"))
        services.set("endpointslices.discovery.k8s.io", slices("web", [pod], {"port": 8080}))
        return await dialed(runtime, "127.64.0.3", 30123)


async def service_on_host(runtime: Runtime, directory: Path) -> Any:
    """Serve node ports and load balancers on this machine, outside of the network, until the file `done` exists."""
    pod = await sandbox(runtime)
    await pod.start(config(["python3", "-c", GREETER, "8080"], 2, env={"NAME": "one"}))
    await dialed(runtime, pod.ip, 8080)
    node_port, port, taken, ip = json.loads((directory / "ports").read_text())
    services = Services()
    ports = [
        {"name": "free", "port": port, "nodePort": node_port},
        {"name": "low", "port": 80},
        {"name": "taken", "port": port + 1, "nodePort": taken},
    ]
    status = {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "Proxy"}]}}
    found = service("web", WEB, *ports, type="LoadBalancer")
    async with proxied(runtime, services, host_ips=[plan.HOST_IP]):
        services.set("services", {**found, "status": status})
        targets = [{"name": name, "port": 8080} for name in ("free", "low", "taken")]
        services.set("endpointslices.discovery.k8s.io", slices("web", [pod], *targets))
        while not any(str(taken) in message for message in services.events.get(REFUSED, ())):
            await asyncio.sleep(0.01)
        (directory / "ready").touch()
        while OPENED not in services.events:
            await asyncio.sleep(0.01)
        (directory / "opened").touch()
        while not (directory / "done").exists():
            await asyncio.sleep(0.01)
    return services.events


async def service_sockets_of_others(runtime: Runtime, directory: Path) -> Any:
    """Try to open sockets that a cluster may not open on this machine; return the results."""
    found = []
    for protocol, ip, port in (
        ("TCP", plan.HOST_IP, 8080),
        ("TCP", "0.0.0.0", 30080),
        ("UDP", plan.HOST_IP, 53),
        ("SCTP", plan.HOST_IP, 30080),
        ("TCP", "localhost", 30080),
        ("TCP", "127.16.0.1", 65536),
    ):
        try:
            (await runtime.sockets.publish(protocol, ip, port)).close()
            found.append("opened")
        except OSError as error:
            found.append(errno.errorcode[error.errno or 0])
    return found
