"""One HTTP request to the REST API: reads the request and writes the response."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from hatchway.cluster.api.describe import tables
from hatchway.cluster.api.http import compression
from hatchway.cluster.api.http.encodeditems import ENVELOPE, EncodedItems
from hatchway.cluster.api.http.negotiation import (
    JSON,
    MAX_BODY,
    PROTOBUF,
    YAML,
    AnswerFormat,
    asks_for_layout,
    decode_body,
    encode,
    media_type,
    negotiate,
    not_acceptable,
    yaml_duplicates,
)
from hatchway.cluster.api.http.pieces import FEW, joined_pieces, list_pieces
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.http.watchstream import Receive, Send
from hatchway.cluster.api.operations.listing import Page
from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.operations.requestoptions import (
    QueryParameters,
    manager_of,
    parse_query,
    write_options,
)
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.typeschema import builtin_schema
from hatchway.cluster.api.work import HEAVY, run_apart, run_sized
from hatchway.errors import ApiError, no_such_path, too_large
from hatchway.kube.api import Object
from hatchway.proxy.asgi import WRITE_NOW

# Limits of an answer's warnings: the characters of all texts together; the characters of each text, if all texts
# together are too long; the number of Warning fields.
_MAX_WARNINGS, _CUT_WARNING, _WARNING_FIELDS = 4096, 256, 64
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def _without_envelope(obj: Object) -> Object:
    """Return an object without kind and apiVersion, which items of typed lists do not have."""
    return {key: obj[key] for key in obj if key not in ENVELOPE}


def _whole(obj: Object) -> Object:
    return obj


async def _chained(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for piece in rest:
        yield piece


class Call:
    """A request to the REST API and its answer.

    begun: True once the answer has begun.
    warnings: texts for Warning header fields of the answer.
    size: the bytes of JSON of the client's object; 0 when it is small.
    """

    def __init__(self, api: Api, encoded: EncodedItems, scope: Any, receive: Receive, send: Send) -> None:
        state = scope["state"]
        self.api = api
        self._encoded = encoded
        self.info: RequestInfo = state["info"]
        self.user = state["user"]
        self.method: str = scope["method"]
        self.begun = False
        self._headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self._query_string: bytes = scope["query_string"]
        self._query: QueryParameters | None = None
        self.receive = receive
        self.send_message = send
        self.write_now: Callable[[bytes], bool] | None = scope.get("extensions", {}).get(WRITE_NOW)
        self._view: AnswerFormat | None = None
        self._row: Resource | None = None
        self.warnings: list[str] = []
        self.size = 0
        # The filters write these annotations to the audit log.
        self.audit_annotations: dict[str, str] = state.setdefault("audit_annotations", {})

    @property
    def query(self) -> QueryParameters:
        """Return the query, parsed at first use. Raises ApiError 400 when it has too many fields."""
        if self._query is None:
            self._query = parse_query(self._query_string)
        return self._query

    def header(self, name: bytes) -> str:
        """Return the value of a header field, "" when it is missing. name: in lower case."""
        return self._headers.get(name, b"").decode("latin-1")

    def negotiated(self) -> AnswerFormat:
        """Return the encoding of the answer that the client prefers. Raises ApiError 406."""
        if self._view is None:
            streams = self.info.verb in ("list", "watch")
            protobuf = self._has_protobuf()
            found = negotiate(self.header(b"accept"), tables=self._has_table(), streams=streams, protobuf=protobuf)
            self._view = AnswerFormat(found.media_type, found.as_, self.pretty())
        return self._view

    def _has_protobuf(self) -> bool:
        """Return True when the answer can be in protobuf, because it is about a built-in type."""
        info = self.info
        row = self.api.registry.find(info.api_group, info.api_version, info.resource)
        return row is not None and row.own_schema is None

    def _has_table(self) -> bool:
        """Return True when the answer can be a Table: not for types that are only created, such as reviews."""
        info = self.info
        row = self.api.registry.find(info.api_group, info.api_version, info.resource)
        found = row.subresource(info.subresource) if row is not None and info.subresource else row
        return found is None or found.verbs != ("create",)

    def pretty(self) -> bool:
        """Return True to indent JSON, because of `?pretty` or a user agent such as curl or a browser."""
        asked = self.query.get("pretty")
        if asked:
            return asked[0].lower() not in ("0", "false")
        return asks_for_layout(self.header(b"user-agent"))

    # Answering

    async def send(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send a complete answer."""
        self.begun = True
        await self.send_message({"type": "http.response.start", "status": status, "headers": headers})
        await self.send_message({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(
        self,
        status: int,
        value: Any,
        view: AnswerFormat,
        headers: list[tuple[bytes, bytes]] | None = None,
        *,
        size: int = 0,
    ) -> None:
        """Encode a value and answer with it. size: the bytes of its JSON; 0 when it is small."""
        if view.media_type == YAML or (size >= HEAVY and (view.pretty or view.media_type == PROTOBUF)):
            body = await run_apart(encode, value, view)
        else:
            body = encode(value, view)
        if len(body) > compression.LARGE and self._compresses():
            body, headers = await run_apart(compression.compress, body), [*(headers or ()), *compression.HEADERS]
        await self.send(status, self._answer_headers(view, headers), body)

    def _compresses(self) -> bool:
        return self.info.verb in ("get", "list") and compression.accepts_gzip(self.header(b"accept-encoding"))

    def _answer_headers(
        self, view: AnswerFormat, more: list[tuple[bytes, bytes]] | None = None
    ) -> list[tuple[bytes, bytes]]:
        return [
            (b"content-type", view.media_type.encode()),
            (b"cache-control", b"no-cache, private"),
            *self.warning_headers(),
            *(more or ()),
        ]

    async def answer_pieces(self, view: AnswerFormat, pieces: AsyncIterator[bytes]) -> None:
        """Send a body in pieces, compressed if the client accepts that. A single piece is sent as a complete body."""
        first = await anext(pieces)
        second = await anext(pieces, None)
        if second is None:
            await self.send(200, self._answer_headers(view), first)
            return
        rest = _chained(first, second, pieces)
        compresses = self._compresses()
        headers = self._answer_headers(view, compression.HEADERS if compresses else None)
        self.begun = True
        await self.send_message({"type": "http.response.start", "status": 200, "headers": headers})
        async for piece in compression.compress_pieces(rest) if compresses else rest:
            await self.send_message({"type": "http.response.body", "body": piece, "more_body": True})
        await self.send_message({"type": "http.response.body", "body": b"", "more_body": False})

    def warning_headers(self) -> list[tuple[bytes, bytes]]:
        """Return Warning header fields (RFC 7234, `299 - "text"`).

        The limits are those of apiserver's `pkg/endpoints/filters/warning.go`: when the texts together are too long,
        each text is cut, and the last texts are left out.
        """
        texts = list(dict.fromkeys(filter(None, self.warnings)))
        if sum(map(len, texts)) > _MAX_WARNINGS:
            texts = [text[:_CUT_WARNING] for text in texts][: _MAX_WARNINGS // _CUT_WARNING]
        found = []
        for text in texts[:_WARNING_FIELDS]:
            shown = "".join(one if " " <= one <= "~" else "?" for one in text)
            shown = shown.replace("\\", "\\\\").replace('"', '\\"')
            found.append((b"warning", f'299 - "{shown}"'.encode()))
        return found

    async def error(self, error: ApiError) -> None:
        """Answer with a Status, in an encoding that the client accepts, or in JSON if there is none."""
        try:
            found = negotiate(self.header(b"accept"), transforms=False, protobuf=self._has_protobuf())
            view = AnswerFormat(found.media_type, "", self.pretty())
        except ApiError:
            view = AnswerFormat()
        await self.answer(error.code, error.status(), view, error.headers(), size=len(error.message))

    async def answer_object(self, status: int, obj: Object) -> None:
        """Answer with an object in the requested shape: the whole object, a table, or its metadata.

        Raises ApiError 406 for another shape.
        """
        view = self.negotiated()
        size = self.size or self._weight(obj)
        if obj.get("kind") == "Status":
            value = obj
        elif view.as_ == "Table":
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            value = tables.table_head(self.row, metadata)
            make = tables.row_maker(self.row, include_object=self.include_object())
            value["rows"] = [await run_sized(size, make, obj)]
        elif view.as_ == "PartialObjectMetadata":
            value = tables.partial_object(obj)
        elif view.as_:
            raise not_acceptable()
        else:
            value = obj
        await self.answer(status, value, view, size=size)

    def _weight(self, obj: Object) -> int:
        metadata = obj.get("metadata") or {}
        return self.api.store.weight(self.row.stored_as, metadata.get("namespace") or "", metadata.get("name") or "")

    async def answer_page(self, page: Page) -> None:
        """Answer with a list, in pieces when it is long."""
        view, row = self.negotiated(), self.row
        metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
        if page.continue_token:
            metadata["continue"] = page.continue_token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
        heavy = self._weight if self.api.store.has_large(row.stored_as) else None
        if not view.as_ and view.media_type == JSON and not view.pretty and row.from_storage is None:
            head = {"kind": row.listed_as, "apiVersion": row.api_version, "metadata": metadata}
            await self.answer_pieces(view, joined_pieces(head, page.items, self._encoded.encoder(row), heavy))
            return
        show: Callable[[Object], Any] = tables.partial_object
        key = "items"
        if view.as_ == "Table":
            head, key = tables.table_head(row, metadata), "rows"
            show = tables.row_maker(row, include_object=self.include_object())
        elif view.as_:
            head = {"kind": "PartialObjectMetadataList", "apiVersion": tables.META_V1, "metadata": metadata}
        else:
            head = {"kind": row.listed_as, "apiVersion": row.api_version, "metadata": metadata}
            show = _whole if row.own_schema is not None else _without_envelope
        if len(page.items) <= FEW and not heavy and view.media_type != PROTOBUF:
            await self.answer(200, {**head, key: [show(obj) for obj in page.items]}, view)
            return
        await self.answer_pieces(view, list_pieces(head, key, page.items, show, heavy, view))

    def include_object(self) -> tables.IncludeObject:
        """Return the `includeObject` parameter of a table. Raises ApiError 400."""
        return tables.include_object((self.query.get("includeObject") or ("",))[0])

    # Reading the request

    @property
    def row(self) -> Resource:
        """Return the registry's row for the path. Raises ApiError 404."""
        if self._row is not None:
            return self._row
        info = self.info
        row = self.api.registry.find(info.api_group, info.api_version, info.resource)
        if row is None or len(info.parts) > 3:
            raise no_such_path()
        if not row.namespaced and info.namespace and row.plural != "namespaces":
            raise no_such_path()
        self._row = row
        return row

    def request(self, verb: str, *, is_apply: bool = False) -> Operation:
        """Return the requested operation. verb: create, update or patch. Raises ApiError 422."""
        info, row = self.info, self.row
        options = write_options(self.query, _OPTIONS[verb], is_apply=is_apply)
        return Operation(
            self.user,
            row,
            info.namespace if row.namespaced else "",
            info.name,
            options.dry_run,
            options.field_validation,
            self.warnings,
            is_patch=verb == "patch",
            field_manager=options.field_manager,
            audit_annotations=self.audit_annotations,
            manager=options.field_manager or manager_of(self.header(b"user-agent")),
            subresource=info.subresource,
            is_apply=is_apply,
            sees_managed=is_apply,
            force=options.force,
        )

    async def body(self) -> bytes:
        """Return the whole request body. Raises ApiError 413 when it is over 3 MiB."""
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large(MAX_BODY)
        # A single buffer is used, because many small pieces of a slow client would fragment the heap.
        collected = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client has disconnected")
            data: bytes = message.get("body", b"")
            if len(collected) + len(data) > MAX_BODY:
                raise too_large(MAX_BODY)
            if not message.get("more_body", False):
                return bytes(collected) + data if collected else data
            collected += data

    async def object(self, request: Operation, gvk: tuple[str, str, str]) -> Any:
        """Read the request's body and return it as an object.

        Stores the body's size, and errors in the document's text (such as duplicate keys), in `request`.

        gvk: the expected type.
        """
        body = await self.body()
        content_type = self.header(b"content-type")
        # YAML always counts as heavy work, because with aliases a few bytes can mean many values.
        size = HEAVY if media_type(content_type).endswith("yaml") else len(body)
        found = await run_sized(size, decode_body, content_type, body, gvk[2])
        request.size = self.size = size = request.row.weight_of(size)
        if request.field_validation != "Ignore":
            kind = media_type(content_type) or JSON
            if kind == JSON:
                typed = request.row.schema if gvk == request.row.gvk else builtin_schema(gvk)
                request.document_errors = await run_sized(size, typed.document_errors, body)
            elif kind == YAML:
                request.yaml_errors = await run_sized(size, yaml_duplicates, body)
        return found
