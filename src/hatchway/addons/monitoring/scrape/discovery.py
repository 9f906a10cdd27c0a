"""Finds the targets of a cluster: the API server, kubelets, and pods and services with prometheus.io annotations.

    prometheus.io/scrape: "true"
    prometheus.io/port: "8080"        all declared ports unless set
    prometheus.io/path: /metrics
    prometheus.io/scheme: http

Jobs and labels are those that widely used dashboards expect: `job="apiserver"`, `job="kubelet"` with `metrics_path`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hatchway.addons.monitoring.scrape.target import ApiSource, HttpSource, ScrapeTarget
from hatchway.addons.monitoring.tsdb.labels import make_labels
from hatchway.kube.api import Object
from hatchway.kube.client import ConnectionClient
from hatchway.kube.http import HttpClient
from hatchway.kube.informer import Informer
from hatchway.kube.wellknown import ENDPOINT_SLICES
from hatchway.numerals import is_digits

# Seconds from a change until the targets are computed again, because many changes often come together.
_CALM = 1.0
_KUBELET_PATHS = ("/metrics", "/metrics/cadvisor")
_ANNOTATION = "prometheus.io/"
# The jobs by which dashboards find the cluster's own parts. The job of a Service with such a name is NAMESPACE/NAME.
_JOBS = frozenset({"apiserver", "kubelet", "kubernetes-pods", "kube-state-metrics"})
# The maximum number of targets that the Services and pods of one namespace give.
_MOST_OF_NAMESPACE = 300
_SERVICE_NAME = "kubernetes.io/service-name"
# The only Service whose series keep their own labels (`honor_labels`), because they describe other objects. If every
# Service could do this, a user who may create a Service in one namespace could forge series of all namespaces.
_STATE_METRICS = ("kube-system", "kube-state-metrics")
# A path that can be written into a request's first line without changes.
_path = re.compile(r"/[\x21-\x7e]{0,1024}").fullmatch
# Pods have these loopback addresses if there is no private network. Other loopback addresses belong to this machine.
_POD_LOOPBACK = ipaddress.ip_network("127.64.0.0/10")


@dataclass(frozen=True, slots=True)
class ScrapeWish:
    """The annotations of an object that asks to be scraped. port: 0 for all declared ports."""

    port: int
    path: str
    https: bool


def wish_of(obj: Object) -> ScrapeWish | None:
    """Return an object's wish; None when its annotations do not ask to be scraped, or are not valid."""
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    if notes.get(f"{_ANNOTATION}scrape") != "true":
        return None
    port, path = notes.get(f"{_ANNOTATION}port") or "0", notes.get(f"{_ANNOTATION}path") or "/metrics"
    scheme = notes.get(f"{_ANNOTATION}scheme") or "http"
    path = path if path.startswith("/") else f"/{path}"
    if not is_digits(port) or int(port) > 65_535 or not _path(path) or scheme not in ("http", "https"):
        return None
    return ScrapeWish(int(port), path, scheme == "https")


