"""Sets default values, as `SetDefaults_*` in Kubernetes' `pkg/apis/*/v1/defaults.go`.

There are two tables of functions. The functions in TYPES set the defaults of one definition, wherever its values are in
an object. The functions in KINDS set the defaults that depend on the whole object. The walk through an object follows
the schema table, and visits only parts that contain a type with defaults.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from hatchway.cluster.api.registry.schema.table import Field, load
from hatchway.kube.wellknown import NAMESPACE_NAME

__all__ = ["apply_defaults"]

Json = dict[str, Any]

_RBAC = "rbac.authorization.k8s.io"
_VOLUME_MODE = 0o644
_MAX_INT32 = 2**31 - 1


def apply_defaults(gvk: tuple[str, str, str], obj: Json) -> Json:
    """Set the defaults of an object in place, and return the object. obj: has passed `check`.

    Values that are already set do not change. Objects of kinds without defaults are returned unchanged.
    """
    message = load().message(gvk)
    whole = KINDS.get(message.name)
    if whole is not None:
        whole(obj)
    _walk(message.name, obj)
    return obj


@functools.cache
def _plan(name: str) -> tuple[Callable[[Json], None] | None, tuple[tuple[str, str, str], ...]]:
    """Return a type's function in TYPES (or None), and the fields to visit, each as (name, container, type)."""
    return TYPES.get(name), tuple(
        (field.name, field.container, field.ref)
        for field in load().definitions[name].fields.values()
        if field.kind == "message" and _defaulted(field, frozenset((name,)))
    )


def _defaulted(field: Field, above: frozenset[str]) -> bool:
    if field.ref in TYPES:
        return True
    if field.ref in above:
        return False
    above |= {field.ref}
    inner = load().definitions[field.ref].fields.values()
    return any(_defaulted(one, above) for one in inner if one.kind == "message")


def _walk(name: str, obj: Json) -> None:
    function, inside = _plan(name)
    if function is not None:
        function(obj)
    for field, container, ref in inside:
        value = obj.get(field)
        if value is None:
            continue
        if not container:
            _walk(ref, value)
        else:
            for one in value if container == "list" else value.values():
                _walk(ref, one)


def _pod_spec(spec: Json) -> None:
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("restartPolicy", "Always")
    spec.setdefault("securityContext", {})
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("schedulerName", "default-scheduler")
    # The pod's account is in two fields, which always have the same value.
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def _pod(pod: Json) -> None:
    spec = pod["spec"]
    spec.setdefault("enableServiceLinks", True)
    for field in ("containers", "initContainers"):
        for container in spec.get(field, ()):
            _requests(container.get("resources"))
            if spec.get("hostNetwork"):
                for port in container.get("ports", ()):
                    port.setdefault("hostPort", port.get("containerPort", 0))
    _requests(spec.get("resources"))


def _requests(resources: Json | None) -> None:
    limits = (resources or {}).get("limits")
    if resources is None or not limits:
        return
    requests = resources.setdefault("requests", {})
    for name, value in limits.items():
        requests.setdefault(name, value)


def _always_pull(image: str) -> bool:
    """Return True when the image's tag is `latest`, explicitly or by default. A digest is not a tag."""
    if "@" in image:
        return False
    last = image.rpartition("/")[2]
    return last.partition(":")[2] in ("", "latest")


def _container(container: Json) -> None:
    if not container.get("imagePullPolicy"):
        container["imagePullPolicy"] = "Always" if _always_pull(container.get("image", "")) else "IfNotPresent"
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")


def _probe(probe: Json) -> None:
    for field, value in (
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ):
        if not probe.get(field):
            probe[field] = value


def _http_get(action: Json) -> None:
    action.setdefault("path", "/")
    action.setdefault("scheme", "HTTP")


def _set(**values: Any) -> Callable[[Json], None]:
    """Return a function that sets missing fields."""

    def default(obj: Json) -> None:
        for field, value in values.items():
            obj.setdefault(field, value)

    return default


def _volume(volume: Json) -> None:
    if not any(field != "name" for field in volume):
        volume["emptyDir"] = {}


def _service(service: Json) -> None:
    spec = service["spec"]
    affinity = spec.setdefault("sessionAffinity", "None")
    if affinity == "None":
        spec.pop("sessionAffinityConfig", None)
    elif affinity == "ClientIP":
        spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {}).setdefault("timeoutSeconds", 10800)
    kind = spec.setdefault("type", "ClusterIP")
    for port in spec.get("ports", ()):
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
        for ingress in service.get("status", {}).get("loadBalancer", {}).get("ingress", ()):
            if ingress.get("ip"):
                ingress.setdefault("ipMode", "VIP")


