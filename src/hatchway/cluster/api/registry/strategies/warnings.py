"""Warnings about objects that are accepted (`pkg/api/pod/warnings.go`, `pkg/api/service/warnings.go`)."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.kube.api import Object

Spec = dict[str, Any]

_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": 'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls": 'non-functional in v1.11+; use the "sysctls" field instead',
}
_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_VOLUMES = {
    "photonPersistentDisk": "deprecated in v1.11, non-functional in v1.16+",
    "gitRepo": "deprecated in v1.11",
    "scaleIO": "deprecated in v1.16, non-functional in v1.22+",
    "flocker": "deprecated in v1.22, non-functional in v1.25+",
    "storageos": "deprecated in v1.22, non-functional in v1.25+",
    "quobyte": "deprecated in v1.22, non-functional in v1.25+",
    "glusterfs": "deprecated in v1.25, non-functional in v1.26+",
    "cephfs": "deprecated in v1.28, non-functional in v1.31+",
    "rbd": "deprecated in v1.28, non-functional in v1.31+",
}
# The maximum number of warnings about one object, and the maximum number of ports with which a port is compared.
# `http/call.py` limits the warnings of a response further.
_MOST = 50
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_SECCOMP = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def pod_warnings(metadata: dict[str, Any], spec: Spec, at: str = "") -> list[str]:
    """Return the warnings for the writer of a pod or of a pod template.

    at: the path of the template, with a dot at its end (`spec.template.`); "" for a pod.
    """
    found = _pod_warnings(metadata, spec, is_template=bool(at))
    return [f"{at}{one}" for one in itertools.islice(found, _MOST)]


def _pod_warnings(metadata: dict[str, Any], spec: Spec, *, is_template: bool) -> Iterator[str]:
    annotations = metadata.get("annotations") or {}
    for key in spec.get("nodeSelector") or ():
        if key in _NODE_LABELS:
            yield f"spec.nodeSelector[{key}]: {_NODE_LABELS[key]}"
    yield from _affinity_warnings((spec.get("affinity") or {}).get("nodeAffinity") or {})
    for index, constraint in enumerate(spec.get("topologySpreadConstraints") or ()):
        at, key = f"spec.topologySpreadConstraints[{index}]", constraint.get("topologyKey")
        if key in _NODE_LABELS:
            yield f"{at}.topologyKey: {key} is {_NODE_LABELS[key]}"
        if constraint.get("labelSelector") is None:
            yield f"{at}.labelSelector: a null labelSelector results in matching no pod"
    for key, text in _ANNOTATIONS.items():
        if key in annotations:
            yield f"metadata.annotations[{key}]: {text}"
    for index, volume in enumerate(spec.get("volumes") or ()):
        for key, text in _VOLUMES.items():
            if volume.get(key) is not None:
                yield f"spec.volumes[{index}].{key}: {text}"
    yield from _repeated(spec, "hostAliases", "ip")
    yield from _repeated(spec, "imagePullSecrets", "name")
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield f'spec.imagePullSecrets[{index}].name: invalid empty name ""'
    yield from _fractions(spec.get("overhead") or {}, "spec.overhead")
    security = spec.get("securityContext") or {}
    if _SECCOMP_POD in annotations and security.get("seccompProfile") is None:
        yield f"metadata.annotations[{_SECCOMP_POD}]: {_SECCOMP}"
    for at, container in _containers(spec):
        own = container.get("securityContext") or {}
        key = _SECCOMP_CONTAINER + container.get("name", "")
        if key in annotations and own.get("seccompProfile") is None:
            yield f"metadata.annotations[{key}]: {_SECCOMP}"
        key = _APPARMOR + container.get("name", "")
        if is_template and key in annotations and not (security.get("appArmorProfile") or own.get("appArmorProfile")):
            yield f'metadata.annotations[{key}]: deprecated since v1.30; use the "appArmorProfile" field instead'
        resources = container.get("resources") or {}
        for kind in ("limits", "requests"):
            yield from _fractions(resources.get(kind) or {}, f"{at}.resources.{kind}")
        yield from _hidden_variables(container, at)
    yield from _port_warnings(spec)
    period = spec.get("terminationGracePeriodSeconds")
    if period is not None and period < 0:
        yield "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
    text = "a null labelSelector results in matching no pod"
    for kind in ("podAffinity", "podAntiAffinity"):
        affinity, at = (spec.get("affinity") or {}).get(kind) or {}, f"spec.affinity.{kind}"
        required, preferred = (f"{key}DuringSchedulingIgnoredDuringExecution" for key in ("required", "preferred"))
        for index, term in enumerate(affinity.get(required) or ()):
            if term.get("labelSelector") is None:
                yield f"{at}.{required}[{index}].labelSelector: {text}"
        for index, weighted in enumerate(affinity.get(preferred) or ()):
            if (weighted.get("podAffinityTerm") or {}).get("labelSelector") is None:
                yield f"{at}.{preferred}[{index}].podAffinityTerm.labelSelector: {text}"


def _containers(spec: Spec) -> Iterator[tuple[str, Spec]]:
    for kind in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(kind) or ()):
            yield f"spec.{kind}[{index}]", container


def _affinity_warnings(affinity: Spec) -> Iterator[str]:
    at = "spec.affinity.nodeAffinity"
    required = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or []
    terms = [
        (f"{at}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[{index}]", term)
        for index, term in enumerate(required)
    ]
    preferred = affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    terms += [
        (f"{at}.preferredDuringSchedulingIgnoredDuringExecution[{index}].preference", term.get("preference") or {})
        for index, term in enumerate(preferred)
    ]
    for here, term in terms:
        for index, expression in enumerate(term.get("matchExpressions") or ()):
            key = expression.get("key")
            if key in _NODE_LABELS:
                yield f"{here}.matchExpressions[{index}].key: {key} is {_NODE_LABELS[key]}"


def _repeated(spec: Spec, kind: str, key: str) -> Iterator[str]:
    seen = set()
    for index, one in enumerate(spec.get(kind) or ()):
        value = one.get(key, "")
        if value in seen:
            yield f"spec.{kind}[{index}].{key}: duplicate {key} {v.quote(value)}"
        seen.add(value)


def _fractions(quantities: dict[str, Any], at: str) -> Iterator[str]:
    for name in ("memory", "ephemeral-storage"):
        value = quantities.get(name)
        if value is not None and quantity_value(value) % 1:
            yield f"{at}[{name}]: fractional byte value {v.quote(str(value))} is invalid, must be an integer"


def _hidden_variables(container: Spec, at: str) -> Iterator[str]:
    seen = set()
    for index, variable in enumerate(container.get("env") or ()):
        name, value = variable.get("name", ""), variable.get("value") or ""
        own = f"$({name})"
        if name not in seen:
            seen.add(name)
        elif variable.get("valueFrom") is not None or value == own or own not in value:
            text = f"hides previous definition of {v.quote(name)}, which may be dropped when using apply"
            yield f"{at}.env[{index}]: {text}"


def _port_warnings(spec: Spec) -> Iterator[str]:
    seen: dict[tuple[Any, Any], list[tuple[str, Spec]]] = {}
    for at, container in _containers(spec):
        for index, port in enumerate(container.get("ports") or ()):
            here = f"{at}.ports[{index}]"
            others = seen.setdefault((port.get("containerPort"), port.get("protocol")), [])
            for where, other in others:
                mine, theirs = port.get("hostPort") or 0, other.get("hostPort") or 0
                if mine == theirs and (port.get("hostIP") or "") == (other.get("hostIP") or ""):
                    yield f"{here}: duplicate port definition with {where}"
                elif not mine or not theirs:
                    yield f"{here}: overlapping port definition with {where}"
                elif mine == theirs and bool(port.get("hostIP")) != bool(other.get("hostIP")):
                    yield f"{here}: dangerously ambiguous port definition with {where}"
            if len(others) < _MOST:
                others.append((here, port))


def service_warnings(service: Object) -> list[str]:
    """Return the warnings for the writer of a service (`GetWarningsForService`), at most `_MOST`."""
    return list(itertools.islice(_service_warnings(service), _MOST))


def _service_warnings(service: Object) -> Iterator[str]:
    spec = service["spec"]
    if _TOPOLOGY_HINTS in (service["metadata"].get("annotations") or {}):
        mode = "service.kubernetes.io/topology-mode"
        yield f"annotation {_TOPOLOGY_HINTS} is deprecated, please use {mode} instead"
    for index, address in enumerate(spec.get("clusterIPs") or ()):
        yield from _address_warnings(address, f"spec.clusterIPs[{index}]")
    external = spec.get("externalIPs") or ()
    headless = spec["type"] == "ClusterIP" and spec.get("clusterIP") == "None"
    if headless:
        if spec.get("loadBalancerIP"):
            yield "spec.loadBalancerIP is ignored for headless services"
        if external:
            yield "spec.externalIPs is ignored for headless services"
        if spec.get("sessionAffinity") != "None":
            yield "spec.SessionAffinity is ignored for headless services"
    for index, address in enumerate(external):
        yield from _address_warnings(address, f"spec.externalIPs[{index}]")
    if external and not headless and spec["type"] != "ExternalName":
        yield "spec.externalIPs is deprecated and may no longer be implemented in some clusters"
    if spec.get("loadBalancerIP"):
        yield from _address_warnings(spec["loadBalancerIP"], "spec.loadBalancerIP")
    if spec["type"] == "ExternalName" and external:
        yield 'spec.externalIPs is ignored when spec.type is "ExternalName"'
    if spec["type"] != "ExternalName" and spec.get("externalName"):
        yield 'spec.externalName is ignored when spec.type is not "ExternalName"'
    if spec.get("trafficDistribution") == "PreferClose":
        yield 'spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"'


def _address_warnings(address: str, at: str) -> Iterator[str]:
    found = v.parse_ip(address)
    if found is not None and found.version == 6 and str(found) != address:
        yield f"{at}: IPv6 address {v.quote(address)} should be in RFC 5952 canonical format ({v.quote(str(found))})"
