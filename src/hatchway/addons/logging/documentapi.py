"""Answers requests that write, read, change or delete documents: single ones, or many at once (`_bulk`, `_mget`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hatchway.addons.logging import bulk, search
from hatchway.addons.logging.documentstore import Written
from hatchway.addons.logging.esapi import DELETE, GET, INDEX, POST, PREFIXES, READ, WRITE, EsApi, index_of
from hatchway.addons.logging.index import AnswerRoom
from hatchway.addons.logging.messages import answer, json_body, raw_body, written_answer
from hatchway.addons.logging.problems import EsProblem
from hatchway.addons.logging.searchrequest import parse_source_filter

_TYPE = f"{INDEX}/{{type:es_type}}"


class DocumentApi(EsApi):
    """Answers requests about documents. A write is on disk before it is answered."""

    def routes(self) -> list[Route]:
        """Return the routes of this class."""
        routes = []
        for prefix in PREFIXES:
            routes += [
                Route(f"{prefix}/_bulk", self.bulk, methods=WRITE),
                Route(f"{prefix}/_mget", self.mget, methods=READ),
            ]
        for document in (f"{INDEX}/_doc/{{id:path}}", f"{_TYPE}/{{id}}"):
            routes += [
                Route(document, self.get_document, methods=GET),
                Route(document, self.put_document, methods=WRITE),
                Route(document, self.delete_document, methods=DELETE),
            ]
        return [
            *routes,
            Route(f"{INDEX}/_doc", self.add, methods=POST),
            Route(_TYPE, self.add, methods=POST),
            Route(f"{INDEX}/_create/{{id:path}}", self.create_document, methods=WRITE),
            Route(f"{INDEX}/_update/{{id:path}}", self.update_document, methods=POST),
            Route(f"{_TYPE}/{{id}}/_update", self.update_document, methods=POST),
            Route(f"{INDEX}/_source/{{id:path}}", self.get_source, methods=GET),
        ]

    async def _write(self, function: Callable[[], Written]) -> Written:
        """Call a function that writes, commit its write to disk, and return its result."""

        def write() -> Written:
            written = function()
            self.store.one(written.index).refresh()
            return written

        return await self.on_store_thread(write)

    async def add(self, request: Request) -> Response:
        """Answer `POST /INDEX/_doc`: index a document under a new id."""
        source = await raw_body(request)
        written = await self._write(lambda: self.store.write(index_of(request), None, source))
        return written_answer(request, written)

    async def put_document(self, request: Request) -> Response:
        """Answer `PUT /INDEX/_doc/ID`: index or replace a document; 409 with `op_type=create` if the id exists."""
        source = await raw_body(request)
        only_new = request.query_params.get("op_type") == "create"
        index, id = index_of(request), request.path_params["id"]
        written = await self._write(lambda: self.store.write(index, id, source, only_new=only_new))
        return written_answer(request, written)

    async def create_document(self, request: Request) -> Response:
        """Answer `PUT /INDEX/_create/ID`: index a document; 409 if the id exists."""
        source = await raw_body(request)
        index, id = index_of(request), request.path_params["id"]
        written = await self._write(lambda: self.store.write(index, id, source, only_new=True))
        return written_answer(request, written)

    async def update_document(self, request: Request) -> Response:
        """Answer `POST /INDEX/_update/ID`: change parts of a document."""
        change = await raw_body(request)
        index, id = index_of(request), request.path_params["id"]
        return written_answer(request, await self._write(lambda: self.store.update(index, id, change)))

    async def delete_document(self, request: Request) -> Response:
        """Answer `DELETE /INDEX/_doc/ID`."""
        index, id = index_of(request), request.path_params["id"]
        return written_answer(request, await self._write(lambda: self.store.erase(index, id)))

    async def get_document(self, request: Request) -> Response:
        """Answer `GET /INDEX/_doc/ID`: the document with its version."""
        found = await self._document(request, index_of(request), request.path_params["id"])
        return answer(request, found, 200 if found["found"] else 404)

    async def _document(self, request: Request, index: str, id: str, room: AnswerRoom | None = None) -> dict[str, Any]:
        wanted = parse_source_filter(request.query_params)
        stored = await self.read_on_store_thread(request, lambda: self.store.get(index, id))
        if room is not None:
            room.take(len(stored.source) if stored is not None else 0)
        where = {"_index": index, "_type": "_doc", "_id": id}
        if stored is None:
            return {**where, "found": False}
        body = {**where, "_version": stored.version, "_seq_no": stored.seq, "_primary_term": 1, "found": True}
        if wanted.source:
            body["_source"] = search.filtered(stored.document(), wanted)
        return body

    async def get_source(self, request: Request) -> Response:
        """Answer `GET /INDEX/_source/ID`: the document without its metadata."""
        index, id = index_of(request), request.path_params["id"]
        found = await self._document(request, index, id)
        if not found["found"]:
            raise EsProblem(404, "resource_not_found_exception", f"Document not found [{index}]/[_doc]/[{id}]")
        return answer(request, found.get("_source", {}))

    async def mget(self, request: Request) -> Response:
        """Answer `_mget`: many documents by their ids."""
        body = await json_body(request)
        docs = body.get("docs", body.get("ids")) if isinstance(body, dict) else None
        if not isinstance(docs, list):
            raise EsProblem(400, "action_request_validation_exception", "Validation Failed: 1: no documents to get;")
        found = []
        room = AnswerRoom()
        for entry in docs:
            named = entry if isinstance(entry, dict) else {"_id": entry}
            index, id = str(named.get("_index", index_of(request))), str(named.get("_id", ""))
            try:
                found.append(await self._document(request, index, id, room))
            except EsProblem as problem:
                if room.left < 0:
                    raise
                room.take(0)
                found.append({"_index": index, "_type": "_doc", "_id": id, "error": problem.error()})
        return answer(request, {"docs": found})

    async def bulk(self, request: Request) -> Response:
        """Answer `_bulk`: many writes."""
        body = await raw_body(request)
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def write_all() -> tuple[bool, list[dict[str, Any]]]:
            try:
                return bulk.run(self.store, body, index_of(request))
            finally:
                self.store.refresh()

        errors, items = await self.on_store_thread(write_all)
        return answer(request, {"took": int((loop.time() - begun) * 1000), "errors": errors, "items": items})
