"""Pods: the ServiceAccount, tolerations and priority admissions, what of a pod may change, graceful deletion.

From `pkg/registry/core/pod/strategy.go`, `pkg/apis/core/validation/validation.go` (ValidatePodUpdate) and
`plugin/pkg/admission/{serviceaccount,defaulttolerationseconds,priority}`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hatchway.cluster.api import validation as v
from hatchway.cluster.api.names import random_suffix
from hatchway.cluster.api.schema import quantity_value
from hatchway.cluster.api.strategies.addresses import several_addresses
from hatchway.cluster.api.strategies.base import Context, Strategy, field, keep, readers
from hatchway.cluster.api.strategies.podspec import containers, validate_spec
from hatchway.errors import Cause, forbidden
from hatchway.kube.api import Object

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
_MIRROR = "kubernetes.io/config.mirror"
# How long a pod waits for the `default` account of a namespace that is just being made.
_ACCOUNT_WAIT = 1.0
_SYSTEM_CONDITIONS = frozenset(("PodScheduled", "Ready", "Initialized"))
_MUTABLE = (
    "`spec.containers[*].image`",
    "`spec.initContainers[*].image`",
    "`spec.activeDeadlineSeconds`",
    "`spec.tolerations` (only additions to existing tolerations)",
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
)


class PodStrategy(Strategy):
    return_deleted = True
    generation = True
    selectable = readers(
        {
            "spec.nodeName": field("spec", "nodeName"),
            "spec.restartPolicy": field("spec", "restartPolicy"),
            "spec.schedulerName": field("spec", "schedulerName"),
            "spec.serviceAccountName": field("spec", "serviceAccountName"),
            "spec.hostNetwork": lambda obj: "true" if obj["spec"].get("hostNetwork") else "false",
            "status.phase": field("status", "phase"),
            "status.podIP": field("status", "podIP"),
            "status.podIPs": field("status", "podIP"),
            "status.nominatedNodeName": field("status", "nominatedNodeName"),
        }
    )

    async def before_create(self, ctx: Context, obj: Object) -> None:
        spec = obj.get("spec") or {}
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
        if name != "default" or ctx.store.latest("namespaces", "", ctx.namespace) is None:
            return
        cursor = ctx.store.history("serviceaccounts").cursor(ctx.store.revision)
        try:
            async with asyncio.timeout(_ACCOUNT_WAIT):
                while ctx.store.latest("serviceaccounts", ctx.namespace, name) is None and not cursor.closed:
                    await cursor.wait()
                    cursor.read()
        except TimeoutError:
            return  # the admission below words the refusal

    def admit(self, ctx: Context, obj: Object, old: Object | None) -> None:
        if old is not None:
            return
        _admit_service_account(ctx, obj)
        spec = obj["spec"]
        tolerations = list(spec.get("tolerations") or ())
        for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
            if not any(
                one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "")
                for one in tolerations
            ):
                tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
        spec["tolerations"] = tolerations
        spec.setdefault("priority", 0)
        spec.setdefault("preemptionPolicy", "PreemptLowerPriority")

    def prepare_create(self, ctx: Context, obj: Object) -> None:
        obj["status"] = {"phase": "Pending", "qosClass": qos_class(obj["spec"])}

    def prepare_status(self, ctx: Context, obj: Object, old: Object) -> None:
        super().prepare_status(ctx, obj, old)
        # The kubelet reports; it decides neither on ownership nor on the class of service.
        keep(obj["metadata"], old["metadata"], "ownerReferences")
        status = obj.setdefault("status", {})
        status["qosClass"] = (old.get("status") or {}).get("qosClass", qos_class(old["spec"]))
        _agree_on_address(status)

    def validate(self, obj: Object) -> list[Cause]:
        return validate_spec(obj["spec"], "spec")

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        new, before = obj["spec"], old["spec"]
        causes: list[Cause] = []
        for kind in ("containers", "initContainers"):
            if len(new.get(kind) or ()) != len(before.get(kind) or ()):
                return [v.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
        for index, container in enumerate(containers(new)):
            if not container.get("image"):
                causes.append(v.required(f"spec.containers[{index}].image"))
        deadline, former = new.get("activeDeadlineSeconds"), before.get("activeDeadlineSeconds")
        if deadline != former and former is not None:
            if deadline is None:
                causes.append(
                    v.invalid(
                        "spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value"
                    )
                )
            elif deadline > former:
                causes.append(
                    v.invalid(
                        "spec.activeDeadlineSeconds",
                        deadline,
                        f"must be less than or equal to previous value of {former}",
                    )
                )
        kept = {_identity(one) for one in new.get("tolerations") or ()}
        missing = [one for one in before.get("tolerations") or () if _identity(one) not in kept]
        if missing:
            causes.append(
                v.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
            )
        if _frozen(new) != _frozen(before):
            causes.append(v.forbidden("spec", f"pod updates may not change fields other than {','.join(_MUTABLE)}"))
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        status, former = obj.get("status") or {}, old.get("status") or {}
        causes = []
        for key in ("podIPs", "hostIPs"):
            # What was stored before it was checked must not keep a kubelet from reporting.
            if status.get(key) != former.get(key):
                causes += several_addresses(status.get(key) or [], f"status.{key}")
        hosts = status.get("hostIPs") or []
        if hosts and hosts[0].get("ip", "") != status.get("hostIP", ""):
            causes.append(v.invalid("status.hostIPs[0]", hosts[0].get("ip", ""), "must be equal to `hostIP`"))
        elif not hosts and status.get("hostIP") and v.parse_ip(status["hostIP"]) is None:
            causes.append(v.invalid("status.hostIP", status["hostIP"], v.IP_ERROR))
        nominated = status.get("nominatedNodeName")
        if nominated and nominated != former.get("nominatedNodeName"):
            causes += v.each("status.nominatedNodeName", nominated, v.dns1123_subdomain(nominated))
        for index, condition in enumerate(status.get("conditions") or ()):
            kind = condition.get("type", "")
            if kind not in _SYSTEM_CONDITIONS:
                causes += v.each(f"status.conditions[{index}].Type", kind, v.qualified_name(kind))
        return causes

    def grace_period(self, obj: Object, asked: int | None) -> int | None:
        period = asked if asked is not None else obj["spec"].get("terminationGracePeriodSeconds", 30)
        phase = (obj.get("status") or {}).get("phase")
        if not obj["spec"].get("nodeName") or phase in ("Failed", "Succeeded"):
            return 0
        return 1 if period < 0 else int(period)


def _agree_on_address(status: dict[str, Any]) -> None:
    """`podIP` is the first of `podIPs`, and decides where they differ (`Convert_v1_PodStatus_To_core_PodStatus`)."""
    single, many = status.get("podIP") or "", status.get("podIPs") or []
    if single and (not many or many[0].get("ip") != single):
        status["podIPs"] = [{"ip": single}]
    elif many and not single:
        status["podIP"] = many[0].get("ip", "")


def _identity(toleration: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(toleration.items()))


def _frozen(spec: dict[str, Any]) -> dict[str, Any]:
    """A pod spec without what may change."""
    out = {
        key: value
        for key, value in spec.items()
        if key not in ("activeDeadlineSeconds", "tolerations", "containers", "initContainers")
        and value not in (None, [], {})
    }
    for kind in ("containers", "initContainers"):
        out[kind] = [{key: value for key, value in one.items() if key != "image"} for one in spec.get(kind) or ()]
    return out


def _admit_service_account(ctx: Context, obj: Object) -> None:
    spec = obj["spec"]
    if _MIRROR in (obj["metadata"].get("annotations") or {}):
        _check_mirror(obj)
        return
    name = spec.get("serviceAccountName") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = name
    account = ctx.store.latest("serviceaccounts", ctx.namespace, name)
    if account is None:
        raise forbidden(
            "pods",
            obj["metadata"].get("name", ""),
            f'error looking up service account {ctx.namespace}/{name}: serviceaccount "{name}" not found',
        )
    if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
        spec["imagePullSecrets"] = [dict(one) for one in account["imagePullSecrets"]]
    mount = spec.get("automountServiceAccountToken")
    if mount is None:
        mount = account.get("automountServiceAccountToken")
    if mount is None or mount:
        _mount_token(spec)


def _check_mirror(obj: Object) -> None:
    """Raise ApiError 403: a node's own pod reads nothing from the API (`plugin/pkg/admission/serviceaccount`)."""
    spec, problem = obj["spec"], ""
    if spec.get("serviceAccountName"):
        problem = "a mirror pod may not reference service accounts"
    for volume in spec.get("volumes") or ():
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        if any("secret" in source for source in sources):
            problem = problem or "a mirror pod may not reference secrets"
        if any("serviceAccountToken" in source for source in sources):
            problem = problem or "a mirror pod may not use ServiceAccountToken volume projections"
    for container in containers(spec):
        variables = [one.get("valueFrom") or {} for one in container.get("env") or ()]
        if any("secretKeyRef" in one for one in variables) or any(
            "secretRef" in one for one in container.get("envFrom") or ()
        ):
            problem = problem or "a mirror pod may not reference secrets"
    if problem:
        raise forbidden("pods", obj["metadata"].get("name", ""), problem)


def _mount_token(spec: dict[str, Any]) -> None:
    missing = [
        container
        for container in containers(spec)
        if not any(one.get("mountPath") == TOKEN_PATH for one in container.get("volumeMounts") or ())
    ]
    if not missing:
        return
    name = f"kube-api-access-{random_suffix()}"
    for container in missing:
        mounts = list(container.get("volumeMounts") or ())
        container["volumeMounts"] = [*mounts, {"name": name, "readOnly": True, "mountPath": TOKEN_PATH}]
    namespace = {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
    sources = [
        {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]
    volume = {"name": name, "projected": {"sources": sources, "defaultMode": 0o644}}
    spec["volumes"] = [*(spec.get("volumes") or ()), volume]


def qos_class(spec: dict[str, Any]) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort` (`pkg/apis/core/v1/helper/qos`): only cpu and memory count."""
    guaranteed, anything = True, False
    for container in containers(spec):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in ("cpu", "memory"):
            limit, request = limits.get(name), requests.get(name)
            has_limit = limit is not None and quantity_value(limit) > 0
            anything = anything or has_limit or (request is not None and quantity_value(request) > 0)
            if (
                limit is None
                or not has_limit
                or (request is not None and quantity_value(request) != quantity_value(limit))
            ):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"
