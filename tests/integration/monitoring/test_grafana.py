"""The requests of Grafana's Prometheus data source (`pkg/promlib` and `packages/grafana-prometheus`)."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.integration.monitoring.programs import Monitoring, metrics_server, monitoring

_METRICS = b"""# HELP visits_total Visits of pages.
# TYPE visits_total counter
visits_total{page="/"} 5
visits_total{page="/cart"} 7
# TYPE wait_seconds histogram
wait_seconds_bucket{le="0.1"} 3
wait_seconds_bucket{le="+Inf"} 4
wait_seconds_sum 0.5
wait_seconds_count 4
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    with (
        metrics_server(_METRICS) as server,
        monitoring(tmp_path_factory.mktemp("store"), f"shop=http://{server.address}") as running,
    ):
        running.wait_for("visits_total offset 1s")
        yield running


@pytest.mark.parametrize("form", [True, False], ids=["POST", "GET"])
def test_save_and_test_succeeds(source: Monitoring, form: bool) -> None:
    found = source.ask("/api/v1/query", form=form, query="1+1", time="4")
    assert found == {"status": "success", "data": {"resultType": "scalar", "result": [4, "2"]}}
    build = source.ask("/api/v1/status/buildinfo")
    # With `features` Grafana would take the server for Mimir.
    assert build["data"]["version"].split(".")[0] == "2" and "features" not in build["data"]


@pytest.mark.parametrize("form", [True, False], ids=["POST", "GET"])
def test_requests_of_panels(source: Monitoring, form: bool) -> None:
    end = time.time()
    # Grafana sends fractional times, a step in seconds, and sometimes a timeout.
    asked = {"start": f"{end - 60:.3f}", "end": f"{end:.3f}", "step": "15", "timeout": "30s"}
    found = source.ask("/api/v1/query_range", form=form, query="visits_total", **asked)
    assert [one["metric"]["page"] for one in found["data"]["result"]] == ["/", "/cart"]
    query = "histogram_quantile(0.95, sum by (le) (rate(wait_seconds_bucket[15s])))"
    assert source.ask("/api/v1/query_range", form=form, query=query, **asked)["data"]["resultType"] == "matrix"
    assert source.ask("/api/v1/query", form=form, query="visits_total", time=f"{end:.3f}")["status"] == "success"
    exemplars = source.ask("/api/v1/query_exemplars", form=form, query="visits_total", start=end - 60, end=end)
    assert exemplars == {"status": "success", "data": []}


def test_the_query_editor_lists_metrics_and_labels(source: Monitoring) -> None:
    end = int(time.time()) + 60
    span = {"start": end - 3600, "end": end, "limit": 40000}
    names = source.ask("/api/v1/label/__name__/values", **span)["data"]
    assert {"visits_total", "wait_seconds_bucket", "up"} <= set(names)
    assert {"__name__", "job", "instance", "page", "le"} <= set(source.ask("/api/v1/labels", form=True, **span)["data"])
    of_visits = source.ask("/api/v1/labels", form=True, **span, **{"match[]": '{__name__="visits_total"}'})
    assert of_visits["data"] == ["__name__", "instance", "job", "page"]
    pages = source.ask("/api/v1/label/page/values", **span, **{"match[]": "visits_total"})
    assert pages["data"] == ["/", "/cart"]
    assert source.ask("/api/v1/metadata")["data"]["visits_total"] == [
        {"type": "counter", "help": "Visits of pages.", "unit": ""}
    ]
    series = source.ask("/api/v1/series", form=True, **span, **{"match[]": '{__name__=~"visits.+"}'})
    assert len(series["data"]) == 2 and "warnings" not in series


def test_limits(source: Monitoring) -> None:
    """A result over the limit is cut, with a warning, as in Prometheus 3."""
    cut = ["results truncated due to limit"]
    end = time.time()
    for path, more, whole in (
        ("/api/v1/series", {"match[]": "visits_total"}, 2),
        ("/api/v1/labels", {}, 5),
        ("/api/v1/label/page/values", {}, 2),
    ):
        found = source.ask(path, limit=1, **more)
        assert (len(found["data"]), found["warnings"]) == (1, cut), path
        found = source.ask(path, limit=0, **more)
        assert len(found["data"]) >= whole and "warnings" not in found, path
    for path, times in (("/api/v1/query", {}), ("/api/v1/query_range", {"start": end - 60, "end": end, "step": 15})):
        found = source.ask(path, query="visits_total", limit=1, **times)
        assert (len(found["data"]["result"]), found["warnings"]) == (1, cut), path
        assert "warnings" not in source.ask(path, query="visits_total", limit=2, **times), path
        assert source.ask(path, query="sum(visits_total)", limit="x", **times)["errorType"] == "bad_data"
        assert source.ask(path, query="sum(visits_total)", limit="-1", **times)["errorType"] == "bad_data"


def test_alerting_pages_find_no_rules(source: Monitoring) -> None:
    assert source.ask("/api/v1/rules")["data"] == {"groups": []}
    assert source.ask("/api/v1/alerts")["data"] == {"alerts": []}
