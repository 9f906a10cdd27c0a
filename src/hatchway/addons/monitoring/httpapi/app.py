"""Builds the application that serves Prometheus' HTTP API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hatchway.addons.monitoring.httpapi.encoding import failure
from hatchway.addons.monitoring.httpapi.problems import STATUSES, ApiProblem
from hatchway.addons.monitoring.httpapi.queryapi import QueryApi, answer
from hatchway.addons.monitoring.httpapi.seriesapi import Metadata, SeriesApi
from hatchway.addons.monitoring.httpapi.statusapi import StatusApi, TargetReport
from hatchway.addons.monitoring.httpapi.workers import QueryWorkers
from hatchway.addons.monitoring.promql.errors import PromqlError
from hatchway.addons.monitoring.tsdb.store import TimeSeriesStore


def make_app(
    store: TimeSeriesStore,
    workers: QueryWorkers,
    *,
    targets: Callable[[], Sequence[TargetReport]] = list,
    metadata: Metadata | None = None,
    is_ready: Callable[[], bool] = lambda: True,
    own_metrics: Callable[[], str] = str,
) -> Starlette:
    """Return the application.

    Args:
        store: stores the series.
        workers: evaluate queries.
        targets: returns the targets, for /api/v1/targets.
        metadata: the type, help and unit of metrics.
        is_ready: returns True when the targets have been looked up once.
        own_metrics: returns this program's own metrics in the text format.
    """

    async def metrics(request: Request) -> Response:
        return PlainTextResponse(own_metrics(), media_type="text/plain; version=0.0.4")

    routes = [
        *QueryApi(store, workers).routes(),
        *SeriesApi(store, metadata if metadata is not None else {}, workers).routes(),
        *StatusApi(store, targets, is_ready).routes(),
        Route("/metrics", metrics),
    ]
    handlers: dict[Any, Any] = {
        ApiProblem: _problem,
        PromqlError: _query_error,
        HTTPException: _http_error,
        ClientDisconnect: _gone,
    }
    return Starlette(routes=routes, exception_handlers=handlers)


async def _problem(request: Request, error: ApiProblem) -> Response:
    return answer(failure(error.type, str(error)), error.status)


async def _query_error(request: Request, error: PromqlError) -> Response:
    return answer(failure(error.type, str(error)), STATUSES[error.type])


async def _http_error(request: Request, error: HTTPException) -> Response:
    if error.status_code == 404:
        return PlainTextResponse("404 page not found\n", 404)
    return PlainTextResponse(f"{error.detail}\n", error.status_code, error.headers)


async def _gone(request: Request, error: Exception) -> Response:
    """Return a response for a client that has disconnected; it is not sent."""
    return Response(status_code=499)
