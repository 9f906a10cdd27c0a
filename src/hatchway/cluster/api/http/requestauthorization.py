"""Decides whether a user may make a request: impersonation, then authorization.

The decision and its reason are written to the request's audit record.
"""

from __future__ import annotations

from dataclasses import replace

from hatchway.cluster.api.http.connectroutes import ConnectRoute
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.auth import audit
from hatchway.cluster.auth.impersonation import impersonate
from hatchway.cluster.auth.rbac import Authorizer, refusal
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.proxy.routing import RequestHead

__all__ = ["authorize_request"]


def authorize_request(
    authorizer: Authorizer,
    info: RequestInfo,
    user: UserInfo,
    connection: ConnectRoute | None,
    head: RequestHead,
    record: audit.AuditRecord,
    *,
    impersonates: bool,
) -> UserInfo:
    """Authorize a request, and complete its audit record.

    user: the authenticated user.
    connection: the request's connecting subresource; None for a request for the REST API.
    impersonates: True if the request has header fields for impersonation.

    Returns the user as whom the request is made: the impersonated user, if there is one.
    Raises ApiError 403.
    """
    record.user = user
    acting = user
    if impersonates:
        acting = impersonate(authorizer, user, head)
        if acting is not user:
            record.impersonated = acting
    asked = _attributes(info, acting, head, connection)
    decision = authorizer.decide(asked)
    record.reason = decision.reason
    if not decision.allowed:
        record.decision = "forbid"
        raise refusal(asked, decision.reason)
    also = connection.connect.also_verb if connection is not None else ""
    if also and also != asked.verb:
        asked = replace(asked, verb=also)
        decision = authorizer.decide(asked)
        if not decision.allowed:
            record.decision, record.reason = "forbid", decision.reason
            raise refusal(asked, decision.reason)
    record.decision = "allow"
    return acting


def _attributes(info: RequestInfo, user: UserInfo, head: RequestHead, connection: ConnectRoute | None) -> Attributes:
    if not info.is_resource:
        return Attributes(user, info.verb, path=info.path)
    verb = info.verb
    if head.upgrade is not None and connection is not None:
        verb = connection.connect.upgrade_verb or verb
    return Attributes(
        user,
        verb,
        info.resource,
        info.subresource,
        info.api_group,
        info.api_version,
        info.namespace,
        info.name,
        fields=info.fields,
    )
