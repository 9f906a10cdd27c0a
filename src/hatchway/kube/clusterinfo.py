"""What `kubectl cluster-info` prints, for any cluster (kubectl `pkg/cmd/clusterinfo/clusterinfo.go`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import httpx2

from hatchway.errors import HatchwayError
from hatchway.kube import kubeconfig as kubeconfig_files
from hatchway.kube.api import Object
from hatchway.target import Target, format_proxy_path

if TYPE_CHECKING:
    from lightkube.config.kubeconfig import SingleConfig

LABEL_SELECTOR = "kubernetes.io/cluster-service=true"
NAMESPACE = "kube-system"


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A built-in service: the name that is printed, and where it is reached."""

    name: str
    url: str


def built_in(services: list[Object], server: str) -> list[BuiltIn]:
    """The built-in services among `services` (already selected by LABEL_SELECTOR), by name."""
    return [_describe(service, server.rstrip("/")) for service in sorted(services, key=lambda s: s["metadata"]["name"])]


def _describe(service: Object, server: str) -> BuiltIn:
    metadata, spec = service["metadata"], service.get("spec", {})
    name = (metadata.get("labels") or {}).get("kubernetes.io/name") or metadata["name"]
    ports = spec.get("ports") or []
    ingress = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []
    if ingress:
        address = ingress[0].get("ip") or ingress[0].get("hostname")
        return BuiltIn(name, " ".join(f"http://{address}:{port['port']}" for port in ports))
    scheme = port_name = ""
    if ports:
        port_name = ports[0].get("name", "")
        scheme = "https" if port_name == "https" or ports[0]["port"] == 443 else ""
    target = Target("services", metadata["name"], metadata["namespace"], scheme, port_name)
    return BuiltIn(name, server + format_proxy_path(target, ""))


def gather(kubeconfig: str | None = None, context: str | None = None) -> tuple[str, list[BuiltIn]]:
    """(server, built-in services) of the cluster that a kubeconfig's context names. Raises HatchwayError."""
    import lightkube
    from lightkube.core.exceptions import ApiError as LightkubeApiError
    from lightkube.core.exceptions import ConfigError
    from lightkube.resources.core_v1 import Service

    config = load_config(kubeconfig, context)
    server = config.cluster.server.rstrip("/")
    try:
        client = lightkube.Client(config=config, trust_env=False)
        found = client.list(Service, namespace=NAMESPACE, labels={"kubernetes.io/cluster-service": "true"})
        services = [service.to_dict() for service in found]
    except LightkubeApiError as error:
        raise HatchwayError(f"{server} refused to list services in {NAMESPACE}: {error.status.message}") from error
    except ConfigError as error:
        raise HatchwayError(f"the kubeconfig cannot be used: {error}") from error
    except (httpx2.HTTPError, OSError) as error:
        raise HatchwayError(f"cannot reach {server}: {error}", "is the cluster up? `hatchway up` starts one") from error
    return server, built_in(services, server)


def server_of(kubeconfig: str | None = None, context: str | None = None) -> str:
    """The API server's URL of a kubeconfig's context, without a slash at its end. Raises HatchwayError."""
    server: str = load_config(kubeconfig, context).cluster.server
    return server.rstrip("/")


def load_config(kubeconfig: str | None = None, context: str | None = None) -> SingleConfig:
    """A context of the kubeconfig (the current one unless said), or the pod's own account. Raises HatchwayError."""
    from lightkube import KubeConfig
    from lightkube.config.kubeconfig import SERVICE_ACCOUNT
    from lightkube.core.exceptions import ConfigError

    try:
        document = kubeconfig_files.read(kubeconfig)
    except HatchwayError:
        if kubeconfig or not Path(SERVICE_ACCOUNT, "token").exists():
            raise
        return cast("SingleConfig", KubeConfig.from_service_account().get())
    known = sorted(str(item.get("name")) for item in document["contexts"])
    hint = f"--context takes {', '.join(known)}" if known else "`hatchway up` starts a cluster and writes one"
    wanted = context or document["current-context"]
    if wanted not in known:
        what = f'there is no context "{wanted}"' if wanted else "no context is current"
        raise HatchwayError(f"no cluster to talk to: {what} in the kubeconfig", hint)
    try:
        found = KubeConfig.from_dict(document).get(wanted)
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise HatchwayError(f'context "{wanted}" of the kubeconfig cannot be used: {error}', hint) from error
    assert found is not None
    return found
