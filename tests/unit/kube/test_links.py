"""The names of ports in the links to targets."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.kube.portlinks import links
from hatchway.target import Target


def service(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "x"}, "spec": {"ports": list(ports)}}


def test_the_default_port_is_omitted_and_other_ports_are_named() -> None:
    grpc, https, http, odd = links(
        "services",
        service(
            {"name": "grpc", "port": 81},
            {"name": "https", "port": 9443},
            {"name": "http", "port": 80},
            {"name": "odd", "port": 7777},
        ),
    )
    # The default is the first port that is certainly HTTP(S). The links are in the order of declaration.
    assert https.target == Target("services", "web", "x")
    assert http.target == Target("services", "web", "x", port="80")
    assert odd.target == Target("services", "web", "x", port="odd")
    assert [link.http for link in (grpc, https, http, odd)] == [False, True, True, None]
    assert grpc.url() == ""
    assert https.url(8002) == "http://web.x.svc.localhost:8002/"
    assert https.path == "/api/v1/namespaces/x/services/https:web:https/proxy/"


@pytest.mark.parametrize("name", ["a:b", "a/b"])
def test_a_port_name_that_cannot_be_in_a_target(name: str) -> None:
    (_, link) = links("services", service({"name": "http", "port": 80}, {"name": name, "port": 81}))
    assert link.target.port == "81"
    assert link.path == "/api/v1/namespaces/x/services/web:81/proxy/"


def test_ports_of_pods_are_numbers_and_nodes_have_no_port() -> None:
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
