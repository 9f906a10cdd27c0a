"""The REST API: the part of Elasticsearch 7's that people use by hand and that log viewers need.

One Starlette application. Every call into the store runs on one thread of its own, so that neither a search nor a
commit holds up the event loop, and the store needs no locks. Paths with a mapping type (`/twitter/tweet/1`) are
understood; the type is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.cluster.addons.logging import bulk, cat, search
from hatchway.cluster.addons.logging.mapping import DocumentError, Mapping
from hatchway.cluster.addons.logging.messages import (
    answer,
    decode,
    gone,
    json_body,
    no_handler,
    problem_answer,
    raw_body,
    table,
    written_answer,
)
from hatchway.cluster.addons.logging.problems import Problem, illegal
from hatchway.cluster.addons.logging.query import MatchAll
from hatchway.cluster.addons.logging.store import Store, Written

T = TypeVar("T")
CLUSTER = "hatchway"
NODE = "elasticsearch-logging-0"
VERSION = "7.10.2"
_SHARDS = {"total": 1, "successful": 1, "failed": 0}


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


def make_app(store: Store, executor: Executor) -> Starlette:
    """executor: one thread; everything that touches the store runs there."""
    return _Api(store, executor).app()


class _Api:
    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor

    def app(self) -> Starlette:
        searches: list[tuple[str, Callable[[Request], Awaitable[Response]]]] = [
            ("_search", self.search),
            ("_count", self.count),
        ]
        get, post, put, delete, read = ["GET"], ["POST"], ["PUT"], ["DELETE"], ["GET", "POST"]
        write = ["PUT", "POST"]
        routes = [Route("/", self.root, methods=get)]
        for name, handler in searches:
            for prefix in ("", "/{index:es_index}", "/{index:es_index}/{type:es_type}"):
                routes.append(Route(f"{prefix}/{name}", handler, methods=read))
        for prefix in ("", "/{index:es_index}"):
            routes += [
                Route(f"{prefix}/_msearch", self.msearch, methods=read),
                Route(f"{prefix}/_bulk", self.bulk, methods=write),
                Route(f"{prefix}/_mget", self.mget, methods=read),
                Route(f"{prefix}/_refresh", self.refresh, methods=read),
                Route(f"{prefix}/_flush", self.refresh, methods=read),
                Route(f"{prefix}/_mapping", self.mapping, methods=get),
                Route(f"{prefix}/_mappings", self.mapping, methods=get),
                Route(f"{prefix}/_settings", self.settings, methods=get),
                Route(f"{prefix}/_alias", self.aliases, methods=get),
                Route(f"/_cluster/health{prefix}", self.health, methods=get),
                Route(f"/_cat/indices{prefix}", self.cat_indices, methods=get),
                Route(f"/_cat/count{prefix}", self.cat_count, methods=get),
            ]
        routes += [
            Route("/_aliases", self.aliases, methods=get),
            Route("/_cluster/settings", self.cluster_settings, methods=get),
            Route("/_nodes", self.nodes, methods=get),
            Route("/_cat", self.cat_help, methods=get),
            Route("/_cat/health", self.cat_health, methods=get),
            Route("/_cat/nodes", self.cat_nodes, methods=get),
            Route("/{index:es_index}/_mapping", self.put_mapping, methods=write),
            Route("/{index:es_index}/_doc", self.add, methods=post),
            Route("/{index:es_index}/_doc/{id:path}", self.get_document, methods=get),
            Route("/{index:es_index}/_doc/{id:path}", self.put_document, methods=write),
            Route("/{index:es_index}/_doc/{id:path}", self.delete_document, methods=delete),
            Route("/{index:es_index}/_create/{id:path}", self.create_document, methods=write),
            Route("/{index:es_index}/_update/{id:path}", self.update_document, methods=post),
            Route("/{index:es_index}/_source/{id:path}", self.get_source, methods=get),
            Route("/{index:es_index}/_delete_by_query", self.delete_by_query, methods=post),
            Route("/{index:es_index}", self.get_index, methods=get),
            Route("/{index:es_index}", self.create_index, methods=put),
            Route("/{index:es_index}", self.delete_index, methods=delete),
            Route("/{index:es_index}/{type:es_type}", self.add, methods=post),
            Route("/{index:es_index}/{type:es_type}/{id}/_update", self.update_document, methods=post),
            Route("/{index:es_index}/{type:es_type}/{id}", self.get_document, methods=get),
            Route("/{index:es_index}/{type:es_type}/{id}", self.put_document, methods=write),
            Route("/{index:es_index}/{type:es_type}/{id}", self.delete_document, methods=delete),
        ]
        handlers: dict[Any, Any] = {Problem: problem_answer, HTTPException: no_handler, ClientDisconnect: gone}
        return Starlette(routes=routes, exception_handlers=handlers)

    async def _run(self, function: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)
        except BaseException as error:
            # tantivy's own assertions arrive as BaseException; the index is as it was, and one request has failed.
            if type(error).__name__ != "PanicException":
                raise
            raise Problem(500, "query_phase_execution_exception", f"the index failed: {str(error)[:200]}") from error

    # The cluster

    async def root(self, request: Request) -> Response:
        version = {
            "number": VERSION,
            "build_flavor": "hatchway",
            "build_type": "tantivy",
            "lucene_version": "8.7.0",
            "minimum_wire_compatibility_version": "6.8.0",
            "minimum_index_compatibility_version": "6.0.0-beta1",
        }
        body = {"name": NODE, "cluster_name": CLUSTER, "cluster_uuid": CLUSTER, "version": version}
        return answer(request, {**body, "tagline": "You Know, for Search"})

    async def health(self, request: Request) -> Response:
        found = await self._run(lambda: self._store.resolve(_index(request)))
        count = len(found)
        body = {
            "cluster_name": CLUSTER,
            "status": "green",
            "timed_out": False,
            "number_of_nodes": 1,
            "number_of_data_nodes": 1,
            "active_primary_shards": count,
            "active_shards": count,
            "relocating_shards": 0,
            "initializing_shards": 0,
            "unassigned_shards": 0,
            "delayed_unassigned_shards": 0,
            "number_of_pending_tasks": 0,
            "number_of_in_flight_fetch": 0,
            "task_max_waiting_in_queue_millis": 0,
            "active_shards_percent_as_number": 100.0,
        }
        return answer(request, body)

    async def cluster_settings(self, request: Request) -> Response:
        return answer(request, {"persistent": {}, "transient": {}})

    async def nodes(self, request: Request) -> Response:
        node = {"name": NODE, "version": VERSION, "roles": ["data", "ingest", "master"], "http": {}}
        counts = {"total": 1, "successful": 1, "failed": 0}
        return answer(request, {"_nodes": counts, "cluster_name": CLUSTER, "nodes": {NODE: node}})

    # Tables

    async def cat_help(self, request: Request) -> Response:
        names = ("health", "indices", "indices/{index}", "count", "count/{index}", "nodes")
        return Response("=^.^=\n" + "".join(f"/_cat/{name}\n" for name in names), media_type="text/plain")

    async def cat_indices(self, request: Request) -> Response:
        def rows() -> list[dict[str, str]]:
            found = self._store.resolve(_index(request))
            for index in found:
                index.refresh()
            return cat.indices(found, request.query_params)

        return table(request, await self._run(rows))

    async def cat_health(self, request: Request) -> Response:
        return table(request, cat.health(await self._run(lambda: self._store.resolve("")), CLUSTER))

    async def cat_count(self, request: Request) -> Response:
        counted = await self._run(lambda: search.count(self._store.resolve(_index(request)), MatchAll()))
        return table(request, cat.count(counted["count"]))

    async def cat_nodes(self, request: Request) -> Response:
        return table(request, [{"ip": "127.0.0.1", "node.role": "dim", "master": "*", "name": NODE}])

    # Searches

    def _found(self, request: Request, expression: str) -> list[Any]:
        params = request.query_params
        missing_ok = params.get("ignore_unavailable", "false") != "false"
        strict = params.get("allow_no_indices", "true") == "false"
        return self._store.resolve(expression, missing_ok=missing_ok, patterns_need_match=strict)

    async def search(self, request: Request) -> Response:
        params = request.query_params
        if "scroll" in params:
            raise illegal("[scroll] is not supported by this server")
        wanted = search.parse_request(await json_body(request), params)
        return answer(request, await self._run(lambda: search.run(self._found(request, _index(request)), wanted)))

    async def count(self, request: Request) -> Response:
        body = await json_body(request)
        if isinstance(body, dict) and body.keys() - {"query"}:
            raise illegal(f"request does not support [{str(min(body.keys() - {'query'}))[:64]}]")
        query = search.parse_request(body, request.query_params).query
        return answer(request, await self._run(lambda: search.count(self._found(request, _index(request)), query)))

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
        names = header.get("index", _index(request)) if isinstance(header, dict) else None
        if isinstance(names, list):
            names = ",".join(str(name) for name in names)
        if not isinstance(names, str):
            raise illegal("the header of a search is an object, its [index] a string or a list")
        wanted = search.parse_request(body, {})
        expression = names
        return await self._run(lambda: search.run(self._found(request, expression), wanted))

    # Documents

    async def _write(self, function: Callable[[], Written]) -> Written:
        """A write by hand is durable when it is acknowledged."""

        def write() -> Written:
            written = function()
            self._store.one(written.index).refresh()
            return written

        return await self._run(write)

    async def add(self, request: Request) -> Response:
        source = await raw_body(request)
        written = await self._write(lambda: self._store.write(_index(request), None, source))
        return written_answer(request, written)

    async def put_document(self, request: Request) -> Response:
        source = await raw_body(request)
        only_new = request.query_params.get("op_type") == "create"
        index, id = _index(request), request.path_params["id"]
        written = await self._write(lambda: self._store.write(index, id, source, only_new=only_new))
        return written_answer(request, written)

    async def create_document(self, request: Request) -> Response:
        source = await raw_body(request)
        index, id = _index(request), request.path_params["id"]
        written = await self._write(lambda: self._store.write(index, id, source, only_new=True))
        return written_answer(request, written)

    async def update_document(self, request: Request) -> Response:
        change = await raw_body(request)
        index, id = _index(request), request.path_params["id"]
        return written_answer(request, await self._write(lambda: self._store.update(index, id, change)))

    async def delete_document(self, request: Request) -> Response:
        index, id = _index(request), request.path_params["id"]
        return written_answer(request, await self._write(lambda: self._store.erase(index, id)))

    async def get_document(self, request: Request) -> Response:
        found = await self._document(request, _index(request), request.path_params["id"])
        return answer(request, found, 200 if found["found"] else 404)

    async def _document(self, request: Request, index: str, id: str) -> dict[str, Any]:
        wanted = search.source_filter(request.query_params)
        stored = await self._run(lambda: self._store.get(index, id))
        where = {"_index": index, "_type": "_doc", "_id": id}
        if stored is None:
            return {**where, "found": False}
        body = {**where, "_version": stored.version, "_seq_no": stored.seq, "_primary_term": 1, "found": True}
        if wanted.source:
            body["_source"] = search.filtered(stored.document(), wanted)
        return body

    async def get_source(self, request: Request) -> Response:
        index, id = _index(request), request.path_params["id"]
        found = await self._document(request, index, id)
        if not found["found"]:
            raise Problem(404, "resource_not_found_exception", f"Document not found [{index:es_index}]/[_doc]/[{id}]")
        return answer(request, found.get("_source", {}))

    async def mget(self, request: Request) -> Response:
        body = await json_body(request)
        docs = body.get("docs", body.get("ids")) if isinstance(body, dict) else None
        if not isinstance(docs, list):
            raise Problem(400, "action_request_validation_exception", "Validation Failed: 1: no documents to get;")
        found = []
        for entry in docs:
            named = entry if isinstance(entry, dict) else {"_id": entry}
            index, id = str(named.get("_index", _index(request))), str(named.get("_id", ""))
            try:
                found.append(await self._document(request, index, id))
            except Problem as problem:
                found.append({"_index": index, "_type": "_doc", "_id": id, "error": problem.error()})
        return answer(request, {"docs": found})

    async def bulk(self, request: Request) -> Response:
        body = await raw_body(request)
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def run() -> tuple[bool, list[dict[str, Any]]]:
            try:
                return bulk.run(self._store, body, _index(request))
            finally:
                self._store.refresh()

        errors, items = await self._run(run)
        return answer(request, {"took": int((loop.time() - begun) * 1000), "errors": errors, "items": items})

    async def delete_by_query(self, request: Request) -> Response:
        wanted = search.parse_request(await json_body(request), request.query_params)
        wanted.size, wanted.source = search.RESULT_WINDOW, False

        def erase() -> int:
            deleted = 0
            while True:
                hits = search.run(self._found(request, _index(request)), wanted)["hits"]["hits"]
                for hit in hits:
                    self._store.erase(hit["_index"], hit["_id"], refresh=False)
                deleted += len(hits)
                if len(hits) < search.RESULT_WINDOW:
                    self._store.refresh()
                    return deleted

        deleted = await self._run(erase)
        return answer(request, {"took": 0, "timed_out": False, "total": deleted, "deleted": deleted, "failures": []})

    # Indices

    async def refresh(self, request: Request) -> Response:
        def refresh() -> int:
            found = self._found(request, _index(request))
            for index in found:
                index.refresh()
            return len(found)

        count = await self._run(refresh)
        return answer(request, {"_shards": {"total": count, "successful": count, "failed": 0}})

    async def mapping(self, request: Request) -> Response:
        def mappings() -> dict[str, Any]:
            return {index.name: {"mappings": _mappings(index)} for index in self._found(request, _index(request))}

        return answer(request, await self._run(mappings))

    async def put_mapping(self, request: Request) -> Response:
        body = await json_body(request)

        def merge() -> None:
            for index in self._found(request, _index(request)):
                _merge(index.mapping, body)
                index.save_mapping()

        await self._run(merge)
        return answer(request, {"acknowledged": True})

    async def settings(self, request: Request) -> Response:
        def settings() -> dict[str, Any]:
            return {index.name: {"settings": _settings(index)} for index in self._found(request, _index(request))}

        return answer(request, await self._run(settings))

    async def aliases(self, request: Request) -> Response:
        found = await self._run(lambda: self._found(request, _index(request)))
        return answer(request, {index.name: {"aliases": {}} for index in found})

    async def get_index(self, request: Request) -> Response:
        def describe() -> dict[str, Any]:
            return {
                index.name: {"aliases": {}, "mappings": _mappings(index), "settings": _settings(index)}
                for index in self._found(request, _index(request))
            }

        return answer(request, await self._run(describe))

    async def create_index(self, request: Request) -> Response:
        body = await json_body(request)
        name = _index(request)

        def create() -> None:
            mapping = Mapping()
            if body is not None:
                if not isinstance(body, dict):
                    raise Problem(400, "parse_exception", "the body of an index is an object")
                unknown = body.keys() - {"mappings", "settings", "aliases"}
                if unknown:
                    raise Problem(400, "parse_exception", f"unknown key [{str(min(unknown))[:64]}] for create index")
                _merge(mapping, body.get("mappings", {}))
            self._store.create(name, mapping)

        await self._run(create)
        return answer(request, {"acknowledged": True, "shards_acknowledged": True, "index": name})

    async def delete_index(self, request: Request) -> Response:
        def delete() -> None:
            for index in self._found(request, _index(request)):
                self._store.delete(index.name)

        await self._run(delete)
        return answer(request, {"acknowledged": True})


def _index(request: Request) -> str:
    """The index, or list of patterns, in the path; "" for all."""
    name: str = request.path_params.get("index", "")
    return name


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


def _mappings(index: Any) -> dict[str, Any]:
    properties = index.mapping.properties()
    return {"properties": properties} if properties else {}


def _settings(index: Any) -> dict[str, Any]:
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
