"""How the ports of a target are named: by host name at a door, by proxy path at the API server. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.ports import Port, default_port, is_http, ports, scheme_of
from hatchway.target import SCHEMES, Kind, Target, TargetError, format_door_url, format_proxy_path

_KUBELET = 10250


@dataclass(frozen=True, slots=True)
class Link:
    """A port of a target. http: whether a browser can speak to it, None when nothing tells. target: how to name it;
    the port is left out where the default is meant."""

    port: Port
    http: bool | None
    scheme: str
    target: Target

    def url(self, door_port: int = 8001, domain: str = "localhost") -> str:
        """By host name at the door; "" when it is no HTTP or no host name can carry it."""
        if self.http is False:
            return ""
        try:
            return format_door_url(self.target, port=door_port, domain=domain)
        except TargetError:
            return ""

    @property
    def path(self) -> str:
        """The proxy path at the API server, which finds neither the port nor the scheme by itself."""
        target = self.target
        scheme = "https" if self.scheme == "https" and target.kind != "nodes" else ""
        port = ""
        if target.kind != "nodes":
            # A service's port is found by its name; one without a name is found when none is said.
            port = _name_of(self.port) if target.kind == "services" else str(self.port.number)
        return format_proxy_path(Target(target.kind, target.name, target.namespace, scheme, port))


def links(kind: Kind, obj: Object) -> list[Link]:
    """The ports of a Service, Pod or Node as links, in the order in which they are declared; a node's is its kubelet.

    Raises TargetError for a name that no target can have.
    """
    name = obj["metadata"]["name"]
    if kind == "nodes":
        endpoint = ((obj.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        # A node without a port means its kubelet.
        return [Link(Port("", endpoint.get("Port") or _KUBELET), True, "https", Target("nodes", name))]
    found = ports(obj)
    meant = default_port(found)
    namespace = obj["metadata"]["namespace"]
    made = []
    for port in found:
        # A port that is called like a scheme would have to be escaped in the host name; its number says it plainly.
        named = _name_of(port) if kind == "services" and port.name not in SCHEMES else ""
        spelled = "" if port is meant else named or str(port.number)
        made.append(Link(port, is_http(port), scheme_of(port), Target(kind, name, namespace, "", spelled)))
    return made


def _name_of(port: Port) -> str:
    """Its name; its number where a name (which no API server would store) cannot be part of a target."""
    return str(port.number) if ":" in port.name or "/" in port.name else port.name
