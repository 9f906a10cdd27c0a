"""The base of the classes that serve Elasticsearch's REST API: finds a request's index, calls the store on its thread.

All calls of the store run on one separate thread. So a search or a commit never blocks the event loop, and the store
needs no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.routing import Route

from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.index import EsIndex
from hatchway.addons.logging.problems import EsProblem

T = TypeVar("T")

CLUSTER = "hatchway"
NODE = "elasticsearch-logging-0"
VERSION = "7.10.2"

GET, POST, PUT, DELETE, READ, WRITE = ["GET"], ["POST"], ["PUT"], ["DELETE"], ["GET", "POST"], ["PUT", "POST"]
INDEX = "/{index:es_index}"
# Most paths exist twice: for all indices, and with indices in the path.
PREFIXES = ("", INDEX)


class _IndexConvertor(Convertor[str]):
    """Matches an index or a list of patterns. The API's own names begin with an underscore; only `_all` is an index."""

    regex = "(?:_all|[^_/][^/]*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _TypeConvertor(_IndexConvertor):
    """Matches a mapping type (before Elasticsearch 7)."""

    regex = "[^_/][^/]*"


register_url_convertor("es_index", _IndexConvertor())
register_url_convertor("es_type", _TypeConvertor())


class EsApi:
    """The base of a class that serves some paths of the API.

    Args:
        store: all indices.
        executor: the one thread on which the store is used.
    """

    def __init__(self, store: LoggingStore, executor: Executor) -> None:
        self.store = store
        self._executor = executor

    def routes(self) -> list[Route]:
        """Return the routes of this class. The first route that matches is used."""
        raise NotImplementedError

    async def on_store_thread(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the store's thread and return its result. Raises EsProblem 500 when tantivy panics."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        except BaseException as error:
            # A panic of tantivy arrives as BaseException. The index is unchanged; only this request fails.
            if type(error).__name__ != "PanicException":
                raise
            raise EsProblem(500, "query_phase_execution_exception", f"the index failed: {str(error)[:200]}") from error

    async def read_on_store_thread(self, request: Request, function: Callable[[], T]) -> T:
        """Call a function on the store's thread, unless the client disconnects before the function starts.

        The function must not change the store. Read the request's body before this call. The log explorer searches
        while its user types: it cancels a search by disconnecting.

        Raises ClientDisconnect; EsProblem 500 as `on_store_thread`.
        """
        working = asyncio.ensure_future(self.on_store_thread(function))
        watching = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise ClientDisconnect
            return working.result()
        finally:
            watching.cancel()
            working.cancel()

    def indices_named(self, request: Request, expression: str) -> list[EsIndex]:
        """Return the indices that an expression names. The request's parameters decide when EsProblem 404 is raised."""
        params = request.query_params
        missing_ok = params.get("ignore_unavailable", "false") != "false"
        strict = params.get("allow_no_indices", "true") == "false"
        return self.store.resolve(expression, missing_ok=missing_ok, patterns_need_match=strict)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def index_of(request: Request) -> str:
    """Return the name or list of patterns in the request's path; "" for all indices."""
    name: str = request.path_params.get("index", "")
    return name
