"""Discovery of scrape targets from the objects of a cluster."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hatchway.addons.monitoring.scrape.discovery import TargetDiscovery, is_scrapable, wish_of
from hatchway.kube.client import ConnectionClient
from hatchway.kube.http import HttpClient


def _object(name: str, notes: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    annotations = {f"prometheus.io/{key}": value for key, value in (notes or {}).items()}
    return {"metadata": {"name": name, "namespace": "shop", "annotations": annotations}, **more}


def _pod(name: str, notes: dict[str, str], ip: str = "10.244.1.5", phase: str = "Running") -> dict[str, Any]:
    ports = [{"containerPort": 8080, "name": "http"}, {"containerPort": 53, "protocol": "UDP"}]
    containers = [{"name": "web", "ports": ports}, {"name": "side", "ports": [{"containerPort": 9000}]}]
    return _object(name, notes, spec={"nodeName": "n1", "containers": containers}, status={"podIP": ip, "phase": phase})


def _targets(**objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the labels of the targets by URL, without the API server."""
    discovery = TargetDiscovery(cast(ConnectionClient, None), HttpClient(), lambda targets: None)
    for kind, some in objects.items():
        informer = getattr(discovery, f"_{kind}")
        informer.items.update({(one["metadata"].get("namespace", ""), one["metadata"]["name"]): one for one in some})
    found = {target.url: dict(target.labels) for target in discovery.targets()}
    assert found.pop("https://kubernetes.default.svc:443/metrics")["job"] == "apiserver"
    return found


async def test_a_pod_with_the_annotation_is_a_target_at_each_port() -> None:
    found = _targets(pods=[_pod("web-1", {"scrape": "true"}), _pod("other", {}), _pod("no", {"scrape": "false"})])
    common = {"job": "kubernetes-pods", "namespace": "shop", "pod": "web-1", "node": "n1"}
    assert found == {
        "http://10.244.1.5:8080/metrics": {**common, "instance": "10.244.1.5:8080", "container": "web"},
        "http://10.244.1.5:9000/metrics": {**common, "instance": "10.244.1.5:9000", "container": "side"},
    }


async def test_port_path_and_scheme_can_be_chosen() -> None:
    notes = {"scrape": "true", "port": "9000", "path": "stats?format=prometheus", "scheme": "https"}
    found = _targets(pods=[_pod("web-1", notes), _pod("ends", {"scrape": "true"}, phase="Succeeded")])
    assert list(found) == ["https://10.244.1.5:9000/stats?format=prometheus"]
    assert found["https://10.244.1.5:9000/stats?format=prometheus"]["container"] == "side"


async def test_each_endpoint_of_a_service_is_one_target() -> None:
    piece = {
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 53, "protocol": "UDP"}],
        "endpoints": [{"addresses": ["10.244.1.5"], "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-1"}}],
    }
    other = {**piece, "metadata": {**piece["metadata"], "name": "y", "namespace": "elsewhere"}}  # type: ignore[dict-item]
    service = _object("web", {"scrape": "true"})
    found = _targets(
        services=[service, _object("quiet")],
        slices=[piece, other],
        pods=[_pod("web-1", {"scrape": "true", "port": "8080"})],
    )
    assert found == {
        "http://10.244.1.5:8080/metrics": {
            "job": "web", "instance": "10.244.1.5:8080", "namespace": "shop", "service": "web", "pod": "web-1",
            "node": "n1", "endpoint": "http",
        }
    }  # fmt: skip


