"""The metrics server without sockets: selectors, the text format, usage computed from counters, and the API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hatchway.addons.metrics.exposition import line, parse
from hatchway.addons.metrics.metricsapi import MetricsApi
from hatchway.addons.metrics.selection import FieldSelection, LabelSelection
from hatchway.addons.metrics.usage import METRICS, AverageUsage, UsageStore
from hatchway.proxy.routing import Peer, RequestHead

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web,tier!=db", True),
        ("app in (web, api),!gone", True),
        ("app notin (web)", False),
        ("tier", False),
        ("app,size>3", True),
        ("size<3", False),
        ("missing=", False),
    ],
)
def test_labels_are_selected(selector: str, expected: bool) -> None:
    assert LabelSelection(selector).matches({"app": "web", "size": "10"}) is expected


@pytest.mark.parametrize("selector", ["=", "a b", "a in b", "a=b,", ",", "a in (b"])
def test_bad_label_selectors_are_refused(selector: str) -> None:
    with pytest.raises(ValueError, match="unable to parse requirement"):
        LabelSelection(selector)


@given(st.text(max_size=40))
def test_any_text_is_a_selector_or_is_refused(text: str) -> None:
    try:
        assert LabelSelection(text).matches({}) in (True, False)
    except ValueError as error:
        assert "requirement" in str(error)


def test_fields_are_selected() -> None:
    assert FieldSelection("metadata.namespace=a,metadata.name!=x").matches("a", "y")
    assert not FieldSelection("metadata.name=x").matches("a", "y")
    with pytest.raises(ValueError, match=r"field label not supported: spec\.nodeName"):
        FieldSelection("spec.nodeName=n")


@given(st.text(max_size=30), st.floats(allow_nan=False))
def test_a_written_sample_is_read_back(value: str, number: float) -> None:
    # Line separators other than "\n" are never in names of objects.
    value = "".join(one for one in value if one.isprintable() or one == "\n")
    (sample,) = parse(line("a_total", {"x": value, "y": "2"}, number), frozenset(("a_total",)))
    assert (sample.labels, sample.value, sample.time) == ({"x": value, "y": "2"}, number, None)


@given(st.text(max_size=200))
def test_any_text_of_a_kubelet_is_accepted(text: str) -> None:
    list(parse(f"a {text}\na{{{text}\n{text}", frozenset("a")))


def scrape(cpu: float, at: float, started: float = 0.0, container: str = "web") -> list[Any]:
    labels = f'{{container="{container}",namespace="a",pod="p"}}'
    text = f"""
