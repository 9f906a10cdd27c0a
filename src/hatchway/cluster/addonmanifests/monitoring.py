"""The objects of the add-on `dashboards`: a store of metrics with Prometheus' HTTP API, and dashboards."""

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
    first_use_role,
    http_probe,
    pod_spec,
    port,
    rule,
)

__all__ = ["DASHBOARDS", "MONITORING", "manifests"]

# The name of the dashboards' Service in Kubernetes' documentation of `kubectl cluster-info`.
MONITORING: Final = "prometheus"
DASHBOARDS: Final = "monitoring-grafana"
_ACCOUNT, _ROLE = "monitoring", "system:hatchway-monitoring"
# The directory of the samples.
_DATA_MOUNT = "/var/lib/hatchway-monitoring"


def manifests() -> list[Manifest]:
    """Return the objects."""
    program = container(
        "monitoring",
        "monitoring",
        "60Mi",
        [port(9090, "http"), port(3000, "dashboards")],
        http_probe("/-/ready", 9090),
        volumeMounts=[{"name": "data", "mountPath": _DATA_MOUNT}],
    )
    volumes = [{"name": "data", "hostPath": {"path": plan.NODE_SAMPLES, "type": "DirectoryOrCreate"}}]
    rules = [
        rule("", ["nodes", "pods", "services"], WATCH),
        rule("discovery.k8s.io", ["endpointslices"], WATCH),
        rule("", ["nodes/metrics", "nodes/proxy"], ["get"]),
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]},
    ]
    about = {
        "hatchway.dev/title": "Prometheus API",
        "hatchway.dev/description": "Metrics of the cluster, with PromQL",
    }
    pages = {
        "hatchway.dev/title": "Dashboards",
        "hatchway.dev/description": "Nodes, pods, services and the API server over time",
    }
    return [
        *first_use_role(MONITORING),
        *account_with_role(_ACCOUNT, {_ROLE: rules}, {"k8s-app": MONITORING}),
        # The port has no name, so that URLs need no port name.
        built_in_service(MONITORING, [{"port": 9090, "protocol": "TCP", "targetPort": 9090}], annotations=about),
        built_in_service(
            DASHBOARDS, [{"port": 80, "protocol": "TCP", "targetPort": 3000}], app=MONITORING, annotations=pages
        ),
        # One store has one writer: the old pod must be gone before the new one starts.
        deployment(MONITORING, pod_spec(program, account=_ACCOUNT, terminationGracePeriodSeconds=10, volumes=volumes)),
    ]
