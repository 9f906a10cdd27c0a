"""Environments: expansion, sources, services, quantities, the downward API."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.cluster.node.downward import FieldError, field_value, resource_value
from hatchway.cluster.node.env import ConfigError, Environment, expand, service_environment
from hatchway.cluster.quantity import ceil_divide, parse_quantity
from hatchway.kube.api import Object

POD: Object = {
    "metadata": {
        "name": "web-0",
        "namespace": "shop",
        "uid": "u1",
        "labels": {"b": 'say "hi"', "a": "1\n2"},
        "annotations": {"x.io/y": "z"},
    },
    "spec": {"nodeName": "node-1", "serviceAccountName": "clerk", "containers": [{"name": "other", "resources": {}}]},
}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$(NOPE) $A ${A} $", "$(NOPE) $A ${A} $"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("$($(A))", "$($(A))"),
        ("$(A)$(A)", "11"),
    ],
)
def test_expansion_follows_kubernetes(text: str, wanted: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == wanted


@given(st.text(alphabet="$()AB x"))
def test_doubled_dollar_signs_protect_any_text(text: str) -> None:
    assert expand(text.replace("$", "$$"), {"A": "1", "B": "2"}) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("500m", "1/2"),
        ("1Ki", "1024"),
        ("2", "2"),
        ("1.5Gi", "1610612736"),
        ("1e3", "1000"),
        ("1E", str(10**18)),
        (".5", "1/2"),
    ],
)
def test_quantities(text: str, wanted: str) -> None:
    assert str(parse_quantity(text)) == wanted


@pytest.mark.parametrize("text", ["", "1 Gi", "Gi", "1gi", "0x1", "--1", "1e9999"])
def test_invalid_quantities(text: str) -> None:
    with pytest.raises(ValueError, match="quantity"):
        parse_quantity(text)


def test_the_downward_api_rounds_up() -> None:
    assert ceil_divide(parse_quantity("1500m"), parse_quantity("1")) == 2
    reference = {"resource": "limits.memory", "divisor": "1Mi"}
    assert resource_value({"resources": {"limits": {"memory": "100Ki"}}}, reference, {}) == "1"
    assert resource_value({}, {"resource": "limits.cpu"}, {"cpu": "4"}) == "4"
    assert resource_value({}, {"resource": "requests.cpu"}, {"cpu": "4"}) == "0"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("metadata.name", "web-0"),
        ("metadata.labels['a']", "1\n2"),
        ("metadata.labels", 'a="1\\n2"\nb="say \\"hi\\""'),
        ("metadata.annotations['x.io/y']", "z"),
        ("metadata.annotations['none']", ""),
        ("spec.serviceAccountName", "clerk"),
        ("status.podIP", "10.0.0.9"),
        ("status.hostIP", "172.18.0.3"),
    ],
)
def test_fields(path: str, wanted: str) -> None:
    assert field_value(POD, path, host_ip="172.18.0.3", pod_ip="10.0.0.9") == wanted


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(FieldError, match=r"spec\.containers"):
        field_value(POD, "spec.containers", host_ip="", pod_ip="")


OBJECTS: dict[tuple[str, str], Object] = {
    ("configmaps", "cm"): {"data": {"A": "1", "b-c": "2", "bad=": "3"}},
    ("secrets", "sec"): {"data": {"pw": base64.b64encode(b"hunter2").decode()}},
}


async def build(container: Object, skipped: list[tuple[str, list[str]]] | None = None) -> dict[str, str]:
    async def get(resource: str, namespace: str, name: str) -> Object | None:
        assert namespace == "shop"
        return OBJECTS.get((resource, name))

    environment = Environment(
        POD,
        get,
        base={"PATH": "/bin"},
        services={"WEB_SERVICE_HOST": "10.96.0.7", "A": "of the service"},
        host_ip="172.18.0.3",
        pod_ip="10.0.0.9",
        allocatable={"cpu": "4"},
        skipped=lambda source, keys: skipped.append((source, keys)) if skipped is not None else None,
    )
    return await environment.build({"name": "c", **container})


async def test_variables_can_use_earlier_ones_and_override_services() -> None:
    skipped: list[tuple[str, list[str]]] = []
    container: Object = {
        "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "sec"}}],
        "env": [
            {"name": "X", "value": "$(P_A)-$(WEB_SERVICE_HOST)-$(LATER)"},
            {"name": "LATER", "value": "$(X)"},
            {"name": "A", "value": "own"},
            {"name": "EMPTY"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "pw"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "z", "optional": True}}},
        ],
    }
    found = await build(container, skipped)
    assert found == {
        "PATH": "/bin",
        "WEB_SERVICE_HOST": "10.96.0.7",
        "P_A": "1",
        "P_b-c": "2",
        "pw": "hunter2",
        "X": "1-10.96.0.7-$(LATER)",
        "LATER": "1-10.96.0.7-$(LATER)",
        "A": "own",
        "EMPTY": "",
        "IP": "10.0.0.9",
        "PW": "hunter2",
    }
    assert skipped == [("configMap shop/cm", ["bad="])]


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"envFrom": [{"configMapRef": {"name": "no"}}]}, 'configmap "no" not found'),
        ({"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}, 'secret "no" not found'),
        (
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}}]},
            "couldn't find key k in ConfigMap shop/cm",
        ),
    ],
)
async def test_errors_name_missing_objects(container: Object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await build(container)
    assert str(caught.value) == message


async def test_an_optional_source_may_be_missing() -> None:
    found = await build({"envFrom": [{"configMapRef": {"name": "no", "optional": True}}]})
    assert set(found) == {"PATH", "WEB_SERVICE_HOST", "A"}


def service(name: str, namespace: str, ip: str, *ports: dict[str, Any]) -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": ip, "ports": list(ports)},
    }


def test_service_variables() -> None:
    services = [
        service("kubernetes", "default", "10.96.0.1", {"name": "https", "port": 443}),
        service("web-app", "shop", "10.96.0.7", {"port": 80}, {"name": "alt-x", "port": 53, "protocol": "UDP"}),
        service("headless", "shop", "None", {"port": 80}),
        service("elsewhere", "team", "10.96.0.8", {"port": 80}),
    ]
    found = service_environment(services, "shop", links=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "443"
    assert found["WEB_APP_SERVICE_PORT"] == "80"
    assert found["WEB_APP_SERVICE_PORT_ALT_X"] == "53"
    assert found["WEB_APP_PORT_53_UDP"] == "udp://10.96.0.7:53"
    assert not any(key.startswith(("HEADLESS", "ELSEWHERE")) for key in found)
    without = service_environment(services, "shop", links=False, api_server="https://127.0.0.1:6443")
    assert without["KUBERNETES_SERVICE_HOST"] == "127.0.0.1"
    assert without["KUBERNETES_SERVICE_PORT"] == "6443"
    assert not any(key.startswith("WEB") for key in without)
