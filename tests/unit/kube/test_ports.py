"""Ports: their protocols, the default port, and their names."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.kube.ports import Port, default_port, is_http, ports, scheme_of


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
        (Port("", 4317), "", False),
        (Port("odd", 7777), "", None),
    ],
)
def test_schemes(port: Port, scheme: str, http: bool | None) -> None:
    assert scheme_of(port) == scheme
    assert is_http(port) is http


def test_ports_of_a_service_and_of_a_pod() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": "web", "name": "a"}, {"port": 53, "protocol": "UDP"}]}}
    assert ports(service) == [Port("a", 80, "TCP", "", "web"), Port("", 53, "UDP")]
    pod: dict[str, Any] = {"spec": {"containers": [{"ports": [{"containerPort": 8080}]}, {"ports": None}, {}]}}
    assert ports(pod) == [Port("", 8080)]
    sidecar = {"restartPolicy": "Always", "ports": [{"name": "admin", "containerPort": 9901}]}
    pod["spec"]["initContainers"] = [sidecar, {"ports": [{"containerPort": 1}]}]
    assert ports(pod) == [Port("", 8080), Port("admin", 9901)]
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
def test_the_default_port(found: list[Port], meant: int | None) -> None:
    port = default_port(found)
    assert (port.number if port else None) == meant
