"""The state of objects as metrics: names, labels and values are those of kube-state-metrics."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import Any

import pytest

from hatchway.addons.metrics.autoscalerfamilies import AUTOSCALER_FAMILIES
from hatchway.addons.metrics.nodefamilies import NAMESPACE_FAMILIES, NODE_FAMILIES
from hatchway.addons.metrics.podfamilies import POD_FAMILIES
from hatchway.addons.metrics.servicefamilies import ENDPOINT_SLICE_FAMILIES, SERVICE_FAMILIES
from hatchway.addons.metrics.statefamilies import Family, quantity
from hatchway.addons.metrics.statemetrics import StateMetrics
from hatchway.addons.metrics.workloadfamilies import DEPLOYMENT_FAMILIES, REPLICA_SET_FAMILIES
from hatchway.kube.api import Object
from hatchway.proxy.routing import Peer, RequestHead
from tests.unit.fake_client import FakeClient

POD: Object = {
    "metadata": {
        "name": "web-1",
        "namespace": "shop",
        "uid": "u1",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"kind": "ReplicaSet", "name": "web", "controller": True}],
    },
    "spec": {
        "nodeName": "n1",
        "restartPolicy": "Always",
        "serviceAccountName": "default",
        "containers": [
            {"name": "c", "image": "x:1", "resources": {"requests": {"cpu": "250m", "memory": "1Ki", "a.b/gpu": "2"}}}
        ],
    },
    "status": {
        "phase": "Running",
        "hostIP": "172.18.0.3",
        "podIP": "10.244.1.2",
        "podIPs": [{"ip": "10.244.1.2"}],
        "qosClass": "Burstable",
        "startTime": "2026-01-01T00:00:01Z",
        "conditions": [{"type": "Ready", "status": "False", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
        "containerStatuses": [
            {
                "name": "c",
                "ready": False,
                "restartCount": 3,
                "image": "x:1",
                "imageID": "id",
                "containerID": "hatchway://abc",
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {
                    "terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-01-01T00:00:09Z"}
                },
            }
        ],
    },
}


def samples(families: tuple[Family, ...], obj: Object) -> dict[str, list[tuple[dict[str, str], float]]]:
    return {family.name: list(family.samples(obj)) for family in families}


def test_a_pod() -> None:
    found = samples(POD_FAMILIES, POD)
    assert found["kube_pod_info"] == [
        (
            {
                "host_ip": "172.18.0.3",
                "pod_ip": "10.244.1.2",
                "node": "n1",
                "created_by_kind": "ReplicaSet",
                "created_by_name": "web",
                "priority_class": "",
                "host_network": "false",
            },
            1.0,
        )
    ]
    assert {labels["phase"]: value for labels, value in found["kube_pod_status_phase"]} == {
        "Pending": 0,
        "Succeeded": 0,
        "Failed": 0,
        "Unknown": 0,
        "Running": 1,
    }
    ready = [({"condition": "true"}, 0), ({"condition": "false"}, 1), ({"condition": "unknown"}, 0)]
    assert found["kube_pod_status_ready"] == ready
    assert found["kube_pod_container_status_restarts_total"] == [({"container": "c"}, 3)]
    assert found["kube_pod_container_status_waiting_reason"] == [({"container": "c", "reason": "CrashLoopBackOff"}, 1)]
    assert found["kube_pod_container_status_last_terminated_reason"] == [({"container": "c", "reason": "OOMKilled"}, 1)]
    assert found["kube_pod_container_status_last_terminated_exitcode"] == [({"container": "c"}, 137)]
    assert found["kube_pod_container_status_running"] == [({"container": "c"}, 0)]
    assert found["kube_pod_container_resource_requests"] == [
        ({"container": "c", "node": "n1", "resource": "cpu", "unit": "core"}, 0.25),
        ({"container": "c", "node": "n1", "resource": "memory", "unit": "byte"}, 1024),
        ({"container": "c", "node": "n1", "resource": "a_b_gpu", "unit": "integer"}, 2),
    ]
    assert found["kube_pod_created"] == [({}, 1767225600)]
    assert found["kube_pod_owner"][0][0]["owner_is_controller"] == "true"
    assert found["kube_pod_init_container_status_ready"] == []
    assert found["kube_pod_completion_time"] == []


def test_a_deployment() -> None:
    obj = {
        "metadata": {"name": "web", "namespace": "shop", "generation": 4},
        "spec": {"replicas": 5, "strategy": {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}},
        "status": {
            "replicas": 5,
            "readyReplicas": 3,
            "conditions": [{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}],
        },
    }
    found = samples(DEPLOYMENT_FAMILIES, obj)
    assert found["kube_deployment_status_replicas"] == [({}, 5)]
    assert found["kube_deployment_status_replicas_ready"] == [({}, 3)]
    assert found["kube_deployment_status_replicas_unavailable"] == [({}, 0)]
    assert found["kube_deployment_spec_strategy_rollingupdate_max_surge"] == [({}, 2)]
    assert found["kube_deployment_spec_strategy_rollingupdate_max_unavailable"] == [({}, 1)]
    first = {"reason": "MinimumReplicasAvailable", "condition": "Available", "status": "true"}
    assert found["kube_deployment_status_condition"][0] == (first, 1)
    assert found["kube_deployment_owner"] == [({"owner_kind": "", "owner_name": ""}, 1)]


def test_an_autoscaler() -> None:
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    current = {"name": "cpu", "current": {"averageUtilization": 20, "averageValue": "200m"}}
    obj = {
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"maxReplicas": 4, "minReplicas": 2, "metrics": [{"type": "Resource", "resource": resource}]},
        "status": {"currentMetrics": [{"type": "Resource", "resource": current}]},
    }
    found = samples(AUTOSCALER_FAMILIES, obj)
    labels = {"metric_name": "cpu", "metric_target_type": "utilization", "container": ""}
    assert found["kube_horizontalpodautoscaler_spec_target_metric"] == [(labels, 60)]
    average = {**labels, "metric_target_type": "average"}
    assert found["kube_horizontalpodautoscaler_status_target_metric"] == [(labels, 20), (average, 0.2)]


@pytest.mark.parametrize(
    "families",
    [
        AUTOSCALER_FAMILIES,
        DEPLOYMENT_FAMILIES,
        ENDPOINT_SLICE_FAMILIES,
        NAMESPACE_FAMILIES,
        NODE_FAMILIES,
        POD_FAMILIES,
        REPLICA_SET_FAMILIES,
        SERVICE_FAMILIES,
    ],
)
def test_objects_without_fields(families: tuple[Family, ...]) -> None:
    samples(families, {"metadata": {"name": "x"}, "spec": {}})


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("250m", 0.25), ("1Ki", 1024), ("2e3", 2000), ("1.5Gi", 1.5 * 2**30), ("", None), ("x", None)],
)
def test_quantities(text: str, value: float | None) -> None:
    assert quantity(text) == value


async def get(state: StateMetrics, path: bytes) -> Any:
    return await state.route(RequestHead("GET", path, path, None, [], "1.1", Peer(("10.0.0.1", 1), "http")))


async def test_the_first_request_starts_the_watches() -> None:
    client = FakeClient()
    await client.create("pods", POD, "shop")
    node = {"metadata": {"name": "n1", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {}}
    await client.create("nodes", node)
    state = StateMetrics(client)
    task = asyncio.create_task(state.run())
    try:
        assert (await get(state, b"/healthz")).status == 200
        about = await get(state, b"/")
        assert about.status == 404 and b"/metrics" in about.body
        assert not client._watchers
        answer = await get(state, b"/metrics")
        text = answer.body.decode()
        assert 'kube_pod_status_phase{namespace="shop",pod="web-1",uid="uid-1",phase="Running"} 1\n' in text
        assert 'kube_node_role{node="n1",role="control-plane"} 1\n' in text
        assert "# TYPE kube_pod_container_status_restarts_total counter\n" in text
        for one in text.splitlines():
            assert one.startswith("#") or re.fullmatch(r'[a-z_]+\{([a-z_]+="[^"]*",?)+\} [0-9.e+-]+', one), one
        await client.delete("pods", "web-1", "shop", grace_period=0)
        for _ in range(100):
            answer = await get(state, b"/metrics")
            await asyncio.sleep(0)
        assert b"web-1" not in answer.body
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
