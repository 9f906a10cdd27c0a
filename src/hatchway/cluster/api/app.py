"""The REST API as an ASGI application: what a request means, what it is answered with.

Called behind the filters (`filters.py`), which leave `user` and `info` in the scope's state. Every error is a `Status`;
whatever goes wrong here is logged and answered as a 500 without a traceback.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn

from hatchway.cluster.api import deletion, patch, schema, subresources
from hatchway.cluster.api.call import Call
from hatchway.cluster.api.health import store_health
from hatchway.cluster.api.local import create_virtual_subresource
from hatchway.cluster.api.negotiation import (
    View,
    decode_body,
    media_type,
)
from hatchway.cluster.api.nonresource import NonResource
from hatchway.cluster.api.options import delete_options, list_options
from hatchway.cluster.api.podlog import container_of
from hatchway.cluster.api.registry import Resource
from hatchway.cluster.api.requestinfo import RequestInfo
from hatchway.cluster.api.rest import Api, Request
from hatchway.cluster.api.selectors import FieldSelector, FieldTerm
from hatchway.cluster.api.watching import watch
from hatchway.cluster.api.watchstream import Receive, Send, stream
from hatchway.cluster.api.work import HEAVY, run_sized
from hatchway.errors import ApiError, bad_request, internal, no_such_path, not_found
from hatchway.kube.api import Object

logger = logging.getLogger(__name__)

# What Kubernetes has and this release has not; kubectl shows the words as they are.
_UNSUPPORTED = {
    "exec": "exec (and cp) is not supported by this release of Hatchway",
    "attach": "attach is not supported by this release of Hatchway; `kubectl logs -f` shows what a container writes",
    "portforward": "port-forward is not supported by this release of Hatchway; `hatchway url` tells how to reach a port",
}
# (group, version, resource) of types that are not served, but that kubectl lists without asking whether they are
# (`cluster-info dump`; the validation of objects whose kind is not served): there are none of them.
_NONE_OF = {
    ("", "v1", "replicationcontrollers"): "ReplicationControllerList",
    ("apps", "v1", "daemonsets"): "DaemonSetList",
    ("apiextensions.k8s.io", "v1", "customresourcedefinitions"): "CustomResourceDefinitionList",
}


def _not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})


class RestApp:
    """An ASGI 3 application (http scope): the verbs of `api`, and what `nonresource` answers (by default health, which
    asks the store, version, discovery and OpenAPI)."""

    def __init__(self, api: Api, nonresource: NonResource | None = None) -> None:
        self._api = api
        self._nonresource = nonresource or NonResource(api.registry, store_health(api.store))

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        call = _Verbs(self._api, scope, receive, send)
        try:
            try:
                if call.info.is_resource and self._is_served(call.info):
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

    def _is_served(self, info: RequestInfo) -> bool:
        """Whether an API group owns the path: all others are plain pages that do not exist."""
        if info.api_prefix == "api" or (info.api_group, info.api_version, info.resource) in _NONE_OF:
            return True
        return self._nonresource.is_rest(f"/apis/{info.api_group}")

    async def _other(self, call: _Verbs) -> None:
        if call.method not in ("GET", "HEAD") and self._nonresource.is_rest(call.info.path.rstrip("/")):
            raise _not_allowed()
        accept, known = call.header(b"accept"), call.header(b"if-none-match")
        found = self._nonresource.answer(call.info.path, call.query, accept, known, pretty=call.pretty())
        await call.send(found.status, found.headers, found.body)


class _Verbs(Call):
    """What the path and the method ask for."""

    async def resource(self) -> None:
        info = self.info
        none_of = _NONE_OF.get((info.api_group, info.api_version, info.resource))
        if none_of is not None and info.verb == "list":
            await self._list_nothing(none_of)
            return
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

    async def _list_nothing(self, kind: str) -> None:
        info = self.info
        version = f"{info.api_group}/{info.api_version}" if info.api_group else info.api_version
        metadata = {"resourceVersion": str(self.api.store.revision)}
        empty = {"kind": kind, "apiVersion": version, "metadata": metadata, "items": []}
        await self.answer(200, empty, View(self.negotiated().media_type, "", self.pretty()))

    async def get(self) -> None:
        info, row = self.info, self.row
        wanted = {key: self.query[key] for key in ("resourceVersion",) if key in self.query}
        await self.api.reach(list_options(wanted, watch=False).revision)
        await self.answer_object(200, self.api.get(row, info.namespace if row.namespaced else "", info.name))

    async def list(self) -> None:
        row = self.row
        options = list_options(self.query, watch=False)
        if not options.continue_token:
            await self.api.reach(options.revision)
        await self.answer_page(self.api.list(row, self._space(row), options))

    def _space(self, row: Resource) -> str | None:
        return (self.info.namespace or None) if row.namespaced else None

    async def watch(self) -> None:
        row, view = self.row, self.negotiated()
        options = list_options(self.query, watch=True)
        name = self.info.name
        if name:
            # The old form of a watch, /api/v1/watch/namespaces/NS/pods/NAME: the name is what was authorized, whatever
            # a field selector asks for.
            fields = FieldSelector((*options.fields.terms, FieldTerm("metadata.name", name, False)))
            options = replace(options, fields=fields)
        await self.api.reach(options.revision)
        self.api.matcher(row, self._space(row), options)
        include = self.include_object()
        self.begun = True
        await stream(
            self.receive,
            self.send_message,
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
        obj = await self.object(request, request.row.gvk)
        await self.answer_object(201, await self.api.create(request, obj))

    async def update(self) -> None:
        await self._update(status=False)

    async def _update(self, *, status: bool) -> None:
        if not self.info.name:
            raise _not_allowed()
        request = self.request("update")
        obj = await self.object(request, request.row.gvk)
        stored, created = await self.api.update(request, obj, status=status)
        await self.answer_object(201 if created else 200, stored)

    def _patch_type(self) -> str:
        """Return the media type of the patch. Raises ApiError 415 for one that this server does not apply."""
        found = media_type(self.header(b"content-type"))
        if found not in (patch.JSON_PATCH, patch.MERGE_PATCH, patch.STRATEGIC_MERGE_PATCH):
            raise ApiError(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
        return found

    async def _patch_function(self, request: Request, gvk: tuple[str, str, str]) -> Callable[[Object], Any]:
        found = self._patch_type()
        body = await self.body()
        parsed = await run_sized(len(body), patch.parse_patch, found, body)
        if request.field_validation != "Ignore" and parsed.duplicates:
            request.patch_errors, request.patch_body = parsed.duplicates, body
        return lambda obj: parsed.apply(gvk, obj)

    async def patch(self) -> None:
        await self._patch(status=False)

    async def _patch(self, *, status: bool) -> None:
        if not self.info.name:
            raise _not_allowed()
        # Before the options: `force` belongs to server-side apply, and kubectl knows by the 415 that there is none.
        self._patch_type()
        request = self.request("patch")
        apply = await self._patch_function(request, request.row.gvk)
        await self.answer_object(200, await self.api.patch(request, apply, status=status))

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
        if row.group_resource == "pods" and name in _UNSUPPORTED:
            self._refuse_connection(row, name)
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
                200, await subresources.finalize(self.api, request, await self.object(request, row.gvk))
            )
        else:
            await self._post(
                row, name, (found.group, found.version or row.version, found.kind) if found.kind else row.gvk
            )

    def _refuse_connection(self, row: Resource, name: str) -> NoReturn:
        """Raises ApiError: what is wrong with the request as Kubernetes would find it, else that there is no such thing yet."""
        info = self.info
        if self.method not in ("GET", "POST"):
            raise _not_allowed()
        pod = self.api.get(row, info.namespace, info.name)
        if name != "portforward":
            container_of(pod, (self.query.get("container") or ("",))[0])
        if not pod["spec"].get("nodeName"):
            raise bad_request(f"pod {info.name} does not have a host assigned")
        raise ApiError(501, "NotImplemented", _UNSUPPORTED[name])

    async def _scale(self, verb: str) -> None:
        if verb == "get":
            request = Request(self.user, self.row, self.info.namespace, self.info.name)
            scale = subresources.get_scale(self.api, request)
        elif verb == "update":
            request = self.request("update")
            scale = await subresources.update_scale(
                self.api, request, await self.object(request, ("autoscaling", "v1", "Scale"))
            )
        else:
            request = self.request("patch")
            apply = await self._patch_function(request, ("autoscaling", "v1", "Scale"))
            scale = await subresources.patch_scale(self.api, request, apply)
        await self.answer(200, scale, View(self.negotiated().media_type, "", self.pretty()))

    async def _post(self, row: Resource, name: str, gvk: tuple[str, str, str]) -> None:
        if self.method != "POST":
            raise no_such_path()
        request = self.request("create")
        key = f"{row.group_resource}/{name}"
        if key not in ("pods/binding", "pods/eviction") and key not in self.api.registry.virtual:
            raise no_such_path()
        obj = await self.object(request, gvk)
        if key == "pods/binding":
            result = await subresources.bind(self.api, request, obj)
        elif key == "pods/eviction":
            result = await subresources.evict(self.api, request, obj)
        else:
            if self.api.store.get(row.stored_as, request.namespace, request.name) is None:
                raise not_found(row.plural, request.name, row.group)
            result = await create_virtual_subresource(self.api, request, row, name, obj)
        await self.answer(201, result, View(self.negotiated().media_type, "", self.pretty()))


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
