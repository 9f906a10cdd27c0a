"""Fakes of the live view and the door, with dictionaries as objects, and the view of a demonstration cluster."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hatchway.door.portal.exposurecontent import ExposureReport
from hatchway.door.portal.model import TargetFacts
from hatchway.door.problems.notfound import not_found as missing_target
from hatchway.door.problems.problem import DoorProblem
from hatchway.door.problems.unreached import cluster_away
from hatchway.errors import HatchwayError, not_found
from hatchway.kube.api import Object
from hatchway.kube.ingresshosts import IngressHost
from hatchway.kube.view import ViewCallback
from hatchway.target import Target, format_host_name

Key = tuple[str, str]
_KINDS = {"Service": "services", "EndpointSlice": "slices", "Pod": "pods", "Node": "nodes"}


@dataclass(frozen=True)
class State:
    name: str = "live"
    reason: str = ""
    hint: str = ""
    since: float = 1_790_000_000.0


@dataclass(frozen=True)
class Scope:
    namespaces: tuple[str, ...] | None
    reason: str = ""
    missing_rule: str = ""


class FakeView:
    """A `portal.model.View`. Threads other than the event loop's must call its methods through `Portal.change`."""

    def __init__(self) -> None:
        self.services: dict[Key, Object] = {}
        self.slices: dict[Key, Object] = {}
        self.pods: dict[Key, Object] = {}
        self.nodes: dict[Key, Object] = {}
        self.scopes: dict[str, Scope] = {}
        self.state = State()
        self._callbacks: list[ViewCallback] = []

    def _of(self, obj: Object) -> dict[Key, Object]:
        found: dict[Key, Object] = getattr(self, _KINDS[obj["kind"]])
        return found

    def subscribe(self, callback: ViewCallback) -> None:
        for items in (self.services, self.slices, self.pods, self.nodes):
            for obj in list(items.values()):
                callback(_KINDS[obj["kind"]], "ADDED", obj)
        self._callbacks.append(callback)

    def put(self, *objects: Object) -> None:
        for obj in objects:
            key = obj["metadata"].get("namespace", ""), obj["metadata"]["name"]
            event = "MODIFIED" if key in self._of(obj) else "ADDED"
            self._of(obj)[key] = obj
            for callback in self._callbacks:
                callback(_KINDS[obj["kind"]], event, obj)

    def become(self, state: State | None = None, **scopes: Scope) -> None:
        """Change the state, or the scopes of some kinds; all other kinds become unlimited."""
        self.state = state or self.state
        if scopes:
            self.scopes = {kind: scopes.get(kind, Scope(None)) for kind in ("services", "slices", "pods", "nodes")}
        for callback in self._callbacks:
            callback("state", self.state.name, {})

    def delete(self, *objects: Object) -> None:
        for obj in objects:
            self._of(obj).pop((obj["metadata"].get("namespace", ""), obj["metadata"]["name"]), None)
            for callback in self._callbacks:
                callback(_KINDS[obj["kind"]], "DELETED", obj)


class FakeDoor:
    """A `portal.model.Door`."""

    context = "hatchway"
    server = "https://127.0.0.1:6443"

    def __init__(self, port: int = 8001) -> None:
        self.port = port
        self.known: dict[Target, TargetFacts] = {}

    def host_url(self, target: Target) -> str:
        return f"http://{format_host_name(target)}:{self.port}/"

    def facts(self, target: Target) -> TargetFacts:
        return self.known.get(target, TargetFacts(route="API server's proxy verb"))


class FakeObjects:
    """A `portal.objectcontent.Objects` over a view. found: the events that every object has."""

    form_action = "http://*.localhost:*"

    def __init__(self, view: FakeView) -> None:
        self._view = view
        self.found: list[Object] = []

    async def get(self, target: Target) -> Object:
        found: dict[Key, Object] = getattr(self._view, target.kind)
        if (target.namespace, target.name) not in found:
            raise not_found(target.kind, target.name)
        return found[target.namespace, target.name]

    async def events(self, target: Target, obj: Object) -> list[Object]:
        return self.found

    def log_path(self, target: Target) -> str:
        return f"/api/v1/namespaces/{target.namespace}/pods/{target.name}/log"

    async def problem(self, error: HatchwayError, target: Target) -> DoorProblem:
        return missing_target(target, 'context "test"')


class FakeIngresses:
    """A `portal.ingresspage.IngressSource` with the hosts in `found`, which tests may change."""

    def __init__(self) -> None:
        self.found: list[IngressHost] = []

    async def all(self) -> list[IngressHost]:
        return self.found

    def url_of(self, host: IngressHost) -> str:
        return host.url(8001)


class FakeExposure:
    """A `portal.exposurecontent.ExposureSource`. answer: is returned, or raised. forgotten: the calls of `forget`."""

    def __init__(self) -> None:
        self.answer: tuple[ExposureReport | None, bool] | HatchwayError = (None, True)
        self.forgotten: list[str] = []

    async def report(self, namespace: str) -> tuple[ExposureReport | None, bool]:
        if isinstance(self.answer, HatchwayError):
            raise self.answer
        return self.answer

    def forget(self, namespace: str) -> None:
        self.forgotten.append(namespace)

    def problem(self, error: HatchwayError) -> DoorProblem:
        return cluster_away('context "test"', str(error))


