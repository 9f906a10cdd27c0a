"""Deployments and ReplicaSets (apps/v1): validation (`pkg/apis/apps/validation`), generation."""

from __future__ import annotations

import re
from typing import Any

from hatchway.cluster.api import validation as v
from hatchway.cluster.api.selectors import label_selector_matches
from hatchway.cluster.api.strategies.base import Context, Strategy
from hatchway.cluster.api.strategies.podspec import validate_spec
from hatchway.cluster.api.strategies.warnings import pod_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

_SELECTOR = "spec.selector"


class _WorkloadStrategy(Strategy):
    generation = True

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        template = obj["spec"].get("template") or {}
        return pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, "spec.template.")

    def prepare_create(self, ctx: Context, obj: Object) -> None:
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
        template, at = spec.get("template"), "spec.template"
        if template is None:
            return [v.required(at)]
        causes = []
        metadata = template.get("metadata") or {}
        labels = metadata.get("labels") or {}
        selector = spec.get("selector")
        if selector is None or not label_selector_matches(selector, labels):
            text = "`selector` does not match template `labels`"
            causes.append(v.invalid(f"{at}.metadata.labels", labels or None, text))
        causes += v.labels(labels, f"{at}.metadata.labels")
        for key in metadata.get("annotations") or ():
            causes += v.each(f"{at}.metadata.annotations", key, v.qualified_name(key.lower()))
        pod = template.get("spec") or {}
        causes += validate_spec(pod, f"{at}.spec")
        if pod.get("ephemeralContainers"):
            text = "ephemeral containers not allowed in pod template"
            causes.append(v.forbidden(f"{at}.spec.ephemeralContainers", text))
        if pod.get("restartPolicy") in ("OnFailure", "Never"):
            causes.append(v.not_supported(f"{at}.spec.restartPolicy", pod["restartPolicy"], ["Always"]))
        if pod.get("activeDeadlineSeconds") is not None:
            causes.append(
                v.forbidden(
                    f"{at}.spec.activeDeadlineSeconds", f"activeDeadlineSeconds in {self.kind} is not Supported"
                )
            )
        return causes

    kind = ""

    def _validate_selector_change(self, obj: Object, old: Object) -> list[Cause]:
        return v.immutable(obj["spec"].get("selector"), old["spec"].get("selector"), _SELECTOR)

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        causes = []
        for key, value in (obj.get("status") or {}).items():
            if isinstance(value, int) and value < 0 and key != "collisionCount":
                causes += v.non_negative(value, f"status.{key}")
        return causes


class ReplicaSetStrategy(_WorkloadStrategy):
    noun = "deployment"
    kind = "ReplicaSet"

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        # The counter has no omitempty: clients read it without asking whether it is there.
        obj["status"] = {"replicas": 0}

    def validate(self, obj: Object) -> list[Cause]:
        spec = obj["spec"]
        causes = v.non_negative(spec.get("replicas"), "spec.replicas")
        causes += v.non_negative(spec.get("minReadySeconds"), "spec.minReadySeconds")
        found = self._validate_template(spec)
        return causes + found + self._validate_pod_template(spec)

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        return self.validate(obj) + self._validate_selector_change(obj, old)


class DeploymentStrategy(_WorkloadStrategy):
    noun = "deployment"
    kind = "Deployment"

    def validate(self, obj: Object) -> list[Cause]:
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
        return self.validate(obj) + self._validate_selector_change(obj, old)


_percent = re.compile("[0-9]+%").fullmatch


def _at_most_all(percent: str) -> bool:
    number = parse_int(percent[:-1])
    return number is not None and number <= 100


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
        value = rolling.get(key)
        where = f"{at}.rollingUpdate.{key}"
        if isinstance(value, str):
            if not _percent(value):
                causes.append(
                    v.invalid(
                        where,
                        value,
                        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
                        "'93%', regex used for validation is '[0-9]+%')",
                    )
                )
            elif key == "maxUnavailable" and not _at_most_all(value):
                causes.append(v.invalid(where, value, "must not be greater than 100%"))
        else:
            causes += v.non_negative(value, where)
    if all(str(rolling.get(key)) in ("0", "0%") for key in ("maxUnavailable", "maxSurge")):
        causes.append(
            v.invalid(
                f"{at}.rollingUpdate.maxUnavailable", rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"
            )
        )
    return causes
