"""The verbs on stored objects: get, list, create, update, patch.

The other verbs are in `deletion.py`, `watching.py` and `subresources.py`.

The order within a write is that of apiserver's generic registry store (`registry/generic/registry/store.go`,
`registry/rest`): decode → defaults → admission → the strategy's preparation → allocation → validation → storage.

An ordinary write reads the current object and stores the new object in one turn of the event loop. So it is always
based on the latest state, and needs no retry. A write is interrupted, and other requests run meanwhile, when
- a large object is handled: the steps that use only the object (`writesteps.py`) run on a thread (`work.py`);
- an admission plugin has to wait for a webhook;
- a conversion from or to the stored version has to wait for a webhook (`versions.py`, `storing.py`).

An interrupted write makes three checks in the turn in which it stores the object: the stored object is still the one
that the write read, the namespace still accepts objects, and allocated addresses are still free. If the object has
changed, the write starts again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from hatchway.cluster.api.admission.builtin import builtin_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation
from hatchway.cluster.api.fields.ownership import FieldWrite
from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations import writesteps as steps
from hatchway.cluster.api.operations.decoding import bad_result, decode_object
from hatchway.cluster.api.operations.fieldversions import with_conversions
from hatchway.cluster.api.operations.listing import Page, list_page, matcher
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.requestoptions import DeleteOptions, ListOptions, too_large_version
from hatchway.cluster.api.operations.retries import ATTEMPTS, MODIFIED, Retries
from hatchway.cluster.api.operations.storing import store_change, store_new
from hatchway.cluster.api.operations.tracking import track, track_with_conversions, without_managed, write_of
from hatchway.cluster.api.operations.versions import current_of, may_wait, shown_all, shown_of, storable_of
from hatchway.cluster.api.registry import validation
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.registry.strategies.base import WriteContext
from hatchway.cluster.api.registry.strategies.namespaces import admit_to_namespace
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import HEAVY, run_apart, run_sized
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import ApiError, conflict, invalid, method_not_allowed, not_found
from hatchway.kube.api import Object

__all__ = ["AccessCheck", "Api", "Authorize"]

# check(user, plural, namespace, object, old): checks whether the user may grant the rights in an RBAC object. Returns
# None, or a function for the rest of the check, which may run on a thread. Both raise ApiError 403.
AccessCheck = Callable[[UserInfo, str, str, Object, Object | None], Callable[[], None] | None]
# authorize(attributes): raises ApiError 403 when the user may not make the described request.
Authorize = Callable[[Attributes], None]
# Seconds that a read waits for a resourceVersion that does not exist yet (`storage/cacher`: blockTimeout).
_FUTURE_WAIT = 3.0


_Objects = list[Object]


class Api:
    """The API's verbs over a store and a registry.

    access_check: the escalation check of RBAC objects; None for no check.
    authorize: checks rights that operations need in addition: a PUT that creates its object needs `create`. None for no
    check.
    admission: the plugins that change or refuse writes; None for `builtin_plugins`.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        access_check: AccessCheck | None = None,
        authorize: Authorize | None = None,
        admission: AdmissionChain | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.access_check = access_check
        self.retries = Retries()
        self._authorize = authorize
        self.admission = admission if admission is not None else AdmissionChain(builtin_plugins(store))

    # Reading

    async def get(self, row: Resource, namespace: str, name: str) -> Object:
        """Return the committed object. Raises ApiError 404; 500 and 504 for a conversion."""
        if row.virtual:
            found = next((one for one in self._computed(row) if one["metadata"]["name"] == name), None)
        else:
            found = self.store.get(row.stored_as, namespace, name)
        if found is None:
            raise not_found(row.plural, name, row.group)
        return await shown_of(row, found)

    async def list(self, row: Resource, namespace: str | None, options: ListOptions) -> Page:
        """Return a page of the matching objects, in the order of namespace and name.

        Raises ApiError 400, 410, 504; 500 for a conversion.
        """
        if row.virtual:
            matches = matcher(row, namespace, options)
            return Page([one for one in self._computed(row) if matches(one)], self.store.revision)
        page = await list_page(self.store, row, namespace, options)
        return page if page.is_shown else replace(page, items=await shown_all(row, page.items), is_shown=True)

    def _computed(self, row: Resource) -> _Objects:
        make = self.registry.computed.get(row.group_resource)
        return make() if make is not None else []

    async def reach(self, revision: int | None) -> None:
        """Wait up to `_FUTURE_WAIT` seconds for a revision that does not exist yet. Raises ApiError 504."""
        if revision is not None and not await self.store.wait_for_revision(revision, _FUTURE_WAIT):
            raise too_large_version(revision, self.store.revision)

    # Writing

    def context(self, request: Operation) -> WriteContext:
        """Return the context of an operation for its strategy."""
        return WriteContext(
            self.store,
            request.user,
            request.row.group,
            request.row.plural,
            request.namespace,
            meta.timestamp(),
            request.dry_run,
            request.warnings,
        )

    def write(self, request: Operation, ctx: WriteContext, size: int = HEAVY) -> FieldWrite:
        """Return the facts about an operation from which managed fields are computed. size: bytes of JSON."""
        return write_of(self.registry, request, ctx.now, size)

    async def create(self, request: Operation, obj: Any) -> Object:
        """Create an object and return it. For a virtual type, call its handler and return the answer.

        Raises ApiError: 400 (not decodable), 403 (admission), 404 (namespace), 409 (exists), 422 (invalid).
        """
        row = request.row
        if row.virtual:
            return await self.create_virtual(request, row.group_resource, row, obj)
        obj = await run_sized(request.size, decode_object, request, obj)
        meta.match_namespace(row, obj, request.namespace)
        ctx = self.context(request)
        await row.strategy.before_create(ctx, obj)
        return await self._create(request, ctx, obj)

    async def _create(self, request: Operation, ctx: WriteContext, obj: Object) -> Object:
        row, strategy = request.row, request.row.strategy
        size, given = request.size, request.name or obj["metadata"].get("name") or ""
        write = self.write(request, ctx, size)
        await track_with_conversions(size, request, obj, steps.default_created, request, ctx, write, obj)
        if row.namespaced:
            admit_to_namespace(ctx, obj["metadata"].get("name") or "")
        attributes = self.attributes(request, "CREATE", obj, None, size=size)
        attributes.name = given
        interrupted = await self.admit(attributes)
        if interrupted:
            obj, size = attributes.object or obj, attributes.size
            meta.match_namespace(row, obj, request.namespace)
            await run_sized(size, steps.default_created, request, ctx, None, obj)
        version = await run_sized(size, steps.prepare_created, request, ctx, obj)
        strategy.allocate(ctx, obj, None)
        causes, warnings = await run_sized(size, steps.validate_created, row, obj)
        name = obj["metadata"].get("name") or ""
        if causes:
            raise invalid(row.kind, name, causes, row.group)
        request.warnings += warnings
        interrupted = await self._check_access(request, obj, None) or interrupted or size >= HEAVY
        attributes.object, attributes.name = obj, request.name or name
        if (waiting := self.admission.validate(attributes)) is not None:
            await waiting
            interrupted = True
        storable = await storable_of(row, obj)
        if interrupted or may_wait(row):
            # Other requests ran meanwhile, so check again.
            if row.namespaced:
                admit_to_namespace(ctx, name)
            strategy.allocate(ctx, obj, None)
        if version:
            # In Kubernetes, the storage refuses such an object. So it is refused only after admission.
            raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
        return await shown_of(row, await store_new(self.store, request, storable))

    async def create_virtual(self, request: Operation, key: str, row: Resource, obj: Any) -> Object:
        """Call the handler of a computed type or subresource and return its answer. Raises ApiError 405."""
        handler = self.registry.virtual.get(key)
        if handler is None:
            raise method_not_allowed(row.plural, "create", row.group)
        obj = await run_sized(request.size, partial(decode_object, request, obj, row=row))
        if request.namespace:
            obj["metadata"].setdefault("namespace", request.namespace)
        attributes = self.attributes(request, "CREATE", obj, None, key.partition("/")[2], kind=row.gvk)
        await self.run_admission(attributes)
        if not row.virtual:
            return await handler(request.user, request.namespace, request.name, attributes.object or obj)
        # Reviews have managed fields although they are not stored.
        track(self.write(request, self.context(request), request.size), request, obj, None, None)
        answer = await handler(request.user, request.namespace, request.name, attributes.object or obj)
        return (
            {**answer, "metadata": {**answer.get("metadata", {}), "managedFields": request.managed}}
            if request.managed
            else answer
        )

    async def update(self, request: Operation, obj: Any, *, status: bool = False) -> tuple[Object, bool]:
        """Replace an object, or only its status. Return (object, True if this PUT created it).

        Raises ApiError: 400, 404, 409 (resourceVersion or uid is not the current one), 422.
        """
        obj = await run_sized(request.size, decode_object, request, obj)
        meta.match_name(obj, request.name)
        meta.match_namespace(request.row, obj, request.namespace)
        row, sub = request.row, "status" if status else ""

        async def attempt() -> tuple[Object, bool] | None:
            base = self.store.latest(row.stored_as, request.namespace, request.name)
            if base is None:
                if row.strategy.create_on_update and not status:
                    self._require_create(request)
                    obj["metadata"].pop("resourceVersion", None)
                    return await self._create(request, self.context(request), obj), True
                raise not_found(row.plural, request.name, row.group)
            if not row.strategy.unconditional_update and obj["metadata"].get("resourceVersion") in (None, "", "0"):
                causes = [validation.invalid("metadata.resourceVersion", 0, "must be specified for an update")]
                raise invalid(row.kind, request.name, causes, row.group)
            size = self._size(request)
            # Each attempt changes the object. So every attempt that may be repeated works on a copy.
            once = size < HEAVY and not row.strategy.grants_rights
            once = once and not self.admission.may_wait("UPDATE", row, sub) and not may_wait(row)
            mine = obj if once else await run_sized(size, clone, obj)
            stored = await self._replace(request, mine, await current_of(row, base), base, status, size)
            return None if stored is None else (stored, False)

        return await self.retries.run(request, attempt)

    async def apply(self, request: Operation, make: Callable[[Object | None], Object]) -> tuple[Object, bool]:
        """Apply a configuration: change an object, or create it. Return (object, True if it is new).

        make: applies the configuration to a copy of the current object, or to None. Returns the new object.

        Raises ApiError like `patch`; also 403 when the user may not create the object, and 409 for conflicts.
        """
        row = request.row
        for _ in range(ATTEMPTS):
            if self.store.latest(row.stored_as, request.namespace, request.name) is not None:
                return await self.patch(request, make), False
            obj = decode_object(request, await run_sized(request.size, make, None))
            if uid := obj["metadata"].get("uid"):
                why = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise conflict(row.plural, request.name, why, row.group)
            meta.match_name(obj, request.name)
            meta.match_namespace(row, obj, request.namespace)
            self._require_create(request)
            obj["metadata"].pop("resourceVersion", None)
            ctx = self.context(request)
            await row.strategy.before_create(ctx, obj)
            try:
                return await self._create(request, ctx, obj), True
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    raise
        raise conflict(row.plural, request.name, MODIFIED, row.group)

    async def patch(
        self, request: Operation, apply: Callable[[Object], Any], *, status: bool = False, admitted: bool = False
    ) -> Object:
        """Replace an object by the result of a function. Raises like `update`.

        apply: returns the new object; called with a copy of the current object. The result must not contain parts of
        shared objects.
        admitted: True if the change has already passed admission as a change of a subresource.
        """
        row = request.row

        async def attempt() -> Object | None:
            base = self.store.latest(row.stored_as, request.namespace, request.name)
            if base is None:
                raise not_found(row.plural, request.name, row.group)
            size, old = self._size(request), await current_of(row, base)
            obj = await with_conversions(lambda: run_sized(size, self._patched, request, apply, old))
            meta.match_name(obj, request.name)
            meta.match_namespace(row, obj, request.namespace)
            return await self._replace(request, obj, old, base, status, size, admitted)

        return await self.retries.run(request, attempt)

    def _size(self, request: Operation) -> int:
        """Return the size of the client's object or of the stored object, whichever is larger, in bytes of JSON."""
        return max(request.size, self.store.weight(request.row.stored_as, request.namespace, request.name))

    def _patched(self, request: Operation, apply: Callable[[Object], Any], old: Object) -> Object:
        row = request.row
        current = row.from_storage(old) if row.from_storage else old
        patched = apply(clone(current if request.sees_managed else without_managed(current)))
        try:
            return decode_object(request, patched)
        except ApiError as error:
            raise bad_result(request, patched, error) from None

    async def _replace(
        self,
        request: Operation,
        obj: Object,
        old: Object,
        base: Object,
        status: bool,
        size: int,
        admitted: bool = False,
    ) -> Object | None:
        """Check and store a changed object, and return it. Return None when another request changed it meanwhile.

        A small object is stored in the same turn of the event loop, unless an admission plugin or a conversion has to
        wait.

        base: the stored object from which `old` was made.
        size: bytes of JSON that the write handles.
        """
        row, strategy = request.row, request.row.strategy
        ctx = self.context(request)
        self.check_identity(row, obj, old)
        write = self.write(request, ctx, size)
        waited = await track_with_conversions(size, request, obj, steps.default_updated, request, write, obj, old)
        attributes = self.attributes(request, "UPDATE", obj, old, "status" if status else "", size=size)
        interrupted = False if admitted else await self.admit(attributes)
        if interrupted:
            if self.store.latest(row.stored_as, request.namespace, request.name) is not base:
                return None
            obj, size = attributes.object or obj, max(size, attributes.size)
            meta.match_name(obj, request.name)
            meta.match_namespace(row, obj, request.namespace)
            self.check_identity(row, obj, old)
            await run_sized(size, steps.default_updated, request, None, obj, old)
        await run_sized(size, steps.prepare_updated, request, ctx, obj, old, status)
        if not status:
            strategy.allocate(ctx, obj, old)
        causes, warnings = await run_sized(size, steps.validate_updated, row, obj, old, status)
        if causes:
            raise invalid(row.kind, request.name, causes, row.group)
        interrupted = interrupted or waited or size >= HEAVY
        if not status:
            interrupted = await self._check_access(request, obj, old) or interrupted
        attributes.object = obj
        if not admitted and (waiting := self.admission.validate(attributes)) is not None:
            await waiting
            interrupted = True
        if interrupted:
            # Other requests ran meanwhile, so check again.
            if self.store.latest(row.stored_as, request.namespace, request.name) is not base:
                return None
            if not status:
                strategy.allocate(ctx, obj, old)
        request.warnings += warnings
        stored = await store_change(self.store, request, obj, old, base)
        return row.from_storage(stored) if row.from_storage and stored is not None else stored

    async def store_change(self, request: Operation, obj: Object, old: Object) -> Object:
        """Store a changed object of a built-in type, as `storing.store_change` does, and return it.

        Nothing is stored in a dry run, or when nothing changed.
        """
        stored = await store_change(self.store, request, obj, old, old)
        assert stored is not None, "built-in types need no conversion"
        return stored

    def check_identity(self, row: Resource, obj: Object, old: Object) -> None:
        """Raise ApiError 409 when a client's object has another UID or resourceVersion than the stored one."""
        metadata, former = obj["metadata"], old["metadata"]
        name = former["name"]
        if metadata.get("uid") and metadata["uid"] != former["uid"]:
            path = "/".join(filter(None, (row.plural, former.get("namespace"), name)))
            raise conflict(
                row.plural,
                name,
                f"StorageError: invalid object, Code: 4, Key: /registry/{path}, ResourceVersion: 0, "
                f"AdditionalErrorMsg: Precondition failed: UID in precondition: {metadata['uid']}, "
                f"UID in object meta: {former['uid']}",
                row.group,
            )
        version = metadata.get("resourceVersion")
        if version and version != "0" and version != former["resourceVersion"]:
            raise conflict(row.plural, name, MODIFIED, row.group)

    def attributes(
        self,
        request: Operation,
        operation: AdmissionOperation,
        obj: Object | None,
        old: Object | None,
        subresource: str = "",
        *,
        kind: tuple[str, str, str] | None = None,
        options: DeleteOptions | None = None,
        size: int | None = None,
    ) -> AdmissionAttributes:
        """Return the facts about a write for the admission chain.

        kind: group, version and kind of `obj`; None for the group, version and kind of the row.
        options: the options of a DELETE; None for other operations.
        size: the value of `AdmissionAttributes.size`; None to look it up.
        """
        row = request.row
        return AdmissionAttributes(
            request.user,
            operation,
            row,
            subresource,
            request.namespace,
            request.name or ((obj or {}).get("metadata", {}).get("name") or ""),
            kind or row.gvk,
            obj,
            old,
            request.dry_run,
            partial(request.options_object, operation, options),
            self._size(request) if size is None else size,
            request.warnings,
            request.audit_annotations,
        )

    async def admit(self, attributes: AdmissionAttributes) -> bool:
        """Run the mutating part of admission. Return True if other requests ran meanwhile. Raises ApiError."""
        waiting = self.admission.admit(attributes)
        if waiting is None:
            return False
        await waiting
        return True

    async def run_admission(self, attributes: AdmissionAttributes) -> bool:
        """Run both parts of admission. Return True if other requests ran meanwhile. Raises ApiError."""
        waiting = self.admission.run(attributes)
        if waiting is None:
            return False
        await waiting
        return True

    def _require_create(self, request: Operation) -> None:
        """Raise ApiError 403 unless the user may create the object (by PUT or apply; `handlers/update.go`)."""
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

    async def _check_access(self, request: Operation, obj: Object, old: Object | None) -> bool:
        """Check that the user may grant the object's rights. Return True if other requests ran meanwhile.

        Raises ApiError 403.
        """
        if self.access_check is None or not request.row.strategy.grants_rights:
            return False
        compare = self.access_check(request.user, request.row.plural, request.namespace, obj, old)
        if compare is None:
            return False
        # The check may take long even for a small binding: its role, or the rules of its writer, may be large.
        await run_apart(compare)
        return True
