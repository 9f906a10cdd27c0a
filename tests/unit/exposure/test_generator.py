"""Services as `kubectl expose` makes them; tests/integration/exposure compares them with kubectl itself."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.errors import HatchwayError
from hatchway.exposure.generator import ServiceRequest, make_service, parse_labels
from hatchway.kube.api import Object
from hatchway.target import Kind

LABELS = {"app": "web"}


def pod(*ports: dict[str, Any], name: str = "web-0", labels: dict[str, str] = LABELS) -> Object:
    return {"metadata": {"name": name, "labels": labels}, "spec": {"containers": [{"name": "a", "ports": list(ports)}]}}


def workload(selector: dict[str, Any], *ports: dict[str, Any]) -> Object:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [{"name": "a", "ports": list(ports)}]}}
    return {"metadata": {"name": "web"}, "spec": {"selector": selector, "template": template}}


def made(resource: Kind, obj: Object, **asked: str) -> Object:
    return make_service(resource, obj, ServiceRequest(**asked))


def test_the_declared_port_and_the_labels_are_used() -> None:
    assert made("pods", pod({"containerPort": 8080})) == {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web-0", "labels": LABELS},
        "spec": {"selector": LABELS, "ports": [{"port": 8080, "protocol": "TCP", "targetPort": 8080}]},
    }


def test_several_ports_get_names_and_their_own_protocols() -> None:
    ports = made(
        "pods",
        pod(
            {"containerPort": 53, "protocol": "UDP"},
            {"containerPort": 53, "protocol": "TCP"},
            {"containerPort": 9153},
            {"containerPort": 9153},
        ),
    )["spec"]["ports"]
    assert [(port["name"], port["port"], port["protocol"]) for port in ports] == [
        ("port-1-udp", 53, "UDP"),
        ("port-1-tcp", 53, "TCP"),
        ("port-2", 9153, "TCP"),
    ]


def test_a_given_protocol_and_target_port_apply_to_all_ports() -> None:
    found = made(
        "pods", pod({"containerPort": 53, "protocol": "UDP"}), port="80,443", protocol="TCP", target_port="web"
    )
    assert found["spec"]["ports"] == [
        {"name": "port-1", "port": 80, "protocol": "TCP", "targetPort": "web"},
        {"name": "port-2", "port": 443, "protocol": "TCP", "targetPort": "web"},
    ]


@pytest.mark.parametrize("kind", ["deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"])
def test_workloads_are_selected_by_their_labels(kind: Kind) -> None:
    found = made(kind, workload({"matchLabels": {"app": "web"}}, {"containerPort": 80}), name="public", type="NodePort")
    assert found["metadata"] == {"name": "public"}
    assert found["spec"]["selector"] == {"app": "web"}
    assert found["spec"]["type"] == "NodePort"


def test_an_expression_with_one_value_is_a_label() -> None:
    one = workload({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web"]}]}, {"containerPort": 80})
    assert made("deployments.apps", one)["spec"]["selector"] == {"app": "web"}
    two = workload(
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}, {"containerPort": 80}
    )
    with pytest.raises(HatchwayError, match="expressions") as raised:
        made("deployments.apps", two)
    assert "--selector" in raised.value.hint
    assert made("deployments.apps", two, selector="a=b")["spec"]["selector"] == {"a": "b"}


def test_a_long_name_is_truncated() -> None:
    assert made("pods", pod({"containerPort": 1}, name="x" * 80))["metadata"]["name"] == "x" * 63


def test_other_options() -> None:
    spec = made(
        "pods",
        pod(),
        cluster_ip="None",
        external_ip="192.0.2.1",
        type="LoadBalancer",
        load_balancer_ip="192.0.2.2",
        session_affinity="ClientIP",
    )["spec"]
    assert spec == {
        "selector": LABELS,
        "externalIPs": ["192.0.2.1"],
        "type": "LoadBalancer",
        "loadBalancerIP": "192.0.2.2",
        "sessionAffinity": "ClientIP",
        "clusterIP": "None",
    }


@pytest.mark.parametrize(
    ("obj", "asked", "message"),
    [
        (pod(), {}, "declares no port"),
        (pod(labels={}), {"port": "80"}, "has no labels"),
        (pod(), {"port": "http"}, '--port: "http" is not a number'),
        (pod(), {"port": "80,"}, '--port: "" is not a number'),
        (pod(), {"port": "80", "labels": "app"}, '--labels: "app" is not KEY=VALUE'),
        (pod(), {"port": "80", "selector": "=x"}, '--selector: "=x" is not KEY=VALUE'),
    ],
)
def test_requests_that_are_refused(obj: Object, asked: dict[str, str], message: str) -> None:
    with pytest.raises(HatchwayError, match=message) as raised:
        made("pods", obj, **asked)
    assert raised.value.hint


def test_a_value_may_be_empty_but_has_one_equals_sign() -> None:
    assert parse_labels("-l", "a=,b=c") == {"a": "", "b": "c"}
    with pytest.raises(HatchwayError):
        parse_labels("-l", "a=b=c")
