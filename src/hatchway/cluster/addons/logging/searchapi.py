"""The REST API's searches: `_search`, `_count`, `_msearch`, `_delete_by_query`."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.cluster.addons.logging import search
from hatchway.cluster.addons.logging.messages import answer, decode, json_body, raw_body
from hatchway.cluster.addons.logging.part import INDEX, POST, PREFIXES, READ, Part, index_of
from hatchway.cluster.addons.logging.problems import Problem, illegal


class SearchApi(Part):
    def routes(self) -> list[Route]:
        routes = [Route(f"{INDEX}/_delete_by_query", self.delete_by_query, methods=POST)]
        for prefix in (*PREFIXES, f"{INDEX}/{{type:es_type}}"):
            routes += [
                Route(f"{prefix}/_search", self.search, methods=READ),
                Route(f"{prefix}/_count", self.count, methods=READ),
            ]
        routes += [Route(f"{prefix}/_msearch", self.msearch, methods=READ) for prefix in PREFIXES]
        return routes

    async def search(self, request: Request) -> Response:
        params = request.query_params
        if "scroll" in params:
            raise illegal("[scroll] is not supported by this server")
        wanted = search.parse_request(await json_body(request), params)
        return answer(request, await self.run(lambda: search.run(self.found(request, index_of(request)), wanted)))

    async def count(self, request: Request) -> Response:
        body = await json_body(request)
        if isinstance(body, dict) and body.keys() - {"query"}:
            raise illegal(f"request does not support [{str(min(body.keys() - {'query'}))[:64]}]")
        query = search.parse_request(body, request.query_params).query
        return answer(request, await self.run(lambda: search.count(self.found(request, index_of(request)), query)))

    async def msearch(self, request: Request) -> Response:
        lines = [line for line in (await raw_body(request)).split(b"\n") if line.strip()]
        if not lines or len(lines) % 2:
            raise illegal("a multi search needs lines of headers and bodies by turns")
        responses = []
        for header, body in zip(lines[::2], lines[1::2], strict=True):
            try:
                responses.append({**await self._one_search(request, decode(header), decode(body)), "status": 200})
            except Problem as problem:
                responses.append(problem.body())
        return answer(request, {"took": sum(one.get("took", 0) for one in responses), "responses": responses})

    async def _one_search(self, request: Request, header: Any, body: Any) -> dict[str, Any]:
        names = header.get("index", index_of(request)) if isinstance(header, dict) else None
        if isinstance(names, list):
            names = ",".join(str(name) for name in names)
        if not isinstance(names, str):
            raise illegal("the header of a search is an object, its [index] a string or a list")
        wanted = search.parse_request(body, {})
        expression = names
        return await self.run(lambda: search.run(self.found(request, expression), wanted))

    async def delete_by_query(self, request: Request) -> Response:
        wanted = search.parse_request(await json_body(request), request.query_params)
        wanted.size, wanted.source = search.RESULT_WINDOW, False

        def erase() -> int:
            deleted = 0
            while True:
                hits = search.run(self.found(request, index_of(request)), wanted)["hits"]["hits"]
                for hit in hits:
                    self.store.erase(hit["_index"], hit["_id"], refresh=False)
                deleted += len(hits)
                if len(hits) < search.RESULT_WINDOW:
                    self.store.refresh()
                    return deleted

        deleted = await self.run(erase)
        return answer(request, {"took": 0, "timed_out": False, "total": deleted, "deleted": deleted, "failures": []})
