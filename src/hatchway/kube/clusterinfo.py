"""Collects the data of `kubectl cluster-info` for any cluster (kubectl `pkg/cmd/clusterinfo/clusterinfo.go`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.firstuse import first_use_state
from hatchway.kube.overrides import NONE, Overrides
from hatchway.target import Target, format_proxy_path

LABEL_SELECTOR = "kubernetes.io/cluster-service=true"
NAMESPACE = "kube-system"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in service: its displayed name and its URL.

    starts_on_first_use: True for a service whose pods are started by its first request.
    """

    name: str
    url: str
    starts_on_first_use: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return the service as `-o json` prints it."""
        return {"name": self.name, "url": self.url, "starts_on_first_use": self.starts_on_first_use}


def built_in(services: list[Object], server: str) -> list[BuiltIn]:
    """Return the entries for services that were listed with LABEL_SELECTOR, sorted by name."""
    return [_describe(service, server.rstrip("/")) for service in sorted(services, key=lambda s: s["metadata"]["name"])]


def _describe(service: Object, server: str) -> BuiltIn:
    metadata, spec = service["metadata"], service.get("spec", {})
    name = (metadata.get("labels") or {}).get("kubernetes.io/name") or metadata["name"]
    waits = first_use_state(service) == "waiting"
    ports = spec.get("ports") or []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress:
        address = ingress[0].get("ip") or ingress[0].get("hostname")
        return BuiltIn(name, " ".join(f"http://{address}:{port['port']}" for port in ports), waits)
    scheme = port_name = ""
    if ports:
        port_name = ports[0].get("name", "")
        scheme = "https" if port_name == "https" or ports[0]["port"] == 443 else ""
    target = Target("services", metadata["name"], metadata["namespace"], scheme, port_name)
    return BuiltIn(name, server + format_proxy_path(target, ""), waits)


async def gather(
    kubeconfig: str | None = None, context: str | None = None, overrides: Overrides = NONE
) -> tuple[str, list[BuiltIn]]:
    """Return (server, built-in services) for a context of the kubeconfig. Raises HatchwayError."""
    from hatchway.kube.connection import Connection

    connection = Connection.load(kubeconfig, context, overrides)
    try:
        services = await connection.client.list("services", NAMESPACE, label_selector=LABEL_SELECTOR)
    except ApiError as error:
        if error.code == 503:
            raise
        raise HatchwayError(
            f"{connection.label} refused to list services in {NAMESPACE}: {error.message}", error.hint
        ) from error
    finally:
        await connection.aclose()
    return connection.server, built_in(services, connection.server)
