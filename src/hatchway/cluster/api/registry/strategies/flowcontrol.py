"""FlowSchemas and PriorityLevelConfigurations (flowcontrol.apiserver.k8s.io/v1): defaults and validation.

These objects are only stored and served. Hatchway limits requests in another way (`http/filteredrequest.py`), and warns
clients that write these objects. The rules are those of `pkg/apis/flowcontrol/validation`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["FlowSchemaStrategy", "PriorityLevelStrategy"]

Json = dict[str, Any]

NOT_APPLIED = "Hatchway stores {} but does not apply them: it limits the number of requests in its own way."
_MAX_PRECEDENCE = 10_000
_VERBS = ("*", "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch")
_METHODS = ("ByNamespace", "ByUser")
_KINDS = ("Group", "ServiceAccount", "User")
_MAX_QUEUES = 10_000_000


class _FlowControlStrategy(Strategy):
    """The common rules of both types."""

    generation = True
    empty_status = True
    kinds = ""

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Warn that a new or changed object has no effect."""
        return [NOT_APPLIED.format(self.kinds)] if old is None or obj.get("spec") != old.get("spec") else []


class FlowSchemaStrategy(_FlowControlStrategy):
    """FlowSchemas (`pkg/registry/flowcontrol/flowschema/strategy.go`)."""

    kinds = "FlowSchemas"

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the precedence (`SetDefaults_FlowSchemaSpec`)."""
        spec = obj.setdefault("spec", {})
        if not spec.get("matchingPrecedence"):
            spec["matchingPrecedence"] = 1000

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in precedence, priority level and rules (`ValidateFlowSchemaSpec`)."""
        spec, name, causes = obj.get("spec") or {}, obj["metadata"].get("name"), []
        precedence = spec.get("matchingPrecedence") or 0
        if precedence <= 0:
            causes.append(v.invalid("spec.matchingPrecedence", precedence, "must be a positive value"))
        if precedence > _MAX_PRECEDENCE:
            message = f"must not be greater than {_MAX_PRECEDENCE}"
            causes.append(v.invalid("spec.matchingPrecedence", precedence, message))
        if precedence == 1 and name != "exempt":
            message = "only the schema named 'exempt' may have matchingPrecedence 1"
            causes.append(v.invalid("spec.matchingPrecedence", precedence, message))
        method = spec.get("distinguisherMethod")
        if method is not None and method.get("type") not in _METHODS:
            causes.append(v.not_supported("spec.distinguisherMethod.type", method.get("type"), _METHODS))
        level = (spec.get("priorityLevelConfiguration") or {}).get("name") or ""
        at = "spec.priorityLevelConfiguration.name"
        causes += (
            v.each(at, level, v.dns1123_subdomain(level))
            if level
            else [v.required(at, "must reference a priority level")]
        )
        for index, rules in enumerate(spec.get("rules") or ()):
            causes += _rules(rules, f"spec.rules[{index}]")
        return causes


def _rules(rules: Json, at: str) -> Iterator[Cause]:
    subjects = rules.get("subjects") or ()
    if not subjects:
        yield v.required(f"{at}.subjects", "subjects must contain at least one value")
    for index, subject in enumerate(subjects):
        yield from _subject(subject, f"{at}.subjects[{index}]")
    if not rules.get("resourceRules") and not rules.get("nonResourceRules"):
        yield v.required(at, "at least one of resourceRules and nonResourceRules has to be non-empty")
    for index, rule in enumerate(rules.get("resourceRules") or ()):
        place = f"{at}.resourceRules[{index}]"
        yield from _verbs(rule, place)
        yield from _names(rule, "apiGroups", place, "resource rules must supply at least one api group")
        yield from _names(rule, "resources", place, "resource rules must supply at least one resource")
        if not rule.get("namespaces") and not rule.get("clusterScope"):
            message = "resource rules that are not cluster scoped must supply at least one namespace"
            yield v.required(f"{place}.namespaces", message)
        elif "*" in (rule.get("namespaces") or ()) and len(rule["namespaces"]) > 1:
            message = "if '*' is present, must not specify other namespaces"
            yield v.invalid(f"{place}.namespaces", rule["namespaces"], message)
    for index, rule in enumerate(rules.get("nonResourceRules") or ()):
        place = f"{at}.nonResourceRules[{index}]"
        yield from _verbs(rule, place)
        yield from _names(rule, "nonResourceURLs", place, "nonResourceURLs must contain at least one value")


def _subject(subject: Json, at: str) -> Iterator[Cause]:
    kind = subject.get("kind") or ""
    fields = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}
    if kind not in fields:
        yield v.not_supported(f"{at}.kind", kind, _KINDS)
        return
    for other, key in fields.items():
        given = subject.get(key)
        if other == kind and given is None:
            yield v.required(f"{at}.{key}", f"{key} is required when subject kind is '{kind}'")
        elif other != kind and given is not None:
            yield v.forbidden(f"{at}.{key}", f"{key} is forbidden when subject kind is not '{other}'")
        elif given is not None:
            for name in ("name", "namespace") if kind == "ServiceAccount" else ("name",):
                if not given.get(name):
                    yield v.required(f"{at}.{key}.{name}")


