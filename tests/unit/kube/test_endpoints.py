"""The endpoints behind a service, and why they are not ready."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.cluster.readiness import has_ready_endpoint
from hatchway.kube.objects import endpoint_is_ready
from hatchway.kube.readyendpoints import (
    Endpoint,
    Endpoints,
    NotReady,
    endpoints_of,
    ready_endpoints,
    restarts,
    slice_of_endpoints,
    why_node_not_ready,
    why_not_ready,
)

SERVICE = {"metadata": {"name": "web", "namespace": "x"}, "spec": {"selector": {"app": "web"}}}


@pytest.mark.parametrize(
    ("endpoint", "is_ready"),
    [
        ({}, True),
        ({"conditions": None}, True),
        ({"conditions": {"serving": True}}, True),
        ({"conditions": {"ready": None}}, True),
        ({"conditions": {"ready": True}}, True),
        ({"conditions": {"ready": False}}, False),
    ],
)
def test_an_unset_condition_means_ready(endpoint: dict[str, Any], is_ready: bool) -> None:
    assert endpoint_is_ready(endpoint) is is_ready
    piece = {"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "endpoints": [endpoint]}
    assert has_ready_endpoint("web", [piece]) is is_ready


def pod(name: str, **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "x", "labels": {"app": "web", "v": "1"}}, "status": status}


def slice_(name: str, *endpoints: tuple[str, bool | None], service: str = "web") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "x", "labels": {"kubernetes.io/service-name": service}},
        "endpoints": [
            {
                "addresses": ["10.0.0.1"],
                "conditions": {} if ready is None else {"ready": ready},
                "targetRef": {"kind": "Pod", "name": who},
            }
            for who, ready in endpoints
        ],
    }


READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}


def crashing(reason: str) -> dict[str, Any]:
    last = {"terminated": {"exitCode": 3}}
    container = {"name": "c", "ready": False, "state": {"waiting": {"reason": reason}}, "lastState": last}
    return {"phase": "Running", "containerStatuses": [container]}


def test_selected_pods_without_an_endpoint_are_counted() -> None:
    pending = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}
    found = ready_endpoints(
        SERVICE,
        [slice_("s1", ("a", True), ("b", False)), slice_("s2", ("d", None)), slice_("s3", ("no", True), service="y")],
        [
            pod("a", **READY),
            pod("b", **crashing("CrashLoopBackOff")),
            pod("c", **pending),
            pod("done", phase="Succeeded"),
            {"metadata": {"name": "other", "namespace": "x"}, "status": {}},
        ],
    )
    assert found == Endpoints(
        2,
        4,
        (
            NotReady("b", 'CrashLoopBackOff: container "c" ended with exit code 3'),
            NotReady("c", "Pending: 0/3 nodes"),
        ),
    )


def test_without_pods_only_the_slices_count() -> None:
    found = ready_endpoints(SERVICE, [slice_("s", ("a", False))], [])
    assert found == Endpoints(0, 1, (NotReady("a", "not ready"),))


def test_each_endpoint_is_listed_once_and_those_that_wait_first() -> None:
    slices = [slice_("s1", ("b", False), ("a", False)), slice_("s2", ("a", True))]
    # The second slice repeats the pod `a`, like a slice of another address family. This endpoint is not a pod.
    slices[0]["endpoints"].append({"addresses": ["192.0.2.7"], "conditions": {}})
    # The pod `b` is still among the endpoints, but not selected any more. Its status has precedence over the
    # EndpointSlice.
    left = pod("b", phase="Running", containerStatuses=[waiting("ImagePullBackOff")])
    left["metadata"]["labels"] = {}
    assert endpoints_of(SERVICE, slices, [left, pod("new", **READY)]) == [
        Endpoint("b", "10.0.0.1", False, "ImagePullBackOff"),
        Endpoint("new", "", False, "not yet among the endpoints"),
        Endpoint("", "192.0.2.7", True),
        Endpoint("a", "10.0.0.1", True),
    ]


def test_reasons_why_there_are_no_endpoints() -> None:
    assert ready_endpoints(SERVICE, [], []).why == "no pod matches its selector app=web"
    bare = {"metadata": SERVICE["metadata"], "spec": {}}
    # A service without a selector does not select all pods, but none.
    assert "no selector" in ready_endpoints(bare, [], [pod("a", **READY)]).why
    external = {"metadata": SERVICE["metadata"], "spec": {"type": "ExternalName", "externalName": "db.example"}}
    assert "db.example" in ready_endpoints(external, [], []).why


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"name": "c", "state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (READY, ""),
        ({"phase": "Pending", "containerStatuses": [waiting("ImagePullBackOff", "no such\n image")]},
         "ImagePullBackOff: no such image"),
        ({"phase": "Pending", "initContainerStatuses": [waiting("CrashLoopBackOff")]}, "Init:CrashLoopBackOff"),
        ({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"running": {}}}]},
         'Init: container "i" has not ended yet'),
        ({"phase": "Running", "containerStatuses": [
            {"name": "c", "state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}]},
         'OOMKilled: container "c" ended with exit code 137'),
        ({"phase": "Running", "containerStatuses": [{"name": "c", "ready": False, "state": {"running": {}}}]},
         'Running, but container "c" is not ready'),
        ({"phase": "Running", "conditions": [{"type": "Ready", "status": "False"}]}, "Running, but not ready"),
        ({"phase": "Running", "reason": "NodeLost", "message": "n1 is unresponsive"},
         "its node is lost: n1 is unresponsive"),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Evicted: disk"),
        ({"phase": "Failed", "containerStatuses": [
            {"name": "a", "state": {"terminated": {"reason": "Completed", "exitCode": 0}}},
            {"name": "b", "state": {"terminated": {"exitCode": 2}}}]},
         'Error: container "b" ended with exit code 2'),
        ({"phase": "Succeeded"}, "Completed"),
        ({}, "Pending"),
    ],
)  # fmt: skip
def test_reasons_why_a_pod_is_not_ready(status: dict[str, Any], why: str) -> None:
    assert why_not_ready(pod("p", **status)) == why


def test_a_readiness_probe_that_fails_is_named() -> None:
    probed = pod("p", phase="Running", containerStatuses=[{"name": "c", "ready": False, "state": {"running": {}}}])
    probed["spec"] = {"containers": [{"name": "c", "readinessProbe": {"httpGet": {"port": 80}}}]}
    assert why_not_ready(probed) == 'Running, but the readiness probe of container "c" fails'


def test_restarts() -> None:
    assert restarts(pod("p", containerStatuses=[{"restartCount": 2}, {"restartCount": 3}, {}])) == 5
    assert restarts(pod("p")) == 0


@pytest.mark.parametrize(
    ("conditions", "why"),
    [
        ([{"type": "Ready", "status": "True"}], ""),
        ([{"type": "Ready", "status": "Unknown", "message": "Kubelet stopped\nposting"}], "Kubelet stopped posting"),
        ([{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}], "KubeletNotReady"),
        ([{"type": "MemoryPressure", "status": "False"}], "it reports no status"),
        ([], "it reports no status"),
    ],
)
def test_reasons_why_a_node_is_not_ready(conditions: list[dict[str, str]], why: str) -> None:
    assert why_node_not_ready({"metadata": {"name": "n1"}, "status": {"conditions": conditions}}) == why


def test_a_started_sidecar_is_not_the_reason() -> None:
    status = {
        "phase": "Running",
        "initContainerStatuses": [{"name": "proxy", "started": True, "state": {"running": {}}}],
        "containerStatuses": [waiting("CrashLoopBackOff", "back-off")],
    }
    assert why_not_ready(pod("p", **status)) == "CrashLoopBackOff: back-off"


def test_a_deleted_pod_is_terminating() -> None:
    going = pod("p", **READY)
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert why_not_ready(going) == "Terminating"


def test_endpoints_without_the_conditions_of_newer_clusters() -> None:
    old = {
        "metadata": {"name": "web", "namespace": "x"},
        "subsets": [
            {
                "addresses": [{"ip": "10.0.0.1", "targetRef": {"name": "a"}}],
                "notReadyAddresses": [{"ip": "10.0.0.2"}],
                "ports": [{"port": 80}],
            }
        ],
    }
    made = slice_of_endpoints(old)
    assert ready_endpoints(SERVICE, [made], []) == Endpoints(1, 2, (NotReady("10.0.0.2", "not ready"),))
    assert made["ports"] == [{"port": 80}]


def test_without_the_right_to_list_slices_the_pods_count() -> None:
    pods = [pod("a", **READY), pod("b", **crashing("CrashLoopBackOff"))]
    found = ready_endpoints(SERVICE, None, pods)
    assert (found.ready, found.total) == (1, 2)
    assert [one.name for one in found.waiting] == ["b"]
    # A user who may not list pods gets another text.
    assert ready_endpoints(SERVICE, [], pods).ready == 0
