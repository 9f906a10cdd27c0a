"""The REST API: the part of Elasticsearch 7's that people use by hand and that log viewers need.

One Starlette application of four parts. Paths with a mapping type (`/twitter/tweet/1`) are understood; the type is
forgotten.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from hatchway.cluster.addons.logging.clusterapi import ClusterApi
from hatchway.cluster.addons.logging.documentapi import DocumentApi
from hatchway.cluster.addons.logging.indexapi import IndexApi
from hatchway.cluster.addons.logging.messages import gone, no_handler, problem_answer
from hatchway.cluster.addons.logging.problems import Problem
from hatchway.cluster.addons.logging.searchapi import SearchApi
from hatchway.cluster.addons.logging.store import Store

# Documents come last: with a mapping type of old, `/INDEX/TYPE/_search` could be one.
_PARTS = (ClusterApi, SearchApi, IndexApi, DocumentApi)


def make_app(store: Store, executor: Executor) -> Starlette:
    """executor: one thread; everything that touches the store runs there."""
    routes = [route for part in _PARTS for route in part(store, executor).routes()]
    handlers: dict[Any, Any] = {Problem: problem_answer, HTTPException: no_handler, ClientDisconnect: gone}
    return Starlette(routes=routes, exception_handlers=handlers)
