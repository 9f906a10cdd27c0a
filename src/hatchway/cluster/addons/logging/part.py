"""What the parts of the REST API stand on: the index that a request names, and the thread that the store lives on.

Every call into the store runs on one thread of its own, so that neither a search nor a commit holds up the event loop,
and the store needs no locks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import Request
from starlette.routing import Route

from hatchway.cluster.addons.logging.index import EsIndex
from hatchway.cluster.addons.logging.problems import Problem
from hatchway.cluster.addons.logging.store import Store

T = TypeVar("T")

CLUSTER = "hatchway"
NODE = "elasticsearch-logging-0"
VERSION = "7.10.2"

GET, POST, PUT, DELETE, READ, WRITE = ["GET"], ["POST"], ["PUT"], ["DELETE"], ["GET", "POST"], ["PUT", "POST"]
INDEX = "/{index:es_index}"
# Most requests are about the indices that the path names, or about all of them.
PREFIXES = ("", INDEX)


class _IndexConvertor(Convertor[str]):
    """An index or a list of patterns: names that begin with an underscore are the API's own, but for `_all`."""

    regex = "(?:_all|[^_/][^/]*)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


class _TypeConvertor(_IndexConvertor):
    """A mapping type of old."""

    regex = "[^_/][^/]*"


register_url_convertor("es_index", _IndexConvertor())
register_url_convertor("es_type", _TypeConvertor())


class Part:
    """A part of the API. executor: one thread; everything that touches the store runs there."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self.store = store
        self._executor = executor

    def routes(self) -> list[Route]:
        """Its paths; the first that matches is served."""
        raise NotImplementedError

    async def run(self, function: Callable[..., T], *args: Any) -> T:
        """Call something on the store's thread. Raises Problem, also for what the index engine asserts in vain."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        except BaseException as error:
            # tantivy's own assertions arrive as BaseException; the index is as it was, and one request has failed.
            if type(error).__name__ != "PanicException":
                raise
            raise Problem(500, "query_phase_execution_exception", f"the index failed: {str(error)[:200]}") from error

    def found(self, request: Request, expression: str) -> list[EsIndex]:
        """The indices that an expression names, as strictly as the request asks for. Raises Problem 404."""
        params = request.query_params
        missing_ok = params.get("ignore_unavailable", "false") != "false"
        strict = params.get("allow_no_indices", "true") == "false"
        return self.store.resolve(expression, missing_ok=missing_ok, patterns_need_match=strict)


def index_of(request: Request) -> str:
    """The index, or list of patterns, in the path; "" for all."""
    name: str = request.path_params.get("index", "")
    return name
