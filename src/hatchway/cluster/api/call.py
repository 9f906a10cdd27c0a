"""One HTTP request to the REST API and its answer: reading the one, writing the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hatchway.cluster.api import schema, tables
from hatchway.cluster.api.negotiation import (
    JSON,
    MAX_BODY,
    YAML,
    View,
    decode_body,
    encode,
    media_type,
    negotiate,
    not_acceptable,
    yaml_duplicates,
)
from hatchway.cluster.api.options import Query, parse_query, write_options
from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.requestinfo import RequestInfo
from hatchway.cluster.api.rest import Api, Page, Request
from hatchway.cluster.api.watchstream import Receive, Send
from hatchway.cluster.api.work import HEAVY, run_sized
from hatchway.errors import ApiError, no_such_path, too_large
from hatchway.kube.api import Object

_ENVELOPE = frozenset(("kind", "apiVersion"))
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


class Call:
    """A request and its answer. `begun`: the answer is on its way. `warnings`: what the client is told beside it."""

    def __init__(self, api: Api, scope: Any, receive: Receive, send: Send) -> None:
        state = scope["state"]
        self.api = api
        self.info: RequestInfo = state["info"]
        self.user = state["user"]
        self.method: str = scope["method"]
        self.begun = False
        self._headers: Mapping[bytes, bytes] = dict(scope["headers"])
        self._query_string: bytes = scope["query_string"]
        self._query: Query | None = None
        self.receive = receive
        self.send_message = send
        self._view: View | None = None
        self.warnings: list[str] = []

    @property
    def query(self) -> Query:
        if self._query is None:
            self._query = parse_query(self._query_string)
        return self._query

    def header(self, name: bytes) -> str:
        return self._headers.get(name, b"").decode("latin-1")

    def negotiated(self) -> View:
        """How the client wants its answer. Raises ApiError 406."""
        if self._view is None:
            found = negotiate(self.header(b"accept"), streams=self.info.verb in ("list", "watch"))
            self._view = View(found.media_type, found.as_, self.pretty())
        return self._view

    def pretty(self) -> bool:
        """Whether a person reads the answer, as far as can be told."""
        asked = self.query.get("pretty")
        if asked:
            return asked[0].lower() not in ("0", "false")
        return self.header(b"user-agent").startswith(("curl", "Wget", "Mozilla/5.0"))

    # Answering

    async def send(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.begun = True
        await self.send_message({"type": "http.response.start", "status": status, "headers": headers})
        await self.send_message({"type": "http.response.body", "body": body, "more_body": False})

    async def answer(
        self, status: int, value: Any, view: View, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        body = encode(value, view)
        await self.send(
            status,
            [
                (b"content-type", view.media_type.encode()),
                (b"cache-control", b"no-cache, private"),
                *self.warning_headers(),
                *(headers or ()),
            ],
            body,
        )

    def warning_headers(self) -> list[tuple[bytes, bytes]]:
        """RFC 7234's Warning fields (`299 - "text"`), no more of them than a client's header limit allows."""
        found = []
        for text in self.warnings[:20]:
            shown = "".join(one if " " <= one <= "~" else "?" for one in text[:200])
            shown = shown.replace("\\", "\\\\").replace('"', '\\"')
            found.append((b"warning", f'299 - "{shown}"'.encode()))
        return found

    async def error(self, error: ApiError) -> None:
        try:
            found = negotiate(self.header(b"accept"), transforms=False)
            view = View(found.media_type, "", self.pretty())
        except ApiError:
            view = View()
        await self.answer(error.code, error.status(), view, error.headers())

    async def answer_object(self, status: int, obj: Object) -> None:
        view = self.negotiated()
        if obj.get("kind") == "Status":
            value = obj
        elif view.as_ == "Table":
            metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            value = tables.to_table(self.row, [obj], include_object=self.include_object(), list_meta=metadata)
        elif view.as_ == "PartialObjectMetadata":
            value = tables.partial_object(obj)
        elif view.as_:
            raise not_acceptable()
        else:
            value = obj
        await self.answer(status, value, view)

    async def answer_page(self, page: Page) -> None:
        view, row = self.negotiated(), self.row
        metadata: dict[str, Any] = {"resourceVersion": str(page.revision)}
        if page.continue_token:
            metadata["continue"] = page.continue_token
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
        if view.as_ == "Table":
            value = tables.to_table(row, page.items, include_object=self.include_object(), list_meta=metadata)
        elif view.as_:
            value = tables.partial_object_list(page.items, metadata)
        else:
            value = {
                "kind": f"{row.kind}List",
                "apiVersion": row.api_version,
                "metadata": metadata,
                # Items of a typed list are without kind and apiVersion.
                "items": [{key: obj[key] for key in obj if key not in _ENVELOPE} for obj in page.items],
            }
        await self.answer(200, value, view)

    def include_object(self) -> tables.IncludeObject:
        return tables.include_object((self.query.get("includeObject") or ("",))[0])

    # Understanding

    @property
    def row(self) -> Resource:
        """The row that the path names. Raises ApiError 404."""
        info = self.info
        row = self.api.registry.find(info.api_group, info.api_version, info.resource)
        if row is None or len(info.parts) > 3:
            raise no_such_path()
        if not row.namespaced and info.namespace and row.plural != "namespaces":
            raise no_such_path()
        return row

    def request(self, verb: str) -> Request:
        info, row = self.info, self.row
        options = write_options(self.query, _OPTIONS[verb])
        return Request(
            self.user,
            row,
            info.namespace if row.namespaced else "",
            info.name,
            options.dry_run,
            options.field_validation,
            self.warnings,
        )

    async def body(self) -> bytes:
        """The whole request body. Raises ApiError 413 when it is over 3 MiB."""
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large(MAX_BODY)
        # One buffer: many small pieces that wait for a slow client would leave the heap in holes.
        collected = bytearray()
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client has gone")
            data: bytes = message.get("body", b"")
            if len(collected) + len(data) > MAX_BODY:
                raise too_large(MAX_BODY)
            if not message.get("more_body", False):
                return bytes(collected) + data if collected else data
            collected += data

    async def object(self, request: Request, gvk: tuple[str, str, str]) -> Any:
        """The request body as an object. gvk: the type that is expected. Notes what is wrong with the document itself."""
        body = await self.body()
        content_type = self.header(b"content-type")
        # YAML's time does not follow from its length: aliases make few bytes stand for many values.
        size = HEAVY if media_type(content_type).endswith("yaml") else len(body)
        found = await run_sized(size, decode_body, content_type, body, gvk[2])
        if request.field_validation != "Ignore":
            kind = media_type(content_type) or JSON
            if kind == JSON:
                request.document_errors = await run_sized(size, schema.strict_errors, gvk, body)
            elif kind == YAML:
                request.yaml_errors = await run_sized(size, yaml_duplicates, body)
        return found
