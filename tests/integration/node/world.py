"""One kubelet on the loopback runtime, with the real API server in the same process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.apiserver import ApiServer
from hatchway.cluster.auth import pki
from hatchway.cluster.auth.pki import KeyPair, Pki
from hatchway.cluster.network.loopback import LoopbackRuntime
from hatchway.cluster.node.config import AgentConfig, NodeSpec
from hatchway.cluster.node.imagestock import ImageStock
from hatchway.cluster.node.kubelet import Kubelet
from hatchway.cluster.node.sources import Sources
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client, Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.connection import Connection
from hatchway.kube.informer import Informer, running
from hatchway.kube.serversettings import with_certificate
from hatchway.proxy.server import serve

NODE = NodeSpec("node-1", 77, "127.0.0.1")
PATIENCE = 20.0


class Runtime(LoopbackRuntime):
    """The loopback runtime. Kubelets listen on free ports, because the usual port may be another cluster's."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.ports: list[int] = []

    async def listen(self, ip: str, port: int) -> socket.socket:
        if port == 10250:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        sock = socket.create_server((ip, 0))
        sock.setblocking(False)
        self.ports.append(sock.getsockname()[1])
        return sock


class World:
    """A client of the API, and helpers that wait for objects. Pods run on NODE unless they name another node."""

    def __init__(self, state: StateDir, keys: Pki, server: ApiServer, pods: Informer, runtime: Runtime) -> None:
        self.state = state
        self.keys = keys
        self.server = server
        self.client: Client = server.client
        self.pods = pods
        self.runtime = runtime
        self.kubelet: Kubelet | None = None

    @contextlib.asynccontextmanager
    async def node(self, images: ImageStock | None = None, *, host_programs: bool = False) -> AsyncIterator[Kubelet]:
        """Run a kubelet during a block; at the end it is stopped abruptly, as by kill -9."""
        config = AgentConfig(
            state_dir=str(self.state.path),
            nodes=[NODE],
            api_server="https://127.0.0.1:1",
            pod_api_server="https://127.0.0.1:1",
            isolation="loopback",
            cluster_dns="",
            host_programs=host_programs,
        )
        services = Informer(self.client, "services")
        sources = Sources(self.client)
        async with running(services):
            kubelet = self.kubelet = Kubelet(config, NODE, self.runtime, self.client, sources, services, images=images)
            task = asyncio.create_task(kubelet.run())
            try:
                async with asyncio.timeout(PATIENCE):
                    await kubelet.wait_until_registered()
                yield kubelet
            finally:
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled() and (error := task.exception()):
                    raise error

    async def create(self, name: str, *command: str, **spec: Any) -> Object:
        """Create a pod with the container `c`. spec: fields of the container or, if it lacks them, of the pod."""
        container: Object = {"name": "c", "image": "hatchway/host", "command": list(command)}
        if not command:
            del container["command"]
        for key in list(spec):
            if key in _OF_CONTAINERS:
                container[key] = spec.pop(key)
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {
                "nodeName": NODE.name,
                "automountServiceAccountToken": False,
                "terminationGracePeriodSeconds": 5,
                "containers": [container, *spec.pop("more", [])],
                **spec,
            },
        }
        return await self.client.create("pods", pod, "default")

    async def pod(self, name: str, condition: Callable[[Object], Any]) -> Object:
        """Wait until the pod's object meets the condition; return it."""
        return await self._until(lambda: self.pods.get(name, "default"), condition, name)

    async def gone(self, name: str) -> None:
        await self._until(lambda: {"gone": self.pods.get(name, "default") is None}, lambda found: found["gone"], name)

    async def _until(self, get: Callable[[], Object | None], condition: Callable[[Object], Any], name: str) -> Object:
        changed = asyncio.Event()
        self.pods.subscribe(lambda _type, _obj: changed.set())
        try:
            async with asyncio.timeout(PATIENCE):
                while True:
                    changed.clear()
                    found = get()
                    if found is not None and condition(found):
                        return found
                    await changed.wait()
        except TimeoutError:
            raise AssertionError(f"{name} did not meet the condition: {get()}") from None

    async def events(self, name: str, count: int = 1, reason: str = "") -> list[tuple[str, str]]:
        """Wait until a pod has `count` events with the reason ("" for any); return (reason, message) of each."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [
                    (event["reason"], event["message"])
                    for event in await self.client.list("events", "default")
                    if event["involvedObject"]["name"] == name and reason in ("", event["reason"])
                ]
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def over_http(self) -> AsyncIterator[ConnectionClient]:
        """Yield a client like that of the node agent, over HTTPS. After the block, its requests fail."""
        sock = socket.create_server(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{sock.getsockname()[1]}"
        route, context = self.server.filters.route, self.keys.server_context()
        cert = self.keys.kubelet(NODE.name)
        client = Connection.fixed(with_certificate(url, self.keys.ca.cert, cert.cert, cert.key)).client
        listener = await serve(route, sock=sock, ssl=context)
        try:
            yield client
        finally:
            await listener.close()

    def volume(self, pod: Object, name: str) -> Path:
        """Return the directory of a pod's volume; ConfigMaps and emptyDirs are on the disk, other volumes in memory."""
        found = [base / pod["metadata"]["uid"] / "volumes" / name for base in (self.state.pods, self.state.memory)]
        return next((path for path in found if path.exists()), found[0])

    async def ask(
        self, path: str, *, cert: KeyPair | None = None, token: str = "", method: str = "GET"
    ) -> tuple[int, str]:
        """Send a request to the kubelet; return (status, body). By default, as the API server."""
        reader, writer = await asyncio.open_connection(
            NODE.ip,
            self.runtime.ports[-1],
            ssl=self.keys.client_context(None if token else cert or self.keys.kubelet_client),
            server_hostname=NODE.name,
        )
        try:
            credentials = f"Authorization: Bearer {token}\r\n" if token else ""
            # HTTP/1.0 responses have no chunked coding.
            writer.write(f"{method} {path} HTTP/1.0\r\nHost: node\r\n{credentials}\r\n".encode())
            head, _, body = (await asyncio.wait_for(reader.read(), PATIENCE)).partition(b"\r\n\r\n")
        finally:
            writer.close()
        return int(head.split()[1]), body.decode()


