"""The objects of the add-on `dns`: the cluster's name server at 10.96.0.10."""

from __future__ import annotations

from typing import Final

from hatchway.cluster import plan
from hatchway.cluster.addonmanifests.shapes import (
    WATCH,
    Manifest,
    account_with_role,
    built_in_service,
    container,
    deployment,
    http_probe,
    pod_spec,
    port,
    rule,
)

__all__ = ["DNS", "manifests"]

DNS: Final = "kube-dns"
_ACCOUNT, _ROLE = "coredns", "system:coredns"
# Address ranges for which only this name server answers.
_OWN_RANGES = (plan.SERVICE_CIDR, plan.POD_CIDR, plan.NODE_CIDR)


def manifests() -> list[Manifest]:
    """Return the objects."""
    program = container(
        "dns",
        "dns",
        "40Mi",
        [port(53, "dns", "UDP"), port(53, "dns-tcp"), port(9153, "metrics")],
        http_probe("/ready", 8181),
        env=[
            {"name": "HATCHWAY_DNS_DOMAIN", "value": plan.CLUSTER_DOMAIN},
            {"name": "HATCHWAY_DNS_RANGES", "value": ",".join(map(str, _OWN_RANGES))},
        ],
    )
    # The pod must use resolvers outside of the cluster, because it is the cluster's resolver itself.
    pod = pod_spec(program, account=_ACCOUNT, dnsPolicy="Default")
    ports = [
        # `kubectl cluster-info` prints the first port.
        {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
        {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
    ]
    rules = [
        rule("", ["services", "pods", "namespaces"], WATCH),
        rule("discovery.k8s.io", ["endpointslices"], WATCH),
    ]
    return [
        *account_with_role(_ACCOUNT, {_ROLE: rules}),
        built_in_service(DNS, ports, clusterIP=plan.DNS_SERVICE_IP),
        deployment(DNS, pod, maxSurge="25%", maxUnavailable=1),
    ]
