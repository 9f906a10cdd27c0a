"""Finds the hosts of Ingresses, and for each host the Service of the Ingress controller that serves it.

A controller writes the address of its own Service into `status.loadBalancer` of the Ingresses that it serves. Some
controllers write another address, such as a node's; well-known controllers are then found by the labels of their
Services. A host is returned only when its controller's Service was found, because requests for the host are sent to
that Service.

Traefik's IngressRoutes have no status; their controller's Service is found by its label.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.ingressroutes import as_mapping, as_mappings, is_secure
from hatchway.kube.ingressroutes import hosts_of as route_hosts
from hatchway.target import DEFAULT_PORTS, Target, TargetError, format_argument

# The DNS label in the door's URLs of Ingress hosts: HOST.ingress.localhost.
LABEL: Final = "ingress"
# The maximum number of objects of a kind that are read, and the maximum number of hosts that are returned.
_MOST_OBJECTS: Final = 20_000
_MOST_HOSTS: Final = 5_000
# A host name in lower case (RFC 1123), perhaps with a wildcard in place of its first label.
_HOST = re.compile(r"(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
_LONGEST: Final = 200
_MOST_ALIASES: Final = 100
# Labels of the Services of well-known controllers, by `spec.controller` of their classes.
_CONTROLLERS: Final[Mapping[str, str]] = {
    "k8s.io/ingress-nginx": "ingress-nginx",
    "nginx.org/ingress-controller": "nginx-ingress",
    "traefik.io/ingress-controller": "traefik",
    "haproxy.org/ingress-controller/haproxy": "kubernetes-ingress",
    "haproxy-ingress.github.io/controller": "haproxy-ingress",
}
# The same labels, by the names of classes without an IngressClass object (annotation `kubernetes.io/ingress.class`).
_CLASSES: Final[Mapping[str, str]] = {"nginx": "ingress-nginx", "traefik": "traefik", "haproxy": "haproxy-ingress"}
_NAME_LABEL: Final = "app.kubernetes.io/name"
_OLD_CLASS: Final = "kubernetes.io/ingress.class"
_RESOURCES: Final = (
    "ingresses.networking.k8s.io",
    "services",
    "ingressclasses.networking.k8s.io",
)
_ROUTES: Final = "ingressroutes.v1alpha1.traefik.io"
_TRAEFIK: Final = "traefik"
# The annotation of ingress-nginx with further hosts for the rules of an Ingress, separated by commas.
_ALIASES: Final = "nginx.ingress.kubernetes.io/server-alias"
_NGINX: Final = "ingress-nginx"


@dataclass(frozen=True, slots=True)
class IngressHost:
    """A host of an Ingress.

    host: in lower case; it may begin with "*.".
    namespace, ingress: namespace and name of the Ingress, or of Traefik's IngressRoute.
    kind: "Ingress" or "IngressRoute".
    target: the port of the controller's Service to which requests for the host are sent.
    backends: the rules of the host, as (path, SERVICE:PORT).
    """

    host: str
    namespace: str
    ingress: str
    target: Target
    backends: tuple[tuple[str, str], ...] = ()
    kind: str = "Ingress"

    @property
    def is_wildcard(self) -> bool:
        """Return True for a host with a wildcard, to which no link can be made."""
        return self.host.startswith("*.")

    def url(self, port: int = 8001, domain: str = "localhost", scheme: str = "http") -> str:
        """Return the URL at the door; "" for a wildcard. port: the door's port; 0 for the scheme's default port."""
        if self.is_wildcard:
            return ""
        number = "" if port in (0, DEFAULT_PORTS[scheme]) else f":{port}"
        return f"{scheme}://{self.host}.{LABEL}.{domain}{number}/"

    def as_dict(self, port: int = 8001) -> dict[str, Any]:
        """Return the entry as `hatchway ls -o json` prints it. port: the door's port."""
        return {
            "host": self.host,
            "namespace": self.namespace,
            "kind": self.kind,
            "ingress": self.ingress,
            "url": self.url(port),
            "by": format_argument(self.target),
            "byNamespace": self.target.namespace,
            "paths": [{"path": path, "backend": where} for path, where in self.backends],
        }


class IngressPages(Protocol):
    """The method of a client that this file uses (`kube.restclient.RestClient`)."""

    def pages(self, resource: str, namespace: str | None = None) -> AsyncIterator[list[Object]]:
        """Yield all objects of a resource, page by page. Raises ApiError."""
        ...


