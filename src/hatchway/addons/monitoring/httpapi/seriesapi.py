"""Lists series, labels and metrics: /api/v1/series, labels, label/NAME/values and metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.monitoring.httpapi.encoding import cut, encode, success
from hatchway.addons.monitoring.httpapi.parameters import FIRST, LAST, Parameters
from hatchway.addons.monitoring.httpapi.problems import ApiProblem
from hatchway.addons.monitoring.httpapi.queryapi import answer
from hatchway.addons.monitoring.httpapi.workers import QueryWorkers
from hatchway.addons.monitoring.promql.golang import quote
from hatchway.addons.monitoring.promql.grid import QueryBudget
from hatchway.addons.monitoring.tsdb.labels import Labels
from hatchway.addons.monitoring.tsdb.matchers import Matcher
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore

# The type, help and unit of each metric. Targets may describe a metric differently, so there may be several.
Metadata = Mapping[str, Sequence[Mapping[str, str]]]

_label_name = re.compile("[a-zA-Z_][a-zA-Z0-9_]*").fullmatch


class SeriesApi:
    """Answers requests for lists of series, labels and metrics.

    Args:
        store: stores the series.
        metadata: the type, help and unit of metrics; scrapes update it.
        workers: run the requests that read many series.
    """

    def __init__(self, store: TimeSeriesStore, metadata: Metadata, workers: QueryWorkers) -> None:
        self._store = store
        self._metadata = metadata
        self._workers = workers

    def routes(self) -> list[Route]:
        """Return the routes."""
        both = ["GET", "POST"]
        return [
            Route("/api/v1/series", self._series, methods=both),
            Route("/api/v1/labels", self._labels, methods=both),
            Route("/api/v1/label/{name}/values", self._values, methods=["GET"]),
            Route("/api/v1/metadata", self._metadata_of, methods=["GET"]),
        ]

    def _matching(self, selectors: list[list[Matcher]], begin: int, end: int, budget: QueryBudget) -> list[Labels]:
        found: set[Labels] = set()
        for matchers in selectors:
            selected = self._store.select(matchers, begin, end, budget.check)
            found.update([series.labels for series in selected])
        return sorted(found)

    async def _series(self, request: Request) -> Response:
        parameters = await Parameters.of(request)
        if not parameters.all("match[]"):
            raise ApiProblem("bad_data", "no match[] parameter provided")
        begin, end = parameters.time("start", FIRST), parameters.time("end", LAST)
        selectors, limit = parameters.selectors(in_series=True), parameters.limit()

        def work(budget: QueryBudget) -> bytes:
            found, warnings = cut(self._matching(selectors, begin, end, budget), limit)
            return success(encode([dict(labels) for labels in found]), warnings)

        return answer(await self._workers.run(request, work))

    async def _labels(self, request: Request) -> Response:
        parameters = await Parameters.of(request)
        begin, end = parameters.time("start", FIRST), parameters.time("end", LAST)
        selectors, limit = parameters.selectors(), parameters.limit()

        def work(budget: QueryBudget) -> bytes:
            if selectors:
                matching = self._matching(selectors, begin, end, budget)
                names = {name for labels in matching for name, _ in labels}
            else:
                names = set(self._store.label_names())
            found, warnings = cut(sorted(names), limit)
            return success(encode(found), warnings)

        return answer(await self._workers.run(request, work))

    async def _values(self, request: Request) -> Response:
        name: str = request.path_params["name"]
        if not _label_name(name):
            raise ApiProblem("bad_data", f"invalid label name: {quote(name)}")
        parameters = await Parameters.of(request)
        begin, end = parameters.time("start", FIRST), parameters.time("end", LAST)
        selectors, limit = parameters.selectors(), parameters.limit()

        def work(budget: QueryBudget) -> bytes:
            if selectors:
                matching = self._matching(selectors, begin, end, budget)
                values = {value for labels in matching for known, value in labels if known == name}
            else:
                values = set(self._store.label_values(name))
            found, warnings = cut(sorted(values), limit)
            return success(encode(found), warnings)

        return answer(await self._workers.run(request, work))

    async def _metadata_of(self, request: Request) -> Response:
        parameters = await Parameters.of(request)
        limit = -1
        if text := parameters.get("limit"):
            if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
                raise ApiProblem("bad_data", "limit must be a number")
            limit = int(text)
        wanted = parameters.get("metric")
        names = [wanted] if wanted in self._metadata else [] if wanted else sorted(self._metadata)
        names = names if limit < 0 else names[:limit]
        return answer(success(encode({name: list(self._metadata[name]) for name in names})))
