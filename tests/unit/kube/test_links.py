"""How the ports of targets are named."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.kube.portlinks import links
from hatchway.target import Target


def service(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "x"}, "spec": {"ports": list(ports)}}


def test_the_default_port_is_left_out_and_schemes_are_said_by_number() -> None:
    grpc, https, http, odd = links(
        "services",
        service(
            {"name": "grpc", "port": 81},
            {"name": "https", "port": 9443},
            {"name": "http", "port": 80},
            {"name": "odd", "port": 7777},
        ),
    )
    # The first HTTP port is the default; the order remains as declared.
    assert https.target == Target("services", "web", "x")
    assert http.target == Target("services", "web", "x", port="80")
    assert odd.target == Target("services", "web", "x", port="odd")
    assert [link.http for link in (grpc, https, http, odd)] == [False, True, True, None]
    assert grpc.url() == ""
    assert https.url(8002) == "http://web.x.svc.localhost:8002/"
    assert https.path == "/api/v1/namespaces/x/services/https:web:https/proxy/"


@pytest.mark.parametrize("name", ["a:b", "a/b"])
def test_a_name_that_no_target_can_have(name: str) -> None:
    (_, link) = links("services", service({"name": "http", "port": 80}, {"name": name, "port": 81}))
    assert link.target.port == "81"
    assert link.path == "/api/v1/namespaces/x/services/web:81/proxy/"


def test_pods_are_named_by_number_and_nodes_by_nothing() -> None:
    containers = [{"ports": [{"name": "web", "containerPort": 8080}, {"name": "admin", "containerPort": 8081}]}]
    pod = {"metadata": {"name": "p", "namespace": "x"}, "spec": {"containers": containers}}
    assert [link.target.port for link in links("pods", pod)] == ["", "8081"]
    assert [link.path for link in links("pods", pod)] == [
        f"/api/v1/namespaces/x/pods/p:{number}/proxy/" for number in (8080, 8081)
    ]
    (kubelet,) = links("nodes", {"metadata": {"name": "n1"}, "status": {}})
    assert (kubelet.port.number, kubelet.scheme, kubelet.path) == (10250, "https", "/api/v1/nodes/n1/proxy/")
    status = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 10255}}}
    assert links("nodes", {"metadata": {"name": "n1"}, "status": status})[0].port.number == 10255
