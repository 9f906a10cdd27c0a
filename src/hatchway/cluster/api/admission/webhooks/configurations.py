"""The webhooks of all stored configurations, in the order in which they are called.

As in Kubernetes (`pkg/admission/configuration`), configurations are ordered by name. When a configuration has changed,
all configurations are read again before the next write.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hatchway.cluster.api.connect.webhookclient import WebhookTarget
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.cluster.api.storage.store import Store
from hatchway.kube.api import Object

__all__ = ["MUTATING", "VALIDATING", "Webhook", "WebhookRule", "WebhookSource"]

MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class WebhookRule:
    """The requests for which a webhook is called. "*" in a set means all.

    resources: (resource, subresource) pairs. scope: `*`, `Cluster` or `Namespaced`.
    """

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    scope: str

    @classmethod
    def of(cls, rule: Json) -> WebhookRule:
        """Return the rule of a webhook in a configuration."""
        parts = [one.partition("/") for one in rule.get("resources") or ()]
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            tuple((resource, subresource) for resource, _, subresource in parts),
            rule.get("scope") or "*",
        )


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of a configuration.

    Attributes:
        uid: a text that no other webhook has.
        configuration, name: the names of the configuration and of the webhook.
        rules: the requests for which the webhook is called.
        is_equivalent: True if the rules also match requests for other versions of the same objects (`matchPolicy`).
        namespace_selector, object_selector: None when everything matches.
        fails_open: True if a failed call is ignored (`failurePolicy`).
        is_reinvocable: True if the webhook may be called a second time (`reinvocationPolicy`).
        version: the version of AdmissionReview in the request.
        target: the address of the webhook, and the timeout of a call.
        conditions: expressions in CEL that must all be true (`matchConditions`).
    """

    uid: str
    configuration: str
    name: str
    rules: tuple[WebhookRule, ...]
    is_equivalent: bool
    namespace_selector: Json | None
    object_selector: Json | None
    fails_open: bool
    is_reinvocable: bool
    version: str
    target: WebhookTarget
    conditions: tuple[str, ...] = ()

    @classmethod
    def of(cls, configuration: str, hook: Json) -> Webhook:
        """Return a webhook of a stored configuration. The configuration is valid and has its defaults."""
        versions = hook.get("admissionReviewVersions") or ()
        return cls(
            f"{configuration}/{hook['name']}",
            configuration,
            hook["name"],
            tuple(WebhookRule.of(one) for one in hook.get("rules") or ()),
            hook.get("matchPolicy") != "Exact",
            hook.get("namespaceSelector") or None,
            hook.get("objectSelector") or None,
            hook.get("failurePolicy") == "Ignore",
            hook.get("reinvocationPolicy") == "IfNeeded",
            next((one for one in versions if one in ("v1", "v1beta1")), "v1"),
            WebhookTarget.of(hook.get("clientConfig") or {}, hook.get("timeoutSeconds") or 10),
            tuple(one["expression"] for one in hook.get("matchConditions") or ()),
        )

    def selects(self, labels: Json | None, selector: Json | None) -> bool:
        """Return True when a selector of this webhook matches labels."""
        return selector is None or label_selector_matches(selector, labels or {})


class WebhookSource:
    """Caches the webhooks of one kind of configuration. resource: `MUTATING` or `VALIDATING`.

    Changes of configurations take effect when they are committed.
    """

    def __init__(self, store: Store, resource: str) -> None:
        self._store = store
        self._resource = resource
        self._hooks: tuple[Webhook, ...] | None = None
        self._unsubscribe: Callable[[], None] = store.subscribe(resource, self._changed)

    def _changed(self, _type: str, _old: Object | None, _new: Object | None) -> None:
        self._hooks = None

    def hooks(self) -> tuple[Webhook, ...]:
        """Return all webhooks, in the order of their configurations' names."""
        if self._hooks is None:
            self._hooks = tuple(
                Webhook.of(one["metadata"]["name"], hook)
                for one in self._store.list(self._resource)
                for hook in one.get("webhooks") or ()
            )
        return self._hooks

    def close(self) -> None:
        """Stop watching for changes."""
        self._unsubscribe()