def _namespace(namespace: Json) -> None:
    name = namespace["metadata"].get("name")
    if name:
        namespace["metadata"].setdefault("labels", {})[NAMESPACE_NAME] = name
    namespace["status"].setdefault("phase", "Active")


_NODE_INFO = (
    "machineID", "systemUUID", "bootID", "kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion",
    "kubeProxyVersion", "operatingSystem", "architecture",
)  # fmt: skip


def _node(node: Json) -> None:
    status = node["status"]
    # Fields that Kubernetes writes even when they are empty.
    info = status.setdefault("nodeInfo", {})
    for field in _NODE_INFO:
        info.setdefault(field, "")
    status.setdefault("daemonEndpoints", {}).setdefault("kubeletEndpoint", {}).setdefault("Port", 0)
    if "capacity" in status:
        status.setdefault("allocatable", dict(status["capacity"]))


def _deployment(deployment: Json) -> None:
    spec = deployment["spec"]
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _replication_controller(controller: Json) -> None:
    spec = controller["spec"]
    spec.setdefault("replicas", 1)
    labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
    if labels:
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not controller["metadata"].get("labels"):
            controller["metadata"]["labels"] = dict(labels)


def _daemon_set(daemon_set: Json) -> None:
    spec = daemon_set["spec"]
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def _stateful_set(stateful_set: Json) -> None:
    spec = stateful_set["spec"]
    spec.setdefault("replicas", 1)
    spec.setdefault("podManagementPolicy", "OrderedReady")
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)
    spec.setdefault("revisionHistoryLimit", 10)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for field in ("whenDeleted", "whenScaled"):
        if not retention.get(field):
            retention[field] = "Retain"
    for template in spec.get("volumeClaimTemplates", ()):
        # Old clients need the apiVersion and kind of each claim template (`pkg/apis/apps/v1/conversion.go`).
        template["apiVersion"], template["kind"] = "v1", "PersistentVolumeClaim"
        _claim(template)


def _claim(claim: Json) -> None:
    status = claim.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"


def _volume_object(volume: Json) -> None:
    status = volume.setdefault("status", {})
    if not status.get("phase"):
        status["phase"] = "Pending"
    volume["spec"].setdefault("persistentVolumeReclaimPolicy", "Retain")
    volume["spec"].setdefault("volumeMode", "Filesystem")


def _csi_driver(driver: Json) -> None:
    spec = driver["spec"]
    spec.setdefault("attachRequired", True)
    for field in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
        spec.setdefault(field, False)
    spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def _job(job: Json) -> None:
    spec = job["spec"]
    if spec.get("parallelism") is None and spec.get("completions") is None:
        spec["completions"] = 1
    spec.setdefault("parallelism", 1)
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else _MAX_INT32)
    spec.setdefault("manualSelector", False)
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    only_failed = spec.get("podFailurePolicy") is not None
    spec.setdefault("podReplacementPolicy", "Failed" if only_failed else "TerminatingOrFailed")


def _binding(binding: Json) -> None:
    # A RoleRef always has this group, and Kubernetes always writes the field.
    reference = binding["roleRef"]
    if not reference.get("apiGroup"):
        reference["apiGroup"] = _RBAC


def _subject(subject: Json) -> None:
    if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
        subject["apiGroup"] = _RBAC


def _limit_range_item(item: Json) -> None:
    """Complete the amounts for containers: `default` from `max`, and `defaultRequest` from `default`, then `min`."""
    if item.get("type") != "Container":
        return
    limits, requests = item.setdefault("default", {}), item.setdefault("defaultRequest", {})
    for source, target in (("max", limits), ("default", requests), ("min", requests)):
        for name, value in (item.get(source) or {}).items():
            target.setdefault(name, value)
    for field in ("default", "defaultRequest"):
        if not item[field]:
            del item[field]


_CRON_JOB = _set(concurrencyPolicy="Allow", suspend=False, successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)