async def test_only_the_clusters_own_state_metrics_keep_their_labels() -> None:
    """A user who may create a Service in one namespace cannot add series that claim to be of another namespace."""
    honored = {}
    for namespace, name in (
        ("kube-system", "kube-state-metrics"),
        ("shop", "kube-state-metrics"),
        ("kube-system", "x"),
    ):
        discovery = TargetDiscovery(cast(ConnectionClient, None), HttpClient(), lambda targets: None)
        service = _object(name, {"scrape": "true"})
        piece = {
            "metadata": {"name": "s", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.5"]}],
        }
        discovery._services.items[namespace, name] = {
            **service,
            "metadata": {**service["metadata"], "namespace": namespace},
        }
        discovery._slices.items[namespace, "s"] = piece
        _, found = discovery.targets()
        honored[namespace, name] = found.honor_labels
    assert [key for key, honor in honored.items() if honor] == [("kube-system", "kube-state-metrics")]


def _leading(namespace: str, address: str, name: str = "web", ports: int = 1) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a Service with the annotation, and its EndpointSlice with the given address."""
    service = _object(name, {"scrape": "true"})
    service["metadata"]["namespace"] = namespace
    meta = {"name": f"{name}-x", "namespace": namespace, "labels": {"kubernetes.io/service-name": name}}
    numbers = [{"name": f"p{port}", "port": port} for port in range(8080, 8080 + ports)]
    return service, {"metadata": meta, "ports": numbers, "endpoints": [{"addresses": [address]}]}


async def test_a_service_does_not_take_the_target_of_another_namespace() -> None:
    service, piece = _leading("evil", "10.244.1.5")
    targets = TargetDiscovery(cast(ConnectionClient, None), HttpClient(), lambda targets: None)
    for informer, obj in ((targets._services, service), (targets._slices, piece)):
        informer.items[obj["metadata"]["namespace"], obj["metadata"]["name"]] = obj
    targets._pods.items["shop", "web-1"] = _pod("web-1", {"scrape": "true", "port": "8080"})
    found = {dict(target.labels).get("namespace") for target in targets.targets() if ":8080" in target.url}
    assert found == {"evil", "shop"}


@pytest.mark.parametrize("name", ["apiserver", "kubelet", "kubernetes-pods", "kube-state-metrics"])
async def test_a_namespace_has_a_limited_number_of_targets_and_cannot_use_the_clusters_job_names(name: str) -> None:
    service, piece = _leading("evil", "10.244.1.5", name, ports=2000)
    found = _targets(services=[service], slices=[piece], pods=[_pod("web-1", {"scrape": "true"}, "10.244.1.6")])
    assert sum(labels["namespace"] == "evil" for labels in found.values()) == 300
    assert {labels["job"] for labels in found.values()} == {f"evil/{name}", "kubernetes-pods"}


async def test_kubelets_are_scraped_through_the_api_server() -> None:
    node = {
        "metadata": {"name": "n1"},
        "status": {
            "addresses": [{"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "10.64.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        },
    }
    found = _targets(nodes=[node])
    assert list(found) == ["https://10.64.0.1:10250/metrics", "https://10.64.0.1:10250/metrics/cadvisor"]
    assert found["https://10.64.0.1:10250/metrics/cadvisor"] == {
        "job": "kubelet", "instance": "10.64.0.1:10250", "node": "n1", "metrics_path": "/metrics/cadvisor",
    }  # fmt: skip


@pytest.mark.parametrize(
    "notes",
    [
        {"port": "0x50"}, {"port": "70000"}, {"port": "-1"}, {"port": "٣"}, {"path": "/a b"}, {"path": "/a\r\nHost: x"},
        {"scheme": "file"}, {"path": "/" + "x" * 5000}, {"path": "/ü"},
    ],
)  # fmt: skip
def test_malformed_annotations_give_no_target(notes: dict[str, str]) -> None:
    assert wish_of(_object("p", {"scrape": "true", **notes})) is None


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("10.1.2.3", True), ("fd00::1", True), ("8.8.8.8", True), ("127.64.3.4", True), ("127.0.0.1", False),
        ("::1", False), ("169.254.169.254", False), ("fe80::1", False), ("224.0.0.1", False), ("0.0.0.0", False),
        ("example.com", False), ("10.1", False), ("", False),
    ],
)  # fmt: skip
def test_an_endpoint_cannot_lead_to_this_machine_or_its_metadata_service(address: str, good: bool) -> None:
    assert is_scrapable(address) is good
