"""ResourceClaims and ResourceClaimTemplates (resource.k8s.io/v1): specs (`pkg/apis/resource/validation`).

The status of claims is in `claimallocations.py`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies import deviceparts as parts
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.claimallocations import (
    drop_deallocated,
    request_names,
    request_reference,
    validate_claim_status,
)
from hatchway.cluster.api.registry.strategies.devicetaints import validate_device_toleration
from hatchway.errors import Cause, invalid
from hatchway.kube.api import Object

__all__ = ["ResourceClaimStrategy", "ResourceClaimTemplateStrategy"]

Json = dict[str, Any]

_ADMIN = "resource.kubernetes.io/admin-access"
_MODES = ("All", "ExactCount")
_MAX_REQUESTS, _MAX_CONSTRAINTS, _MAX_CONFIG, _MAX_ALTERNATIVES = 32, 32, 32, 8
_ONE_OF = "exactly one of `exactly` or `firstAvailable` is required"


class ResourceClaimStrategy(Strategy):
    """ResourceClaims (`pkg/registry/resource/resourceclaim/strategy.go`). The spec of a claim never changes."""

    is_costly = True
    empty_status = True

    def admit(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Refuse `adminAccess` (access to devices in use) unless a label of the namespace allows it."""
        if old is None:
            _check_admin(ctx, obj, obj.get("spec") or {}, "ResourceClaim")

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Undo changes outside of status and metadata. Drop the statuses of devices that are no longer allocated.

        Refuses new `adminAccess`, like `admit`.
        """
        super().prepare_status(ctx, obj, old)
        drop_deallocated(obj, old)
        results = _results(obj)
        granted = [index for index, one in enumerate(results) if one.get("adminAccess")]
        if granted and not any(one.get("adminAccess") for one in _results(old)):
            at = f"status.allocation.devices.results[{granted[0]}].adminAccess"
            _require_mark(ctx, obj, at, "ResourceClaim")

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the requests, the constraints and the configurations."""
        return validate_claim_spec(obj.get("spec") or {}, "spec")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the error in a change of the spec."""
        return v.immutable(obj.get("spec") or {}, old.get("spec") or {}, "spec")

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change of the status."""
        return validate_claim_status(obj, old)


class ResourceClaimTemplateStrategy(Strategy):
    """ResourceClaimTemplates (`pkg/registry/resource/resourceclaimtemplate/strategy.go`)."""

    is_costly = True

    def admit(self, ctx: WriteContext, obj: Object, old: Object | None) -> None:
        """Refuse `adminAccess` (access to devices in use) unless a label of the namespace allows it."""
        if old is None:
            _check_admin(ctx, obj, (obj.get("spec") or {}).get("spec") or {}, "ResourceClaimTemplate")

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the metadata and the spec of the claims."""
        template = obj.get("spec") or {}
        metadata = template.get("metadata") or {}
        causes = v.labels(metadata.get("labels"), "spec.metadata.labels")
        for key in metadata.get("annotations") or {}:
            causes += v.each("spec.metadata.annotations", key, v.qualified_name(key.lower()))
        return causes + validate_claim_spec(template.get("spec") or {}, "spec.spec")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the error in a change of the spec."""
        return v.immutable(obj.get("spec") or {}, old.get("spec") or {}, "spec")


def _results(claim: Object) -> list[Json]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    return list((allocation.get("devices") or {}).get("results") or ())


def _check_admin(ctx: WriteContext, obj: Object, spec: Json, kind: str) -> None:
    for index, request in enumerate((spec.get("devices") or {}).get("requests") or ()):
        if (request.get("exactly") or {}).get("adminAccess"):
            _require_mark(ctx, obj, f"spec.devices.requests[{index}].adminAccess", kind)


def _require_mark(ctx: WriteContext, obj: Object, at: str, kind: str) -> None:
    namespace = ctx.store.latest("namespaces", "", ctx.namespace)
    labels = (namespace["metadata"].get("labels") or {}) if namespace is not None else {}
    if labels.get(_ADMIN) != "true":
        text = f"admin access to devices requires the `{_ADMIN}: true` label on the containing namespace"
        raise invalid(kind, obj["metadata"].get("name") or "", [v.forbidden(at, text)], "resource.k8s.io")


def validate_claim_spec(spec: Json, at: str) -> list[Cause]:
    """Return all errors in the spec of a claim. at: its path."""
    devices, at = spec.get("devices") or {}, f"{at}.devices"
    requests, names = devices.get("requests"), request_names(devices)
    causes = parts.each_item(requests, _MAX_REQUESTS, _request, f"{at}.requests")
    causes += parts.unique(requests, lambda one: one.get("name"), f"{at}.requests", _MAX_REQUESTS)

    def references(found: Json, here: str) -> list[Cause]:
        given, here = found.get("requests"), f"{here}.requests"
        errors = parts.each_item(given, _MAX_REQUESTS, lambda one, at: request_reference(one, at, names), here)
        return errors + parts.unique(given, lambda one: one, here, _MAX_REQUESTS)

    def constraint(found: Json, here: str) -> list[Cause]:
        errors = references(found, here)
        for key in ("matchAttribute", "distinctAttribute"):
            if found.get(key) is not None:
                return errors + parts.fully_qualified_name(found[key], f"{here}.{key}")
        text = 'exactly one of "matchAttribute" or "distinctAttribute" is required, but multiple fields are set'
        return [*errors, v.required(here, text)]

    causes += parts.each_item(devices.get("constraints"), _MAX_CONSTRAINTS, constraint, f"{at}.constraints")
    return causes + parts.each_item(
        devices.get("config"), _MAX_CONFIG, lambda one, here: references(one, here) + parts.config(one, here),
        f"{at}.config",
    )  # fmt: skip


def _request(request: Json, at: str) -> list[Cause]:
    causes = parts.label(request.get("name") or "", f"{at}.name")
    exact, alternatives = request.get("exactly"), request.get("firstAvailable")
    if exact is None and not alternatives:
        return [*causes, v.required(at, _ONE_OF)]
    if exact is not None and alternatives:
        return [*causes, v.invalid(at, None, f"{_ONE_OF}, but multiple fields are set")]
    if exact is not None:
        return causes + _exact(exact, f"{at}.exactly")
    at = f"{at}.firstAvailable"
    causes += parts.each_item(alternatives, _MAX_ALTERNATIVES, _alternative, at)
    return causes + parts.unique(alternatives, lambda one: one.get("name"), at, _MAX_ALTERNATIVES)


def _alternative(request: Json, at: str) -> list[Cause]:
    return parts.label(request.get("name") or "", f"{at}.name") + _exact(request, at)


def _exact(request: Json, at: str) -> list[Cause]:
    name, here = request.get("deviceClassName") or "", f"{at}.deviceClassName"
    causes = v.each(here, name, v.dns1123_subdomain(name)) if name else [v.required(here)]
    causes += parts.selectors(request.get("selectors"), f"{at}.selectors")
    mode, count = request.get("allocationMode") or "", request.get("count") or 0
    if mode == "All" and count:
        causes.append(v.invalid(f"{at}.count", count, "must not be specified when allocationMode is 'All'"))
    elif mode == "ExactCount" and count <= 0:
        causes.append(v.invalid(f"{at}.count", count, "must be greater than zero"))
    elif mode not in _MODES:
        causes.append(v.not_supported(f"{at}.allocationMode", mode, _MODES))
    return causes + parts.each_item(request.get("tolerations"), 16, validate_device_toleration, f"{at}.tolerations")
