"""The admission plugin ResourceQuota: refuses objects that exceed a quota, and charges all others to the quotas.

To charge an object means to add its amounts to the used amounts in a quota's status. Source: apiserver's
`pkg/admission/plugin/resourcequota`. This is the last plugin of the chain. No other request runs between the charge and
the write of the object to the store (`operations/verbs.py`). The used amounts therefore include all earlier objects.
The charge is committed together with the object or before it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable

from hatchway.cluster.amounts import Amounts, texts_of
from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.quota.checking import QuotaRefusal, charged
from hatchway.cluster.api.admission.quota.recount import QUOTAS, QuotaRecount, is_counted
from hatchway.cluster.api.admission.quota.usage import is_charged_on_update, usage
from hatchway.cluster.api.admission.storedrules import latest_of, latest_with_new
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import HEAVY, run_apart
from hatchway.errors import forbidden
from hatchway.kube.api import Object

__all__ = ["MAX_NAMES", "ResourceQuotaAdmission"]

# The maximum number of resources that all quotas of one namespace may limit. Each resource is compared with every new
# object.
MAX_NAMES = 1000
_IGNORED = frozenset(("events", "events.events.k8s.io"))


class ResourceQuotaAdmission(AdmissionPlugin):
    """Compares new objects with the quotas of their namespace. store: has the quotas and all objects."""

    name = "ResourceQuota"

    def __init__(self, store: Store) -> None:
        self._store = store
        self._recount = QuotaRecount(store)

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new objects, resized pods, and changes of services, claims and quotas."""
        if subresource:
            return (operation, resource, subresource) == ("UPDATE", "pods", "resize")
        if resource in _IGNORED:
            return False
        changes = operation == "UPDATE" and (is_charged_on_update(resource) or resource == QUOTAS)
        return operation == "CREATE" or changes

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Charge the object to the quotas that count it. Raises ApiError 403 when it exceeds a quota."""
        namespace, obj, row = attributes.namespace, attributes.object, attributes.row
        if not namespace or obj is None or row.virtual:
            return None
        if attributes.resource == QUOTAS:
            self._check_names(attributes, obj)
        if not self._recount.has_quotas(namespace):
            return None
        old = attributes.old_object if attributes.operation == "UPDATE" else None
        if attributes.size >= HEAVY:
            return self._charge_large(attributes, obj, old)
        self._charge(attributes, obj, old, *_both(row.stored_as, obj, old))
        return None

    async def _charge_large(self, attributes: AdmissionAttributes, obj: Object, old: Object | None) -> None:
        found = await run_apart(_both, attributes.row.stored_as, obj, old)
        self._charge(attributes, obj, old, *found)

    def _charge(
        self, attributes: AdmissionAttributes, obj: Object, old: Object | None, used: Amounts, formerly: Amounts
    ) -> None:
        namespace, resource, name = attributes.namespace, attributes.row.stored_as, attributes.object_name
        if old is not None and self._store.latest(resource, namespace, name) is not old:
            # Another request has changed the object while this request waited. The verb will repeat this request.
            return
        quotas, loop = latest_of(self._store, QUOTAS, namespace), asyncio.get_running_loop()
        if not all(map(is_counted, quotas)):
            # Quotas that were not counted yet are not charged for the object. The count that begins in the next turn
            # includes it.
            loop.call_soon(self._recount.recount, namespace)
        try:
            changed = charged(quotas, resource, obj, used, old, formerly)
        except QuotaRefusal as error:
            row = attributes.row
            raise forbidden(row.plural, name, str(error), row.group) from None
        # If the object already exists, this request to create it will fail, and must not change a quota.
        exists = old is None and self._store.latest(resource, namespace, name) is not None
        if attributes.dry_run or exists or not changed:
            return
        for quota, after in changed:
            status = {**quota["status"], "used": texts_of(after)}
            self._store.begin_update(QUOTAS, {**quota, "metadata": dict(quota["metadata"]), "status": status}, quota)
        # In the next turn, the store has the object, unless the request has failed. After a failure, the quotas must be
        # counted again.
        loop.call_soon(self._verify, resource, namespace, name, old)

    def _verify(self, resource: str, namespace: str, name: str, old: Object | None) -> None:
        if self._store.latest(resource, namespace, name) is old:
            self._recount.recount(namespace)

    def _check_names(self, attributes: AdmissionAttributes, obj: Object) -> None:
        """Raise ApiError 403 when the quotas of a namespace would limit too many resources."""
        others = latest_with_new(self._store, QUOTAS, attributes.namespace, attributes.object_name)
        # Each quota counts as one name more, because even an empty quota must be read.
        if sum(1 + len((one.get("spec") or {}).get("hard") or ()) for one in (*others, obj)) > MAX_NAMES:
            why = f"the quotas of a namespace may limit at most {MAX_NAMES} resources together"
            raise forbidden(QUOTAS, attributes.object_name, why)


def _both(resource: str, obj: Object, old: Object | None) -> tuple[Amounts, Amounts]:
    """Return the amounts that an object uses, and the amounts that it used before a change."""
    now = time.time()
    return usage(resource, obj, now), usage(resource, old, now) if old is not None else {}
