"""The verbs on stored objects: get, list, create, update, patch; `deletion.py`, `watching.py` and `subresources.py` hold the rest.

The order within a write is that of apiserver's generic registry store (`registry/generic/registry/store.go`,
`registry/rest`): decode → defaults → admission → the strategy's preparation (and allocation) → validation → storage.
Everything between reading the current object and handing the new one to the store happens in one turn of the event
loop, so that a change always builds on the latest state and needs no retry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from hatchway.cluster.api import metadata as meta
from hatchway.cluster.api import schema, validation
from hatchway.cluster.api.history import Event
from hatchway.cluster.api.options import FieldValidation, ListOptions, too_large_version
from hatchway.cluster.api.paging import ListExpired, Token, parse_token, position
from hatchway.cluster.api.registry import Registry, Resource
from hatchway.cluster.api.store import Store
from hatchway.cluster.api.strategies.base import Context
from hatchway.cluster.api.strategies.namespaces import admit_to_namespace
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError, Cause, bad_request, conflict, gone, invalid, method_not_allowed, not_found
from hatchway.kube.api import Object

__all__ = ["Api", "Page", "Request", "clone"]

# check(user, plural, namespace, object, old): raises ApiError 403 when the user may not store such rights.
AccessCheck = Callable[[UserInfo, str, str, Object, Object | None], None]
# admit(user, operation, resource, subresource, namespace, name, object, old): raises ApiError 403 for what the user may
# not write.
Admission = Callable[
    [UserInfo, Literal["CREATE", "UPDATE", "DELETE"], str, str, str, str, Object | None, Object | None], None
]
# authorize(attributes): raises ApiError 403 when the user may not do that.
Authorize = Callable[[Attributes], None]
_RBAC = "rbac.authorization.k8s.io"
# Seconds that a read waits for a resourceVersion of the future (`storage/cacher`: blockTimeout).
_FUTURE_WAIT = 3.0
# How much of a refused result of a patch its message quotes.
_MAX_SHOWN = 4096
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def clone(obj: Object) -> Object:
    """A deep copy (by way of JSON, several times as quick as copy.deepcopy)."""
    found: Object = _decode(_encode(obj))
    return found


@dataclass(slots=True)
class Request:
    """One call of a verb. `namespace`, `name`: "" for none. `warnings`: what the client should be told beside the answer."""

    user: UserInfo
    row: Resource
    namespace: str = ""
    name: str = ""
    dry_run: bool = False
    field_validation: FieldValidation = "Ignore"
    warnings: list[str] = field(default_factory=list)
    # What strict decoding finds in the document itself: of JSON instead of what the types tell, of others before it.
    document_errors: tuple[str, ...] = ()
    yaml_errors: tuple[str, ...] = ()
    # The same of a patch, and the patch.
    patch_errors: tuple[str, ...] = ()
    patch_body: bytes = b""

    def check_strict(self, checked: schema.Checked, gvk: tuple[str, str, str]) -> None:
        """Warn of fields that are unknown or there twice. Raises ShapeError 400 when the client asked to be strict."""
        of_type = self.document_errors or checked.unknown
        errors = (*self.patch_errors, *self.yaml_errors, *of_type)
        if not errors:
            return
        if self.field_validation == "Strict":
            checked.strict(gvk, errors)
        elif self.field_validation == "Warn":
            self.warnings.extend(errors)


_Objects = list[Object]
_Events = list[Event]


@dataclass(frozen=True, slots=True)
class Page:
    """A list or a part of one. `revision` is the list's resourceVersion. remaining: how many follow; None: not known."""

    items: list[Object]
    revision: int
    continue_token: str = ""
    remaining: int | None = None


