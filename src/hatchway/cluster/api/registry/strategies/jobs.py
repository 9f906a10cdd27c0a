"""Jobs (batch/v1): defaults, generated selectors, validation (`pkg/registry/batch/job`, `pkg/apis/batch/validation`).

The policies of a Job are in `jobpolicies.py`, the rules of its status in `jobstatusrules.py`.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.selectors import label_selector_matches
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, readers
from hatchway.cluster.api.registry.strategies.jobpolicies import (
    validate_failure_policy,
    validate_replacement_policy,
    validate_success_policy,
)
from hatchway.cluster.api.registry.strategies.jobstatusrules import validate_job_status
from hatchway.cluster.api.registry.strategies.podtemplate import validate_match, validate_template
from hatchway.cluster.api.registry.strategies.warnings import pod_warnings
from hatchway.errors import Cause
from hatchway.kube.api import Object

Json = dict[str, Any]

NAME_LABEL, UID_LABEL = "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"
_OLD_NAME_LABEL, _OLD_UID_LABEL = "job-name", "controller-uid"
_MAX_PARALLELISM = _MAX_FAILED = _MANY_COMPLETIONS = 100_000
_MAX_WITH_MANY = 10_000
_MAX_MANAGED_BY = 63
_path = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+").fullmatch
_PATH_ERROR = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')"
_IMMUTABLE = ("completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy")


class JobStrategy(Strategy):
    """Jobs. By default, deleting a Job does not delete its pods, because old clients expect this."""

    requires_spec = True
    generation = True
    default_propagation = "Orphan"
    propagation_warning = (
        "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or "
        "set propagationPolicy=Orphan to suppress this warning"
    )
    selectable = readers({"status.successful": field("status", "succeeded")})

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Generate the selector and the labels of the pods, unless `manualSelector` is set."""
        obj["status"] = {}
        spec, metadata = obj["spec"], obj["metadata"]
        template = spec.setdefault("template", {}).setdefault("metadata", {})
        if not spec.get("manualSelector"):
            labels = template["labels"] = dict(template.get("labels") or {})
            for label in (_OLD_NAME_LABEL, NAME_LABEL):
                labels.setdefault(label, metadata.get("name", ""))
            for label in (_OLD_UID_LABEL, UID_LABEL):
                labels.setdefault(label, metadata["uid"])
            selector = spec["selector"] = dict(spec.get("selector") or {})
            selector["matchLabels"] = {UID_LABEL: metadata["uid"], **(selector.get("matchLabels") or {})}
        if not metadata.get("labels") and template.get("labels"):
            metadata["labels"] = dict(template["labels"])

    def validate(self, obj: Object) -> list[Cause]:
        """Return all errors in a Job."""
        spec, name = obj["spec"], obj["metadata"].get("name") or ""
        causes = _generated_selector(obj) + validate_job_spec(spec, "spec")
        selector = spec.get("selector")
        if selector is None:
            causes.append(v.required("spec.selector"))
        else:
            causes += v.label_selector(selector, "spec.selector")
        causes += validate_match(selector, spec.get("template") or {})
        completions = spec.get("completions")
        if spec.get("completionMode") == "Indexed" and completions:
            hostname = f"{name}-{completions - 1}"
            if v.dns1123_label(hostname):
                text = f"will not able to create pod with invalid DNS label: {hostname}"
                causes.append(v.invalid("metadata.name", name, text))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: most fields of a Job never change."""
        spec, former = obj["spec"], old["spec"]
        causes = self.validate(obj)
        if spec.get("completionMode") != "Indexed":
            causes += v.immutable(spec.get("completions"), former.get("completions"), "spec.completions")
        elif spec.get("completions") not in (None, former.get("completions"), spec.get("parallelism")):
            text = "can only be modified in tandem with spec.parallelism"
            causes.append(v.invalid("spec.completions", spec["completions"], text))
        causes += v.immutable(spec.get("selector"), former.get("selector"), "spec.selector")
        before = former.get("template") or {}
        if former.get("suspend") and not (old.get("status") or {}).get("startTime"):
            before = _with_scheduling(before, spec.get("template") or {})
        causes += v.immutable(spec.get("template"), before, "spec.template")
        for key in _IMMUTABLE:
            causes += v.immutable(spec.get(key), former.get(key), f"spec.{key}")
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change of the status."""
        return validate_job_status(obj, old)

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warnings for the writer of a Job."""
        spec, found = obj["spec"], []
        if old is None and (messages := v.dns1123_label(obj["metadata"]["name"])):
            text = "this is used in Pod names and hostnames, which can result in surprising behavior"
            found.append(f"metadata.name: {text}; a DNS label is recommended: [{' '.join(messages)}]")
        if old is not None and obj["metadata"].get("generation") == old["metadata"].get("generation"):
            return []
        return found + job_warnings(spec, "spec")


def job_warnings(spec: Json, at: str) -> list[str]:
    """Return the warnings about a Job's spec (`pkg/api/job/warnings.go`)."""
    found = []
    indexed = spec.get("completionMode") == "Indexed"
    if (
        indexed
        and (spec.get("completions") or 0) > _MANY_COMPLETIONS
        and (spec.get("parallelism") or 0) > _MAX_WITH_MANY
    ):
        found.append(
            f"{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than "
            "10^4, Kubernetes might not be able to track completedIndexes when a big number of indexes fail"
        )
    template = spec.get("template") or {}
    return found + pod_warnings(template.get("metadata") or {}, template.get("spec") or {}, f"{at}.template.")