async def read_ingress_hosts(client: IngressPages, own_namespace: str, namespace: str = "") -> list[IngressHost]:
    """Read the hosts of a cluster's Ingresses and IngressRoutes. Objects that the user may not list are left out.

    Args:
        own_namespace: the namespace that is read when the user may not list objects of all namespaces.
        namespace: the only namespace whose Ingresses are read; "" for all.

    Raises:
        ApiError: the API server cannot be reached, or does not know the user.
    """
    ingresses, routes = await asyncio.gather(
        _list(client, _RESOURCES[0], namespace, own_namespace), _list(client, _ROUTES, namespace, own_namespace)
    )
    if not ingresses and not routes:
        return []
    services = await _list(client, _RESOURCES[1], "", own_namespace)
    classes = await _list(client, _RESOURCES[2], "", "")
    # This runs in a thread because other users' objects may have long rules.
    return await asyncio.to_thread(find_ingress_hosts, ingresses, services, classes, routes)


async def _list(client: IngressPages, resource: str, namespace: str, own_namespace: str) -> list[Object]:
    """Return the objects that may be listed; [] also for a kind that the cluster does not have."""
    found: list[Object] = []
    try:
        async for page in client.pages(resource, namespace or None):
            found += page
            if len(found) >= _MOST_OBJECTS:
                break
    except ApiError as error:
        if error.code == 403 and not namespace and own_namespace:
            return await _list(client, resource, own_namespace, "")
        if error.code not in (403, 404):
            raise
    return found


def find_ingress_hosts(
    ingresses: Iterable[Object], services: Iterable[Object], classes: Iterable[Object], routes: Iterable[Object] = ()
) -> list[IngressHost]:
    """Return the sorted hosts of Ingresses whose controllers were found; for one host, the older Ingress comes first.

    routes: Traefik's IngressRoutes; for one host they come after Ingresses.
    """
    controllers = _Controllers(services, classes)
    found: list[IngressHost] = []
    kinds = ((ingresses, _hosts_of), (routes, _hosts_of_route))
    for obj, hosts in ((one, hosts) for objects, hosts in kinds for one in sorted(objects, key=_created)):
        for entry in hosts(obj, controllers):
            found.append(entry)
            if len(found) >= _MOST_HOSTS:
                break
    return sorted(found, key=lambda one: (one.is_wildcard, one.host))


def _created(obj: Object) -> str:
    return str(as_mapping(obj.get("metadata")).get("creationTimestamp") or "")


def _is_host(host: object) -> bool:
    return isinstance(host, str) and len(host) <= _LONGEST and _HOST.match(host.lower()) is not None


def _hosts_of_route(route: Object, controllers: _Controllers) -> Iterator[IngressHost]:
    """Yield the hosts of an IngressRoute of Traefik."""
    metadata = as_mapping(route.get("metadata"))
    target = controllers.of_label(_TRAEFIK, tls=is_secure(route))
    backends: dict[str, list[tuple[str, str]]] = {}
    for host, path, where in route_hosts(route) if target is not None else ():
        if _is_host(host):
            backends.setdefault(host.lower(), []).append((path, where))
    for host, served in backends.items():
        if target is not None:
            owner = str(metadata.get("namespace") or ""), str(metadata.get("name") or "")
            yield IngressHost(host, *owner, target, tuple(served), "IngressRoute")


def _hosts_of(ingress: Object, controllers: _Controllers) -> Iterator[IngressHost]:
    metadata, spec = as_mapping(ingress.get("metadata")), as_mapping(ingress.get("spec"))
    name, namespace = str(metadata.get("name") or ""), str(metadata.get("namespace") or "")
    secure = {host.lower() for entry in as_mappings(spec.get("tls")) for host in _texts(entry.get("hosts"))}
    backends: dict[str, list[tuple[str, str]]] = {}
    for rule in as_mappings(spec.get("rules")):
        host = rule.get("host")
        if not isinstance(host, str) or not _is_host(host):
            continue
        served = backends.setdefault(host.lower(), [])
        for path in as_mappings(as_mapping(rule.get("http")).get("paths")):
            service = as_mapping(as_mapping(path.get("backend")).get("service"))
            port = as_mapping(service.get("port"))
            where = f"{service.get('name') or '?'}:{port.get('name') or port.get('number') or '?'}"
            served.append((str(path.get("path") or "/"), where))
    if controllers.is_of_label(ingress, _NGINX):
        # An alias serves the paths of all rules of its Ingress.
        aliases = str(as_mapping(metadata.get("annotations")).get(_ALIASES) or "")
        paths = [path for served in backends.values() for path in served]
        for alias in (one.strip().lower() for one in aliases.split(",")[:_MOST_ALIASES]):
            if paths and _is_host(alias):
                backends.setdefault(alias, paths)
    for host, served in backends.items():
        tls = host in secure or "*." + host.partition(".")[2] in secure
        target = controllers.target_of(ingress, tls=tls)
        if target is not None:
            yield IngressHost(host, namespace, name, target, tuple(served))