def make_service(namespace: str, name: str, *ports: Any, selector: dict[str, str] | None = None, **more: Any) -> Object:
    """Return a Service. ports: numbers, (name, number) or port objects."""
    made = []
    for port in ports:
        if isinstance(port, dict):
            made.append(port)
        else:
            label, number = port if isinstance(port, tuple) else ("", port)
            made.append({"port": number, "protocol": "TCP", **({"name": label} if label else {})})
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": "2026-11-03T08:12:44Z"}
    metadata.update(more.pop("metadata", {}))
    spec = {
        "type": "ClusterIP",
        "clusterIP": "10.96.14.7",
        "selector": {"app": name} if selector is None else selector,
        "ports": made,
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {**spec, **more}}


def make_pod(namespace: str, name: str, app: str, ip: str = "10.244.1.9", **more: Any) -> Object:
    """Return a ready pod. status: fields of its status. waiting: (reason, message) of a container that waits."""
    ready = more.pop("ready", True)
    state: Object = {"running": {"startedAt": "2026-11-03T08:13:00Z"}}
    if waiting := more.pop("waiting", None):
        state, ready = {"waiting": {"reason": waiting[0], "message": waiting[1]}}, False
    word = "True" if ready else "False"
    container = {"name": app, "image": more.pop("image", f"registry.example/{app}:1.4.2")}
    container["ports"] = [{"containerPort": number} for number in more.pop("ports", [8080])]
    if more.pop("probe", False):
        container["readinessProbe"] = {"httpGet": {"path": "/healthz", "port": 8080}}
    status: Object = {
        "phase": "Running",
        "podIP": ip,
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": word, "reason": "" if ready else "ContainersNotReady"},
        ],
        "containerStatuses": [
            {"name": app, "ready": ready, "restartCount": more.pop("restarts", 0), "state": state},
        ],
    }
    status.update(more.pop("status", {}))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app": app},
            "creationTimestamp": "2026-11-03T08:12:50Z",
        },
        "spec": {"nodeName": "node-1", "containers": [container], **more},
        "status": status,
    }


def make_slice(service: Object, *pods: Object) -> Object:
    """Return the EndpointSlice of a Service, with an endpoint for each pod that has an address."""
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    endpoints = []
    for pod in pods:
        if not pod["status"].get("podIP"):
            continue
        ready = any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])
        endpoints.append(
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {"ready": ready},
                "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod["metadata"]["name"]},
            }
        )
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "addressType": "IPv4",
        "metadata": {"name": name + "-x7k2p", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
        "ports": [{"name": port.get("name", ""), "port": port["port"]} for port in service["spec"]["ports"]],
        "endpoints": endpoints,
    }


def make_node(name: str, *, ready: bool = True, role: str = "", **spec: Any) -> Object:
    labels = {f"node-role.kubernetes.io/{role}": ""} if role else {}
    condition = {"type": "Ready", "status": "True" if ready else "Unknown"}
    if not ready:
        condition |= {"reason": "NodeStatusUnknown", "message": "Kubelet stopped posting node status."}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "creationTimestamp": "2026-11-03T08:00:00Z"},
        "spec": spec,
        "status": {
            "addresses": [{"type": "InternalIP", "address": f"10.0.0.{len(name)}"}],
            "conditions": [condition],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
            "nodeInfo": {"kubeletVersion": "v1.37.0", "osImage": "Debian GNU/Linux 12", "architecture": "amd64"},
        },
    }


_PORTS: dict[str, list[Any]] = {
    "data/clickhouse": [("http", 8123), ("native-tcp", 9000), ("metrics", 9363)],
    "data/jupyter": [("http", 8888)],
    "data/kafka": [("tcp-kafka", 9092), ("tcp-external", 9094)],
    "data/minio": [("api-http", 9000), ("console", 9001)],
    "monitoring/alertmanager": [("web", 9093)],
    "monitoring/grafana": [("http", 3000)],
    "monitoring/loki": [("http-metrics", 3100), ("grpc", 9095)],
    "monitoring/prometheus": [("web", 9090)],
    "shop/cart": [80],
    "shop/checkout": [("http", 80), ("grpc", 50051)],
    "shop/frontend": [80],
    "shop/orders": [("http", 8080), ("metrics", 9100)],
    "shop/postgres": [("postgresql", 5432)],
    "shop/redis": [6379],
    "shop/search": [("http", 80)],
    "kube-system/elasticsearch-logging": [("http", 9200)],
    "kube-system/kube-dns": [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        ("dns-tcp", 53),
        ("metrics", 9153),
    ],
    "kube-system/metrics-server": [("https", 443)],
}
_TITLES = {
    "data/jupyter": "JupyterLab",
    "data/minio": "Object storage",
    "monitoring/grafana": "Dashboards",
    "shop/frontend": "Storefront",
    "kube-system/elasticsearch-logging": "Elasticsearch",
    "kube-system/kube-dns": "KubeDNS",
}
_COUNTS = {"shop/frontend": 3, "shop/checkout": 3, "shop/orders": 2, "data/kafka": 3, "kube-system/kube-dns": 2}


