"""Makes the audit record of a request. Long values are cut."""

from __future__ import annotations

from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.auth import audit
from hatchway.proxy.routing import RequestHead

__all__ = ["describe_request", "describe_target"]


def describe_request(head: RequestHead) -> tuple[audit.AuditRecord, bytes | None, bool]:
    """Return the audit record of a request, its Audit-ID, and True when it requests impersonation."""
    given_id = user_agent = forwarded_for = None
    impersonates = False
    # A single pass over the fields, because this is done for every request.
    for name, value in head.headers:
        lower = name.lower()
        if lower == b"user-agent":
            user_agent = value
        elif lower == b"audit-id":
            given_id = value
        elif lower == b"x-forwarded-for":
            forwarded_for = value
        elif lower.startswith(b"impersonate-"):
            impersonates = True
    record = audit.AuditRecord(
        head.method.lower(),
        head.path[: audit.LONGEST],
        source=head.peer.address[0] if head.peer.address else "",
        forwarded_for=forwarded_for[: audit.LONGEST] if forwarded_for is not None else None,
        user_agent=user_agent[: audit.LONGEST] if user_agent is not None else None,
    )
    return record, given_id, impersonates


def describe_target(record: audit.AuditRecord, head: RequestHead, info: RequestInfo) -> None:
    """Add to an audit record what a request does, and to which object."""
    record.verb = info.verb
    record.uri = audit.uri(head, proxied=info.subresource == "proxy")
    if info.is_resource:
        longest = audit.LONGEST
        record.resource = info.resource[:longest]
        record.subresource = info.subresource[:longest]
        record.namespace = info.namespace[:longest]
        record.name = info.name[:longest]
        record.api_group = info.api_group[:longest]
        record.api_version = info.api_version[:longest]