def is_scrapable(address: str) -> bool:
    """Return True for addresses of pods and other machines; False for this machine's and link-local addresses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    return not found.is_loopback or (found.version == 4 and found in _POD_LOOPBACK)


class TargetDiscovery:
    """Watches a cluster's objects, and computes the targets.

    Args:
        client: the API server's client.
        http: fetches metrics from pods.
        changed: called with all targets after each change.
    """

    def __init__(
        self, client: ConnectionClient, http: HttpClient, changed: Callable[[list[ScrapeTarget]], None]
    ) -> None:
        self._client = client
        self._http = http
        self._changed = changed
        self._nodes = Informer(client, "nodes")
        self._pods = Informer(client, "pods")
        self._services = Informer(client, "services")
        self._slices = Informer(client, ENDPOINT_SLICES)
        self._dirty = asyncio.Event()
        self.synced = False
        # Certificates of pods are not verified: they are usually self-signed, and no credentials are sent to pods.
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def run(self) -> None:
        """Watch the cluster until cancelled. Raises ApiError when the API server refuses the requests."""
        informers = (self._nodes, self._pods, self._services, self._slices)
        async with asyncio.TaskGroup() as group:
            for informer in informers:
                informer.subscribe(lambda kind, obj: self._dirty.set())
                group.create_task(informer.run(), name=f"informer {informer.resource}")
            for informer in informers:
                await informer.synced()
            while True:
                self._dirty.clear()
                self._changed(list(self.targets()))
                self.synced = True
                await self._dirty.wait()
                await asyncio.sleep(_CALM)

    def targets(self) -> Iterator[ScrapeTarget]:
        """Yield the targets of the present objects."""
        yield self._behind_api("apiserver", "kubernetes.default.svc:443", "/metrics", "/metrics", {})
        for node in self._nodes.items.values():
            yield from self._of_node(node)
        # URLs are recorded by namespace, so that endpoints in one namespace cannot replace another namespace's targets.
        seen: dict[str, set[str]] = {}
        for service in self._services.items.values():
            urls = seen.setdefault(service["metadata"]["namespace"], set())
            for target in self._of_service(service):
                if target.url in urls or len(urls) < _MOST_OF_NAMESPACE:
                    urls.add(target.url)
                    yield target
        for pod in self._pods.items.values():
            urls = seen.setdefault(pod["metadata"]["namespace"], set())
            for target in self._of_pod(pod):
                # A pod is not yielded when it is already the target of a service: its series would exist twice.
                if target.url not in urls and len(urls) < _MOST_OF_NAMESPACE:
                    urls.add(target.url)
                    yield target

    def _behind_api(self, job: str, instance: str, path: str, shown: str, more: dict[str, str]) -> ScrapeTarget:
        labels = make_labels({"job": job, "instance": instance, **more}.items())
        return ScrapeTarget(job, f"https://{instance}{shown}", labels, ApiSource(self._client, path), labels)

    def _of_node(self, node: Object) -> Iterator[ScrapeTarget]:
        name = node["metadata"]["name"]
        status = node.get("status") or {}
        addresses = {one.get("type"): one.get("address") for one in status.get("addresses") or []}
        port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or 10250
        instance = _joined(addresses.get("InternalIP") or addresses.get("Hostname") or name, port)
        for path in _KUBELET_PATHS:
            more = {"node": name, "metrics_path": path}
            yield self._behind_api("kubelet", instance, f"/api/v1/nodes/{name}/proxy{path}", path, more)

    def _of_service(self, service: Object) -> Iterator[ScrapeTarget]:
        wish = wish_of(service)
        if wish is None:
            return
        namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
        honor = (namespace, name) == _STATE_METRICS
        job = f"{namespace}/{name}" if name in _JOBS and not honor else name
        for piece in self._slices.items.values():
            meta = piece["metadata"]
            if meta.get("namespace") != namespace or (meta.get("labels") or {}).get(_SERVICE_NAME) != name:
                continue
            declared = [(one.get("port"), one.get("name") or "") for one in piece.get("ports") or [] if _is_tcp(one)]
            ports = [(wish.port, "")] if wish.port else declared
            for endpoint in piece.get("endpoints") or []:
                reference = endpoint.get("targetRef") or {}
                pod = reference.get("name", "") if reference.get("kind") == "Pod" else ""
                more = {"namespace": namespace, "service": name, "pod": pod, "node": endpoint.get("nodeName") or ""}
                for address in endpoint.get("addresses") or []:
                    for port, port_name in ports:
                        yield from self._at(job, address, port, wish, {**more, "endpoint": port_name}, honor)

    def _of_pod(self, pod: Object) -> Iterator[ScrapeTarget]:
        wish = wish_of(pod)
        status = pod.get("status") or {}
        if wish is None or status.get("phase") != "Running" or not status.get("podIP"):
            return
        spec, meta = pod.get("spec") or {}, pod["metadata"]
        declared = [
            (port.get("containerPort"), container["name"])
            for container in spec.get("containers") or []
            for port in container.get("ports") or []
            if _is_tcp(port)
        ]
        if wish.port:
            declared = [(wish.port, next((name for port, name in declared if port == wish.port), ""))]
        more = {"namespace": meta["namespace"], "pod": meta["name"], "node": spec.get("nodeName") or ""}
        for port, container in declared:
            yield from self._at("kubernetes-pods", status["podIP"], port, wish, {**more, "container": container})

    def _at(
        self,
        job: str,
        address: str,
        port: object,
        wish: ScrapeWish,
        more: dict[str, str],
        honor: bool = False,
    ) -> Iterable[ScrapeTarget]:
        if not is_scrapable(address) or not isinstance(port, int) or not 0 < port < 65_536:
            return ()
        instance = _joined(address, port)
        url = f"{'https' if wish.https else 'http'}://{instance}{wish.path}"
        labels = make_labels({"job": job, "instance": instance, **more}.items())
        source = HttpSource(self._http, address, port, wish.path, self._tls if wish.https else None)
        return (ScrapeTarget(job, url, labels, source, labels, honor),)


def _is_tcp(port: Object) -> bool:
    return (port.get("protocol") or "TCP") == "TCP"


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
