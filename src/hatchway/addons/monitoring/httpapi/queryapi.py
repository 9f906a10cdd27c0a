"""Answers queries: /api/v1/query, query_range, query_exemplars and format_query."""

from __future__ import annotations

import time
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.monitoring.httpapi.encoding import cut, encode, result_text, success
from hatchway.addons.monitoring.httpapi.parameters import Parameters
from hatchway.addons.monitoring.httpapi.problems import ApiProblem
from hatchway.addons.monitoring.httpapi.workers import QueryWorkers
from hatchway.addons.monitoring.promql.errors import QueryParseError
from hatchway.addons.monitoring.promql.grid import QueryBudget
from hatchway.addons.monitoring.promql.nodes import Expression
from hatchway.addons.monitoring.promql.parser import parse
from hatchway.addons.monitoring.promql.printer import pretty
from hatchway.addons.monitoring.promql.query import QueryResult, instant, over_range
from hatchway.addons.monitoring.promql.selection import Queryable

MOST_POINTS = 11_000
JSON = "application/json"


def answer(body: bytes, status: int = 200) -> Response:
    """Return a response. body: JSON."""
    return Response(body, status, media_type=JSON)


class QueryApi:
    """Answers queries.

    Args:
        store: stores the samples.
        workers: evaluate the queries.
    """

    def __init__(self, store: Queryable, workers: QueryWorkers) -> None:
        self._store = store
        self._workers = workers

    def routes(self) -> list[Route]:
        """Return the routes."""
        both = ["GET", "POST"]
        return [
            Route("/api/v1/query", self._instant, methods=both),
            Route("/api/v1/query_range", self._range, methods=both),
            Route("/api/v1/query_exemplars", self._exemplars, methods=both),
            Route("/api/v1/format_query", self._format, methods=both),
        ]

    async def _instant(self, request: Request) -> Response:
        parameters = await Parameters.of(request)
        at = parameters.time("time", round(time.time() * 1000))
        seconds = _timeout(parameters)
        limit = parameters.limit()
        node = _parsed(parameters)

        def work(budget: QueryBudget) -> bytes:
            return _body(instant(self._store, node, at, budget), limit, budget)

        return answer(await self._workers.run(request, work, seconds))

    async def _range(self, request: Request) -> Response:
        parameters = await Parameters.of(request)
        start, end = parameters.time("start"), parameters.time("end")
        if end < start:
            raise ApiProblem("bad_data", "end timestamp must not be before start time", parameter="end")
        exact = parameters.duration("step")
        if exact < 1:
            message = "zero or negative query resolution step widths are not accepted. Try a positive integer"
            raise ApiProblem("bad_data", message, parameter="step")
        step = int(exact)
        if (end - start) // step > MOST_POINTS:
            raise ApiProblem(
                "bad_data",
                "exceeded maximum resolution of 11,000 points per timeseries. "
                "Try decreasing the query resolution (?step=XX)",
            )
        seconds = _timeout(parameters)
        limit = parameters.limit()
        try:
            node = parse(parameters.get("query"))
        except QueryParseError as error:
            raise ApiProblem("bad_data", str(error)) from error

        def work(budget: QueryBudget) -> bytes:
            return _body(over_range(self._store, node, start, end, step, budget), limit, budget)

        return answer(await self._workers.run(request, work, seconds))

    async def _exemplars(self, request: Request) -> Response:
        """Answer without exemplars, because this store does not keep them."""
        _parsed(await Parameters.of(request))
        return answer(success("[]"))

    async def _format(self, request: Request) -> Response:
        return answer(success(encode(pretty(_parsed(await Parameters.of(request))))))


def _body(result: QueryResult, limit: int, budget: QueryBudget) -> bytes:
    series, warnings = cut(result.series, limit)
    return success(result_text(replace(result, series=series), budget.check), warnings)


def _timeout(parameters: Parameters) -> float | None:
    return max(parameters.duration("timeout"), 0) / 1000 if parameters.get("timeout") else None


def _parsed(parameters: Parameters) -> Expression:
    try:
        return parse(parameters.get("query"))
    except QueryParseError as error:
        raise ApiProblem("bad_data", str(error), parameter="query") from error
