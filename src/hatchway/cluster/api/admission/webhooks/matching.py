"""Decides which webhooks are called for a write, and which resource their rules match.

Source: apiserver's `pkg/admission/plugin/webhook/generic/webhook.go` (`ShouldCallHook`) and `predicates/`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.admission.webhooks.configurations import Webhook, WebhookRule
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import not_found

__all__ = ["ConditionCheck", "Invocation", "WebhookMatcher", "is_exempt", "request_namespace", "rule_matches"]

_GROUP = "admissionregistration.k8s.io"
# Webhooks are never called for configurations of webhooks and policies. A failing webhook can therefore always be
# removed (`IsExemptAdmissionConfigurationResource`).
_EXEMPT = frozenset(
    f"{resource}.{_GROUP}"
    for resource in (
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
    )
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A webhook to call. row: the resource that its rules match: the request's resource, or an equivalent resource."""

    hook: Webhook
    row: Resource


# Returns True if a webhook's match conditions hold for a write. Raises ApiError 403 when they cannot be evaluated.
ConditionCheck = Callable[[Invocation, AdmissionAttributes], Awaitable[bool]]


def is_exempt(resource: str) -> bool:
    """Return True for a resource whose writes call no webhooks. resource: like `AdmissionAttributes.resource`."""
    return resource in _EXEMPT


def request_namespace(attributes: AdmissionAttributes) -> str:
    """Return the namespace of the request. For a Namespace, this is its own name, as in Kubernetes."""
    return attributes.object_name if attributes.resource == "namespaces" else attributes.namespace


class WebhookMatcher:
    """Finds the webhooks for writes.

    store: has the namespaces. rows: returns the rows of all types. check: evaluates match conditions.
    """

    def __init__(self, store: Store, rows: Callable[[], Iterable[Resource]], check: ConditionCheck) -> None:
        self._check = check
        self._store = store
        self._rows = rows

    def candidates(self, hooks: tuple[Webhook, ...], attributes: AdmissionAttributes) -> list[Invocation]:
        """Return the webhooks whose rules match the request, in the order of `hooks`. Selectors are not considered."""
        found: list[Invocation] = []
        others: list[Resource] | None = None
        for hook in hooks:
            row = attributes.row
            if any(rule_matches(rule, attributes, row) for rule in hook.rules):
                found.append(Invocation(hook, row))
            elif hook.is_equivalent:
                if others is None:
                    others = self._equivalents(row)
                # As in Kubernetes, the first matching rule chooses the resource.
                matching = (one for rule in hook.rules for one in others if rule_matches(rule, attributes, one))
                if (chosen := next(matching, None)) is not None:
                    found.append(Invocation(hook, chosen))
        return found

    def _equivalents(self, row: Resource) -> list[Resource]:
        """Return the other rows that serve the same stored objects."""
        if row.virtual:
            return []
        return [one for one in self._rows() if one.stored_as == row.stored_as and one.gvk != row.gvk]

    def is_selected(self, hook: Webhook, attributes: AdmissionAttributes) -> bool:
        """Return True when the selectors of a webhook match. Raises ApiError 404 when the namespace does not exist."""
        if hook.namespace_selector is not None and not self._selects_namespace(hook, attributes):
            return False
        selector = hook.object_selector
        if selector is None:
            return True
        return any(
            obj is not None and hook.selects((obj.get("metadata") or {}).get("labels"), selector)
            for obj in (attributes.object, attributes.old_object)
        )

    async def meets_conditions(self, invocation: Invocation, attributes: AdmissionAttributes) -> bool:
        """Return True when the match conditions of a webhook hold. Raises ApiError 403 when they have an error."""
        return not invocation.hook.conditions or await self._check(invocation, attributes)

    def _selects_namespace(self, hook: Webhook, attributes: AdmissionAttributes) -> bool:
        is_namespace = attributes.resource == "namespaces"
        if not attributes.namespace and not is_namespace:
            # Objects outside of namespaces match every namespace selector.
            return True
        obj = attributes.object
        if not (is_namespace and not attributes.subresource and attributes.operation in ("CREATE", "UPDATE")):
            name = request_namespace(attributes)
            obj = self._store.latest("namespaces", "", name)
            if obj is None:
                raise not_found("namespaces", name)
        return hook.selects(((obj or {}).get("metadata") or {}).get("labels"), hook.namespace_selector)


def rule_matches(rule: WebhookRule, attributes: AdmissionAttributes, row: Resource) -> bool:
    """Return True when a rule matches a request for `row` (`predicates/rules/rules.go`)."""
    if rule.scope != "*":
        # A request for a Namespace has a namespace (its own name), but the object is outside of namespaces.
        has_namespace = bool(attributes.namespace) and row.plural != "namespaces"
        if has_namespace != (rule.scope == "Namespaced"):
            return False
    if not ("*" in rule.operations or attributes.operation in rule.operations):
        return False
    if not ("*" in rule.groups or row.group in rule.groups):
        return False
    if not ("*" in rule.versions or row.version in rule.versions):
        return False
    subresource = attributes.subresource
    return any(resource in ("*", row.plural) and wanted in ("*", subresource) for resource, wanted in rule.resources)