class _Controllers:
    """The Services of Ingress controllers."""

    def __init__(self, services: Iterable[Object], classes: Iterable[Object]) -> None:
        self._by_address: dict[str, list[Object]] = defaultdict(list)
        self._by_label: dict[str, list[Object]] = defaultdict(list)
        for service in services:
            spec = as_mapping(service.get("spec"))
            if spec.get("type") == "ExternalName":
                continue
            for address in {*_addresses(service), *_texts(spec.get("externalIPs"))}:
                self._by_address[address.lower()].append(service)
            label = as_mapping(as_mapping(service.get("metadata")).get("labels")).get(_NAME_LABEL)
            # Skip the Service of the controller's admission webhook: it has the same label, but no HTTP port.
            if label in _CONTROLLERS.values() and _port(spec, "http") and _port(spec, "https"):
                self._by_label[str(label)].append(service)
        self._label_of_class = dict(_CLASSES)
        for one in classes:
            label = _CONTROLLERS.get(str(as_mapping(one.get("spec")).get("controller") or ""))
            name = str(as_mapping(one.get("metadata")).get("name") or "")
            if label is not None:
                self._label_of_class[name] = label
            else:
                # A class with a well-known name may belong to another controller.
                self._label_of_class.pop(name, None)

    def target_of(self, ingress: Object, *, tls: bool) -> Target | None:
        """Return the Service port to which requests for a host of an Ingress are sent; None when it was not found."""
        metadata, spec = as_mapping(ingress.get("metadata")), as_mapping(ingress.get("spec"))
        at_address = [one for address in _addresses(ingress) for one in self._by_address.get(address.lower(), ())]
        given = spec.get("ingressClassName") or as_mapping(metadata.get("annotations")).get(_OLD_CLASS) or ""
        by_class = self._by_label.get(self._label_of_class.get(str(given), ""), [])
        return _port_of_first((*at_address, *by_class), tls=tls)

    def of_label(self, label: str, *, tls: bool) -> Target | None:
        """Return the Service port of the well-known controller with this label; None when there is none."""
        return _port_of_first(self._by_label.get(label, []), tls=tls)

    def is_of_label(self, ingress: Object, label: str) -> bool:
        """Return True when the Ingress's class belongs to the well-known controller with this label."""
        metadata, spec = as_mapping(ingress.get("metadata")), as_mapping(ingress.get("spec"))
        given = spec.get("ingressClassName") or as_mapping(metadata.get("annotations")).get(_OLD_CLASS) or ""
        return self._label_of_class.get(str(given)) == label


def _port_of_first(services: Iterable[Object], *, tls: bool) -> Target | None:
    """Return the port for HTTP or HTTPS of the first Service that has such a port; None without one."""
    for service in services:
        # A controller may redirect HTTP requests for a host with TLS, so HTTPS is preferred for such a host.
        for scheme in ("https", "http") if tls else ("http", "https"):
            port = _port(as_mapping(service.get("spec")), scheme)
            if port:
                owner = as_mapping(service.get("metadata"))
                try:
                    return Target("services", str(owner["name"]), str(owner["namespace"]), scheme, port)
                except (KeyError, TargetError):
                    break  # the name is not a valid object name
    return None


def _port(spec: Mapping[str, Any], scheme: str) -> str:
    """Return the port of a Service for HTTP or HTTPS, in digits; "" for none."""
    ports = [one for one in as_mappings(spec.get("ports")) if one.get("protocol") in (None, "TCP")]
    standard = next((one for one in ports if one.get("port") == DEFAULT_PORTS[scheme]), None)
    named = next(
        (one for one in ports if one.get("name") in (scheme, "web" if scheme == "http" else "websecure")), None
    )
    found = standard or named
    return str(found.get("port")) if found is not None else ""


def _addresses(obj: Object) -> list[str]:
    """Return the addresses and host names in `status.loadBalancer` of a Service or an Ingress."""
    entries = as_mappings(as_mapping(as_mapping(obj.get("status")).get("loadBalancer")).get("ingress"))
    return [host for one in entries if isinstance(host := one.get("ip") or one.get("hostname"), str)]


def _texts(value: object) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
