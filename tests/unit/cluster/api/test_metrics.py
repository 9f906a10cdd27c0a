"""What is counted, and that clients cannot make it grow."""

from __future__ import annotations

import re

from hatchway.cluster.api.metrics import Metrics
from hatchway.cluster.api.registry import Registry
from hatchway.cluster.api.requestinfo import parse


def metrics() -> Metrics:
    return Metrics(Registry().rows)


def count(made: Metrics, method: str, path: str, status: int) -> None:
    kind = made.kind(parse(method, path), long_running=False)
    kind.begin()
    kind.end(status, 0.003)


def sample(made: Metrics, name: str) -> dict[str, str]:
    lines = made.text().decode().splitlines()
    return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines if line.startswith(name + "{")}


def test_requests_are_counted_by_verb_resource_and_status() -> None:
    made = metrics()
    for status in (200, 200, 404):
        count(made, "GET", "/api/v1/namespaces/a/pods/b", status)
    labels = 'verb="GET",group="",version="v1",resource="pods",subresource=""'
    assert sample(made, "apiserver_request_total") == {
        f'apiserver_request_total{{{labels},code="200"}}': "2",
        f'apiserver_request_total{{{labels},code="404"}}': "1",
    }
    buckets = sample(made, "apiserver_request_duration_seconds_bucket")
    assert buckets[f'apiserver_request_duration_seconds_bucket{{{labels},le="+Inf"}}'] == "3"
    counts = [int(value) for value in buckets.values()]
    assert counts == sorted(counts)


def test_what_is_under_way() -> None:
    made = metrics()
    watch = made.kind(parse("GET", "/api/v1/pods", b"watch=1"), long_running=True)
    write = made.kind(parse("POST", "/api/v1/namespaces/a/pods"), long_running=False)
    watch.begin()
    write.begin()
    assert list(sample(made, "apiserver_registered_watchers").values()) == ["1"]
    assert made.in_flight == [0, 1]
    watch.end(200, 9.0)
    write.end(201, 0.1)
    assert sample(made, "apiserver_registered_watchers") == {}
    assert made.in_flight == [0, 0]


def test_what_clients_write_is_no_label() -> None:
    made = metrics()
    for number in range(100):
        for path in (f"/apis/x{number}/v1/things", f"/api/v1/nodes/n/sub{number}", f"/nothing/{number}"):
            count(made, f"VERB{number}", path, 404)
    made.refused(401)
    assert len(sample(made, "apiserver_request_total")) <= 2
    assert "things" not in made.text().decode()
    assert sample(made, "apiserver_rejected_requests_total") == {'apiserver_rejected_requests_total{code="401"}': "1"}


def test_every_line_is_prometheus_text() -> None:
    made = metrics()
    count(made, "GET", "/version", 200)
    line = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+-]+')
    for one in made.text().decode().splitlines():
        assert one.startswith(("# HELP ", "# TYPE ")) or line.fullmatch(one), one
