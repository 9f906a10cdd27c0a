"""The admission plugin LimitRanger: defaults and limits for the resources that new pods and claims request.

Source: `plugin/pkg/admission/limitranger`. The rules of a single LimitRange are in `limits.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.limits import claim_problems, pod_problems, set_container_defaults
from hatchway.cluster.api.admission.storedrules import latest_of, latest_with_new
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import HEAVY, run_apart
from hatchway.cluster.podresources import containers_of
from hatchway.errors import forbidden
from hatchway.kube.api import Object

__all__ = ["MAX_AMOUNTS", "MAX_COMPARISONS", "LimitRanger"]

_RANGES, _PODS, _CLAIMS = "limitranges", "pods", "persistentvolumeclaims"
_LISTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
# The maximum number of amounts in all LimitRanges of one namespace. Each amount is compared with every container of
# every new pod.
MAX_AMOUNTS = 1000
# The maximum number of comparisons for one pod: amounts times containers.
MAX_COMPARISONS = 20_000
# Large work runs on a thread. To decide whether work is large, one comparison counts as this many bytes of JSON.
_WEIGHT = 128
# The maximum number of problems in one error.
_MAX_SHOWN = 64


class LimitRanger(AdmissionPlugin):
    """Applies the LimitRanges of a namespace to new and resized pods, and new and changed claims.

    store: has the LimitRanges.
    """

    name = "LimitRanger"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and resized pods, and for new and changed claims and LimitRanges."""
        if subresource:
            return (operation, resource, subresource) == ("UPDATE", _PODS, "resize")
        return (operation == "CREATE" and resource == _PODS) or (
            operation in ("CREATE", "UPDATE") and resource in (_CLAIMS, _RANGES)
        )

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True for claims, because a claim may be compared with many amounts."""
        return row.group_resource == _CLAIMS

    def admit(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Set missing requests and limits of a new pod's containers."""
        if attributes.resource != _PODS:
            return None
        return self._apply(attributes, is_mutating=True)

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Raise ApiError 403 for pods and claims that exceed limits."""
        if attributes.resource == _RANGES:
            self._check_amounts(attributes)
            return None
        return self._apply(attributes, is_mutating=False)

    def _apply(self, attributes: AdmissionAttributes, *, is_mutating: bool) -> Awaitable[None] | None:
        obj, old = attributes.object, attributes.old_object
        ranges = latest_of(self._store, _RANGES, attributes.namespace)
        if obj is None or not ranges or (old is not None and old["metadata"].get("deletionTimestamp")):
            return None
        work = partial(_apply_ranges, attributes, ranges, obj, old, is_mutating)
        comparisons = sum(map(_amounts, ranges)) * max(1, len(containers_of(obj.get("spec") or {})))
        size = max(attributes.size, comparisons * _WEIGHT)
        if size < HEAVY:
            work()
            return None
        if comparisons > MAX_COMPARISONS:
            why = f"its containers and the limit ranges of its namespace need more than {MAX_COMPARISONS} comparisons"
            raise forbidden(attributes.resource, attributes.object_name, why)
        # The defaults make the object larger. Later plugins need a size that includes the defaults.
        attributes.size = size
        return run_apart(work)

    def _check_amounts(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 when the LimitRanges of a namespace would have too many amounts."""
        assert attributes.object is not None
        name = attributes.object_name
        others = latest_with_new(self._store, _RANGES, attributes.namespace, name)
        # Each limit range counts as one amount more, because even an empty limit range must be read.
        if sum(1 + _amounts(one) for one in (*others, attributes.object)) > MAX_AMOUNTS:
            why = f"the limit ranges of a namespace may have at most {MAX_AMOUNTS} amounts together"
            raise forbidden(_RANGES, name, why)


def _amounts(limit_range: Object) -> int:
    items = (limit_range.get("spec") or {}).get("limits") or ()
    return sum(1 + sum(len(item.get(key) or ()) for key in _LISTS) for item in items)


def _apply_ranges(
    attributes: AdmissionAttributes, ranges: list[Object], obj: Object, old: Object | None, is_mutating: bool
) -> None:
    for one in ranges:
        if attributes.resource == _CLAIMS:
            problems = claim_problems(one, obj, old)
        elif is_mutating:
            set_container_defaults(one, obj)
            continue
        else:
            problems = pod_problems(one, obj)
        if problems:
            raise forbidden(attributes.resource, attributes.object_name, _joined(list(dict.fromkeys(problems))))


def _joined(problems: list[str]) -> str:
    """Return problems as one text (`NewAggregate`). Only the first `_MAX_SHOWN` are shown."""
    more = len(problems) - _MAX_SHOWN
    shown = problems[:_MAX_SHOWN] + ([f"and {more} more"] if more > 0 else [])
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"
