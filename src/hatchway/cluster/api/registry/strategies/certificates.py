"""CertificateSigningRequests (certificates.k8s.io/v1): defaults and validation.

The behaviour is that of `pkg/registry/certificates/certificates/strategy.go` and `pkg/apis/certificates/validation`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, keep, readers
from hatchway.cluster.auth.certificaterequests import MalformedRequest, check_certificates, parse_request
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["CertificateSigningRequestStrategy", "stamp_conditions", "validate_conditions"]

Json = dict[str, Any]

_USAGES = frozenset(
    (
        "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign", "data encipherment",
        "decipher only", "digital signature", "email protection", "encipher only", "ipsec end system", "ipsec tunnel",
        "ipsec user", "key agreement", "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime",
        "server auth", "signing", "timestamping",
    )
)  # fmt: skip
_LEGACY = "kubernetes.io/legacy-unknown"
_ONLY_TRUE = ("Approved", "Denied", "Failed")
_STATUSES = ("False", "True", "Unknown")
_MAX_DOMAIN, _MAX_SIGNER = 253, 571
_MIN_SECONDS = 600
_CONDITIONS = "status.conditions"
_CERTIFICATE = "status.certificate"


class CertificateSigningRequestStrategy(Strategy):
    """CertificateSigningRequests. They change only through their subresources `approval` and `status`."""

    # Checking the signature of a request takes some milliseconds with large RSA keys.
    is_costly = True
    selectable = readers({"spec.signerName": field("spec", "signerName")})

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        """Return the errors in a name, which must be one path segment (`ValidateCertificateRequestName`)."""
        return v.path_segment(name)

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the fields that name the client; drop the client's status."""
        spec = obj.setdefault("spec", {})
        for key in ("username", "uid", "groups", "extra"):
            spec.pop(key, None)
        spec["username"] = ctx.user.name
        if ctx.user.uid:
            spec["uid"] = ctx.user.uid
        if ctx.user.groups:
            spec["groups"] = list(ctx.user.groups)
        if ctx.user.extra:
            spec["extra"] = {key: list(values) for key, values in ctx.user.extra.items()}
        obj["status"] = {}

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep spec and status."""
        keep(obj, old, "spec")
        keep(obj, old, "status")

    def prepare_status(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the spec; set the times of conditions."""
        super().prepare_status(ctx, obj, old)
        stamp_conditions(obj, old, ctx.now)

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the request, its usages, its signer and its lifetime."""
        spec = obj.get("spec") or {}
        causes = []
        try:
            parse_request(spec.get("request") or "")
        except MalformedRequest as error:
            causes.append(v.invalid("spec.request", _bytes(spec.get("request") or ""), str(error)))
        usages = spec.get("usages") or []
        if not usages:
            causes.append(v.required("spec.usages"))
        supported = sorted(_USAGES)
        causes += [
            v.not_supported(f"spec.usages[{index}]", one, supported)
            for index, one in enumerate(usages)
            if one not in _USAGES
        ]
        causes += [
            v.duplicate(f"spec.usages[{index}]", one) for index, one in enumerate(usages) if one in usages[:index]
        ]
        signer = spec.get("signerName") or ""
        if signer == _LEGACY:
            message = "the legacy signerName is not allowed via this API version"
            causes.append(v.invalid("spec.signerName", signer, message))
        else:
            causes += _signer_name(signer)
        seconds = spec.get("expirationSeconds")
        if seconds is not None and seconds < _MIN_SECONDS:
            message = "may not specify a duration less than 600 seconds (10 minutes)"
            causes.append(v.invalid("spec.expirationSeconds", seconds, message))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return no errors, because `prepare_update` keeps spec and status."""
        return []

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in conditions and certificate. Approvals may change only through `approval`."""
        causes = validate_conditions(obj, old, may_approve=False)
        after, before = _status(obj).get("certificate") or "", _status(old).get("certificate") or ""
        if after == before:
            return causes
        if before:
            return [*causes, v.forbidden(_CERTIFICATE, "updates may not modify existing certificate content")]
        try:
            check_certificates(after)
        except MalformedRequest as error:
            causes.append(v.invalid(_CERTIFICATE, "<certificate data>", str(error)))
        return causes


def stamp_conditions(obj: Object, old: Object, now: str) -> None:
    """Set missing times of conditions in `obj` (`populateConditionTimestamps`)."""
    former = {one.get("type"): one for one in _status(old).get("conditions") or ()}
    for one in _status(obj).get("conditions") or ():
        if not one.get("lastUpdateTime"):
            one["lastUpdateTime"] = now
        if not one.get("lastTransitionTime"):
            before = former.get(one.get("type"), {})
            same = before.get("status") == one.get("status") and before.get("lastTransitionTime")
            one["lastTransitionTime"] = before["lastTransitionTime"] if same else now


def validate_conditions(obj: Object, old: Object, *, may_approve: bool) -> list[Cause]:
    """Return the errors in the conditions of a changed request (`validateConditions`)."""
    after, before = _status(obj).get("conditions") or [], _status(old).get("conditions") or []
    causes = _conditions(after)
    for kind in ("Approved", "Denied", "Failed"):
        mine = [_decision(one) for one in after if one.get("type") == kind]
        theirs = [_decision(one) for one in before if one.get("type") == kind]
        if len(mine) < len(theirs):
            causes.append(v.forbidden(_CONDITIONS, f"updates may not remove a condition of type {v.quote(kind)}"))
        elif len(mine) > len(theirs):
            if kind != "Failed" and not may_approve:
                causes.append(v.forbidden(_CONDITIONS, f"updates may not add a condition of type {v.quote(kind)}"))
        elif mine != theirs and not (kind == "Failed" or may_approve):
            causes.append(v.forbidden(_CONDITIONS, f"updates may not modify a condition of type {v.quote(kind)}"))
    return causes


def _conditions(conditions: list[Json]) -> list[Cause]:
    causes = []
    seen: set[str] = set()
    for index, one in enumerate(conditions):
        at, kind, status = f"{_CONDITIONS}[{index}]", one.get("type") or "", one.get("status") or ""
        if not kind:
            causes.append(v.required(f"{at}.type"))
        allowed = ("True",) if kind in _ONLY_TRUE else _STATUSES
        if not status:
            causes.append(v.required(f"{at}.status"))
        elif status not in allowed:
            causes.append(v.not_supported(f"{at}.status", status, allowed))
        if {"Approved": "Denied", "Denied": "Approved"}.get(kind) in seen:
            message = "Approved and Denied conditions are mutually exclusive"
            causes.append(v.invalid(f"{at}.type", kind, message))
        if kind and kind in seen:
            causes.append(v.duplicate(f"{at}.type", kind))
        seen.add(kind)
    return causes


def _decision(condition: Json) -> Json:
    return {key: condition.get(key) or "" for key in ("type", "status", "reason", "message")}


def _status(obj: Object) -> Json:
    return obj.get("status") or {}


def _bytes(text: str) -> str:
    """Return bytes for an error message: at most 100 characters of their base64."""
    return text if len(text) <= 100 else text[:100] + "..."


def _signer_name(name: str) -> list[Cause]:
    """Return the errors in a signer's name (`ValidateSignerName`)."""
    at = "spec.signerName"
    if not name:
        return [v.required(at)]
    parts = name.split("/")
    if len(parts) != 2:
        message = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [v.invalid(at, name, message)]
    domain, path = parts
    causes = []
    if len(domain) > _MAX_DOMAIN:
        return [v.too_long(at, _MAX_DOMAIN)]
    if len(name) > _MAX_SIGNER:
        return [v.too_long(at, _MAX_SIGNER)]
    labels = domain.split(".")
    if len(labels) < 2:
        message = "should be a domain with at least two segments separated by dots"
        causes.append(v.invalid(at, domain, message))
    for label in labels:
        causes += [v.invalid(at, domain, f"validating label {v.quote(label)}: {why}") for why in v.dns1123_label(label)]
    for label in path.split("."):
        causes += [
            v.invalid(at, path, f"validating label {v.quote(label)}: {why}") for why in v.dns1123_subdomain(label)
        ]
    return causes
