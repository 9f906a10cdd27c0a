"""RBAC objects (rbac/v1): the validation of Kubernetes' `pkg/apis/rbac/validation`.

`admission/escalation.py` checks that clients grant only rights that they have themselves.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.errors import Cause
from hatchway.kube.api import Object

_GROUP = "rbac.authorization.k8s.io"


class _RbacStrategy(Strategy):
    grants_rights = True

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return v.path_segment(name)

    def has_status(self, obj: Object) -> bool:
        return False

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        pass


class RoleStrategy(_RbacStrategy):
    """Roles and ClusterRoles."""

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set missing `rules` to null: Kubernetes always writes the field, so clients expect it."""
        obj.setdefault("rules", None)

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the rules, and in the aggregation rule of a ClusterRole."""
        causes = []
        cluster_wide = obj.get("kind") == "ClusterRole"
        for index, rule in enumerate(obj.get("rules") or ()):
            causes += _validate_rule(rule, f"rules[{index}]", cluster_wide)
        aggregation = obj.get("aggregationRule")
        if aggregation is not None:
            selectors = aggregation.get("clusterRoleSelectors") or []
            at = "aggregationRule.clusterRoleSelectors"
            if not selectors:
                causes.append(v.required(at, "at least one clusterRoleSelector required if aggregationRule is non-nil"))
            terms = sum(max(1, v.selector_terms(one)) for one in selectors)
            if terms > v.MAX_SELECTOR_TERMS:
                # The number is limited, because each change of a ClusterRole matches all ClusterRoles again.
                causes.append(v.too_many(at, terms, v.MAX_SELECTOR_TERMS))
                selectors = []
            for index, selector in enumerate(selectors):
                causes += v.label_selector(selector, f"{at}[{index}]")
        return causes


def _validate_rule(rule: dict[str, Any], at: str, cluster_wide: bool) -> list[Cause]:
    causes = [] if rule.get("verbs") else [v.required(f"{at}.verbs", "verbs must contain at least one value")]
    if rule.get("nonResourceURLs"):
        urls = rule["nonResourceURLs"]
        if not cluster_wide:
            causes.append(
                v.invalid(f"{at}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs")
            )
        if any(rule.get(key) for key in ("apiGroups", "resources", "resourceNames")):
            causes.append(
                v.invalid(
                    f"{at}.nonResourceURLs", urls, "rules cannot apply to both regular resources and non-resource URLs"
                )
            )
        return causes
    if not rule.get("apiGroups"):
        causes.append(v.required(f"{at}.apiGroups", "resource rules must supply at least one api group"))
    if not rule.get("resources"):
        causes.append(v.required(f"{at}.resources", "resource rules must supply at least one resource"))
    return causes


class RoleBindingStrategy(_RbacStrategy):
    """RoleBindings and ClusterRoleBindings. The roleRef of a binding never changes."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the role's reference and in the subjects."""
        namespaced = obj.get("kind") == "RoleBinding"
        reference = obj.get("roleRef") or {}
        causes = []
        if reference.get("apiGroup", "") != _GROUP:
            causes.append(v.not_supported("roleRef.apiGroup", reference.get("apiGroup", ""), [_GROUP]))
        kinds = ("Role", "ClusterRole") if namespaced else ("ClusterRole",)
        if reference.get("kind", "") not in kinds:
            causes.append(v.not_supported("roleRef.kind", reference.get("kind", ""), kinds))
        name = reference.get("name", "")
        if not name:
            causes.append(v.required("roleRef.name"))
        else:
            causes += v.each("roleRef.name", name, v.path_segment(name))
        for index, subject in enumerate(obj.get("subjects") or ()):
            causes += _validate_subject(subject, f"subjects[{index}]", namespaced)
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: a binding always refers to the same role."""
        causes = self.validate(obj)
        if obj.get("roleRef") != old.get("roleRef"):
            causes.append(v.invalid("roleRef", obj.get("roleRef"), "cannot change roleRef"))
        return causes


def _validate_subject(subject: dict[str, Any], at: str, namespaced: bool) -> list[Cause]:
    causes = []
    name, kind, group = subject.get("name", ""), subject.get("kind", ""), subject.get("apiGroup", "")
    if not name:
        causes.append(v.required(f"{at}.name"))
    if kind == "ServiceAccount":
        if name:
            causes += v.each(f"{at}.name", name, v.dns1123_subdomain(name))
        if group:
            causes.append(v.not_supported(f"{at}.apiGroup", group, [""]))
        if not namespaced and not subject.get("namespace"):
            causes.append(v.required(f"{at}.namespace"))
    elif kind in ("User", "Group"):
        if group != _GROUP:
            causes.append(v.not_supported(f"{at}.apiGroup", group, [_GROUP]))
    else:
        causes.append(v.not_supported(f"{at}.kind", kind, ["ServiceAccount", "User", "Group"]))
    return causes
