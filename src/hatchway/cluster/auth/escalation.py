"""The escalation check of roles and bindings before they are stored: no user grants rights that the user lacks.

The behaviour is that of Kubernetes' `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased`:
who holds all rights of a role, or the verb `escalate` on it (`bind`, for bindings), may write it.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.cluster.auth.rbac import GROUP, PRIVILEGED_GROUP, Rbac, role_ref, rules_in
from hatchway.cluster.auth.rules import ALL, Rule, TooManyCombinations, compact, covers, quote, quoted
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import forbidden, not_found
from hatchway.kube.api import Object

_RESOURCES = {
    "Role": "roles",
    "ClusterRole": "clusterroles",
}
# Who aggregates may end up with everything that anybody ever labels.
_EVERYTHING = [Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), non_resource_urls=(ALL,))]
# What the garbage collector changes, and what the server sets by itself (the version is checked elsewhere).
_COLLECTION_FIELDS = frozenset(("ownerReferences", "finalizers", "managedFields", "resourceVersion", "selfLink"))


def check_escalation(
    rbac: Rbac, user: UserInfo, resource: str, namespace: str, obj: Object, old: Object | None = None
) -> None:
    """Raise ApiError 403 when writing `obj` would give away rights that `user` lacks; 404 when it binds no existing role.

    resource: roles, clusterroles, rolebindings or clusterrolebindings. old: what is being replaced, None on create.

    What a role grants depends on more than its rules: its labels decide which aggregated roles take them in. So every
    change needs the role's rights, but for those by which an object is garbage collected.
    """
    if PRIVILEGED_GROUP in user.groups or (old is not None and _only_for_collection(obj, old)):
        return
    name = obj.get("metadata", {}).get("name", "")
    if resource in ("roles", "clusterroles"):
        # As there, a right to `escalate` that is limited to names does not allow to make a role of that name.
        if _may(rbac, user, "escalate", resource, namespace, name if old is not None else ""):
            return
        _require(rbac, user, resource, namespace, name, rules_in(obj))
        if any(role is not None and role.get("aggregationRule") is not None for role in (obj, old)):
            owned, _ = rbac.rules_for(user, namespace)
            if covers(owned, _EVERYTHING):
                raise forbidden(resource, name, "must have cluster-admin privileges to use the aggregationRule", GROUP)
        return
    role = role_ref(obj)
    bound = _RESOURCES.get(role.kind, "")
    if _may(rbac, user, "bind", bound, namespace, role.name):
        return
    rules = rbac.rules_of(role, namespace)
    if rules is None:
        raise not_found(bound, role.name, GROUP)
    _require(rbac, user, resource, namespace, name, rules)


def _require(rbac: Rbac, user: UserInfo, resource: str, namespace: str, name: str, wanted: Iterable[Rule]) -> None:
    """Raise ApiError 403, worded as `ConfirmNoEscalation` does, when the user lacks some of the rights."""
    owned, problems = rbac.rules_for(user, namespace)
    try:
        missing = covers(owned, wanted)
    except TooManyCombinations:
        why = "its rules have too many combinations to compare with yours: split it into several roles"
        raise forbidden(resource, name, why, GROUP) from None
    if not missing:
        return
    lines = "\n".join(sorted({str(rule) for rule in compact(missing)}))
    why = (
        f"user {quote(user.name)} (groups={quoted(user.groups)}) "
        f"is attempting to grant RBAC permissions not currently held:\n{lines}"
    )
    if problems:
        why += f"; resolution errors: [{problems}]"
    raise forbidden(resource, name, why, GROUP)


def _only_for_collection(obj: Object, old: Object) -> bool:
    """Whether nothing differs but owners and finalizers (`IsOnlyMutatingGCFields`)."""
    if any(obj.get(key) != old.get(key) for key in {*obj, *old} - {"metadata"}):
        return False
    metadata, former = obj["metadata"], old["metadata"]
    return all(metadata.get(key) == former.get(key) for key in {*metadata, *former} - _COLLECTION_FIELDS)


def _may(rbac: Rbac, user: UserInfo, verb: str, resource: str, namespace: str, name: str) -> bool:
    asked = Attributes(user, verb, resource=resource, api_group=GROUP, api_version="v1", namespace=namespace, name=name)
    return rbac.decide(asked).allowed
