"""Checks that users may read the parameters that their admission policies and bindings use.

The messages of a policy can contain parts of the objects that its expressions read. A user who writes a policy or a
binding must therefore be allowed to read its parameters. The behaviour is that of `authz.go` in Kubernetes'
`pkg/registry/admissionregistration/{validating,mutating}admissionpolicy` and
`{validating,mutating}admissionpolicybinding`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from hatchway.cluster.api.admission.policies.source import MUTATING_POLICIES, POLICIES
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth.rbac import PRIVILEGED_GROUP, Authorizer
from hatchway.cluster.auth.user import Attributes, UserInfo
from hatchway.errors import invalid
from hatchway.kube.api import Object

__all__ = ["ParamAccess"]

_GROUP = "admissionregistration.k8s.io"
_KINDS = {
    "mutatingadmissionpolicies": "MutatingAdmissionPolicy",
    "mutatingadmissionpolicybindings": "MutatingAdmissionPolicyBinding",
    "validatingadmissionpolicies": "ValidatingAdmissionPolicy",
    "validatingadmissionpolicybindings": "ValidatingAdmissionPolicyBinding",
}
Json = dict[str, Any]


class ParamAccess:
    """Checks that the user who writes a policy or a binding may read its parameters.

    authorizer: decides about the right to read. store: has the policies. rows: returns the rows of all types.
    """

    def __init__(self, authorizer: Authorizer, store: Store, rows: Callable[[], Iterable[Resource]]) -> None:
        self._authorizer = authorizer
        self._store = store
        self._rows = rows

    def handles(self, resource: str) -> bool:
        """Return True for the plural of a type whose objects name parameters."""
        return resource in _KINDS

    def check(self, user: UserInfo, resource: str, obj: Object, old: Object | None) -> None:
        """Raise ApiError 422 when the user may not read the parameters. old: the former object; None on create."""
        if PRIVILEGED_GROUP in user.groups:
            return
        spec, before = obj.get("spec") or {}, (old or {}).get("spec") or {}
        name = obj["metadata"].get("name") or ""
        if resource.endswith("policies"):
            kind = spec.get("paramKind")
            if kind is None or kind == before.get("paramKind") or self._may_read(user, "get", kind, "*", "*"):
                return
            at, what = "spec.paramKind", f"kind={kind.get('kind')}, apiVersion={kind.get('apiVersion')}"
            why = f'must have "get" permission on all objects of the referenced paramKind ({what})'
        else:
            reference = spec.get("paramRef")
            keys = ("paramRef", "policyName")
            if reference is None or all(spec.get(key) == before.get(key) for key in keys):
                return
            policies = MUTATING_POLICIES if resource.startswith("mutating") else POLICIES
            policy = self._store.latest(policies, "", spec.get("policyName") or "")
            kind = ((policy or {}).get("spec") or {}).get("paramKind")
            # A reference has either a name or a selector.
            target = reference.get("name") or ""
            verb = "get" if target else "list"
            if self._may_read(user, verb, kind, reference.get("namespace") or "", target):
                return
            at, why = "spec.paramRef", f'does not have "{verb}" permission on the object referenced by paramRef'
        raise invalid(_KINDS[resource], name, [v.forbidden(at, f"user {v.quote(user.name)} {why}")], _GROUP)

    def _may_read(self, user: UserInfo, verb: str, kind: Json | None, namespace: str, name: str) -> bool:
        """Return True when the user may use a verb on objects of a kind. kind: None stands for all kinds."""
        resource, group, version = "*", "*", "*"
        if kind is not None:
            api_version = kind.get("apiVersion") or ""
            group, _, version = api_version.rpartition("/")
            rows = (one for one in self._rows() if (one.api_version, one.kind) == (api_version, kind.get("kind")))
            resource = next((one.plural for one in rows), "*")
        asked = Attributes(
            user, verb, resource=resource, api_group=group, api_version=version, namespace=namespace, name=name
        )
        return self._authorizer.decide(asked).allowed
