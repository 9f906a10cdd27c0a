"""Nobody gives away rights that they do not have: the check of roles and bindings before they are stored.

The behaviour is that of Kubernetes' `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased`:
who holds all rights of a role, or the verb `escalate` on it (`bind`, for bindings), may write it.
"""

from __future__ import annotations

from hatchway.cluster.auth.rbac import GROUP, PRIVILEGED_GROUP, Rbac, role_ref, rules_in
from hatchway.cluster.auth.rules import ALL, Rule, compact, covers, quote, quoted
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import forbidden, not_found
from hatchway.kube.api import Object

_RESOURCES = {
    "Role": "roles",
    "ClusterRole": "clusterroles",
}
# Who aggregates may end up with everything that anybody ever labels.
_EVERYTHING = [Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), non_resource_urls=(ALL,))]


def check_escalation(
    rbac: Rbac, user: UserInfo, resource: str, namespace: str, obj: Object, old: Object | None = None
) -> None:
    """Raise ApiError 403 when writing `obj` would give away rights that `user` lacks; 404 when it binds no existing role.

    resource: roles, clusterroles, rolebindings or clusterrolebindings. old: what is being replaced, None on create.
    """
    if PRIVILEGED_GROUP in user.groups:
        return
    name = obj.get("metadata", {}).get("name", "")
    if resource in ("roles", "clusterroles"):
        wanted = _granted_by_role(obj, old)
        if not wanted or _may(rbac, user, "escalate", resource, namespace, name):
            return
    else:
        if old is not None and role_ref(obj) == role_ref(old) and obj.get("subjects") == old.get("subjects"):
            return
        role = role_ref(obj)
        bound = _RESOURCES.get(role.kind, "")
        if _may(rbac, user, "bind", bound, namespace, role.name):
            return
        rules = rbac.rules_of(role, namespace)
        if rules is None:
            raise not_found(bound, role.name, GROUP)
        wanted = list(rules)
    owned, problems = rbac.rules_for(user, namespace)
    missing = covers(owned, wanted)
    if missing:
        lines = "\n".join(sorted({str(rule) for rule in compact(missing)}))
        why = (
            f"user {quote(user.name)} (groups={quoted(user.groups)}) "
            f"is attempting to grant RBAC permissions not currently held:\n{lines}"
        )
        if problems:
            why += f"; resolution errors: [{problems}]"
        raise forbidden(resource, name, why, GROUP)


def _granted_by_role(obj: Object, old: Object | None) -> list[Rule]:
    """What a user must hold to write the role: nothing when the write leaves its rules as they are."""
    rules = rules_in(obj)
    aggregation = obj.get("aggregationRule")
    if old is not None and rules == rules_in(old) and aggregation == old.get("aggregationRule"):
        return []
    return [*rules, *_EVERYTHING] if aggregation is not None else rules


def _may(rbac: Rbac, user: UserInfo, verb: str, resource: str, namespace: str, name: str) -> bool:
    asked = Attributes(user, verb, resource=resource, api_group=GROUP, api_version="v1", namespace=namespace, name=name)
    return rbac.decide(asked).allowed
