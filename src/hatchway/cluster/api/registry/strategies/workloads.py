"""Deployments, ReplicaSets and ReplicationControllers: initial status and validation (`pkg/apis/apps/validation`)."""

from __future__ import annotations

import re
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.podtemplate import (
    validate_always,
    validate_match,
    validate_template,
    validate_template_of,
)
from hatchway.cluster.api.registry.strategies.warnings import pod_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

_SELECTOR = "spec.selector"


class WorkloadStrategy(Strategy):
    """The common rules of workloads whose pods are always restarted."""

    requires_spec = True
    generation = True

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings about the template."""
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        template = obj["spec"].get("template") or {}
        return pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, "spec.template.")

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Start without a status."""
        obj["status"] = {}

    def _validate_template(self, spec: dict[str, Any]) -> list[Cause]:
        causes = []
        selector = spec.get("selector")
        if selector is None:
            causes.append(v.required(_SELECTOR))
        else:
            causes += v.label_selector(selector, _SELECTOR)
            if not selector.get("matchLabels") and not selector.get("matchExpressions"):
                causes.append(v.invalid(_SELECTOR, selector, f"empty selector is invalid for {self.noun}"))
        return causes

    noun = ""

    def _validate_pod_template(self, spec: dict[str, Any]) -> list[Cause]:
        selector = spec.get("selector")
        if selector is not None and v.label_selector(selector, _SELECTOR):
            return [v.invalid(_SELECTOR, selector, "invalid label selector")]
        return validate_template_of(selector, spec.get("template"), self.kind)

    kind = ""

    def _validate_selector_change(self, obj: Object, old: Object) -> list[Cause]:
        return v.immutable(obj["spec"].get("selector"), old["spec"].get("selector"), _SELECTOR)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the counts of the status."""
        causes = []
        for key, value in (obj.get("status") or {}).items():
            if isinstance(value, int) and value < 0 and key != "collisionCount":
                causes += v.non_negative(value, f"status.{key}")
        return causes


class ReplicaSetStrategy(WorkloadStrategy):
    """ReplicaSets (`pkg/apis/apps/validation`)."""

    noun = "deployment"
    kind = "ReplicaSet"

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set a status without replicas. Kubernetes always writes this count, so clients expect it."""
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in counts, selector and template."""
        spec = obj["spec"]
        causes = v.non_negative(spec.get("replicas"), "spec.replicas")
        causes += v.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        found = self._validate_template(spec)
        return causes + found + self._validate_pod_template(spec)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the selector never changes."""
        return self.validate(obj) + self._validate_selector_change(obj, old)


class ReplicationControllerStrategy(WorkloadStrategy):
    """ReplicationControllers. Their selector is a map of labels, by default the labels of the template."""

    default_propagation = "Orphan"

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set a status without replicas. Kubernetes always writes this count, so clients expect it."""
        obj["status"] = {"replicas": 0}

    def scale_selector(self, obj: Object) -> Object | None:
        """Return the selector as a label selector."""
        return {"matchLabels": obj["spec"].get("selector") or {}}

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in counts, selector and template."""
        spec = obj["spec"]
        causes = v.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        selector = spec.get("selector")
        if not selector:
            causes.append(v.required(_SELECTOR))
        causes += v.non_negative(spec.get("replicas"), "spec.replicas")
        template = spec.get("template")
        if template is None:
            return [*causes, v.required("spec.template")]
        if selector:
            causes += validate_match({"matchLabels": selector}, template)
        return (
            causes + validate_template(template, "spec.template") + validate_always(template, "ReplicationController")
        )


class DeploymentStrategy(WorkloadStrategy):
    """Deployments (`pkg/apis/apps/validation`)."""

    noun = "deployment"
    kind = "Deployment"

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in counts, selector, template and update strategy."""
        spec = obj["spec"]
        causes = v.non_negative(spec.get("replicas"), "spec.replicas")
        found = self._validate_template(spec)
        causes += found + self._validate_pod_template(spec)
        causes += _validate_strategy(spec.get("strategy") or {}, "spec.strategy")
        for key in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
            causes += v.non_negative(spec.get(key), f"spec.{key}")
        ready, deadline = spec.get("minReadySeconds") or 0, spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= ready:
            causes.append(v.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the selector never changes."""
        return self.validate(obj) + self._validate_selector_change(obj, old)


_percent = re.compile("[0-9]+%").fullmatch


def _at_most_all(percent: str) -> bool:
    number = parse_int(percent[:-1])
    return number is not None and number <= 100


def validate_share(value: Any, at: str, *, at_most_all: bool) -> list[Cause]:
    """Return the errors in a number or percentage of pods. at_most_all: True when more than 100 % is an error."""
    if not isinstance(value, str):
        return v.non_negative(value, at)
    if not _percent(value):
        text = (
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex "
            "used for validation is '[0-9]+%')"
        )
        return [v.invalid(at, value, text)]
    return [v.invalid(at, value, "must not be greater than 100%")] if at_most_all and not _at_most_all(value) else []


def _validate_strategy(strategy: dict[str, Any], at: str) -> list[Cause]:
    rolling = strategy.get("rollingUpdate")
    kind = strategy.get("type")
    if kind == "Recreate":
        if rolling is not None:
            return [v.forbidden(f"{at}.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")]
        return []
    if kind != "RollingUpdate":
        return [v.not_supported(f"{at}.type", kind, ("Recreate", "RollingUpdate"))]
    rolling = rolling or {}
    causes = []
    for key in ("maxUnavailable", "maxSurge"):
        causes += validate_share(rolling.get(key), f"{at}.rollingUpdate.{key}", at_most_all=key == "maxUnavailable")
    if all(str(rolling.get(key)) in ("0", "0%") for key in ("maxUnavailable", "maxSurge")):
        causes.append(
            v.invalid(
                f"{at}.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"
            )
        )
    return causes
