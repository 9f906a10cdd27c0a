"""The admission plugin PodSecurity: checks pods against the levels in the labels of their namespace.

Source: pod-security-admission `admission/admission.go`. There are no exemptions. Without labels, all pods are allowed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.podsecurity.evaluation import evaluate
from hatchway.cluster.api.admission.podsecurity.findings import Finding, Json
from hatchway.cluster.api.admission.podsecurity.levels import LevelVersion, Policy, is_stricter, policy_of
from hatchway.cluster.api.registry.resource import Resource
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.api.work import HEAVY, Pace, run_apart
from hatchway.errors import forbidden, invalid
from hatchway.kube.api import Object

__all__ = ["PodSecurity"]

_ANNOTATION = "pod-security.kubernetes.io/"
# The fields that lead to the pod template of a workload.
_TEMPLATES = {
    "podtemplates": ("template",),
    "replicationcontrollers": ("spec", "template"),
    "replicasets.apps": ("spec", "template"),
    "deployments.apps": ("spec", "template"),
    "statefulsets.apps": ("spec", "template"),
    "daemonsets.apps": ("spec", "template"),
    "jobs.batch": ("spec", "template"),
    "cronjobs.batch": ("spec", "jobTemplate", "spec", "template"),
}
# The maximum number of pods of a namespace that are checked when its level changes (`namespaceMaxPodsToCheck`).
_MAX_PODS = 3000


class PodSecurity(AdmissionPlugin):
    """Refuses pods that violate the level of their namespace, and adds warnings about workloads with such pods.

    store: has namespaces and pods.
    """

    name = "PodSecurity"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new and changed pods, workloads and namespaces."""
        if operation not in ("CREATE", "UPDATE"):
            return False
        if resource == "pods":
            return subresource in ("", "ephemeralcontainers")
        return not subresource and (resource == "namespaces" or resource in _TEMPLATES)

    def may_wait(self, operation: AdmissionOperation, row: Resource, subresource: str) -> bool:
        """Return True for changed namespaces, because a namespace may have many pods."""
        return operation == "UPDATE" and row.group_resource == "namespaces"

    def validate(self, attributes: AdmissionAttributes) -> Awaitable[None] | None:
        """Check an object. Raises ApiError 403 for a pod that violates a level, 422 for a namespace with bad labels."""
        obj = attributes.object
        if obj is None:
            return None
        if attributes.resource == "namespaces":
            return self._namespace(attributes, obj)
        namespace = self._store.latest("namespaces", "", attributes.namespace)
        policy, causes = policy_of(((namespace or {}).get("metadata") or {}).get("labels"))
        is_pod = attributes.resource == "pods"
        if not causes and _is_privileged(policy, is_pod):
            if is_pod:
                attributes.audit_annotations[f"{_ANNOTATION}enforce-policy"] = str(policy.enforce)
            return None
        if is_pod and attributes.old_object is not None and not _is_significant(obj, attributes.old_object):
            return None
        pod: Json | None = obj
        for key in _TEMPLATES.get(attributes.resource, ()):
            pod = (pod or {}).get(key)
        if pod is None:
            return None
        if causes:
            problem = "; ".join(f"{cause.field}: {cause.message}" for cause in causes)
            attributes.audit_annotations[f"{_ANNOTATION}error"] = f"Failed to parse policy: {problem}"
        if attributes.size < HEAVY:
            _apply(attributes, policy, _evaluate(policy, pod, is_pod))
            return None
        return self._large(attributes, policy, pod, is_pod)

    @staticmethod
    async def _large(attributes: AdmissionAttributes, policy: Policy, pod: Json, is_pod: bool) -> None:
        _apply(attributes, policy, await run_apart(_evaluate, policy, pod, is_pod))

    # -- namespaces

    def _namespace(self, attributes: AdmissionAttributes, obj: Object) -> Awaitable[None] | None:
        policy, causes = policy_of(obj["metadata"].get("labels"))
        old = attributes.old_object
        former, former_causes = policy_of(old["metadata"].get("labels")) if old is not None else (None, [])
        if causes and causes != former_causes:
            raise invalid("Namespace", attributes.object_name, causes)
        if former is None or policy.enforce == former.enforce or policy.enforce.level == "privileged":
            return None
        is_relaxed = not is_stricter(policy.enforce.level, former.enforce.level)
        if policy.enforce.minor == former.enforce.minor and is_relaxed:
            return None
        return self._check_pods(attributes, policy.enforce)

    async def _check_pods(self, attributes: AdmissionAttributes, level: LevelVersion) -> None:
        """Add warnings about pods that violate the new level of their namespace (`EvaluatePodsInNamespace`)."""
        namespace = attributes.object_name
        pods = self._store.list("pods", namespace)
        chosen = _in_order(pods)[:_MAX_PODS]
        violating: dict[str, list[str]] = {}
        pace = Pace()
        for pod in chosen:
            if pace.due():
                await pace.rest()
            if found := evaluate(level, pod["metadata"], pod["spec"]):
                violating.setdefault(", ".join(one.reason for one in found), []).append(pod["metadata"]["name"])
        if len(chosen) < len(pods):
            attributes.warnings.append(
                "new PodSecurity enforce level only checked against "
                f"the first {len(chosen)} of {len(pods)} existing pods"
            )
        if violating:
            attributes.warnings.append(
                f'existing pods in namespace "{namespace}" violate the new PodSecurity enforce level "{level}"'
            )
        attributes.warnings += sorted(f"{_subject(names)}: {reason}" for reason, names in violating.items())


