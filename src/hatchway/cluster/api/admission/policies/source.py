"""The stored policies and their bindings, compiled (apiserver `pkg/admission/plugin/policy/generic/policy_source.go`).

When a policy or a binding has changed, all policies and bindings are read again before the next write. The expressions
of a policy are compiled at their first evaluation, and again after its spec has changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hatchway.cluster.api.admission.webhooks.configurations import WebhookRule
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

if TYPE_CHECKING:
    from hatchway.cluster.api.registry.policyexpressions import CompiledPolicy

__all__ = [
    "BINDINGS",
    "MUTATING_BINDINGS",
    "MUTATING_POLICIES",
    "POLICIES",
    "Matching",
    "PolicyBinding",
    "PolicySource",
    "StoredPolicy",
]

_GROUP = "admissionregistration.k8s.io"
POLICIES, BINDINGS = f"validatingadmissionpolicies.{_GROUP}", f"validatingadmissionpolicybindings.{_GROUP}"
MUTATING_POLICIES, MUTATING_BINDINGS = (
    f"mutatingadmissionpolicies.{_GROUP}",
    f"mutatingadmissionpolicybindings.{_GROUP}",
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Matching:
    """The requests that a policy or a binding matches (`MatchResources`).

    rules, excluded: pairs of a rule and names. The rule is limited to objects with these names, if there are any.
    """

    rules: tuple[tuple[WebhookRule, frozenset[str]], ...]
    excluded: tuple[tuple[WebhookRule, frozenset[str]], ...]
    is_equivalent: bool
    namespace_selector: Json | None
    object_selector: Json | None

    @classmethod
    def of(cls, found: Json) -> Matching:
        """Return the matching of `matchConstraints` or `matchResources`."""
        return cls(
            _named_rules(found.get("resourceRules") or []),
            _named_rules(found.get("excludeResourceRules") or []),
            found.get("matchPolicy") != "Exact",
            found.get("namespaceSelector") or None,
            found.get("objectSelector") or None,
        )

    def selects(self, labels: Json | None, selector: Json | None) -> bool:
        """Return True when a selector matches labels."""
        return selector is None or label_selector_matches(selector, labels or {})


def _named_rules(rules: list[Json]) -> tuple[tuple[WebhookRule, frozenset[str]], ...]:
    return tuple((WebhookRule.of(one), frozenset(one.get("resourceNames") or ())) for one in rules)


@dataclass(frozen=True, slots=True)
class PolicyBinding:
    """A binding of a policy.

    matching: the requests to which the binding is limited; None for all requests that the policy matches.
    param_ref: the reference to the parameters; None without parameters.
    actions: the actions for a violation. Only bindings of ValidatingAdmissionPolicies have actions.
    """

    name: str
    matching: Matching | None
    param_ref: Json | None
    actions: tuple[str, ...]


@dataclass(slots=True, eq=False)
class StoredPolicy:
    """A policy with its bindings. spec: the stored spec. fails_open: True if errors do not refuse a write."""

    name: str
    spec: Json
    matching: Matching
    fails_open: bool
    bindings: list[PolicyBinding] = field(default_factory=list)
    _compiled: CompiledPolicy | None = None

    def compiled(self) -> CompiledPolicy:
        """Return the compiled expressions. Compiles them at the first call."""
        if self._compiled is None:
            # Imported here, because only clusters with policies or rules need the code that compiles expressions.
            from hatchway.cluster.api.registry.policyexpressions import compile_policy

            self._compiled = compile_policy(self.spec)
        return self._compiled


class PolicySource:
    """Caches all policies of one kind that have bindings. policies, bindings: the resources of the kind."""

    def __init__(self, store: Store, policies: str, bindings: str) -> None:
        self._store = store
        self._policies = policies
        self._bindings = bindings
        self._known: dict[str, StoredPolicy] = {}
        self._current: tuple[StoredPolicy, ...] | None = None
        self._unsubscribe: list[Callable[[], None]] = [
            store.subscribe(resource, self._changed) for resource in (policies, bindings)
        ]

    def _changed(self, _type: str, _old: Object | None, _new: Object | None) -> None:
        self._current = None

    def policies(self) -> tuple[StoredPolicy, ...]:
        """Return the policies that have bindings, in the order of their names."""
        if self._current is None:
            self._current = self._read()
        return self._current

    def _read(self) -> tuple[StoredPolicy, ...]:
        found: dict[str, StoredPolicy] = {}
        for one in self._store.list(self._policies):
            name, spec = one["metadata"]["name"], one["spec"]
            known = self._known.get(name)
            if known is None or known.spec != spec:
                matching = Matching.of(spec.get("matchConstraints") or {})
                known = StoredPolicy(name, spec, matching, spec.get("failurePolicy") == "Ignore")
            known.bindings = []
            found[name] = known
        for one in self._store.list(self._bindings):
            spec = one["spec"]
            policy = found.get(spec.get("policyName") or "")
            if policy is not None:
                resources = spec.get("matchResources")
                limits = Matching.of(resources) if resources is not None else None
                actions = tuple(spec.get("validationActions") or ())
                policy.bindings.append(PolicyBinding(one["metadata"]["name"], limits, spec.get("paramRef"), actions))
        self._known = found
        return tuple(found[name] for name in sorted(found) if found[name].bindings)

    def close(self) -> None:
        """Stop watching for changes."""
        for unsubscribe in self._unsubscribe:
            unsubscribe()
