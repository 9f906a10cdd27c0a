"""The addresses of targets inside the cluster."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.route.dialplan import DialAddress, NoAddress, node_address, pod_address, service_address


def service(**spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "web", "namespace": "x"}, "spec": {"ports": [{"name": "http", "port": 80}], **spec}}


def slices(*addresses: str, ready: bool = True) -> list[dict[str, Any]]:
    endpoint = {"addresses": list(addresses), "conditions": {"ready": ready}}
    return [{"ports": [{"name": "http", "port": 8080}], "endpoints": [endpoint]}]


def test_services() -> None:
    assert service_address(service(clusterIP="10.96.0.9"), "http", []) == DialAddress("10.96.0.9", 80)
    assert service_address(service(clusterIP="10.96.0.9"), "", []) == DialAddress("10.96.0.9", 80)
    assert service_address(service(clusterIP="None"), "80", slices("10.1.1.1")) == DialAddress("10.1.1.1", 8080)
    external = service(type="ExternalName", externalName="db.example.org", ports=[])
    assert service_address(external, "5432", []) == DialAddress("db.example.org", 5432)


def test_pods_and_nodes() -> None:
    pod = {
        "metadata": {"name": "p", "namespace": "x"},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
        "status": {"podIP": "10.1.1.2"},
    }
    assert pod_address(pod, "http") == pod_address(pod, "") == DialAddress("10.1.1.2", 8080)
    assert pod_address(pod, "9") == DialAddress("10.1.1.2", 9)
    node = {
        "status": {
            "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        }
    }
    assert (node_address(node, ""), node_address(node, "22")) == (
        DialAddress("10.0.0.1", 10250),
        DialAddress("10.0.0.1", 22),
    )


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::",
     "169.254.169.254", "fe80::1", "224.0.0.1"],
)  # fmt: skip
def test_a_service_cannot_lead_to_the_dialing_node_itself(host: str) -> None:
    with pytest.raises(NoAddress):
        service_address(service(type="ExternalName", externalName=host), "80", [])
    with pytest.raises(NoAddress):
        service_address(service(clusterIP="None"), "80", slices(host))


@pytest.mark.parametrize(
    ("spec", "port", "found"),
    [
        ({"clusterIP": "10.96.0.9"}, "grpc", []),
        ({"clusterIP": "10.96.0.9", "ports": []}, "", []),
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 53, "protocol": "UDP"}]}, "53", []),
        ({"clusterIP": "None"}, "80", []),
        ({"clusterIP": "None"}, "80", slices("10.1.1.1", ready=False)),
        ({"type": "ExternalName", "externalName": "db.example.org", "ports": []}, "", []),
    ],
)
def test_services_without_an_address(spec: dict[str, Any], port: str, found: list[dict[str, Any]]) -> None:
    with pytest.raises(NoAddress):
        service_address(service(**spec), port, found)
