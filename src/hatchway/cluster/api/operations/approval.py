"""The subresource `approval` of CertificateSigningRequests. A write to it changes only conditions and metadata.

The behaviour is that of `csrApprovalStrategy` in `pkg/registry/certificates/certificates/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.decoding import bad_result, decode_object
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.storing import latest_of
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.strategies.certificates import stamp_conditions, validate_conditions
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, Cause, conflict, invalid
from hatchway.kube.api import Object

__all__ = ["patch_approval", "update_approval"]

_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


async def update_approval(api: Api, request: Operation, obj: Any) -> Object:
    """Approve or deny a certificate request (PUT). Raises ApiError 400, 403, 404, 409, 422."""
    return await _approve(
        api, request, await run_sized(request.size, decode_object, request, obj), latest_of(api.store, request)
    )


async def patch_approval(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Approve or deny a certificate request by applying a function to it (PATCH). Raises like `update_approval`."""
    old = latest_of(api.store, request)
    made = await run_sized(request.size, lambda: apply(clone(old)))
    try:
        obj = await run_sized(request.size, decode_object, request, made)
    except ApiError as error:
        raise bad_result(request, made, error) from None
    return await _approve(api, request, obj, old)


async def _approve(api: Api, request: Operation, obj: Object, old: Object) -> Object:
    row = request.row
    meta.match_name(obj, request.name)
    api.check_identity(row, obj, old)
    attributes = api.attributes(request, "UPDATE", _limited(obj, old), old, "approval")
    await api.admit(attributes)
    # Admission webhooks can change only the fields that the client can change.
    new = _limited(attributes.object or obj, old)
    stamp_conditions(new, old, meta.timestamp())

    def errors() -> list[Cause]:
        return meta.validate_updated(row, new, old) + validate_conditions(new, old, may_approve=True)

    if causes := await run_sized(request.size, errors):
        raise invalid(row.kind, request.name, causes, row.group)
    attributes.object = new
    if (waiting := api.admission.validate(attributes)) is not None:
        await waiting
    if api.store.latest(row.stored_as, request.namespace, request.name) is not old:
        raise conflict(row.plural, request.name, _MODIFIED, row.group)
    return await api.store_change(request, new, old)


def _limited(obj: Object, old: Object) -> Object:
    """Return the former request with the metadata and the conditions of `obj`."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    status = {key: value for key, value in (old.get("status") or {}).items() if key != "conditions"}
    new = clone({**old, "metadata": obj["metadata"], "status": {**status, "conditions": conditions}})
    if not conditions:
        del new["status"]["conditions"]
    meta.keep_owned(new, old)
    return new
