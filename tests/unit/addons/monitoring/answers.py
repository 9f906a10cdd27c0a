"""Recorded answers of real Prometheus. `python -m tests.unit.addons.monitoring.answers` makes new recordings."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

from hatchway.addons.monitoring.httpapi.encoding import result_text
from hatchway.addons.monitoring.promql.errors import PromqlError, QueryParseError
from hatchway.addons.monitoring.promql.grid import QueryBudget
from hatchway.addons.monitoring.promql.parser import parse
from hatchway.addons.monitoring.promql.query import QueryResult, instant, over_range
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore
from tests.unit.addons.monitoring import dataset, prometheus
from tests.unit.addons.monitoring.comparison import difference
from tests.unit.addons.monitoring.queries import ERRORS, INSTANT, QUERIES

FILE = Path(__file__).parent / "data" / "prometheus_answers.json.gz"
AT = dataset.START + 3_000_500
BEGIN, END, STEP = dataset.START + 1_200_000, dataset.START + 5_400_000, 437_000

Answers = dict[str, dict[str, Any]]

_TIMES = {"start": str(dataset.START // 1000), "end": str(dataset.END // 1000)}
# Requests whose answers must be equal in every field: path and parameters.
API: list[tuple[str, dict[str, Any]]] = [
    ("/api/v1/query", {}),
    ("/api/v1/query", {"query": "up", "time": "x"}),
    ("/api/v1/query", {"query": "up", "timeout": "x"}),
    ("/api/v1/query", {"query": "up", "time": "1e400"}),
    ("/api/v1/query", {"query": "sum(up)", "time": "2023-11-14T23:00:00Z"}),
    ("/api/v1/query", {"query": "sum(up)", "time": "2023-11-15T00:00:00.250+01:00"}),
    ("/api/v1/query", {"query": "special[20s]", "time": str(dataset.START // 1000 + 600)}),
    ("/api/v1/query_range", {"query": "up"}),
    ("/api/v1/query_range", {"query": "up", "start": "1", "end": "0", "step": "1"}),
    ("/api/v1/query_range", {"query": "up", "start": "0", "end": "1"}),
    ("/api/v1/query_range", {"query": "up", "start": "0", "end": "1", "step": "0"}),
    ("/api/v1/query_range", {"query": "up", "start": "0", "end": "1", "step": "-5m"}),
    ("/api/v1/query_range", {"query": "up", "start": "0", "end": "1", "step": "-1"}),
    ("/api/v1/query_range", {"query": "up", "start": "0", "end": "11001", "step": "1"}),
    ("/api/v1/query_range", {"query": "up +", "start": "0", "end": "1", "step": "1"}),
    ("/api/v1/query_range", {"query": "sum(up)", "step": "10m", **_TIMES}),
    ("/api/v1/query_range", {"query": "time()", "step": "1000.5", **_TIMES}),
    ("/api/v1/query_exemplars", {"query": "up", **_TIMES}),
    ("/api/v1/format_query", {"query": "up  +on(job) group_left up"}),
    ("/api/v1/format_query", {"query": "up +"}),
    ("/api/v1/series", {}),
    ("/api/v1/series", {"match[]": "{}"}),
    ("/api/v1/series", {"match[]": "up{"}),
    ("/api/v1/series", {"match[]": "up[5m]"}),
    ("/api/v1/series", {"match[]": "sum(up)"}),
    ("/api/v1/series", {"match[]": ["up", 'memory_bytes{job="api"}', "up"]}),
    ("/api/v1/series", {"match[]": '{job=~".+",instance!="a:80",__name__="up"}'}),
    ("/api/v1/labels", {}),
    ("/api/v1/labels", {"start": "x"}),
    ("/api/v1/labels", {"match[]": "up +"}),
    ("/api/v1/labels", {"match[]": ["up", "gappy"]}),
    ("/api/v1/label/job/values", {}),
    ("/api/v1/label/__name__/values", {}),
    ("/api/v1/label/instance/values", {"match[]": 'up{job="api"}'}),
    ("/api/v1/label/nothing/values", {}),
    ("/api/v1/label/a-b/values", {}),
    ("/api/v1/label/a/values", {"match[]": "{}"}),
    ("/api/v1/metadata", {"limit": "x"}),
    ("/api/v1/metadata", {"limit": "1"}),
    ("/api/v1/targets", {}),
    ("/api/v1/targets", {"state": "active"}),
    ("/api/v1/rules", {}),
    ("/api/v1/alerts", {}),
    ("/api/v1/alertmanagers", {}),
]


def ask(real: prometheus.Prometheus, queries: list[str]) -> Answers:
    """Return Prometheus' answers for one time and for a range. It must have the samples of `dataset`."""
    at = {"time": AT / 1000}
    over = {"start": BEGIN / 1000, "end": END / 1000, "step": STEP / 1000}
    return {
        "instant": {query: real.ask("/api/v1/query", query=query, **at) for query in queries},
        "range": {query: real.ask("/api/v1/query_range", query=query, **over) for query in queries},
    }


def ask_all(real: prometheus.Prometheus) -> Answers:
    """Send all queries and requests to Prometheus; return its answers by kind."""
    found = ask(real, QUERIES)
    once = ask(real, INSTANT + ERRORS)["instant"]
    found["instant"].update({query: once[query] for query in INSTANT})
    found["errors"] = {query: once[query] for query in ERRORS}
    found["api"] = {json.dumps(one): real.ask(one[0], **one[1]) for one in API}
    return found


def recorded() -> Answers:
    """Return the recorded answers."""
    found: Answers = json.loads(gzip.decompress(FILE.read_bytes()))
    return found


def ours(store: TimeSeriesStore, kind: str, query: str) -> Any:
    """Return the store's answer to a query, in the API's shape."""
    budget = QueryBudget(5_000_000, 60)
    try:
        found: QueryResult
        if kind == "range":
            found = over_range(store, parse(query), BEGIN, END, STEP, budget)
        else:
            found = instant(store, parse(query), AT, budget)
    except PromqlError as error:
        prefix = 'invalid parameter "query": ' if isinstance(error, QueryParseError) and kind != "range" else ""
        return {"status": "error", "errorType": error.type, "error": f"{prefix}{error}"}
    return {"status": "success", "data": json.loads(result_text(found, lambda: None))}


def differences(store: TimeSeriesStore, kind: str, theirs: dict[str, Any]) -> list[str]:
    """Return the differences of the store's answers from Prometheus' answers, a text for each query."""
    found = []
    for query, answer in theirs.items():
        ordered = kind == "instant" and query.startswith(("sort", "topk(2", "bottomk(2"))
        what = difference(ours(store, kind, query), answer, ordered=ordered)
        if what:
            found.append(f"{query}: {what}")
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, prometheus.running(Path(directory)) as running:
        running.write(dataset.series())
        content = json.dumps(ask_all(running), separators=(",", ":"), ensure_ascii=False)
        FILE.write_bytes(gzip.compress(content.encode(), 9, mtime=0))