def validate_job_spec(spec: Json, at: str) -> list[Cause]:
    """Return all errors in a Job's spec, except errors in its selector. at: its path."""
    causes = []
    for key in (
        "parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished",
        "backoffLimitPerIndex", "maxFailedIndexes",
    ):  # fmt: skip
        causes += v.non_negative(spec.get(key), f"{at}.{key}")
    per_index, most_failed = spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes")
    if most_failed is not None and per_index is None:
        causes.append(v.required(f"{at}.backoffLimitPerIndex", "when maxFailedIndexes is specified"))
    if spec.get("managedBy") is not None:
        causes += _managed_by(spec["managedBy"], f"{at}.managedBy")
    mode = spec.get("completionMode")
    if mode == "Indexed":
        causes += _indexed(spec, at)
    else:
        if mode not in (None, "NonIndexed"):
            causes.append(v.not_supported(f"{at}.completionMode", mode, ("NonIndexed", "Indexed")))
        for key in ("backoffLimitPerIndex", "maxFailedIndexes"):
            if mode in (None, "NonIndexed") and spec.get(key) is not None:
                causes.append(v.invalid(f"{at}.{key}", spec[key], "requires indexed completion mode"))
    if spec.get("podFailurePolicy") is not None:
        causes += validate_failure_policy(spec, f"{at}.podFailurePolicy")
    if spec.get("successPolicy") is not None:
        if mode == "Indexed":
            causes += validate_success_policy(spec, f"{at}.successPolicy")
        else:
            text = "requires indexed completion mode"
            causes.append(v.invalid(f"{at}.successPolicy", spec["successPolicy"], text))
    causes += validate_replacement_policy(spec, f"{at}.podReplacementPolicy")
    template = spec.get("template") or {}
    causes += validate_template(template, f"{at}.template")
    policy, where = (template.get("spec") or {}).get("restartPolicy"), f"{at}.template.spec.restartPolicy"
    if policy in (None, "", "Always"):
        causes.append(v.required(where, 'valid values: "OnFailure", "Never"'))
    elif policy == "OnFailure" and spec.get("podFailurePolicy") is not None:
        causes.append(v.invalid(where, policy, 'only "Never" is supported when podFailurePolicy is specified'))
    return causes


