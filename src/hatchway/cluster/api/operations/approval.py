"""The subresource `approval` of CertificateSigningRequests: it changes nothing but conditions.

The behaviour is that of `csrApprovalStrategy` in `pkg/registry/certificates/certificates/strategy.go`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.operations import metadata as meta
from hatchway.cluster.api.operations.decoding import bad_result, decode_object
from hatchway.cluster.api.operations.operation import Operation, clone
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.strategies.certificates import stamp_conditions, validate_conditions
from hatchway.cluster.api.work import run_sized
from hatchway.errors import ApiError, conflict, invalid, not_found
from hatchway.kube.api import Object

__all__ = ["patch_approval", "update_approval"]

_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


async def update_approval(api: Api, request: Operation, obj: Any) -> Object:
    """Approve or deny a request (PUT). Raises ApiError 400, 403, 404, 409, 422."""
    return await _approve(
        api, request, await run_sized(request.size, decode_object, request, obj), _latest(api, request)
    )


async def patch_approval(api: Api, request: Operation, apply: Callable[[Object], Any]) -> Object:
    """Approve or deny a request by a function of it. Raises like `update_approval`."""
    old = _latest(api, request)
    made = await run_sized(request.size, lambda: apply(clone(old)))
    try:
        obj = await run_sized(request.size, decode_object, request, made)
    except ApiError as error:
        raise bad_result(request, made, error) from None
    return await _approve(api, request, obj, old)


def _latest(api: Api, request: Operation) -> Object:
    row = request.row
    found = api.store.latest(row.stored_as, request.namespace, request.name)
    if found is None:
        raise not_found(row.plural, request.name, row.group)
    return found


async def _approve(api: Api, request: Operation, obj: Object, old: Object) -> Object:
    row = request.row
    meta.match_name(obj, request.name)
    api.check_identity(row, obj, old)
    new = clone(old)
    new["status"] = {**(old.get("status") or {}), "conditions": (obj.get("status") or {}).get("conditions") or []}
    attributes = api.attributes(request, "UPDATE", new, old, "approval")
    await api.admit(attributes)
    # Whatever a webhook has changed, this subresource stores conditions only.
    changed = ((attributes.object or new).get("status") or {}).get("conditions") or []
    kept = {key: value for key, value in new["status"].items() if key != "conditions"}
    new = {**new, "status": {**kept, "conditions": changed} if changed else kept}
    stamp_conditions(new, old, meta.timestamp())
    if causes := await run_sized(request.size, lambda: validate_conditions(new, old, may_approve=True)):
        raise invalid(row.kind, request.name, causes, row.group)
    attributes.object = new
    if (waiting := api.admission.validate(attributes)) is not None:
        await waiting
    if api.store.latest(row.stored_as, request.namespace, request.name) is not old:
        raise conflict(row.plural, request.name, _MODIFIED, row.group)
    return await api.store_change(request, new, old)
