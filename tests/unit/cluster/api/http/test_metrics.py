"""Metrics of requests; clients cannot increase the number of series without limit."""

from __future__ import annotations

import re

from hatchway.cluster.api.http.metrics import RequestMetrics
from hatchway.cluster.api.http.requestinfo import parse
from hatchway.cluster.api.http.servicemetrics import ServiceMetrics
from hatchway.cluster.api.registry.types import Registry


def metrics() -> RequestMetrics:
    return RequestMetrics(Registry().rows)


def count(made: RequestMetrics, method: str, path: str, status: int) -> None:
    kind = made.kind(parse(method, path), long_running=False)
    kind.begin()
    kind.end(status, 0.003)


def sample(made: RequestMetrics, name: str) -> dict[str, str]:
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


def test_requests_in_progress() -> None:
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


def test_texts_of_clients_do_not_become_labels() -> None:
    made = metrics()
    for number in range(100):
        for path in (f"/apis/x{number}/v1/things", f"/api/v1/nodes/n/sub{number}", f"/nothing/{number}"):
            count(made, f"VERB{number}", path, 404)
    made.refused(401)
    assert len(sample(made, "apiserver_request_total")) <= 2
    assert "things" not in made.text().decode()
    assert sample(made, "apiserver_rejected_requests_total") == {'apiserver_rejected_requests_total{code="401"}': "1"}


def test_proxied_requests_are_counted_by_service() -> None:
    services = {("shop", "web"), ("shop", "https")}
    made = RequestMetrics(Registry().rows, ServiceMetrics(lambda *key: key in services))

    def proxied(name: str, status: int, seconds: float) -> None:
        info = parse("GET", f"/api/v1/namespaces/shop/services/{name}/proxy/a")
        kind = made.kind(info, long_running=True)
        kind.begin()
        kind.end(status, seconds)

    for name, status, seconds in (
        ("web", 200, 0.003), ("https:web:http", 200, 0.3), ("web:80", 502, 0.003), ("web", 101, 3600), ("https:x", 200, 1),
        ("none", 404, 0.001), ("a:b:c:d", 400, 0.001),
    ):  # fmt: skip
        proxied(name, status, seconds)
    web = 'hatchway_proxy_requests_total{namespace="shop",service="web",code='
    assert sample(made, "hatchway_proxy_requests_total") == {
        f'{web}"101"}}': "1", f'{web}"200"}}': "2", f'{web}"502"}}': "1",
        'hatchway_proxy_requests_total{namespace="shop",service="https",code="200"}': "1",
    }  # fmt: skip
    buckets = sample(made, "hatchway_proxy_request_duration_seconds_bucket")
    of_web = [int(value) for key, value in buckets.items() if 'service="web"' in key]
    assert of_web[-1] == 3 and of_web == sorted(of_web), "an upgraded connection has no duration"
    counted = sample(made, "apiserver_request_total")
    assert sum(int(value) for key, value in counted.items() if 'subresource="proxy"' in key) == 7
    services.discard(("shop", "web"))
    assert len(sample(made, "hatchway_proxy_requests_total")) == 1, "a Service that is gone is forgotten"


def test_every_line_is_prometheus_text() -> None:
    made = RequestMetrics(Registry().rows, ServiceMetrics(lambda namespace, name: True))
    count(made, "GET", "/version", 200)
    count(made, "GET", "/api/v1/namespaces/a/services/b/proxy/", 200)
    line = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\n]*"(,[a-z_]+="[^"\n]*")*\})? [0-9.e+-]+')
    for one in made.text().decode().splitlines():
        assert one.startswith(("# HELP ", "# TYPE ")) or line.fullmatch(one), one
