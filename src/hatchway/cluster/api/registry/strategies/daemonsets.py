"""DaemonSets (apps/v1): validation, and the generation number of their template (`pkg/registry/apps/daemonset`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import WriteContext
from hatchway.cluster.api.registry.strategies.podtemplate import validate_always, validate_match, validate_template
from hatchway.cluster.api.registry.strategies.workloads import WorkloadStrategy, validate_share
from hatchway.errors import Cause
from hatchway.kube.api import Object
from hatchway.numerals import parse_int

Json = dict[str, Any]

_GENERATION = "deprecated.daemonset.template.generation"


class DaemonSetStrategy(WorkloadStrategy):
    """DaemonSets. An annotation counts the changes of their template, for old clients."""

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the annotation as a default, so that the client's field manager owns it (`apps/v1/conversion.go`)."""
        super().default(obj, old)
        former = (old["metadata"].get("annotations") or {}).get(_GENERATION) if old is not None else None
        annotations = obj["metadata"].get("annotations") or {}
        if _GENERATION not in annotations:
            obj["metadata"]["annotations"] = {**annotations, _GENERATION: former or "0"}

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Set the status of a DaemonSet without pods, and 1 as the generation of its template."""
        counts = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
        obj["status"] = dict.fromkeys(counts, 0)
        annotations = obj["metadata"].setdefault("annotations", {})
        annotations[_GENERATION] = str(max(1, parse_int(annotations.get(_GENERATION)) or 1))

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status. Increase the generation of the template when the template has changed."""
        super().prepare_update(ctx, obj, old)
        former = parse_int((old["metadata"].get("annotations") or {}).get(_GENERATION)) or 1
        changed = obj["spec"].get("template") != old["spec"].get("template")
        annotations = dict(obj["metadata"].get("annotations") or {})
        obj["metadata"]["annotations"] = {**annotations, _GENERATION: str(former + changed)}

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a DaemonSet."""
        spec, at = obj["spec"], "spec.selector"
        selector, template = spec.get("selector"), spec.get("template") or {}
        wrong = v.label_selector(selector, at)
        causes = list(wrong)
        if not wrong:
            causes += validate_match(selector or {}, template)
            if not (selector or {}).get("matchLabels") and not (selector or {}).get("matchExpressions"):
                causes.append(v.invalid(at, selector, "empty selector is invalid for daemonset"))
        causes += validate_template(template, "spec.template") + validate_always(template, "DaemonSet")
        for key in ("minReadySeconds", "revisionHistoryLimit"):
            causes += v.non_negative(spec.get(key), f"spec.{key}")
        return causes + _strategy(spec.get("updateStrategy") or {})

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the selector never changes."""
        changed = v.immutable(obj["spec"].get("selector"), old["spec"].get("selector"), "spec.selector")
        return changed + self.validate(obj)


def _strategy(strategy: Json) -> list[Cause]:
    at = "spec.updateStrategy"
    kind, rolling = strategy.get("type"), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        return [v.not_supported(f"{at}.type", kind, ("RollingUpdate", "OnDelete"))]
    at = f"{at}.rollingUpdate"
    if rolling is None:
        return [v.required(at)]
    causes = []
    for key in ("maxUnavailable", "maxSurge"):
        causes += validate_share(rolling.get(key), f"{at}.{key}", at_most_all=True)
    unavailable, surge = (rolling.get(key) not in (None, 0, "0%") for key in ("maxUnavailable", "maxSurge"))
    if unavailable and surge:
        text = "may not be set when maxUnavailable is non-zero"
        causes.append(v.invalid(f"{at}.maxSurge", rolling["maxSurge"], text))
    elif not unavailable and not surge:
        causes.append(v.required(f"{at}.maxUnavailable", "cannot be 0 when maxSurge is 0"))
    return causes
