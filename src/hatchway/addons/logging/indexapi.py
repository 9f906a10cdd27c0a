"""Answers requests that create, delete and refresh indices, and requests about mappings and settings."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.logging.esapi import DELETE, GET, INDEX, PREFIXES, PUT, READ, WRITE, EsApi, index_of
from hatchway.addons.logging.index import EsIndex
from hatchway.addons.logging.mapping import DocumentError, FieldMapping
from hatchway.addons.logging.messages import answer, json_body
from hatchway.addons.logging.problems import EsProblem


class IndexApi(EsApi):
    """Answers requests about indices."""

    def routes(self) -> list[Route]:
        """Return the routes of this class."""
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
        """Answer `_refresh` and `_flush`: make all writes durable and visible."""

        def refresh() -> int:
            found = self.indices_named(request, index_of(request))
            for index in found:
                index.refresh()
            return len(found)

        count = await self.on_store_thread(refresh)
        return answer(request, {"_shards": {"total": count, "successful": count, "failed": 0}})

    async def mapping(self, request: Request) -> Response:
        """Answer `GET /INDEX/_mapping`: the types of the fields."""

        def mappings() -> dict[str, Any]:
            found = self.indices_named(request, index_of(request))
            return {index.name: {"mappings": _mappings(index)} for index in found}

        return answer(request, await self.on_store_thread(mappings))

    async def put_mapping(self, request: Request) -> Response:
        """Answer `PUT /INDEX/_mapping`: declare fields."""
        body = await json_body(request)

        def merge() -> None:
            for index in self.indices_named(request, index_of(request)):
                _merge(index.mapping, body)
                index.save_mapping()

        await self.on_store_thread(merge)
        return answer(request, {"acknowledged": True})

    async def settings(self, request: Request) -> Response:
        """Answer `GET /INDEX/_settings`."""

        def settings() -> dict[str, Any]:
            found = self.indices_named(request, index_of(request))
            return {index.name: {"settings": _settings(index)} for index in found}

        return answer(request, await self.on_store_thread(settings))

    async def aliases(self, request: Request) -> Response:
        """Answer `GET /INDEX/_alias`: no aliases."""
        found = await self.on_store_thread(lambda: self.indices_named(request, index_of(request)))
        return answer(request, {index.name: {"aliases": {}} for index in found})

    async def get_index(self, request: Request) -> Response:
        """Answer `GET /INDEX`: mappings and settings together."""

        def describe() -> dict[str, Any]:
            return {
                index.name: {"aliases": {}, "mappings": _mappings(index), "settings": _settings(index)}
                for index in self.indices_named(request, index_of(request))
            }

        return answer(request, await self.on_store_thread(describe))

    async def create_index(self, request: Request) -> Response:
        """Answer `PUT /INDEX`."""
        body = await json_body(request)
        name = index_of(request)

        def create() -> None:
            mapping = FieldMapping()
            if body is not None:
                if not isinstance(body, dict):
                    raise EsProblem(400, "parse_exception", "the body must be a JSON object")
                unknown = body.keys() - {"mappings", "settings", "aliases"}
                if unknown:
                    raise EsProblem(400, "parse_exception", f"unknown key [{str(min(unknown))[:64]}] for create index")
                _merge(mapping, body.get("mappings", {}))
            self.store.create(name, mapping)

        await self.on_store_thread(create)
        return answer(request, {"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def delete_index(self, request: Request) -> Response:
        """Answer `DELETE /INDEX`; patterns are allowed."""

        def delete() -> None:
            for index in self.indices_named(request, index_of(request)):
                self.store.delete(index.name)

        await self.on_store_thread(delete)
        return answer(request, {"acknowledged": True})


def _merge(mapping: FieldMapping, body: Any) -> None:
    """Add the fields in the body of a mapping. They may be below the name of a type, as before Elasticsearch 7.

    Raises:
        EsProblem: 400 for a malformed body, or for a field that has another type already.
    """
    if isinstance(body, dict) and "properties" not in body and len(body) == 1:
        (inner,) = body.values()
        if isinstance(inner, dict) and "properties" in inner:
            body = inner
    try:
        mapping.merge(body.get("properties", {}) if isinstance(body, dict) else None)
    except DocumentError as error:
        raise EsProblem(400, error.kind, error.message) from error


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