KINDS: dict[str, Callable[[Json], None]] = {
    "core.v1.Pod": _pod,
    "core.v1.Service": _service,
    "core.v1.Namespace": _namespace,
    "core.v1.Node": _node,
    "core.v1.PersistentVolume": _volume_object,
    "core.v1.PersistentVolumeClaim": _claim,
    "core.v1.ReplicationController": _replication_controller,
    "core.v1.Secret": _set(type="Opaque"),
    "apps.v1.Deployment": _deployment,
    "apps.v1.ReplicaSet": lambda obj: _set(replicas=1)(obj["spec"]),
    "apps.v1.DaemonSet": _daemon_set,
    "apps.v1.StatefulSet": _stateful_set,
    "batch.v1.CronJob": lambda obj: _CRON_JOB(obj["spec"]),
    "batch.v1.Job": _job,
    "storage.v1.StorageClass": _set(reclaimPolicy="Delete", volumeBindingMode="Immediate"),
    "storage.v1.CSIDriver": _csi_driver,
    "rbac.v1.RoleBinding": _binding,
    "rbac.v1.ClusterRoleBinding": _binding,
}

_mode = _set(defaultMode=_VOLUME_MODE)
_protocol = _set(protocol="TCP")


def _webhook(hook: Json) -> None:
    # `pkg/apis/admissionregistration/v1/defaults.go`
    for key, value in (("failurePolicy", "Fail"), ("matchPolicy", "Equivalent"), ("timeoutSeconds", 10)):
        if hook.get(key) is None:
            hook[key] = value
    for key in ("namespaceSelector", "objectSelector"):
        if hook.get(key) is None:
            hook[key] = {}


def _mutating_webhook(hook: Json) -> None:
    _webhook(hook)
    if hook.get("reinvocationPolicy") is None:
        hook["reinvocationPolicy"] = "Never"


def _device_request(request: Json) -> None:
    # `pkg/apis/resource/v1/defaults.go`
    if not request.get("allocationMode"):
        request["allocationMode"] = "ExactCount"
    if request["allocationMode"] == "ExactCount" and not request.get("count"):
        request["count"] = 1


TYPES: dict[str, Callable[[Json], None]] = {
    "core.v1.PodSpec": _pod_spec,
    "core.v1.Container": _container,
    "core.v1.EphemeralContainer": _container,
    "core.v1.ContainerPort": _protocol,
    "core.v1.LimitRangeItem": _limit_range_item,
    "core.v1.Probe": _probe,
    "core.v1.HTTPGetAction": _http_get,
    "core.v1.GRPCAction": _set(service=""),
    "core.v1.ObjectFieldSelector": _set(apiVersion="v1"),
    "core.v1.ResourceFieldSelector": _set(divisor="0"),
    "core.v1.Volume": _volume,
    "core.v1.SecretVolumeSource": _mode,
    "core.v1.ConfigMapVolumeSource": _mode,
    "core.v1.DownwardAPIVolumeSource": _mode,
    "core.v1.ProjectedVolumeSource": _mode,
    "core.v1.ServiceAccountTokenProjection": _set(expirationSeconds=3600),
    "core.v1.HostPathVolumeSource": _set(type=""),
    "core.v1.ISCSIVolumeSource": _set(iscsiInterface="default"),
    "core.v1.RBDVolumeSource": _set(pool="rbd", user="admin", keyring="/etc/ceph/keyring"),
    "core.v1.AzureDiskVolumeSource": _set(cachingMode="ReadWrite", kind="Shared", fsType="ext4", readOnly=False),
    "core.v1.ScaleIOVolumeSource": _set(storageMode="ThinProvisioned", fsType="xfs"),
    "core.v1.PersistentVolumeClaimSpec": _set(volumeMode="Filesystem"),
    "core.v1.ServicePort": _protocol,
    "core.v1.EndpointPort": _protocol,
    "discovery.v1.EndpointPort": _set(name="", protocol="TCP"),
    "batch.v1.PodFailurePolicyOnPodConditionsPattern": _set(status="True"),
    "rbac.v1.Subject": _subject,
    "resource.v1.DeviceSubRequest": _device_request,
    "resource.v1.DeviceToleration": _set(operator="Equal"),
    "resource.v1.ExactDeviceRequest": _device_request,
    "admissionregistration.v1.MutatingWebhook": _mutating_webhook,
    "admissionregistration.v1.RuleWithOperations": _set(scope="*"),
    "admissionregistration.v1.ServiceReference": _set(port=443),
    "admissionregistration.v1.ValidatingWebhook": _webhook,
    "apiregistration.v1.ServiceReference": _set(port=443),
    "authentication.v1.TokenRequestSpec": _set(expirationSeconds=3600),
}