def _indexed(spec: Json, at: str) -> list[Cause]:
    causes = []
    completions, parallelism = spec.get("completions"), spec.get("parallelism")
    most_failed, where = spec.get("maxFailedIndexes"), f"{at}.maxFailedIndexes"
    if completions is None:
        causes.append(v.required(f"{at}.completions", "when completion mode is Indexed"))
    if parallelism is not None and parallelism > _MAX_PARALLELISM:
        text = f"must be less than or equal to {_MAX_PARALLELISM} when completion mode is Indexed"
        causes.append(v.invalid(f"{at}.parallelism", parallelism, text))
    if completions is not None and most_failed is not None and most_failed > completions:
        causes.append(v.invalid(where, most_failed, "must be less than or equal to completions"))
    if most_failed is not None and most_failed > _MAX_FAILED:
        causes.append(v.invalid(where, most_failed, f"must be less than or equal to {_MAX_FAILED}"))
    if (completions or 0) > _MANY_COMPLETIONS and spec.get("backoffLimitPerIndex") is not None:
        when = f"when completions are above {_MANY_COMPLETIONS} and used with backoff limit per index"
        text = f"must be less than or equal to {_MAX_WITH_MANY} {when}"
        if most_failed is None:
            causes.append(v.required(where, f"must be specified when completions is above {_MANY_COMPLETIONS}"))
        if (parallelism or 0) > _MAX_WITH_MANY:
            causes.append(v.invalid(f"{at}.parallelism", parallelism, text))
        if (most_failed or 0) > _MAX_WITH_MANY:
            causes.append(v.invalid(where, most_failed, text))
    return causes


def _managed_by(value: str, at: str) -> list[Cause]:
    """Return the errors in a value such as `acme.io/foo` (`IsDomainPrefixedPath`)."""
    host, _, path = value.partition("/")
    if not value:
        return [v.required(at)]
    if not host or not path:
        causes = [v.invalid(at, value, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    else:
        causes = v.each(at, host, v.dns1123_subdomain(host))
        if not _path(path):
            causes.append(v.invalid(at, path, _PATH_ERROR))
    return causes + ([v.too_long(at, _MAX_MANAGED_BY)] if len(value) > _MAX_MANAGED_BY else [])


def _generated_selector(obj: Object) -> list[Cause]:
    """Return errors if the selector or the labels differ from the generated selector and labels."""
    spec, metadata = obj["spec"], obj["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    name, uid = metadata.get("name") or "", metadata.get("uid") or ""
    wanted = {_OLD_UID_LABEL: uid, _OLD_NAME_LABEL: name, UID_LABEL: uid, NAME_LABEL: name}
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    causes = []
    for key, value in wanted.items():
        at, text = f"spec.template.metadata.labels[{key}]", f"must be '{value}'"
        if key not in labels:
            causes.append(v.required(at, text))
        elif labels[key] != value:
            causes.append(v.invalid(at, labels, text))
    if not v.label_selector(spec["selector"], "") and not label_selector_matches(spec["selector"], wanted):
        causes.append(v.invalid("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return causes


def _with_scheduling(before: Json, template: Json) -> Json:
    """Return the old template, with new values of the fields that may change before a suspended Job starts."""
    before = copy.deepcopy(before)
    spec, new = before.setdefault("spec", {}), template.get("spec") or {}
    for key in ("nodeSelector", "tolerations", "schedulingGates"):
        _copy(key, new, spec)
    for key in ("labels", "annotations"):
        _copy(key, template.get("metadata") or {}, before.setdefault("metadata", {}))
    affinity = dict(spec.get("affinity") or {})
    _copy("nodeAffinity", new.get("affinity") or {}, affinity)
    if affinity or new.get("affinity") is not None:
        spec["affinity"] = affinity
    else:
        spec.pop("affinity", None)
    return before


def _copy(key: str, source: Json, target: Json) -> None:
    if source.get(key) is not None:
        target[key] = source[key]
    else:
        target.pop(key, None)
