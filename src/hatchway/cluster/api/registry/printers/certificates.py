"""Printer of CertificateSigningRequests (`pkg/printers/internalversion/printers.go`)."""

from __future__ import annotations

from hatchway.cluster.api.registry.printers.base import AGE, NAME, Cells, Column, Json, Printer, age_of, name_of
from hatchway.cluster.api.registry.printers.humanize import NONE, human_duration

__all__ = ["SIGNING_REQUEST"]


def _signing_request(obj: Json, now: float) -> Cells:
    spec, seconds = obj.get("spec") or {}, (obj.get("spec") or {}).get("expirationSeconds")
    return [
        name_of(obj),
        age_of(obj, now),
        spec.get("signerName") or NONE,
        spec.get("username", ""),
        NONE if seconds is None else human_duration(seconds),
        _condition(obj.get("status") or {}),
    ]


def _condition(status: Json) -> str:
    """Return the state of a request (`extractCSRStatus`)."""
    kinds = [one.get("type") for one in status.get("conditions") or ()]
    shown = "Denied" if "Denied" in kinds else "Approved" if "Approved" in kinds else "Pending"
    if "Failed" in kinds:
        shown += ",Failed"
    return f"{shown},Issued" if status.get("certificate") else shown


SIGNING_REQUEST = Printer(
    _signing_request,
    NAME,
    AGE,
    Column("SignerName", description="The signer that the request is addressed to"),
    Column("Requestor", description="Who made the request"),
    Column("RequestedDuration", description="How long the certificate should be valid"),
    Column("Condition", description="Whether the request is approved and the certificate is issued"),
)
