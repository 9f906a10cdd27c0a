"""The REST API's indices: made and deleted, their mappings and settings, made durable."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.cluster.addons.logging.index import EsIndex
from hatchway.cluster.addons.logging.mapping import DocumentError, Mapping
from hatchway.cluster.addons.logging.messages import answer, json_body
from hatchway.cluster.addons.logging.part import DELETE, GET, INDEX, PREFIXES, PUT, READ, WRITE, Part, index_of
from hatchway.cluster.addons.logging.problems import Problem


class IndexApi(Part):
    def routes(self) -> list[Route]:
        routes = [
            Route("/_aliases", self.aliases, methods=GET),
            Route(f"{INDEX}/_mapping", self.put_mapping, methods=WRITE),
            Route(INDEX, self.get_index, methods=GET),
            Route(INDEX, self.create_index, methods=PUT),
            Route(INDEX, self.delete_index, methods=DELETE),
        ]
        for prefix in PREFIXES:
            routes += [
                Route(f"{prefix}/_refresh", self.refresh, methods=READ),
                Route(f"{prefix}/_flush", self.refresh, methods=READ),
                Route(f"{prefix}/_mapping", self.mapping, methods=GET),
                Route(f"{prefix}/_mappings", self.mapping, methods=GET),
                Route(f"{prefix}/_settings", self.settings, methods=GET),
                Route(f"{prefix}/_alias", self.aliases, methods=GET),
            ]
        return routes

    async def refresh(self, request: Request) -> Response:
        def refresh() -> int:
            found = self.found(request, index_of(request))
            for index in found:
                index.refresh()
            return len(found)

        count = await self.run(refresh)
        return answer(request, {"_shards": {"total": count, "successful": count, "failed": 0}})

    async def mapping(self, request: Request) -> Response:
        def mappings() -> dict[str, Any]:
            return {index.name: {"mappings": _mappings(index)} for index in self.found(request, index_of(request))}

        return answer(request, await self.run(mappings))

    async def put_mapping(self, request: Request) -> Response:
        body = await json_body(request)

        def merge() -> None:
            for index in self.found(request, index_of(request)):
                _merge(index.mapping, body)
                index.save_mapping()

        await self.run(merge)
        return answer(request, {"acknowledged": True})

    async def settings(self, request: Request) -> Response:
        def settings() -> dict[str, Any]:
            return {index.name: {"settings": _settings(index)} for index in self.found(request, index_of(request))}

        return answer(request, await self.run(settings))

    async def aliases(self, request: Request) -> Response:
        found = await self.run(lambda: self.found(request, index_of(request)))
        return answer(request, {index.name: {"aliases": {}} for index in found})

    async def get_index(self, request: Request) -> Response:
        def describe() -> dict[str, Any]:
            return {
                index.name: {"aliases": {}, "mappings": _mappings(index), "settings": _settings(index)}
                for index in self.found(request, index_of(request))
            }

        return answer(request, await self.run(describe))

    async def create_index(self, request: Request) -> Response:
        body = await json_body(request)
        name = index_of(request)

        def create() -> None:
            mapping = Mapping()
            if body is not None:
                if not isinstance(body, dict):
                    raise Problem(400, "parse_exception", "the body of an index is an object")
                unknown = body.keys() - {"mappings", "settings", "aliases"}
                if unknown:
                    raise Problem(400, "parse_exception", f"unknown key [{str(min(unknown))[:64]}] for create index")
                _merge(mapping, body.get("mappings", {}))
            self.store.create(name, mapping)

        await self.run(create)
        return answer(request, {"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def delete_index(self, request: Request) -> Response:
        def delete() -> None:
            for index in self.found(request, index_of(request)):
                self.store.delete(index.name)

        await self.run(delete)
        return answer(request, {"acknowledged": True})


def _merge(mapping: Mapping, body: Any) -> None:
    """Takes a mapping's body in; one below a type's name (before Elasticsearch 7) counts, too. Raises Problem 400."""
    if isinstance(body, dict) and "properties" not in body and len(body) == 1:
        (inner,) = body.values()
        if isinstance(inner, dict) and "properties" in inner:
            body = inner
    try:
        mapping.merge(body.get("properties", {}) if isinstance(body, dict) else None)
    except DocumentError as error:
        raise Problem(400, error.kind, error.message) from error


def _mappings(index: EsIndex) -> dict[str, Any]:
    properties = index.mapping.properties()
    return {"properties": properties} if properties else {}


def _settings(index: EsIndex) -> dict[str, Any]:
    created = str(index.created)
    return {
        "index": {
            "creation_date": created,
            "number_of_shards": "1",
            "number_of_replicas": "0",
            "uuid": index.uuid,
            "provided_name": index.name,
        }
    }
