"""The values in control groups for a pod's requests and limits; expected values follow the kubelet's `cm/helpers_linux.go`."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.node.groupresources import container_resources, pod_group_resources, qos_class
from hatchway.cluster.runtime import GroupLimits


def container(requests: dict[str, str] | None = None, limits: dict[str, str] | None = None, **more: Any) -> Any:
    found = {"requests": requests, "limits": limits}
    return {"name": "c", "resources": {key: value for key, value in found.items() if value}, **more}


@pytest.mark.parametrize(
    ("requests", "limits", "wanted"),
    [
        ({}, {}, GroupLimits(2, None, None)),
        ({"cpu": "1"}, {}, GroupLimits(1024, None, None)),
        ({"cpu": "100m", "memory": "1Gi"}, {"cpu": "250m", "memory": "64Mi"}, GroupLimits(102, 25_000, 64 << 20)),
        # A missing request is the limit. Amounts below a thousandth are rounded up to a thousandth.
        ({}, {"cpu": "500m"}, GroupLimits(512, 50_000, None)),
        ({"cpu": "0"}, {"cpu": "2"}, GroupLimits(2048, 200_000, None)),
        ({"cpu": "1n"}, {"cpu": "1n", "memory": "1n"}, GroupLimits(2, 1000, 1)),
        ({"cpu": "1m"}, {"cpu": "5m"}, GroupLimits(2, 1000, None)),
        ({"cpu": "1000"}, {"cpu": "1000"}, GroupLimits(262144, 100_000_000, None)),
        ({}, {"cpu": "0", "memory": "0"}, GroupLimits(2, None, None)),
    ],
)
def test_containers(requests: dict[str, str], limits: dict[str, str], wanted: GroupLimits) -> None:
    assert container_resources(container(requests, limits)) == wanted


def pod(*containers: Any, qos: str = "Burstable", **spec: Any) -> Any:
    return {"spec": {"containers": list(containers), **spec}, "status": {"qosClass": qos}}


SMALL = container({"cpu": "100m"}, {"cpu": "200m", "memory": "10Mi"})


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (pod(SMALL, SMALL), GroupLimits(204, 40_000, 20 << 20)),
        (pod(SMALL, container({"cpu": "100m"})), GroupLimits(204, None, None)),
        (pod(SMALL, container({"cpu": "100m"}, {"memory": "6Mi"})), GroupLimits(204, None, 16 << 20)),
        (pod(SMALL, initContainers=[container({"cpu": "1"})]), GroupLimits(1024, None, None)),
        (
            pod(SMALL, initContainers=[container({}, {"cpu": "1", "memory": "1Gi"})]),
            GroupLimits(102, 100_000, 1 << 30),
        ),
        (pod(container(), resources={"limits": {"memory": "1Gi"}}), GroupLimits(2, None, 1 << 30)),
        (pod(container(), qos="BestEffort"), GroupLimits()),
        (
            pod(SMALL, overhead={"cpu": "100m", "memory": "10Mi"}),
            GroupLimits(204, 30_000, 20 << 20),
        ),
    ],
)
def test_pods(found: Any, wanted: GroupLimits) -> None:
    assert pod_group_resources(found) == wanted


@pytest.mark.parametrize(
    ("status", "wanted"),
    [({"qosClass": "Guaranteed"}, "Guaranteed"), ({}, "BestEffort"), ({"qosClass": "../x"}, "BestEffort")],
)
def test_unknown_qos_classes_count_as_the_lowest(status: Any, wanted: str) -> None:
    assert qos_class({"spec": {}, "status": status}) == wanted
