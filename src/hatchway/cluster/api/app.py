"""The REST API as an ASGI application: what a request means, what it is answered with.

Called behind the filters (`filters.py`), which leave `user` and `info` in the scope's state. Every error is a `Status`;
whatever goes wrong here is logged and answered as a 500 without a traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hatchway.cluster.api import deletion, patch, schema, subresources, tables
from hatchway.cluster.api.health import store_health
from hatchway.cluster.api.local import create_virtual_subresource
from hatchway.cluster.api.negotiation import (
    MAX_BODY,
    View,
    decode_body,
    encode,
    media_type,
    negotiate,
)
from hatchway.cluster.api.nonresource import NonResource
from hatchway.cluster.api.options import Query, delete_options, list_options, parse_query, write_options
from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.requestinfo import RequestInfo
from hatchway.cluster.api.rest import Api, Page, Request
from hatchway.cluster.api.selectors import FieldSelector, FieldTerm
from hatchway.cluster.api.watching import watch
from hatchway.cluster.api.watchstream import Receive, Send, stream
from hatchway.errors import ApiError, bad_request, internal, no_such_path, not_found, too_large
from hatchway.kube.api import Object

logger = logging.getLogger(__name__)

_ENVELOPE = frozenset(("kind", "apiVersion"))
_OPTIONS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}


def _not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


class RestApp:
    """An ASGI 3 application (http scope): the verbs of `api`, and what `nonresource` answers (by default health, which
    asks the store, version, discovery and OpenAPI)."""

    def __init__(self, api: Api, nonresource: NonResource | None = None) -> None:
        self._api = api
        self._nonresource = nonresource or NonResource(api.registry, store_health(api.store))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        call = _Call(self._api, scope, receive, send)
        try:
            try:
                if call.info.is_resource:
                    await call.resource()
                else:
                    await self._other(call)
            except ApiError as error:
                await call.error(error)
            except RecursionError:
                await call.error(bad_request("the object is nested too deep"))
        except OSError:
            raise  # the client has gone
        except Exception as error:  # a bug must not leave a client waiting, nor show it our insides
            logger.exception("%s %s failed", scope["method"], call.info.path)
            if call.begun:
                raise
            await call.error(internal(type(error).__name__))

    async def _other(self, call: _Call) -> None:
        if call.method not in ("GET", "HEAD"):
            raise _not_allowed()
        accept, known = call.header(b"accept"), call.header(b"if-none-match")
        found = self._nonresource.answer(call.info.path, call.query, accept, known, pretty=call.pretty())
        await call.send(found.status, found.headers, found.body)


class _Call:
    """One request and its answer."""

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
        self._receive = receive
        self._send = send
        self._view: View | None = None
        self._warnings: list[str] = []

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
            found = negotiate(self.header(b"accept"))
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
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

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
        for text in self._warnings[:20]:
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
            raise ApiError(406, "NotAcceptable", "406: Not Acceptable", {})
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
            self._warnings,
        )

    async def body(self) -> bytes:
        """The whole request body. Raises ApiError 413 when it is over 3 MiB."""
        length = self.header(b"content-length")
        if length.isdigit() and int(length) > MAX_BODY:
            raise too_large(MAX_BODY)
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client has gone")
            data = message.get("body", b"")
            size += len(data)
            if size > MAX_BODY:
                raise too_large(MAX_BODY)
            pieces.append(data)
            if not message.get("more_body", False):
                return b"".join(pieces)

    async def object(self, request: Request, kind: str) -> Any:
        """The request body as an object; fields that it has twice are warned of or refused."""
        body = await self.body()
        content_type = self.header(b"content-type")
        found = decode_body(content_type, body, kind)
        if request.field_validation != "Ignore" and media_type(content_type) in ("", "application/json"):
            self._duplicates(request, schema.duplicate_fields(body), kind)
        return found

    def _duplicates(self, request: Request, duplicates: tuple[str, ...], kind: str) -> None:
        if not duplicates:
            return
        if request.field_validation == "Strict":
            raise bad_request(
                f'{kind} in version "{request.row.version}" cannot be handled as a {kind}: strict decoding error: '
                + ", ".join(duplicates)
            )
        self._warnings.extend(duplicates)

    # Acting

    async def resource(self) -> None:
        info = self.info
        row = self.row
        if info.subresource:
            await self._subresource(row, info.subresource)
            return
        verb = info.verb
        if verb not in row.verbs:
            raise _not_allowed()
        if row.namespaced and not info.namespace and verb not in ("list", "watch"):
            raise _not_allowed() if verb == "create" else no_such_path()
        self.negotiated()
        await _VERBS[verb](self)

    async def get(self) -> None:
        info, row = self.info, self.row
        list_options({key: self.query[key] for key in ("resourceVersion",) if key in self.query}, watch=False)
        await self.answer_object(200, self.api.get(row, info.namespace if row.namespaced else "", info.name))

    async def list(self) -> None:
        row = self.row
        options = list_options(self.query, watch=False)
        await self.answer_page(self.api.list(row, self._space(row), options))

    def _space(self, row: Resource) -> str | None:
        return (self.info.namespace or None) if row.namespaced else None

    async def watch(self) -> None:
        row, view = self.row, self.negotiated()
        options = list_options(self.query, watch=True)
        name = self.info.name
        if name and options.fields.exact("metadata.name") is None:
            # The old form of a watch, /api/v1/watch/namespaces/NS/pods/NAME.
            fields = FieldSelector((*options.fields.terms, FieldTerm("metadata.name", name, False)))
            options = replace(options, fields=fields)
        self.api.matcher(row, self._space(row), options)
        include = self.include_object()
        self.begun = True
        await stream(
            self._receive,
            self._send,
            watch(self.api, row, self._space(row), options),
            row=row,
            view=view,
            include_object=include,
            timeout=options.timeout,
            headers=self.warning_headers(),
        )

    async def create(self) -> None:
        if self.info.name:
            raise _not_allowed()
        request = self.request("create")
        obj = await self.object(request, request.row.kind)
        await self.answer_object(201, await self.api.create(request, obj))

    async def update(self) -> None:
        await self._update(status=False)

    async def _update(self, *, status: bool) -> None:
        if not self.info.name:
            raise _not_allowed()
        request = self.request("update")
        obj = await self.object(request, request.row.kind)
        stored, created = await self.api.update(request, obj, status=status)
        await self.answer_object(201 if created else 200, stored)

    async def _patch_function(self, request: Request, gvk: tuple[str, str, str]) -> Callable[[Object], Any]:
        found = media_type(self.header(b"content-type"))
        if found not in (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC_MERGE_PATCH):
            raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        parsed = patch.parse_patch(found, await self.body())
        if request.field_validation != "Ignore":
            self._duplicates(request, parsed.duplicates, request.row.kind)
        return lambda obj: parsed.apply(gvk, obj)

    async def patch(self) -> None:
        await self._patch(status=False)

    async def _patch(self, *, status: bool) -> None:
        if not self.info.name:
            raise _not_allowed()
        request = self.request("patch")
        apply = await self._patch_function(request, request.row.gvk)
        await self.answer_object(200, await self.api.patch(request, apply, status=status))

    async def _delete_options(self) -> Any:
        body = await self.body()
        if not body:
            return None
        obj = decode_body(self.header(b"content-type"), body, "DeleteOptions")
        if not isinstance(obj, dict):
            raise bad_request("the object provided is unrecognized (must be of type DeleteOptions)")
        if obj.get("kind", "DeleteOptions") != "DeleteOptions":
            raise bad_request(f"the object provided is a {obj['kind']}, not DeleteOptions")
        return schema.check(("meta.k8s.io", "v1", "DeleteOptions"), obj).object

    async def delete(self) -> None:
        info, row = self.info, self.row
        options = delete_options(self.query, await self._delete_options())
        request = Request(self.user, row, info.namespace if row.namespaced else "", info.name, options.dry_run)
        obj, gone = await deletion.delete(self.api, request, options)
        await self.answer_object(202 if options.orphan is False and not gone else 200, obj)

    async def deletecollection(self) -> None:
        row = self.row
        options = delete_options(self.query, await self._delete_options())
        selection = list_options(self.query, watch=False)
        request = Request(self.user, row, self._space(row) or "", "", options.dry_run)
        await self.answer_page(await deletion.delete_collection(self.api, request, options, selection))

    # Subresources

    async def _subresource(self, row: Resource, name: str) -> None:
        found = row.subresource(name)
        if found is None or not self.info.name or (row.namespaced and not self.info.namespace):
            raise no_such_path()
        verb = self.info.verb
        if verb not in found.verbs:
            raise _not_allowed()
        self.negotiated()
        if name == "status":
            if verb == "get":
                await self.get()
            elif verb == "update":
                await self._update(status=True)
            else:
                await self._patch(status=True)
        elif name == "scale":
            await self._scale(verb)
        elif name == "finalize":
            request = self.request("update")
            await self.answer_object(
                200, await subresources.finalize(self.api, request, await self.object(request, row.kind))
            )
        else:
            await self._post(row, name, found.kind or row.kind)

    async def _scale(self, verb: str) -> None:
        if verb == "get":
            request = Request(self.user, self.row, self.info.namespace, self.info.name)
            scale = subresources.get_scale(self.api, request)
        elif verb == "update":
            request = self.request("update")
            scale = await subresources.update_scale(self.api, request, await self.object(request, "Scale"))
        else:
            request = self.request("patch")
            apply = await self._patch_function(request, ("autoscaling", "v1", "Scale"))
            scale = await subresources.patch_scale(self.api, request, apply)
        await self.answer(200, scale, View(self.negotiated().media_type, "", self.pretty()))

    async def _post(self, row: Resource, name: str, kind: str) -> None:
        if self.method != "POST":
            raise no_such_path()
        request = self.request("create")
        key = f"{row.group_resource}/{name}"
        if key not in ("pods/binding", "pods/eviction") and key not in self.api.registry.virtual:
            raise no_such_path()
        obj = await self.object(request, kind)
        if key == "pods/binding":
            result = await subresources.bind(self.api, request, obj)
        elif key == "pods/eviction":
            result = await subresources.evict(self.api, request, obj)
        else:
            if self.api.store.get(row.stored_as, request.namespace, request.name) is None:
                raise not_found(row.plural, request.name, row.group)
            result = await create_virtual_subresource(self.api, request, row, name, obj)
        await self.answer(201, result, View(self.negotiated().media_type, "", self.pretty()))


_VERBS: dict[str, Callable[[_Call], Any]] = {
    "get": _Call.get,
    "list": _Call.list,
    "watch": _Call.watch,
    "create": _Call.create,
    "update": _Call.update,
    "patch": _Call.patch,
    "delete": _Call.delete,
    "deletecollection": _Call.deletecollection,
}