def demo_view() -> FakeView:
    """Return a view of eighteen services: a small shop, its data and its monitoring; two of them have problems."""
    view = FakeView()
    letters = "bcdfghjklmnpqrstvwxz2456789"
    for number, (path, ports) in enumerate(_PORTS.items()):
        namespace, name = path.split("/")
        metadata = {"annotations": {"hatchway.dev/title": _TITLES[path]}} if path in _TITLES else {}
        service = make_service(
            namespace, name, *ports, metadata=metadata, clusterIP=f"10.96.{number}.{number * 7 % 250}"
        )
        pods = []
        for replica in range(_COUNTS.get(path, 1)):
            seed = number * 31 + replica * 7
            suffix = "".join(letters[(seed * (i + 3)) % len(letters)] for i in range(5))
            numbers = [p["port"] if isinstance(p, dict) else p[1] if isinstance(p, tuple) else p for p in ports]
            made: dict[str, Any] = {"ports": list(dict.fromkeys(numbers))}
            if path == "shop/checkout" and replica == 0:
                made |= {"waiting": ("CrashLoopBackOff", "back-off 2m40s restarting failed container"), "restarts": 9}
            if path == "shop/search":
                image = "registry.example/search:2.0.0-rc1"
                text = f'Back-off pulling image "{image}": not found'
                made |= {"waiting": ("ImagePullBackOff", text), "image": image, "status": {"phase": "Pending"}}
            if path == "shop/orders" and replica == 1:
                made |= {"ready": False, "probe": True}
            ip = f"10.244.{1 + replica % 3}.{10 + number * 4 + replica}"
            pods.append(make_pod(namespace, f"{name}-7d9f8b6c5d-{suffix}", name, ip, **made))
        view.put(service, make_slice(service, *pods), *pods)
    legacy = make_service("shop", "payments", type="ExternalName", externalName="api.payments.example", selector={})
    view.put(legacy, make_service("data", "spark-history", ("http", 18080)))
    view.put(make_node("control-plane", role="control-plane"), make_node("node-1"), make_node("node-2"))
    view.put(make_node("node-3", unschedulable=True))
    return view


def many_view(count: int, namespaces: int = 20) -> FakeView:
    """Return a view of `count` services with two ports and one pod each."""
    view = FakeView()
    for number in range(count):
        namespace, name = f"team-{number % namespaces:02}", f"service-{number:05}"
        service = make_service(namespace, name, ("http", 80), ("grpc", 50051))
        pod = make_pod(namespace, f"{name}-0", name, f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        view.put(service, pod, make_slice(service, pod))
    return view


class Portal:
    """A portal that listens, on its own thread. `change`: run a function on its loop."""

    def __init__(
        self,
        view: FakeView,
        door: FakeDoor,
        feed: Any,
        exposure: FakeExposure,
        url: str,
        loop: asyncio.AbstractEventLoop,
        server: Any,
    ) -> None:
        self.view, self.door, self.feed, self.exposure, self.url = view, door, feed, exposure, url
        self._loop, self._server = loop, server

    @property
    def connections(self) -> int:
        return int(self._server.connections)

    def drop(self) -> None:
        """Close every connection, as at the end of a door. Call this through `change`."""
        for connection in list(self._server._context.connections):
            connection.abort()

    def change(self, what: Callable[[], Any]) -> None:
        async def run() -> None:
            what()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)


@contextmanager
def portal(view: FakeView, context: str = "hatchway", server: str = "", shown_port: int = 0) -> Iterator[Portal]:
    """Serve `view` at http://localhost:PORT/ with the project's engine. shown_port: the port in links, for pictures."""
    started: threading.Event = threading.Event()
    stop: list[Callable[[], None]] = []
    found: list[Portal] = []

    async def main() -> None:
        from hatchway.door.portal.feed import Feed
        from hatchway.door.portal.portalapp import make_app
        from hatchway.proxy.routing import App, RequestHead
        from hatchway.proxy.server import serve

        door = FakeDoor()
        door.context, door.server = context, server or door.server
        feed = Feed(view, door)
        exposure = FakeExposure()
        decision = App(make_app(feed, door, FakeObjects(view), exposure, FakeIngresses()))

        def route(head: RequestHead) -> App:
            return decision

        listener = await serve(route, host="127.0.0.1", port=0)
        door.port = shown_port or listener.port
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(ended.set))
        found.append(Portal(view, door, feed, exposure, f"http://localhost:{listener.port}/", loop, listener))
        started.set()
        await ended.wait()
        await listener.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert started.wait(20), "the portal did not start"
    try:
        yield found[0]
    finally:
        stop[0]()
        thread.join(20)
