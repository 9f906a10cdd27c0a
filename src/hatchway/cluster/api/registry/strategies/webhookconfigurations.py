"""MutatingWebhookConfigurations and ValidatingWebhookConfigurations (admissionregistration.k8s.io/v1).

The checks are those of `pkg/apis/admissionregistration/validation/validation.go`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy
from hatchway.cluster.api.registry.strategies.matchconditions import condition_errors
from hatchway.cluster.api.registry.strategies.webhookclients import (
    REVIEW_VERSIONS,
    review_version_errors,
    service_errors,
    url_errors,
)
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["WebhookConfigurationStrategy", "rule_errors"]

Json = dict[str, Any]

_ONE_OF = f"must specify one of {', '.join(REVIEW_VERSIONS)}"
_NO_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_SCOPES = ("*", "Cluster", "Namespaced")
_LONGEST_TIMEOUT = 30
# The maximum number of characters of all match conditions of a configuration together. Compiling longer texts would
# take minutes.
_MOST_TEXT = 512 * 1024


class WebhookConfigurationStrategy(Strategy):
    """Both kinds of webhook configurations (`pkg/registry/admissionregistration`)."""

    generation = True
    unconditional_update = False
    # Validation compiles the match conditions of the webhooks.
    is_costly = True

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in the webhooks."""
        causes: list[Cause] = []
        names: set[str] = set()
        causes += _conditions(obj.get("webhooks") or [])
        for index, hook in enumerate(obj.get("webhooks") or ()):
            at = f"webhooks[{index}]"
            causes += _webhook(hook, at)
            causes += review_version_errors(
                hook.get("admissionReviewVersions") or [], f"{at}.admissionReviewVersions", detail=_ONE_OF
            )
            name = hook.get("name") or ""
            if name and name in names:
                causes.append(v.duplicate(f"{at}.name", name))
            names.add(name)
        return causes


def _conditions(hooks: list[Json]) -> list[Cause]:
    """Return the errors in the match conditions of all webhooks."""
    if not any(hook.get("matchConditions") for hook in hooks):
        return []
    # Imported here, because only policies, conditions and types with rules need the code that compiles expressions.
    from hatchway.cluster.api.registry.policyexpressions import PolicyCompiler, policy_environment

    size = sum(64 + len(one.get("expression") or "") for hook in hooks for one in hook.get("matchConditions") or ())
    if size > _MOST_TEXT:
        return [v.forbidden("webhooks", f"match conditions may have at most {_MOST_TEXT} characters together")]
    compiler = PolicyCompiler(policy_environment(has_params=False))
    return [
        cause
        for index, hook in enumerate(hooks)
        for cause in condition_errors(hook.get("matchConditions") or [], f"webhooks[{index}].matchConditions", compiler)
    ]


def _webhook(hook: Json, at: str) -> list[Cause]:
    causes = _qualified(hook.get("name") or "", f"{at}.name")
    for index, rule in enumerate(hook.get("rules") or ()):
        causes += rule_errors(rule, f"{at}.rules[{index}]")
    for key, supported in (("failurePolicy", ("Fail", "Ignore")), ("matchPolicy", ("Equivalent", "Exact"))):
        if hook.get(key) is not None and hook[key] not in supported:
            causes.append(v.not_supported(f"{at}.{key}", hook[key], supported))
    effects = hook.get("sideEffects")
    if effects is None:
        causes.append(v.required(f"{at}.sideEffects", f"must specify one of {', '.join(_NO_SIDE_EFFECTS)}"))
    elif effects not in _NO_SIDE_EFFECTS:
        causes.append(v.not_supported(f"{at}.sideEffects", effects, _NO_SIDE_EFFECTS))
    seconds = hook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= _LONGEST_TIMEOUT:
        text = "the timeout value must be between 1 and 30 seconds"
        causes.append(v.invalid(f"{at}.timeoutSeconds", seconds, text))
    for key in ("namespaceSelector", "objectSelector"):
        causes += v.label_selector(hook.get(key), f"{at}.{key}")
    policy = hook.get("reinvocationPolicy")
    if policy is not None and policy not in ("IfNeeded", "Never"):
        causes.append(v.not_supported(f"{at}.reinvocationPolicy", policy, ("IfNeeded", "Never")))
    config = hook.get("clientConfig") or {}
    url, service = config.get("url"), config.get("service")
    if (url is None) == (service is None):
        causes.append(v.required(f"{at}.clientConfig", "exactly one of url or service is required"))
    elif url is not None:
        causes += url_errors(url, f"{at}.clientConfig.url")
    elif service is not None:
        causes += service_errors(service, f"{at}.clientConfig.service")
    return causes


def _qualified(name: str, at: str) -> list[Cause]:
    """Return the errors in a name that must be a domain (`IsFullyQualifiedName`)."""
    if not name:
        return [v.required(at)]
    if messages := v.dns1123_subdomain(name):
        return v.each(at, name, messages)
    if name.count(".") < 2:
        return [v.invalid(at, name, "should be a domain with at least three segments separated by dots")]
    return []


def rule_errors(rule: Json, at: str) -> list[Cause]:
    """Return the errors in a rule by which a webhook or policy selects requests. at: the rule's field."""
    causes: list[Cause] = []
    operations = rule.get("operations") or []
    if not operations:
        causes.append(v.required(f"{at}.operations"))
    if len(operations) > 1 and "*" in operations:
        text = "if '*' is present, must not specify other operations"
        causes.append(v.invalid(f"{at}.operations", operations, text))
    for index, operation in enumerate(operations):
        if operation not in _OPERATIONS:
            causes.append(v.not_supported(f"{at}.operations[{index}]", operation, _OPERATIONS))
    for key, what in (("apiGroups", "API groups"), ("apiVersions", "API versions")):
        values = rule.get(key) or []
        if not values:
            causes.append(v.required(f"{at}.{key}"))
        if len(values) > 1 and "*" in values:
            text = f"if '*' is present, must not specify other {what}"
            causes.append(v.invalid(f"{at}.{key}", values, text))
        if key == "apiVersions":
            causes += [v.required(f"{at}.{key}[{index}]") for index, one in enumerate(values) if not one]
    causes += _resources(rule.get("resources") or [], f"{at}.resources")
    scope = rule.get("scope")
    if scope is not None and scope not in _SCOPES:
        causes.append(v.not_supported(f"{at}.scope", scope, _SCOPES))
    return causes


def _resources(resources: list[str], at: str) -> list[Cause]:
    causes = [] if resources else [v.required(at)]
    whole: set[str] = set()
    everywhere: set[str] = set()
    plain = False
    for index, one in enumerate(resources):
        if not one:
            causes.append(v.required(f"{at}[{index}]"))
            continue
        resource, slash, subresource = one.partition("/")
        if not slash:
            plain = one != "*"
            continue
        if resource in whole:
            text = f"if '{resource}/*' is present, must not specify {one}"
            causes.append(v.invalid(f"{at}[{index}]", one, text))
        if subresource in everywhere:
            text = f"if '*/{subresource}' is present, must not specify {one}"
            causes.append(v.invalid(f"{at}[{index}]", one, text))
        if subresource == "*":
            whole.add(resource)
        if resource == "*":
            everywhere.add(subresource)
    if len(resources) > 1 and "*/*" in resources:
        causes.append(v.invalid(at, resources, "if '*/*' is present, must not specify other resources"))
    if "*" in resources and plain:
        text = "if '*' is present, must not specify other resources without subresources"
        causes.append(v.invalid(at, resources, text))
    return causes
