"""Makes links to a target's ports: by host name at a door, by proxy path at the API server. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.kube.api import Object
from hatchway.kube.ports import Port, default_port, is_http, ports, scheme_of
from hatchway.target import SCHEMES, Kind, Target, TargetError, format_door_url, format_proxy_path

_KUBELET = 10250


@dataclass(frozen=True, slots=True)
class PortLink:
    """A port of a target.

    http: True when a browser can use the port, False when it cannot; None when this is not known.
    target: the target with this port. A target without a port means the default port.
    """

    port: Port
    http: bool | None
    scheme: str
    target: Target

    def url(self, door_port: int = 8001, domain: str = "localhost") -> str:
        """Return the URL with a host name at the door; "" for a port without HTTP or a target without a host name."""
        if self.http is False:
            return ""
        try:
            return format_door_url(self.target, port=door_port, domain=domain)
        except TargetError:
            return ""

    @property
    def api_target(self) -> Target:
        """Return the target for the API server's proxy verb, with port and scheme: the API server guesses neither."""
        target = self.target
        scheme = "https" if self.scheme == "https" and target.kind != "nodes" else ""
        port = ""
        if target.kind != "nodes":
            # The API server compares the names of a service's ports. A target without a port selects the port without
            # a name.
            port = _name_of(self.port) if target.kind == "services" else str(self.port.number)
        return Target(target.kind, target.name, target.namespace, scheme, port)

    @property
    def path(self) -> str:
        """Return the proxy path at the API server."""
        return format_proxy_path(self.api_target)


def links(kind: Kind, obj: Object) -> list[PortLink]:
    """Return links to the ports of a Service, Pod or Node, in the order of declaration. A node has its kubelet's port.

    Raises TargetError for a name that no target can have.
    """
    name = obj["metadata"]["name"]
    if kind == "nodes":
        endpoint = ((obj.get("status") or {}).get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}
        # A node's target without a port means the kubelet's port.
        return [PortLink(Port("", endpoint.get("Port") or _KUBELET), True, "https", Target("nodes", name))]
    found = ports(obj)
    meant = default_port(found)
    namespace = obj["metadata"]["namespace"]
    made = []
    for port in found:
        # A port named "http" or "https" would have to be escaped in a host name, so its number is used.
        named = _name_of(port) if kind == "services" and port.name not in SCHEMES else ""
        spelled = "" if port is meant else named or str(port.number)
        made.append(PortLink(port, is_http(port), scheme_of(port), Target(kind, name, namespace, "", spelled)))
    return made


def _name_of(port: Port) -> str:
    """Return a port's name, or its number when the name is not valid in a target (no API server stores such a name)."""
    return str(port.number) if ":" in port.name or "/" in port.name else port.name
