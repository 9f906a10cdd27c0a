"""Answers requests that search: `_search`, `_count`, `_msearch`, `_delete_by_query`."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.logging import search
from hatchway.addons.logging.esapi import INDEX, POST, PREFIXES, READ, EsApi, index_of
from hatchway.addons.logging.messages import answer, decode, json_body, raw_body
from hatchway.addons.logging.problems import EsProblem, illegal, too_large
from hatchway.addons.logging.searchrequest import RESULT_WINDOW, parse_request

# The maximum number of searches of one _msearch, and the maximum number of bytes of their answers.
_MOST_SEARCHES = 1000
_MSEARCH_BYTES = 32 << 20


class SearchApi(EsApi):
    """Answers the requests that search."""

    def routes(self) -> list[Route]:
        """Return the routes of this class."""
        routes = [Route(f"{INDEX}/_delete_by_query", self.delete_by_query, methods=POST)]
        for prefix in (*PREFIXES, f"{INDEX}/{{type:es_type}}"):
            routes += [
                Route(f"{prefix}/_search", self.search, methods=READ),
                Route(f"{prefix}/_count", self.count, methods=READ),
            ]
        routes += [Route(f"{prefix}/_msearch", self.msearch, methods=READ) for prefix in PREFIXES]
        return routes

    async def search(self, request: Request) -> Response:
        """Answer `_search`."""
        params = request.query_params
        if "scroll" in params:
            raise illegal("[scroll] is not supported by this server")
        wanted = parse_request(await json_body(request), params)
        result = await self.read_on_store_thread(
            request, lambda: search.run(self.indices_named(request, index_of(request)), wanted)
        )
        return answer(request, result)

    async def count(self, request: Request) -> Response:
        """Answer `_count`."""
        body = await json_body(request)
        if isinstance(body, dict) and body.keys() - {"query"}:
            raise illegal(f"request does not support [{str(min(body.keys() - {'query'}))[:64]}]")
        query = parse_request(body, request.query_params).query
        result = await self.on_store_thread(lambda: search.count(self.indices_named(request, index_of(request)), query))
        return answer(request, result)

    async def msearch(self, request: Request) -> Response:
        """Answer `_msearch`: many searches."""
        lines = [line for line in (await raw_body(request)).split(b"\n") if line.strip()]
        if not lines or len(lines) % 2:
            raise illegal("the body of _msearch must be pairs of lines: a header, then a search body")
        if len(lines) > 2 * _MOST_SEARCHES:
            raise illegal(f"_msearch has {len(lines) // 2} searches, at most {_MOST_SEARCHES} are allowed")
        responses: list[dict[str, Any]] = []
        left = _MSEARCH_BYTES
        for header, body in zip(lines[::2], lines[1::2], strict=True):
            try:
                found = {**await self._one_search(request, decode(header), decode(body)), "status": 200}
            except EsProblem as problem:
                found = problem.body()
            left -= len(msgspec.json.encode(found))
            if left < 0:
                raise too_large("the answers of _msearch", "[size] or fewer searches")
            responses.append(found)
        return answer(request, {"took": sum(one.get("took", 0) for one in responses), "responses": responses})

    async def _one_search(self, request: Request, header: Any, body: Any) -> dict[str, Any]:
        names = header.get("index", index_of(request)) if isinstance(header, dict) else None
        if isinstance(names, list):
            names = ",".join(str(name) for name in names)
        if not isinstance(names, str):
            raise illegal("each header must be a JSON object, and its [index] a string or a list")
        wanted = parse_request(body, {})
        expression = names
        return await self.read_on_store_thread(
            request, lambda: search.run(self.indices_named(request, expression), wanted)
        )

    async def delete_by_query(self, request: Request) -> Response:
        """Answer `_delete_by_query`: delete all documents that match."""
        wanted = parse_request(await json_body(request), request.query_params)
        wanted.size, wanted.source = RESULT_WINDOW, False

        def erase() -> int:
            deleted = 0
            while True:
                try:
                    hits = search.run(self.indices_named(request, index_of(request)), wanted)["hits"]["hits"]
                except EsProblem as problem:
                    # This many documents of this size do not fit in memory: take fewer at a time.
                    if problem.status != 429 or wanted.size == 1:
                        raise
                    wanted.size = max(wanted.size // 10, 1)
                    continue
                for hit in hits:
                    self.store.erase(hit["_index"], hit["_id"], refresh=False)
                deleted += len(hits)
                if len(hits) < wanted.size:
                    self.store.refresh()
                    return deleted

        deleted = await self.on_store_thread(erase)
        return answer(request, {"took": 0, "timed_out": False, "total": deleted, "deleted": deleted, "failures": []})
