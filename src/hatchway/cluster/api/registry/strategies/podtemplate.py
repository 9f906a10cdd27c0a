"""Validates the pod templates of workloads and of the type PodTemplate.

The rules are those of `ValidatePodTemplateSpec` and `ValidatePodTemplate` in `pkg/apis/core/validation`, and of
`pkg/apis/apps/validation`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext
from hatchway.cluster.api.registry.strategies.podspec import validate_spec
from hatchway.cluster.api.registry.strategies.warnings import pod_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

_AT = "spec.template"


def validate_template(template: Json, at: str) -> list[Cause]:
    """Return all errors in a pod template. at: its path."""
    metadata = template.get("metadata") or {}
    causes = v.labels(metadata.get("labels"), f"{at}.metadata.labels")
    for key in metadata.get("annotations") or ():
        causes += v.each(f"{at}.metadata.annotations", key, v.qualified_name(key.lower()))
    pod = template.get("spec") or {}
    causes += validate_spec(pod, f"{at}.spec")
    if pod.get("ephemeralContainers"):
        causes.append(v.forbidden(f"{at}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template"))
    return causes


def validate_match(selector: Json | None, template: Json, at: str = _AT) -> list[Cause]:
    """Return the error if a workload's selector does not match the labels of its template."""
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selector is not None and label_selector_matches(selector, labels):
        return []
    return [v.invalid(f"{at}.metadata.labels", labels or None, "`selector` does not match template `labels`")]


def validate_always(template: Json, kind: str, at: str = _AT) -> list[Cause]:
    """Return the errors in a template whose pods are always restarted. kind: the workload's kind."""
    pod, causes = template.get("spec") or {}, []
    if pod.get("restartPolicy") in ("OnFailure", "Never"):
        causes.append(v.not_supported(f"{at}.spec.restartPolicy", pod["restartPolicy"], ["Always"]))
    if pod.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        causes.append(v.forbidden(f"{at}.spec.activeDeadlineSeconds", text))
    return causes


def validate_template_of(selector: Json | None, template: Json | None, kind: str) -> list[Cause]:
    """Return all errors in the template of a workload whose pods are always restarted."""
    if template is None:
        return [v.required(_AT)]
    return validate_match(selector, template) + validate_template(template, _AT) + validate_always(template, kind)


class PodTemplateStrategy(Strategy):
    """PodTemplates (`pkg/registry/core/podtemplate`). They have a template and no status."""

    generation = True
    return_deleted = True

    def has_status(self, obj: Object) -> bool:
        """Return False: the type has no status."""
        return False

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Do nothing: all fields may change."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the template."""
        return validate_template(obj.get("template") or {}, "template")

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings about the template."""
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        template = obj.get("template") or {}
        return pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, "template.")
