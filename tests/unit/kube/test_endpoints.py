"""What ports are, and why endpoints are not ready."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.kube.endpoints import (
    Endpoints,
    NotReady,
    Port,
    default_port,
    is_http,
    ports,
    ready_endpoints,
    scheme_of,
    slice_of_endpoints,
    why_not_ready,
)


@pytest.mark.parametrize(
    ("port", "scheme", "http"),
    [
        (Port("http", 80), "http", True),
        (Port("https", 443), "https", True),
        (Port("", 443), "https", True),
        (Port("", 8443), "https", True),
        (Port("web", 8443), "https", True),
        (Port("http", 8443), "http", True),
        (Port("https-metrics", 9100), "https", True),
        (Port("http", 5432), "http", True),
        (Port("web", 12345), "http", True),
        (Port("", 80, target="https"), "https", True),
        (Port("", 7777, app_protocol="https"), "https", True),
        (Port("", 7777, app_protocol="kubernetes.io/ws"), "http", True),
        (Port("", 7777, app_protocol="kubernetes.io/wss"), "https", True),
        (Port("http", 80, app_protocol="grpc"), "", False),
        (Port("x", 7777, app_protocol="example.com/own"), "", None),
        (Port("", 5432), "", False),
        (Port("tcp-postgresql", 7777), "", False),
        (Port("redis", 7777), "", False),
        (Port("dns", 53, "UDP"), "", False),
        (Port("http3", 443, "UDP"), "", False),
        (Port("grpc", 8080), "", False),
        (Port("transport", 9300), "", False),
        (Port("odd", 7777), "", None),
    ],
)
def test_schemes(port: Port, scheme: str, http: bool | None) -> None:
    assert scheme_of(port) == scheme
    assert is_http(port) is http


def test_ports_of_a_service_and_of_a_pod() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": "web", "name": "a"}, {"port": 53, "protocol": "UDP"}]}}
    assert ports(service) == [Port("a", 80, "TCP", "", "web"), Port("", 53, "UDP")]
    pod = {"spec": {"containers": [{"ports": [{"containerPort": 8080}]}, {"ports": None}, {}]}}
    assert ports(pod) == [Port("", 8080)]
    assert ports({"spec": {}}) == []


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ([Port("metrics", 9100), Port("http", 80)], 80),
        ([Port("db", 5432), Port("odd", 7777)], 7777),
        ([Port("http-metrics", 9100)], 9100),
        ([Port("db", 5432)], None),
        ([Port("https", 443), Port("http", 80)], 443),
        ([], None),
    ],
)
def test_the_port_that_is_meant(found: list[Port], meant: int | None) -> None:
    port = default_port(found)
    assert (port.number if port else None) == meant


SERVICE = {"metadata": {"name": "web", "namespace": "x"}, "spec": {"selector": {"app": "web"}}}


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


def test_endpoints_are_counted_with_the_pods_that_have_none_yet() -> None:
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


def test_without_pods_the_slices_alone_tell() -> None:
    found = ready_endpoints(SERVICE, [slice_("s", ("a", False))], [])
    assert found == Endpoints(0, 1, (NotReady("a", "not ready"),))


def test_why_there_is_none() -> None:
    assert ready_endpoints(SERVICE, [], []).why == "no pod has the labels app=web"
    bare = {"metadata": SERVICE["metadata"], "spec": {}}
    # A service without a selector selects no pods, not all of them.
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
         'Running, but container "c" does not say that it is ready'),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Evicted: disk"),
        ({"phase": "Succeeded"}, "Completed"),
        ({}, "Pending"),
    ],
)  # fmt: skip
def test_why_a_pod_is_not_ready(status: dict[str, Any], why: str) -> None:
    assert why_not_ready(pod("p", **status)) == why


def test_a_sidecar_that_has_started_is_not_in_the_way() -> None:
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


def test_endpoints_of_old_clusters() -> None:
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
