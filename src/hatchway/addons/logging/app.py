"""Builds the REST API: the part of Elasticsearch 7's API that people use by hand and that log viewers need.

Four classes give the routes of one Starlette application. A mapping type in a path (`tweet` in `/twitter/tweet/1`) is
ignored.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hatchway.addons.logging.clusterapi import ClusterApi
from hatchway.addons.logging.documentapi import DocumentApi
from hatchway.addons.logging.documentstore import LoggingStore
from hatchway.addons.logging.indexapi import IndexApi
from hatchway.addons.logging.messages import gone, no_handler, problem_answer
from hatchway.addons.logging.problems import EsProblem
from hatchway.addons.logging.searchapi import SearchApi

# The routes of documents come last, because `/INDEX/TYPE/ID` also matches `/INDEX/TYPE/_search`.
_PARTS = (ClusterApi, SearchApi, IndexApi, DocumentApi)


def make_app(store: LoggingStore, executor: Executor) -> Starlette:
    """Return the application.

    Args:
        store: all indices.
        executor: the one thread on which the store is used.
    """
    routes = [route for part in _PARTS for route in part(store, executor).routes()]
    handlers: dict[Any, Any] = {EsProblem: problem_answer, HTTPException: no_handler, ClientDisconnect: gone}
    return Starlette(routes=routes, exception_handlers=handlers)