def _verbs(rule: Json, at: str) -> Iterator[Cause]:
    yield from _names(rule, "verbs", at, "verbs must contain at least one value")
    for one in rule.get("verbs") or ():
        if one not in _VERBS:
            yield v.not_supported(f"{at}.verbs", one, _VERBS)


def _names(rule: Json, key: str, at: str, missing: str) -> Iterator[Cause]:
    found = rule.get(key) or ()
    if not found:
        yield v.required(f"{at}.{key}", missing)
    elif "*" in found and len(found) > 1:
        yield v.invalid(f"{at}.{key}", found, "if '*' is present, must not specify other values")


class PriorityLevelStrategy(_FlowControlStrategy):
    """PriorityLevelConfigurations (`pkg/registry/flowcontrol/prioritylevelconfiguration/strategy.go`)."""

    kinds = "PriorityLevelConfigurations"

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set shares and queues (`pkg/apis/flowcontrol/v1/defaults.go`)."""
        spec = obj.get("spec") or {}
        if spec.get("type") == "Exempt":
            exempt = spec.setdefault("exempt", {})
            _default(exempt, nominalConcurrencyShares=0, lendablePercent=0)
        limited = spec.get("limited")
        if limited is not None:
            _default(limited, nominalConcurrencyShares=30, lendablePercent=0)
            queuing = (limited.get("limitResponse") or {}).get("queuing")
            if queuing is not None:
                for key, value in (("queues", 64), ("handSize", 8), ("queueLengthLimit", 50)):
                    queuing[key] = queuing.get(key) or value

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the type and its settings (`ValidatePriorityLevelConfigurationSpec`)."""
        spec = obj.get("spec") or {}
        kind, limited, exempt = spec.get("type") or "", spec.get("limited"), spec.get("exempt")
        if kind not in ("Exempt", "Limited"):
            return [v.not_supported("spec.type", kind, ("Exempt", "Limited"))]
        causes = []
        if kind == "Exempt" and limited is not None:
            causes.append(v.forbidden("spec.limited", "must be nil if the type is not Limited"))
        if kind == "Limited":
            if exempt is not None:
                causes.append(v.forbidden("spec.exempt", "must be nil if the type is Limited"))
            causes += (
                [v.required("spec.limited", "must not be empty when type is Limited")]
                if limited is None
                else _limited(limited)
            )
        for key, part in (("limited", limited), ("exempt", exempt)):
            causes += _shares(part, f"spec.{key}") if part is not None else ()
        return causes


def _default(into: Json, **values: int) -> None:
    for key, value in values.items():
        if into.get(key) is None:
            into[key] = value


def _shares(part: Json, at: str) -> Iterator[Cause]:
    shares = part.get("nominalConcurrencyShares")
    if shares is not None and shares < 0:
        yield v.invalid(f"{at}.nominalConcurrencyShares", shares, "must be a non-negative integer")
    percent = part.get("lendablePercent")
    if percent is not None and not 0 <= percent <= 100:
        yield v.invalid(f"{at}.lendablePercent", percent, "must be between 0 and 100, inclusive")
    borrowing = part.get("borrowingLimitPercent")
    if borrowing is not None and borrowing < 0:
        yield v.invalid(f"{at}.borrowingLimitPercent", borrowing, "if specified, must be a non-negative integer")


def _limited(limited: Json) -> Iterator[Cause]:
    response, at = limited.get("limitResponse") or {}, "spec.limited.limitResponse"
    kind, queuing = response.get("type") or "", response.get("queuing")
    if kind not in ("Queue", "Reject"):
        yield v.not_supported(f"{at}.type", kind, ("Queue", "Reject"))
    elif kind == "Reject":
        if queuing is not None:
            yield v.forbidden(f"{at}.queuing", "must be nil if limited.limitResponse.type is not Limited")
    elif queuing is None:
        yield v.required(f"{at}.queuing", "must not be empty if limited.limitResponse.type is Limited")
    else:
        at = f"{at}.queuing"
        queues, hand, length = (queuing.get(key) or 0 for key in ("queues", "handSize", "queueLengthLimit"))
        for key, value in (("queueLengthLimit", length), ("queues", queues), ("handSize", hand)):
            if value <= 0:
                yield v.invalid(f"{at}.{key}", value, "must be positive")
        if queues > _MAX_QUEUES:
            yield v.invalid(f"{at}.queues", queues, f"must not be greater than {_MAX_QUEUES}")
        if hand > queues:
            yield v.invalid(f"{at}.handSize", hand, f"should not be greater than queues ({queues})")