def _in_order(pods: Iterable[Object]) -> list[Object]:
    """Return pods in the order of the checks: first one pod of each workload, then all others (`prioritizePods`)."""
    first: list[Object] = []
    further: list[Object] = []
    seen: set[str] = set()
    for pod in pods:
        owners = pod["metadata"].get("ownerReferences") or ()
        uid = next((one.get("uid") for one in owners if one.get("controller")), None)
        (further if uid in seen else first).append(pod)
        if uid is not None:
            seen.add(uid)
    return first + further


def _subject(names: list[str]) -> str:
    """Return a text for the pods of one warning: the name of the first pod, and the number of other pods."""
    others = len(names) - 1
    if not others:
        return names[0]
    return f"{min(names)} (and {others} other {'pod' if others == 1 else 'pods'})"


# -- pods and templates


def _is_privileged(policy: Policy, is_pod: bool) -> bool:
    levels = (policy.enforce, policy.audit, policy.warn) if is_pod else (policy.audit, policy.warn)
    return all(one.level == "privileged" for one in levels)


def _is_significant(pod: Object, old: Object) -> bool:
    """Return True when a pod's containers or their images have changed (`isSignificantPodUpdate`)."""
    new, before = pod.get("spec") or {}, old.get("spec") or {}
    for key in ("containers", "initContainers"):
        if [one.get("image") for one in new.get(key) or ()] != [one.get("image") for one in before.get(key) or ()]:
            return True
    known = {one.get("name"): one.get("image") for one in before.get("ephemeralContainers") or ()}
    return any(known.get(one.get("name"), "") != one.get("image") for one in new.get("ephemeralContainers") or ())


_Results = dict[LevelVersion, list[Finding]]


def _evaluate(policy: Policy, pod: Json, is_pod: bool) -> _Results:
    """Return the findings of each level of a policy in a pod or a template."""
    levels = {policy.audit, policy.warn, *([policy.enforce] if is_pod else [])}
    return {level: evaluate(level, pod.get("metadata") or {}, pod.get("spec") or {}) for level in levels}


def _apply(attributes: AdmissionAttributes, policy: Policy, results: _Results) -> None:
    """Add warnings and audit annotations for the findings. Raises ApiError 403 for a violation of `enforce`."""
    annotations = attributes.audit_annotations
    is_pod = attributes.resource == "pods"
    if is_pod:
        annotations[f"{_ANNOTATION}enforce-policy"] = str(policy.enforce)
    if found := results[policy.audit]:
        annotations[f"{_ANNOTATION}audit-violations"] = f"would violate {_violation(policy.audit, found)}"
    if is_pod and (found := results[policy.enforce]):
        raise forbidden("pods", attributes.object_name, f"violates {_violation(policy.enforce, found)}")
    if found := results[policy.warn]:
        attributes.warnings.append(f"would violate {_violation(policy.warn, found)}")


def _violation(level: LevelVersion, found: list[Finding]) -> str:
    return f'PodSecurity "{level}": {", ".join(map(str, found))}'
