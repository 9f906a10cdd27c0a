"""The objects of the add-on `logging`: a search index over the logs of all containers, and a page for searches."""

from __future__ import annotations

from typing import Final

from hatchway.cluster import plan
from hatchway.cluster.addonmanifests.shapes import (
    Manifest,
    built_in_service,
    container,
    deployment,
    first_use_role,
    http_probe,
    pod_spec,
    port,
)

__all__ = ["EXPLORER", "LOGGING", "manifests"]

LOGGING: Final = "elasticsearch-logging"
EXPLORER: Final = "kibana-logging"
# The directory of the logs that the program reads, and the directory of its index.
_LOG_MOUNT, _DATA_MOUNT = "/var/log/pods", "/var/lib/hatchway-logging"


def manifests() -> list[Manifest]:
    """Return the objects."""
    program = container(
        "logging",
        "logging",
        "100Mi",
        [port(9200), port(5601)],
        http_probe("/_cluster/health", 9200),
        env=[{"name": "HATCHWAY_NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        volumeMounts=[
            {"name": "logs", "mountPath": _LOG_MOUNT, "readOnly": True},
            {"name": "data", "mountPath": _DATA_MOUNT},
        ],
    )
    volumes = [
        {"name": "logs", "hostPath": {"path": plan.NODE_LOGS, "type": "Directory"}},
        {"name": "data", "hostPath": {"path": plan.NODE_LOG_INDEX, "type": "DirectoryOrCreate"}},
    ]
    about = {
        "hatchway.dev/title": "Log explorer",
        "hatchway.dev/description": "Searches and follows the logs of all containers",
    }
    return [
        *first_use_role(LOGGING),
        # The URLs in Kubernetes' documentation name no port. They match only a port without a name.
        built_in_service(LOGGING, [{"port": 9200, "protocol": "TCP", "targetPort": 9200}]),
        # The page is served by the same program, under the name and the port of the cluster add-on's Kibana.
        built_in_service(
            EXPLORER, [{"port": 5601, "protocol": "TCP", "targetPort": 5601}], app=LOGGING, annotations=about
        ),
        # One index has one writer: the old pod must be gone before the new one starts.
        deployment(LOGGING, pod_spec(program, terminationGracePeriodSeconds=10, volumes=volumes)),
    ]