node_cpu_usage_seconds_total {cpu * 2} {at * 1000:.0f}
node_memory_working_set_bytes 1048576 {at * 1000:.0f}
container_cpu_usage_seconds_total{labels} {cpu} {at * 1000:.0f}
container_memory_working_set_bytes{labels} 2048000 {at * 1000:.0f}
container_start_time_seconds{labels} {started} {at * 1000:.0f}
other_metric 1
"""
    return list(parse(text, METRICS))


KEY = ("a", "p", "web")


def test_usage_is_the_rate_between_two_scrapes() -> None:
    store = UsageStore()
    store.add("n", scrape(10, 1000), 1000)
    assert store.container("n", KEY, 1001) is None
    store.add("n", scrape(13, 1015), 1015)
    assert store.container("n", KEY, 1016) == AverageUsage(0.2, 2048000.0, 1015.0, 15.0)
    node = store.node("n", 1016)
    assert node is not None
    assert (node.cpu, node.memory) == (0.4, 1048576.0)
    # There is no usage of a node that has not answered for a minute.
    assert store.container("n", KEY, 1015 + 61) is None


def test_a_new_container_has_usage_from_its_start() -> None:
    store = UsageStore()
    store.add("n", scrape(2, 1010, started=1006), 1010)
    assert store.container("n", KEY, 1010) == AverageUsage(0.5, 2048000.0, 1010.0, 4.0)


def test_usage_after_a_restart_ignores_earlier_samples() -> None:
    store = UsageStore()
    store.add("n", scrape(100, 1000, started=900), 1000)
    store.add("n", scrape(101, 1015, started=900), 1015)
    store.add("n", scrape(1, 1030, started=1025), 1030)
    assert store.container("n", KEY, 1030) == AverageUsage(0.2, 2048000.0, 1030.0, 5.0)


def test_containers_that_are_gone_are_forgotten() -> None:
    store = UsageStore()
    store.add("n", scrape(2, 1010, started=1006), 1010)
    store.add("n", scrape(2, 1025, started=1020, container="other"), 1025)
    assert store.container("n", KEY, 1025) is None
    store.forget("n")
    assert store.node("n", 1025) is None


def pod(name: str, phase: str = "Running", state: str = "running") -> dict[str, Any]:
    status = {"phase": phase, "containerStatuses": [{"name": "web", "state": {state: {}}}]}
    metadata = {"namespace": "a", "name": name, "labels": {"app": name}}
    return {"metadata": metadata, "spec": {"nodeName": "n"}, "status": status}


def api() -> MetricsApi:
    store = UsageStore()
    store.add("n", scrape(10, 1000), 1000)
    store.add("n", scrape(13, 1015), 1015)
    nodes = {("", "n"): {"metadata": {"name": "n", "labels": {"os": "linux"}}}}
    pods = {("a", "p"): pod("p"), ("a", "done"): pod("done", "Succeeded"), ("a", "new"): pod("new")}
    return MetricsApi(store, nodes, pods, lambda: True, lambda: 1016.0)


def get(path: str, accept: str = "application/json", method: str = "GET", certificate: bytes | None = b"x") -> Any:
    target = path.encode()
    bare, _, query = target.partition(b"?")
    peer = Peer(("10.0.0.1", 1), "https", certificate)
    headers = [(b"Accept", accept.encode())]
    answer = api().route(RequestHead(method, target, bare, query or None, headers, "1.1", peer))
    return answer.status, json.loads(answer.body)


ROOT = "/apis/metrics.k8s.io/v1beta1"


def test_pods_show_their_containers() -> None:
    status, found = get(f"{ROOT}/namespaces/a/pods")
    assert (status, found["kind"]) == (200, "PodMetricsList")
    (item,) = found["items"]
    assert item["containers"] == [{"name": "web", "usage": {"cpu": "200000000n", "memory": "2000Ki"}}]
    assert (item["window"], item["timestamp"]) == ("15s", "1970-01-01T00:16:55Z")
    assert get(f"{ROOT}/namespaces/a/pods/p")[1]["metadata"]["labels"] == {"app": "p"}


@pytest.mark.parametrize(
    ("query", "names"),
    [("labelSelector=app%3Dp", ["p"]), ("labelSelector=app%21%3Dp", []), ("fieldSelector=metadata.name%3Dx", [])],
)
def test_lists_can_be_filtered(query: str, names: list[str]) -> None:
    assert [one["metadata"]["name"] for one in get(f"{ROOT}/pods?{query}")[1]["items"]] == names


def test_nodes_show_their_usage() -> None:
    _, found = get(f"{ROOT}/nodes/n")
    assert (found["kind"], found["usage"]) == ("NodeMetrics", {"cpu": "400000000n", "memory": "1024Ki"})


def test_tables_for_kubectl_get() -> None:
    _, found = get(f"{ROOT}/pods", TABLE)
    assert [column["name"] for column in found["columnDefinitions"]] == ["Name", "cpu", "memory", "Window"]
    assert found["rows"][0]["cells"] == ["p", "200000000n", "2000Ki", "15s"]


def test_errors_are_statuses() -> None:
    status, found = get(f"{ROOT}/namespaces/a/pods/new")
    assert (status, found["message"]) == (404, 'pods.metrics.k8s.io "a/new" not found')
    assert get(f"{ROOT}/pods?labelSelector=%3D")[0] == 400
    assert get(f"{ROOT}/pods", method="POST")[0] == 405
    assert get(f"{ROOT}/pods?watch=1")[0] == 405
    assert get(f"{ROOT}/secrets")[0] == 404


def test_other_clients_than_the_api_server_are_refused() -> None:
    status, found = get(f"{ROOT}/pods", certificate=None)
    assert (status, found["reason"]) == (401, "Unauthorized")


def test_discovery() -> None:
    names = [one["name"] for one in get(ROOT)[1]["resources"]]
    assert names == ["nodes", "pods"]
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    assert get("/apis", accept)[1]["items"][0]["metadata"]["name"] == "metrics.k8s.io"
    assert get("/apis")[1]["kind"] == "APIGroupList"
    paths = get("/openapi/v3")[1]["paths"]
    document = get(paths["apis/metrics.k8s.io/v1beta1"]["serverRelativeURL"])[1]
    assert f"{ROOT}/namespaces/{{namespace}}/pods/{{name}}" in document["paths"]
