"""The REST API as an ASGI application: performs the operation of a request, and answers.

The filters (`filters.py`) call the application, and set `user` and `info` in the scope's state. Every error is answered
with a `Status`. Unexpected exceptions are logged, and answered with status 500 and no traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hatchway.cluster.api.http.call import Call
from hatchway.cluster.api.http.encodeditems import EncodedItems
from hatchway.cluster.api.http.health import store_health
from hatchway.cluster.api.http.negotiation import (
    AnswerFormat,
    decode_body,
    json_configuration,
    media_type,
    yaml_configuration,
    yaml_duplicates,
)
from hatchway.cluster.api.http.nonresource import PAGE_NOT_FOUND, NonResource
from hatchway.cluster.api.http.plainreads import PlainReads
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.http.watchstream import Receive, Send, stream
from hatchway.cluster.api.operations import deletion, subresources
from hatchway.cluster.api.operations.listing import matcher
from hatchway.cluster.api.operations.operation import Operation
from hatchway.cluster.api.operations.requestoptions import DeleteOptions, ListOptions, delete_options, list_options
from hatchway.cluster.api.operations.tracking import applier, scale_write
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.operations.watching import watch
from hatchway.cluster.api.patch import patches
from hatchway.cluster.api.registry import schema
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.schema.strict import strict_errors
from hatchway.cluster.api.registry.selectors import FieldSelector, FieldTerm
from hatchway.cluster.api.work import HEAVY, Pace, begin_request, run_apart, run_sized
from hatchway.errors import ApiError, bad_request, internal, no_such_path
from hatchway.kube.api import Object

logger = logging.getLogger(__name__)


def _not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


class RestApp:
    """An ASGI 3 application (http scope): the operations of `api`, and the paths without a resource.

    nonresource: answers paths without a resource; by default health (of the store), version, discovery and OpenAPI.
    before_port_forward: called with namespace and name of a Service when `kubectl port-forward` reads the Service.

    Attributes:
        plain_reads: finds requests that can be answered without calling the application.
    """

    def __init__(
        self,
        api: Api,
        nonresource: NonResource | None = None,
        before_port_forward: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._api = api
        self._encoded = EncodedItems(api.store)
        self.plain_reads = PlainReads(api, self._encoded)
        self._before_port_forward = before_port_forward
        self._nonresource = nonresource or NonResource(api.registry, store_health(api.store))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer one request. Every ApiError becomes a Status."""
        call = _Verbs(self._api, self._encoded, scope, receive, send)
        try:
            try:
                await begin_request()
                if call.info.is_resource and self._is_served(call.info):
                    if self._before_port_forward is not None and call.is_port_forward:
                        await self._before_port_forward(call.info.namespace, call.info.name)
                    if self._is_missing(call.info):
                        await call.send(PAGE_NOT_FOUND.status, PAGE_NOT_FOUND.headers, PAGE_NOT_FOUND.body)
                    else:
                        await call.resource()
                else:
                    await self._other(call)
            except ApiError as error:
                await call.error(error)
            except RecursionError:
                await call.error(bad_request("the object is nested too deep"))
        except OSError:
            raise  # the client has disconnected
        except Exception as error:  # a bug: the client gets an answer without internal details
            logger.exception("%s %s failed", scope["method"], call.info.path)
            if call.begun:
                raise
            await call.error(internal(type(error).__name__))

    def _is_served(self, info: RequestInfo) -> bool:
        """Return True when the path belongs to an API group. (Any other path gets a plain 404.)"""
        return info.api_prefix == "api" or self._nonresource.is_rest(f"/apis/{info.api_group}")

    def _is_missing(self, info: RequestInfo) -> bool:
        """Return True for a type that does not exist in a group of custom types.

        Kubernetes answers such a path with a plain 404 (apiextensions' `customresource_handler.go`).
        """
        registry = self._api.registry
        if info.api_prefix == "api" or registry.is_builtin_group(info.api_group):
            return False
        return registry.find(info.api_group, info.api_version, info.resource) is None

    async def _other(self, call: _Verbs) -> None:
        if call.method not in ("GET", "HEAD") and self._nonresource.is_rest(call.info.path.rstrip("/")):
            raise _not_allowed()
        accept, known = call.header(b"accept"), call.header(b"if-none-match")
        answer = partial(self._nonresource.answer, call.info.path, call.query, accept, known, pretty=call.pretty())
        # This runs on a thread, because making an OpenAPI document and encoding it as YAML takes up to half a second.
        found = await run_apart(answer) if call.info.path.startswith("/openapi/") else answer()
        await call.send(found.status, found.headers, found.body)


