"""The escalation check of roles and bindings before they are stored: users can grant only rights that they have.

The behaviour is that of Kubernetes' `pkg/registry/rbac/{role,clusterrole,rolebinding,clusterrolebinding}/policybased`.
To write a role, a user needs all rights in it, or the verb `escalate` for it. To write a binding, a user needs all
rights of the bound role, or the verb `bind` for that role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from hatchway.cluster.auth.rbac import GROUP, PRIVILEGED_GROUP, Authorizer, role_ref, rules_in
from hatchway.cluster.auth.rules import ALL, Rule, TooManyCombinations, compact, quote, quoted, uncovered
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import forbidden, not_found
from hatchway.kube.api import Object

_RESOURCES = {
    "Role": "roles",
    "ClusterRole": "clusterroles",
}
# An aggregated role may later include any rule, because clients may put the selected labels on any role.
_EVERYTHING = [Rule((ALL,), (ALL,), (ALL,)), Rule((ALL,), non_resource_urls=(ALL,))]
# Fields of the metadata that need no check. The garbage collector changes the first two. The server sets or checks the
# others.
_COLLECTION_FIELDS = frozenset(("ownerReferences", "finalizers", "managedFields", "resourceVersion", "selfLink"))


def escalation_check(
    authorizer: Authorizer, user: UserInfo, resource: str, namespace: str, obj: Object, old: Object | None = None
) -> Callable[[], None] | None:
    """Prepare the check that writing `obj` grants no rights that `user` lacks.

    resource: roles, clusterroles, rolebindings or clusterrolebindings. old: the former object; None on create.

    A role's labels decide which aggregated roles include its rules. A change of labels can therefore grant rights, too.
    All changes except changes by the garbage collector require the role's rights.

    Returns:
        A function that compares the rights, and raises ApiError 403 when the user lacks some; None when the write is
        allowed without a comparison. The function does not read the store, so it can be called on a thread.

    Raises:
        ApiError: 404 when a bound role does not exist.
    """
    if PRIVILEGED_GROUP in user.groups or (old is not None and _only_for_garbage_collection(obj, old)):
        return None
    name = obj.get("metadata", {}).get("name", "")
    if resource in ("roles", "clusterroles"):
        # As in Kubernetes, a right to `escalate` that is limited to a name does not allow creating a role of that name.
        if _may(authorizer, user, "escalate", resource, namespace, name if old is not None else ""):
            return None
        aggregates = any(role is not None and role.get("aggregationRule") is not None for role in (obj, old))
        owned, problems = authorizer.rules_for(user, namespace)

        def compare() -> None:
            _require(user, owned, problems, resource, name, rules_in(obj))
            if aggregates and uncovered(owned, _EVERYTHING):
                raise forbidden(resource, name, "must have cluster-admin privileges to use the aggregationRule", GROUP)

        return compare
    role = role_ref(obj)
    bound = _RESOURCES.get(role.kind, "")
    if _may(authorizer, user, "bind", bound, namespace, role.name):
        return None
    rules = authorizer.rules_of(role, namespace)
    if rules is None:
        raise not_found(bound, role.name, GROUP)
    owned, problems = authorizer.rules_for(user, namespace)
    return partial(_require, user, owned, problems, resource, name, rules)


def _require(
    user: UserInfo, owned: list[Rule], problems: str, resource: str, name: str, wanted: Iterable[Rule]
) -> None:
    """Raise ApiError 403 (text of `ConfirmNoEscalation`) when the user lacks some of the rights.

    owned: the rules of the user.
    problems: errors that occurred when the user's rules were looked up; "" for none.
    """
    try:
        missing = uncovered(owned, wanted)
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


def _only_for_garbage_collection(obj: Object, old: Object) -> bool:
    """Return True when only owners and finalizers differ (`IsOnlyMutatingGCFields`)."""
    if any(obj.get(key) != old.get(key) for key in {*obj, *old} - {"metadata"}):
        return False
    metadata, former = obj["metadata"], old["metadata"]
    return all(metadata.get(key) == former.get(key) for key in {*metadata, *former} - _COLLECTION_FIELDS)


def _may(authorizer: Authorizer, user: UserInfo, verb: str, resource: str, namespace: str, name: str) -> bool:
    asked = Attributes(user, verb, resource=resource, api_group=GROUP, api_version="v1", namespace=namespace, name=name)
    return authorizer.decide(asked).allowed
