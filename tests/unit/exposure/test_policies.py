"""The effects of NetworkPolicies, as the documentation of Kubernetes describes them."""

from __future__ import annotations

from typing import Any

import pytest

from hatchway.exposure.policies import PolicyIndex
from hatchway.exposure.ranges import EVERYWHERE, NOWHERE, AddressSet
from hatchway.exposure.snapshot import ObservedPod
from hatchway.kube.api import Object


def pod(namespace: str = "shop", *, host_network: bool = False, **labels: str) -> ObservedPod:
    ports = [{"name": "http", "containerPort": 8080}, {"name": "dns", "containerPort": 53, "protocol": "UDP"}]
    return ObservedPod.of(
        {
            "metadata": {"name": "p", "namespace": namespace, "labels": labels},
            "spec": {"containers": [{"ports": ports}], "hostNetwork": host_network},
        }
    )


def policy(*rules: object, namespace: str = "shop", **spec: Any) -> Object:
    return {"metadata": {"name": "p", "namespace": namespace}, "spec": {"ingress": list(rules), **spec}}


def sources(found: list[Object], port: int = 8080, protocol: str = "TCP", **labels: str) -> AddressSet:
    return PolicyIndex(found, {}).admission(pod(**labels), port, protocol).sources


WEB = {"podSelector": {"matchLabels": {"app": "web"}}}


def test_a_pod_that_no_policy_selects_is_open() -> None:
    assert sources([]) == EVERYWHERE
    assert sources([policy(namespace="other")]) == EVERYWHERE
    assert sources([policy(**WEB)], app="db") == EVERYWHERE
    assert sources([policy(policyTypes=["Egress"])]) == EVERYWHERE


def test_a_selected_pod_is_open_only_to_peers_that_rules_admit() -> None:
    assert sources([policy(**WEB)], app="web") == NOWHERE
    assert sources([policy()]) == NOWHERE
    assert sources([policy({})]) == EVERYWHERE
    assert sources([policy({"from": []})]) == EVERYWHERE
    assert sources([policy(), policy({"from": [{"ipBlock": {"cidr": "192.0.2.0/24"}}]})]) == AddressSet.parse(
        ["192.0.2.0/24"]
    )


def test_blocks_have_exceptions() -> None:
    found = sources([policy({"from": [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/25"]}}]})])
    assert found == AddressSet.parse(["192.0.2.128/25"])
    # A second rule may allow addresses that the first rule excludes.
    both = [{"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.0/25"]}}, {"ipBlock": {"cidr": "192.0.2.1/32"}}]
    assert sources([policy({"from": both})]) == AddressSet.parse(["192.0.2.128/25", "192.0.2.1"])


@pytest.mark.parametrize(
    ("ports", "port", "protocol", "admitted"),
    [
        ([], 8080, "TCP", True),
        ([{"port": 8080}], 8080, "TCP", True),
        ([{"port": 8080}], 8081, "TCP", False),
        ([{"port": 8080}], 8080, "UDP", False),
        ([{"port": "http"}], 8080, "TCP", True),
        ([{"port": "http"}], 8081, "TCP", False),
        ([{"port": "dns"}], 53, "TCP", False),
        ([{"port": "dns", "protocol": "UDP"}], 53, "UDP", True),
        ([{"port": 8000, "endPort": 8080}], 8080, "TCP", True),
        ([{"port": 8000, "endPort": 8079}], 8080, "TCP", False),
        ([{"protocol": "UDP"}], 8080, "TCP", False),
        ([{}], 8080, "TCP", True),
        ([{"port": 1}, {"port": 8080}], 8080, "TCP", True),
    ],
)
def test_ports(ports: list[dict[str, Any]], port: int, protocol: str, admitted: bool) -> None:
    assert bool(sources([policy({"ports": ports})], port, protocol)) is admitted


def test_peers_selected_by_labels_are_pods_and_not_addresses() -> None:
    namespaces = {"shop": {"team": "red"}, "other": {"team": "blue"}}
    peers = {
        "own": {"podSelector": {}},
        "blue": {"namespaceSelector": {"matchLabels": {"team": "blue"}}},
        "blue web": {"namespaceSelector": {"matchLabels": {"team": "blue"}}, **WEB},
        "by name": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "other"}}},
    }

    def admits(peer: str, one: ObservedPod) -> bool:
        found = PolicyIndex([policy({"from": [peers[peer]]})], namespaces).admission(pod(), 8080)
        assert found.sources == NOWHERE
        return found.admits(one)

    assert admits("own", pod())
    assert not admits("own", pod("other"))
    assert admits("blue", pod("other"))
    assert not admits("blue", pod())
    assert admits("blue web", pod("other", app="web"))
    assert not admits("blue web", pod("other", app="db"))
    assert admits("by name", pod("other"))
    # If the labels of a namespace may not be read, any label is possible.
    assert admits("blue", pod("unread"))


def test_policies_do_not_protect_pods_in_the_nodes_network() -> None:
    index = PolicyIndex([policy()], {})
    assert index.admission(pod(host_network=True), 8080).sources == EVERYWHERE


def test_an_invalid_policy_protects_nothing() -> None:
    broken = policy(podSelector={"matchExpressions": [{"values": ["x"]}]})
    assert sources([broken]) == EVERYWHERE