class Api:
    """The API's verbs over a store and a registry.

    access_check: the escalation check of RBAC objects, when wired. authorize: for verbs that a request turns out to need
    beside its own. admission: what looks at the contents of writes.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        access_check: AccessCheck | None = None,
        authorize: Authorize | None = None,
        admission: Admission | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.access_check = access_check
        self._authorize = authorize
        self._admission = admission

    # Reading

    def get(self, row: Resource, namespace: str, name: str) -> Object:
        """The committed object. Raises ApiError 404."""
        found = self.store.get(row.stored_as, namespace, name)
        if found is None:
            raise not_found(row.plural, name, row.group)
        return row.from_storage(found) if row.from_storage else found

    def list(self, row: Resource, namespace: str | None, options: ListOptions) -> Page:
        """A page of the matching objects, in the order of namespace and name.

        A continued list shows the objects as they were when its first page was made, for as long as the history reaches
        back that far. Raises ApiError 400, 410, 504.
        """
        revision, past = self.store.revision, None
        # Types without namespaces are listed as if of one.
        scope = namespace if row.namespaced else ""
        token = Token(0, ("", ""), time.time())
        if options.continue_token:
            token = parse_token(options.continue_token, scope)
            if options.resource_version not in ("", "0"):
                raise bad_request("specifying resource version is not allowed when using continue")
            if token.revision > 0:
                revision, past = token.revision, self._past(row, token.revision)
                if past is None or token.expired():
                    raise ListExpired(token.latest().format(scope))
            else:
                token = Token(0, token.after, time.time())
        else:
            asked = options.revision or 0
            if asked > revision:
                raise too_large_version(asked, revision)
            if options.resource_version_match == "Exact":
                revision, past = asked, self._past(row, asked)
                if past is None:
                    raise gone(f"The resourceVersion for the provided list is too old: {asked}")
        matches = self.matcher(row, namespace, options)
        name = options.fields.exact("metadata.name")
        if name is not None and namespace and not past:
            one = self.store.get(row.stored_as, namespace, name)
            candidates = [one] if one is not None else []
        else:
            candidates = self.store.list(row.stored_as, namespace)
        if past:
            candidates = _rolled_back(candidates, past, namespace)
        found: _Objects = []
        following, remaining = "", None
        selective = bool(options.labels.requirements or options.fields.terms)
        for index, obj in enumerate(candidates):
            if token.after[1] and position(obj) <= token.after:
                continue
            if not matches(obj):
                continue
            if options.limit > 0 and len(found) == options.limit:
                following = Token(revision, position(found[-1]), token.began).format(scope)
                remaining = None if selective else len(candidates) - index
                break
            found.append(obj)
        if row.from_storage:
            found = [row.from_storage(obj) for obj in found]
        return Page(found, revision, following, remaining)

    def _past(self, row: Resource, revision: int) -> _Events | None:
        """What happened to objects of a type since a revision; None when that is not known any more."""
        if revision > self.store.revision:
            return None
        try:
            return self.store.history(row.stored_as).since(revision)
        except ApiError:
            return None

    async def reach(self, revision: int | None) -> None:
        """Wait a moment for a revision that is still to come. Raises ApiError 504 when it does not."""
        if revision is not None and not await self.store.reach(revision, _FUTURE_WAIT):
            raise too_large_version(revision, self.store.revision)

    def matcher(self, row: Resource, namespace: str | None, options: ListOptions) -> Callable[[Object], bool]:
        """A predicate on stored objects. Raises ApiError 400 for fields that cannot be selected by."""
        readers = {
            "metadata.name": lambda obj: str(obj["metadata"]["name"]),
            "metadata.namespace": lambda obj: str(obj["metadata"].get("namespace") or ""),
            **row.strategy.selectable,
        }
        for term in options.fields.terms:
            if term.field not in readers:
                if row.strategy.selectable:
                    raise bad_request(f"field label not supported: {term.field}")
                raise bad_request(
                    f'"{term.field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
                )
        labels, fields = options.labels, options.fields

        def matches(obj: Object) -> bool:
            metadata = obj["metadata"]
            if namespace is not None and (metadata.get("namespace") or "") != namespace:
                return False
            if labels.requirements and not labels.matches(metadata.get("labels")):
                return False
            return not fields.terms or fields.matches(lambda name: readers[name](obj))

        return matches

    # Writing

    def context(self, request: Request) -> Context:
        return Context(
            self.store,
            request.user,
            request.row,
            request.namespace,
            meta.timestamp(),
            request.dry_run,
            request.warnings,
        )

    def decode(self, request: Request, obj: Any, *, row: Resource | None = None) -> Object:
        """What the server keeps of an object that a client sent: of the right kind, shaped as its type, ours to change.

        Raises ApiError 400.
        """
        row = row or request.row
        obj = self.check_kind(row, obj)
        checked = schema.check(row.gvk, obj)
        request.check_strict(checked, row.gvk)
        found = schema.apply_defaults(row.gvk, checked.object)
        if row.to_storage:
            found = row.to_storage(found)
        found.setdefault("metadata", {})
        return found

    @staticmethod
    def check_kind(row: Resource, obj: Any) -> Object:
        """Raises ApiError 400 when an object says that it is of another type than the one of the URL."""
        if not isinstance(obj, dict):
            raise bad_request(
                f"the object provided is unrecognized (must be of type {row.kind}): couldn't get version/kind"
            )
        version, kind = obj.get("apiVersion") or row.api_version, obj.get("kind") or row.kind
        if version == row.api_version and kind == row.kind:
            return obj
        if not isinstance(version, str) or not isinstance(kind, str):
            raise bad_request(
                f"the object provided is unrecognized (must be of type {row.kind}): couldn't get version/kind"
            )
        bare = version.rpartition("/")[2]
        why = f'no kind "{kind}" is registered for version "{version}"'
        if kind != row.kind:
            why = f"the object is a {kind}, not a {row.kind}"
        raise bad_request(f'{kind} in version "{bare}" cannot be handled as a {row.kind}: {why}')

    async def create(self, request: Request, obj: Any) -> Object:
        """Create an object, or have a virtual one answered. Returns what was stored.

        Raises ApiError: 400 (not decodable), 403 (admission), 404 (namespace), 409 (exists), 422 (invalid).
        """
        row = request.row
        if row.virtual:
            return await self.create_virtual(request, row.group_resource, row, obj)
        obj = self.decode(request, obj)
        meta.match_namespace(row, obj, request.namespace)
        ctx = self.context(request)
        await row.strategy.before_create(ctx, obj)
        return await self._create(request, ctx, obj)

    async def _create(self, request: Request, ctx: Context, obj: Object) -> Object:
        row, strategy = request.row, request.row.strategy
        if not obj["metadata"].get("name") and obj["metadata"].get("generateName"):
            # Before defaults, which may depend on the name.
            meta.fill_created(row, obj, ctx.now)
        strategy.default(obj)
        if row.namespaced:
            admit_to_namespace(ctx, obj["metadata"].get("name") or "")
        self.admit(request, "CREATE", obj, None)
        strategy.admit(ctx, obj, None)
        version = obj["metadata"].pop("resourceVersion", None)
        meta.fill_created(row, obj, ctx.now)
        strategy.prepare_create(ctx, obj)
        name = obj["metadata"].get("name") or ""
        causes = meta.validate_created(row, obj) + strategy.validate(obj)
        if causes:
            raise invalid(row.kind, name, causes, row.group)
        request.warnings += strategy.warnings(obj, None)
        self._check_access(request, obj, None)
        if version:
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        if request.dry_run:
            if self.store.latest(row.stored_as, obj["metadata"].get("namespace") or "", name) is not None:
                raise ApiError(409, "AlreadyExists", f'{row.group_resource} "{name}" already exists')
            stored = obj
        else:
            stored = await self.store.create(row.stored_as, obj)
        return row.from_storage(stored) if row.from_storage else stored

    async def create_virtual(self, request: Request, key: str, row: Resource, obj: Any) -> Object:
        """POST to what is computed: the handler wired under `key` answers. Raises ApiError 405 without one."""
        handler = self.registry.virtual.get(key)
        if handler is None:
            raise method_not_allowed(row.plural, "create", row.group)
        obj = self.decode(request, obj, row=row)
        if request.namespace:
            obj["metadata"].setdefault("namespace", request.namespace)
        self.admit(request, "CREATE", obj, None, key.partition("/")[2])
        return await handler(request.user, request.namespace, request.name, obj)

    async def update(self, request: Request, obj: Any, *, status: bool = False) -> tuple[Object, bool]:
        """Replace an object, or only its status. Returns it, and whether it was created (where a PUT may create).

        Raises ApiError: 400, 404, 409 (resourceVersion or uid is not the current one), 422.
        """
        obj = self.decode(request, obj)
        meta.match_name(obj, request.name)
        meta.match_namespace(request.row, obj, request.namespace)
        row = request.row
        old = self.store.latest(row.stored_as, request.namespace, request.name)
        if old is None:
            if row.strategy.create_on_update and not status:
                self._require_create(request)
                obj["metadata"].pop("resourceVersion", None)
                return await self._create(request, self.context(request), obj), True
            raise not_found(row.plural, request.name, row.group)
        if not row.strategy.unconditional_update and obj["metadata"].get("resourceVersion") in (None, "", "0"):
            causes = [validation.invalid("metadata.resourceVersion", 0, "must be specified for an update")]
            raise invalid(row.kind, request.name, causes, row.group)
        return await self._replace(request, obj, old, status), False

    async def patch(self, request: Request, apply: Callable[[Object], Any], *, status: bool = False) -> Object:
        """Change an object by a function of the current one, which gets a copy of its own. Raises like `update`."""
        row = request.row
        old = self.store.latest(row.stored_as, request.namespace, request.name)
        if old is None:
            raise not_found(row.plural, request.name, row.group)
        current = clone(row.from_storage(old) if row.from_storage else old)
        patched = apply(current)
        try:
            obj = self.decode(request, patched)
        except ApiError as error:
            raise bad_result(request, patched, error) from None
        meta.match_name(obj, request.name)
        meta.match_namespace(row, obj, request.namespace)
        return await self._replace(request, obj, old, status)

    async def _replace(self, request: Request, obj: Object, old: Object, status: bool) -> Object:
        row, strategy = request.row, request.row.strategy
        ctx = self.context(request)
        self.check_identity(row, obj, old)
        meta.keep_owned(obj, old)
        strategy.default(obj, old)
        self.admit(request, "UPDATE", obj, old, "status" if status else "")
        if status:
            strategy.prepare_status(ctx, obj, old)
            causes = strategy.validate_status(obj, old)
        else:
            strategy.admit(ctx, obj, old)
            strategy.prepare_update(ctx, obj, old)
            causes = strategy.validate_update(obj, old)
        causes = meta.validate_updated(obj, old) + causes
        if causes:
            raise invalid(row.kind, request.name, causes, row.group)
        if not status:
            self._check_access(request, obj, old)
            if strategy.generation and strategy.changed(obj, old):
                obj["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
            request.warnings += strategy.warnings(obj, old)
        stored = await self.store_change(request, obj, old)
        return row.from_storage(stored) if row.from_storage else stored

    async def store_change(self, request: Request, obj: Object, old: Object) -> Object:
        """Store what an object became: nothing when nothing changed, its deletion when it was only waiting for its
        finalizers."""
        metadata = obj["metadata"]
        metadata["resourceVersion"] = old["metadata"]["resourceVersion"]
        if request.dry_run or obj == old:
            return obj if request.dry_run else old
        row = request.row
        if (
            metadata.get("deletionTimestamp")
            and not metadata.get("finalizers")
            and not metadata.get("deletionGracePeriodSeconds")
            and not (row.plural == "namespaces" and _holds_namespace(obj, old))
        ):
            await self.store.delete(row.stored_as, old)
            return obj
        return await self.store.update(row.stored_as, obj, old)

    def check_identity(self, row: Resource, obj: Object, old: Object) -> None:
        """Raises ApiError 409 when the object that a client sent is another one, or built on an older version."""
        metadata, former = obj["metadata"], old["metadata"]
        name = former["name"]
        if metadata.get("uid") and metadata["uid"] != former["uid"]:
            path = "/".join(filter(None, (row.plural, former.get("namespace"), name)))
            raise conflict(
                row.plural,
                name,
                f"StorageError: invalid object, Code: 4, Key: /registry/{path}, ResourceVersion: 0, AdditionalErrorMsg: "
                f"Precondition failed: UID in precondition: {metadata['uid']}, UID in object meta: {former['uid']}",
                row.group,
            )
        version = metadata.get("resourceVersion")
        if version and version != "0" and version != former["resourceVersion"]:
            raise conflict(row.plural, name, _MODIFIED, row.group)

    def admit(
        self,
        request: Request,
        operation: Literal["CREATE", "UPDATE", "DELETE"],
        obj: Object | None,
        old: Object | None,
        subresource: str = "",
    ) -> None:
        """Raises ApiError 403 when the user may make such requests, but not with these contents."""
        if self._admission is not None:
            name = request.name or (obj or {}).get("metadata", {}).get("name") or ""
            resource = request.row.group_resource
            self._admission(request.user, operation, resource, subresource, request.namespace, name, obj, old)

    def _require_create(self, request: Request) -> None:
        """Raises ApiError 403: a PUT that creates needs the right to create, too (apiserver's `handlers/update.go`)."""
        if self._authorize is not None:
            row = request.row
            self._authorize(
                Attributes(
                    request.user,
                    "create",
                    row.plural,
                    api_group=row.group,
                    api_version=row.version,
                    namespace=request.namespace,
                    name=request.name,
                )
            )

    def _check_access(self, request: Request, obj: Object, old: Object | None) -> None:
        if self.access_check is not None and request.row.group == _RBAC:
            self.access_check(request.user, request.row.plural, request.namespace, obj, old)


def _holds_namespace(obj: Object, old: Object) -> bool:
    """Whether a namespace stays although it is being deleted: its last finalizer goes when it is empty."""
    return bool((obj.get("spec") or {}).get("finalizers")) or not (old.get("spec") or {}).get("finalizers")


def bad_result(request: Request, patched: Any, error: ApiError) -> ApiError:
    """422: a patch made of an object what cannot be decoded (apiserver's `endpoints/handlers/patch.go`)."""
    why = error.why if isinstance(error, schema.ShapeError) else error.message
    only_patch = why == f"strict decoding error: {', '.join(request.patch_errors)}"
    shown = request.patch_body.decode(errors="replace") if only_patch else _encode(patched).decode()
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    cause = Cause("FieldValueInvalid", f"Invalid value: {validation.quote(shown)}: {why}", "patch")
    return invalid("", "", [cause])


def _rolled_back(objects: list[Object], events: list[Event], namespace: str | None) -> list[Object]:
    """The objects as they were before these events."""
    found = {position(obj): obj for obj in objects}
    for event in reversed(events):
        key = position(event.new)
        if namespace is not None and key[0] != namespace:
            continue
        if event.old is None:
            found.pop(key, None)
        else:
            found[key] = event.old
    return [found[key] for key in sorted(found)]
