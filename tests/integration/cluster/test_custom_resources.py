"""Custom resources with stock kubectl in a real cluster: use, owners, deletion of the type, and restarts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import Cluster, wait_for
from tests.integration.api.test_custom_types import definition


@pytest.fixture(scope="module")
def defined(make_cluster: Any) -> Cluster:
    cluster: Cluster = make_cluster("defined", "--nodes", "0", "--no-addons", "--network", "loopback")
    made = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", **definition()}
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(made))
    cluster.kubectl("wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s")
    return cluster


def widget(name: str, **metadata: Any) -> str:
    obj = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": name, **metadata},
        "spec": {"size": 2},
    }
    return json.dumps(obj)


def test_kubectl(defined: Cluster) -> None:
    defined.kubectl("apply", "-f", "-", stdin=widget("used"))
    assert defined.kubectl("get", "wi", "used", "--no-headers").split() == ["used", "2"]
    assert "size\t<integer> -required-" in defined.kubectl("explain", "widgets.spec")
    defined.kubectl("scale", "widget/used", "--replicas=4")
    assert defined.kubectl("get", "widget", "used", "-o", "jsonpath={.spec.size}") == "4"
    wrong = json.dumps({**json.loads(widget("wrong")), "spec": {"size": 9}})
    with pytest.raises(AssertionError, match="should be less than or equal to 5"):
        defined.kubectl("apply", "-f", "-", stdin=wrong)


def test_objects_follow_their_owners_and_namespaces(defined: Cluster) -> None:
    defined.kubectl("create", "namespace", "busy")
    defined.kubectl("apply", "-n", "busy", "-f", "-", stdin=widget("owner"))
    uid = defined.kubectl("get", "widget", "-n", "busy", "owner", "-o", "jsonpath={.metadata.uid}")
    owner = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "owner", "uid": uid}
    owned = {"name": "owned", "ownerReferences": [owner]}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": owned}
    defined.kubectl("apply", "-n", "busy", "-f", "-", stdin=json.dumps(config))
    defined.kubectl("delete", "widget", "-n", "busy", "owner")
    wait_for(lambda: "owned" not in defined.kubectl("get", "configmaps", "-n", "busy", "-o", "name"))
    defined.kubectl("apply", "-n", "busy", "-f", "-", stdin=widget("left"))
    defined.kubectl("delete", "namespace", "busy", "--timeout=60s")
    assert "busy" not in defined.kubectl("get", "widgets", "-A")


def test_custom_types_are_served_at_once_after_a_restart(defined: Cluster) -> None:
    defined.kubectl("apply", "-f", "-", stdin=widget("kept"))
    defined.hatchway("down")
    defined.hatchway("up", "--detach")
    assert "kept" in defined.kubectl("get", "widgets", "-o", "name")
    assert "v1.example.com" in defined.kubectl("get", "apiservices", "-o", "name")
    defined.kubectl("delete", "crd", "widgets.example.com", "--timeout=60s")
    wait_for(lambda: "v1.example.com" not in defined.kubectl("get", "apiservices", "-o", "name"))
