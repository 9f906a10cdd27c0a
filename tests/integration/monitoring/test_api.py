"""The HTTP API gives recorded answers of Prometheus: errors, times, series, labels, and Grafana's requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import pytest

from hatchway.addons.monitoring.__main__ import error_body
from hatchway.addons.monitoring.httpapi.app import make_app
from hatchway.addons.monitoring.httpapi.workers import QueryWorkers
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore
from hatchway.proxy.routing import App
from hatchway.proxy.server import serve
from tests.unit.addons.monitoring import answers, dataset


@contextlib.asynccontextmanager
async def _serving(store: TimeSeriesStore) -> AsyncIterator[str]:
    workers = QueryWorkers()
    app = App(make_app(store, workers))
    server = await serve(lambda head: app, host="127.0.0.1", port=0, error_body=error_body)
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.close()
        workers.close()


def _fetch(url: str, form: bytes | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, form, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


async def _ask(url: str, path: str, parameters: dict[str, Any], *, post: bool = False) -> tuple[int, Any]:
    query = urllib.parse.urlencode(parameters, doseq=True)
    whole, form = (f"{url}{path}", query.encode()) if post else (f"{url}{path}?{query}", None)
    status, body = await asyncio.to_thread(_fetch, whole, form)
    return status, json.loads(body)


async def test_requests_are_answered_as_prometheus_answered_them() -> None:
    recorded = answers.recorded()["api"]
    assert len(recorded) > 40
    different = []
    async with _serving(dataset.filled(TimeSeriesStore())) as url:
        for request, theirs in recorded.items():
            path, parameters = json.loads(request)
            status, ours = await _ask(url, path, parameters)
            if ours != theirs:
                different.append(f"{request}: {ours} instead of {theirs}")
            assert (status == 200) == (theirs["status"] == "success")
    assert different == []


@pytest.mark.parametrize("path", ["query", "query_range", "series", "labels", "query_exemplars", "format_query"])
async def test_forms_are_answered_as_queries_are(path: str) -> None:
    times = {"start": dataset.START / 1000, "end": dataset.END / 1000}
    parameters = {"query": "sum by (job) (up)", "match[]": ["up", "gappy"], "time": times["end"], "step": "5m", **times}
    async with _serving(dataset.filled(TimeSeriesStore())) as url:
        got = await _ask(url, f"/api/v1/{path}", parameters)
        assert got[0] == 200 and (got[1]["data"] or path == "query_exemplars")
        assert await _ask(url, f"/api/v1/{path}", parameters, post=True) == got


async def test_requests_of_grafana_are_answered() -> None:
    """The requests of Grafana's Prometheus data source for "Save & test" and "Explore"."""
    end = dataset.END / 1000
    async with _serving(dataset.filled(TimeSeriesStore())) as url:
        # Save & test
        status, found = await _ask(url, "/api/v1/query", {"query": "1+1", "time": end}, post=True)
        assert (status, found["data"]["resultType"], found["data"]["result"][1]) == (200, "scalar", "2")
        _, found = await _ask(url, "/api/v1/status/buildinfo", {})
        assert found["data"]["version"] == "2.42.0" and "features" not in found["data"]
        # Explore: the metrics browser, a query, its type, exemplars, rules
        times = {"start": end - 3600, "end": end}
        _, found = await _ask(url, "/api/v1/label/__name__/values", times)
        assert "up" in found["data"]
        _, found = await _ask(url, "/api/v1/labels", {"match[]": '{__name__="up"}', **times}, post=True)
        assert found["data"] == ["__name__", "instance", "job"]
        _, found = await _ask(url, "/api/v1/series", {"match[]": "up", **times}, post=True)
        assert len(found["data"]) == 6
        status, found = await _ask(url, "/api/v1/query_range", {"query": "up", "step": 15, **times}, post=True)
        assert status == 200 and len(found["data"]["result"]) == 6
        for path in ("/api/v1/metadata", "/api/v1/rules", "/api/v1/query_exemplars?query=up"):
            status, body = await asyncio.to_thread(_fetch, f"{url}{path}")
            assert (status, json.loads(body)["status"]) == (200, "success")


async def test_unknown_and_too_large_requests_get_an_error() -> None:
    async with _serving(TimeSeriesStore()) as url:
        assert (await asyncio.to_thread(_fetch, f"{url}/api/v1/nothing")) == (404, b"404 page not found\n")
        assert (await asyncio.to_thread(_fetch, f"{url}/api/v1/label/a/values", b"x=1"))[0] == 405
        status, found = await _ask(url, "/api/v1/query", {"query": "up" + " " * (2 << 20)}, post=True)
        assert status == 400 and "longer" in found["error"]
        status, found = await _ask(url, "/api/v1/series", {"match[]": ["up"] * 3000}, post=True)
        assert status == 400
        assert (await asyncio.to_thread(_fetch, f"{url}/-/healthy"))[0] == 200
        assert (await asyncio.to_thread(_fetch, f"{url}/-/ready"))[0] == 200
        for path in ("status/tsdb", "status/flags", "status/runtimeinfo"):
            assert (await _ask(url, f"/api/v1/{path}", {}))[0] == 200