_OF_CONTAINERS = (
    "args",
    "image",
    "env",
    "envFrom",
    "volumeMounts",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "ports",
    "workingDir",
    "imagePullPolicy",
    "securityContext",
    "resources",
    "terminationMessagePolicy",
)


@contextlib.asynccontextmanager
async def open_world(path: Path) -> AsyncIterator[World]:
    """An API server with a store in memory, without sockets and without controllers."""
    state = StateDir(path / "cluster")
    state.create()
    keys = pki.ensure(state.pki, cluster_name="t", node_names=[NODE.name], node_ips=[NODE.ip], api_ips=())
    store = Store.open(None)
    runtime = Runtime(path / "sandboxes")
    server = ApiServer(state, store, keys, dial=runtime.dial, allow_loopback_pods=True)
    try:
        await server.bootstrap("127.0.0.1", 1)
        await server.client.create(
            "serviceaccounts", {"metadata": {"name": "default", "namespace": "default"}}, "default"
        )
        pods = Informer(server.client, "pods")
        async with running(pods):
            yield World(state, keys, server, pods, runtime)
    finally:
        await runtime.close()
        await server.close(0)


async def eventually(condition: Callable[[], Any]) -> None:
    """Wait for a condition by polling."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def container(pod: Object, name: str = "c") -> Object:
    """Return a container's status; {} if there is none yet."""
    status = pod.get("status") or {}
    found = [*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ())]
    return next((item for item in found if item["name"] == name), {})


def waiting(reason: str) -> Callable[[Object], bool]:
    return lambda pod: container(pod).get("state", {}).get("waiting", {}).get("reason") == reason


def phase(wanted: str) -> Callable[[Object], bool]:
    return lambda pod: (pod.get("status") or {}).get("phase") == wanted


def ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