class _Verbs(Call):
    """Performs the operation of a method and a path."""

    @property
    def is_port_forward(self) -> bool:
        """Return True when `kubectl port-forward svc/NAME` reads its Service: kubectl does so before it lists the pods.

        kubectl sends the name of its command with each request (KEP-859).
        """
        info = self.info
        asked = (info.verb, info.api_prefix, info.resource, info.subresource) == ("get", "api", "services", "")
        return asked and self.header(b"kubectl-command") == "kubectl port-forward"

    async def resource(self) -> None:
        info = self.info
        if info.verb == "proxy":
            raise no_such_path()  # `/api/v1/proxy/...`, which Kubernetes has removed in 1.10
        row = self.row
        if info.subresource:
            await self._subresource(row, info.subresource)
            return
        if row.strategy.deprecation:
            self.warnings.append(row.strategy.deprecation)
        verb = info.verb
        if verb not in row.verbs:
            raise _not_allowed()
        if row.namespaced and not info.namespace and verb not in ("list", "watch"):
            raise _not_allowed() if verb == "create" else no_such_path()
        self.negotiated()
        await _VERBS[verb](self)

    async def get(self) -> None:
        info, row = self.info, self.row
        await self._reach()
        await self.answer_object(200, await self.api.get(row, info.namespace if row.namespaced else "", info.name))

    async def _reach(self) -> None:
        """Wait until the store has reached the resourceVersion in the query of a GET."""
        wanted = {key: self.query[key] for key in ("resourceVersion",) if key in self.query}
        await self.api.reach(list_options(wanted, watch=False).revision)

    async def list(self) -> None:
        row = self.row
        options = await self._list_options(watch=False)
        if not options.continue_token:
            await self.api.reach(options.revision)
        await self.answer_page(await self.api.list(row, self._space(row), options))

    async def _list_options(self, *, watch: bool) -> ListOptions:
        # Parsing a selector takes much time in relation to its length.
        if len(self._query_string) < HEAVY // 8:
            return list_options(self.query, watch=watch)
        return await run_apart(list_options, self.query, watch=watch)

    def _space(self, row: Resource) -> str | None:
        return (self.info.namespace or None) if row.namespaced else None

    async def watch(self) -> None:
        row, view = self.row, self.negotiated()
        options = await self._list_options(watch=True)
        name = self.info.name
        if name:
            # The deprecated form /api/v1/watch/namespaces/NS/pods/NAME. The request was authorized for this name only,
            # so the name is always added to the field selector.
            fields = FieldSelector((*options.fields.terms, FieldTerm("metadata.name", name, False)))
            options = replace(options, fields=fields)
        await self.api.reach(options.revision)
        matcher(row, self._space(row), options)
        include = self.include_object()
        self.begun = True
        pace = Pace()
        await stream(
            self.receive,
            self.send_message,
            partial(watch, self.api, row, self._space(row), options, pace),
            pace,
            write_now=self.write_now,
            row=row,
            view=view,
            include_object=include,
            weight=self._weight,
            timeout=options.timeout,
            headers=self.warning_headers(),
        )

    async def create(self) -> None:
        if self.info.name:
            raise _not_allowed()
        request = self.request("create")
        obj = await self.object(request, request.row.gvk)
        await self.answer_object(201, await subresources.create_object(self.api, request, obj))

    async def update(self) -> None:
        if not self.info.name:
            raise _not_allowed()
        request = self.request("update")
        obj = await self.object(request, request.row.gvk)
        stored, created = await self.api.update(request, obj)
        await self.answer_object(201 if created else 200, stored)

    def _patch_type(self, row: Resource) -> str:
        """Return the media type of the patch. Raises ApiError 415 when the type does not support it."""
        found = media_type(self.header(b"content-type"))
        if found == patches.STRATEGIC_MERGE_PATCH and not row.schema.merges_strategically:
            accepted = f"{patches.JSON_PATCH}, {patches.MERGE_PATCH}, {patches.APPLY_PATCH}"
            message = f"the body of the request was in an unknown format - accepted media types include: {accepted}"
            raise ApiError(415, "UnsupportedMediaType", message)
        if found not in (patches.JSON_PATCH, patches.MERGE_PATCH, patches.STRATEGIC_MERGE_PATCH, patches.APPLY_PATCH):
            raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        return found

    async def _patch_function(self, request: Operation, gvk: tuple[str, str, str]) -> Callable[[Object], Any]:
        found = self._patch_type(request.row)
        body = await self.body()
        if found == patches.APPLY_PATCH:
            return await self._apply_function(request, gvk, body)
        parsed = await run_sized(len(body), patches.parse_patch, found, body)
        request.sees_managed = found == patches.JSON_PATCH and b"managedFields" in body
        request.size = self.size = request.row.weight_of(parsed.size)
        if request.field_validation != "Ignore" and parsed.duplicates:
            request.patch_errors, request.patch_body = parsed.duplicates, body
        return lambda obj: parsed.apply(gvk, obj)

    async def _apply_function(
        self, request: Operation, gvk: tuple[str, str, str], body: bytes
    ) -> Callable[[Object], Any]:
        # JSON is decoded as JSON, although it is also YAML, because parsing YAML is slow.
        config = await run_sized(len(body), json_configuration, body)
        is_json = config is not None
        if not is_json:
            config = await run_apart(yaml_configuration, body)
        request.size = self.size = request.row.weight_of(len(body))
        if request.field_validation != "Ignore":
            size, find = (len(body), partial(strict_errors, None)) if is_json else (HEAVY, yaml_duplicates)
            found = await run_sized(size, find, body)
            if found and request.field_validation == "Strict":
                raise bad_request(f"error strict decoding patch: {', '.join(found)}")
            self.warnings.extend(found)
        write = self.api.write(request, self.api.context(request))
        if gvk != request.row.gvk:
            write = scale_write(request, write.now)
        return applier(write, request, gvk, config)

    def _patch_request(self) -> Operation:
        # The media type is checked first, because some options are only for server-side apply.
        return self.request("patch", is_apply=self._patch_type(self.row) == patches.APPLY_PATCH)

    async def patch(self) -> None:
        if not self.info.name:
            raise _not_allowed()
        request = self._patch_request()
        apply: Callable[[Any], Any] = await self._patch_function(request, request.row.gvk)
        if request.is_apply:
            obj, created = await self.api.apply(request, apply)
            await self.answer_object(201 if created else 200, obj)
        else:
            await self.answer_object(200, await self.api.patch(request, apply))

    async def _delete_options(self) -> Any:
        body = await self.body()
        if not body:
            return None
        content_type = self.header(b"content-type")
        size = HEAVY if media_type(content_type).endswith("yaml") else len(body)
        obj = await run_sized(size, decode_body, content_type, body, "DeleteOptions")
        if not isinstance(obj, dict):
            raise bad_request("the object provided is unrecognized (must be of type DeleteOptions)")
        if obj.get("kind", "DeleteOptions") != "DeleteOptions":
            raise bad_request(f"the object provided is a {obj['kind']}, not DeleteOptions")
        return (await run_sized(size, schema.check, ("meta.k8s.io", "v1", "DeleteOptions"), obj)).object

    async def delete(self) -> None:
        info, row = self.info, self.row
        options = delete_options(self.query, await self._delete_options())
        namespace = info.namespace if row.namespaced else ""
        request = self._deletion(namespace, info.name, options)
        obj, gone = await deletion.delete(self.api, request, options)
        await self.answer_object(202 if options.orphan is False and not gone else 200, obj)

    def _deletion(self, namespace: str, name: str, options: DeleteOptions) -> Operation:
        return Operation(
            self.user,
            self.row,
            namespace,
            name,
            options.dry_run,
            warnings=self.warnings,
            audit_annotations=self.audit_annotations,
        )

    async def deletecollection(self) -> None:
        row = self.row
        options = delete_options(self.query, await self._delete_options())
        selection = await self._list_options(watch=False)
        request = self._deletion(self._space(row) or "", "", options)
        await self.answer_page(await deletion.delete_collection(self.api, request, options, selection))

    # Subresources

    async def _subresource(self, row: Resource, name: str) -> None:
        found = row.subresource(name)
        if found is None or not self.info.name or (row.namespaced and not self.info.namespace):
            raise no_such_path()
        verb = self.info.verb
        if verb not in found.verbs:
            raise _not_allowed()
        verbs = subresources.verbs_of(self.api, row, found)
        if verbs is None:
            raise no_such_path()
        self.negotiated()
        gvk = row.subresource_gvk(found)
        if verb == "get":
            await self._reach()
            request = Operation(self.user, row, self.info.namespace if row.namespaced else "", self.info.name)
            result = await verbs.get(self.api, request)
        elif verb == "patch":
            request = self._patch_request()
            result = await verbs.patch(self.api, request, await self._patch_function(request, gvk))
        elif verb == "update":
            request = self.request("update")
            result = await verbs.update(self.api, request, await self.object(request, gvk))
        else:
            request = self.request("create")
            result = await verbs.create(self.api, request, await self.object(request, gvk))
        status = 201 if verb == "create" else 200
        if found.kind:
            await self.answer(status, result, AnswerFormat(self.negotiated().media_type, "", self.pretty()))
        else:
            await self.answer_object(status, result)


_VERBS: dict[str, Callable[[_Verbs], Any]] = {
    "get": _Verbs.get,
    "list": _Verbs.list,
    "watch": _Verbs.watch,
    "create": _Verbs.create,
    "update": _Verbs.update,
    "patch": _Verbs.patch,
    "delete": _Verbs.delete,
    "deletecollection": _Verbs.deletecollection,
}
