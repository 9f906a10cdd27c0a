"""Pod specs, in pods and in templates: validation (`ValidatePodSpec` in `pkg/apis/core/validation/validation.go`).

`podcontainers.py`, `podvolumes.py`, `podsecurity.py` and `podplacement.py` validate parts of a spec. Errors have
Kubernetes' order.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.podclaims import validate_pod_claims
from hatchway.cluster.api.registry.strategies.podcontainers import one_of, validate_containers, validate_quantity
from hatchway.cluster.api.registry.strategies.podplacement import (
    validate_affinity,
    validate_tolerations,
    validate_topology_spread,
)
from hatchway.cluster.api.registry.strategies.podsecurity import validate_host_users, validate_pod_security
from hatchway.cluster.api.registry.strategies.podvolumes import validate_volumes
from hatchway.errors import Cause

Spec = dict[str, Any]

_MAX_INT32 = 2**31 - 1
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARACTERS = 3, 32, 2048
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")


def containers(spec: Spec) -> list[Spec]:
    """Return the init containers, then the containers."""
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def validate_spec(spec: Spec, at: str, *, is_pod: bool = False) -> list[Cause]:
    """Return all errors in a pod spec.

    at: its path, for example `spec.template.spec`. is_pod: True for the spec of a pod, False for a template's spec.
    """
    causes: list[Cause] = []
    volumes = validate_volumes(spec.get("volumes") or [], f"{at}.volumes", causes)
    validate_containers(spec, at, volumes, causes)
    _validate_host_network(spec, at, causes, is_pod)
    one_of(spec, "restartPolicy", ("Always", "OnFailure", "Never"), at, causes)
    one_of(spec, "dnsPolicy", _DNS_POLICIES, at, causes)
    causes += v.labels(spec.get("nodeSelector"), f"{at}.nodeSelector")
    validate_pod_security(spec, at, causes)
    validate_affinity(spec.get("affinity") or {}, f"{at}.affinity", causes)
    _validate_dns(spec, f"{at}.dnsConfig", causes)
    for index, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        causes += v.each(f"{at}.readinessGates[{index}].conditionType", kind, v.qualified_name(kind))
    _validate_scheduling_gates(spec.get("schedulingGates") or [], f"{at}.schedulingGates", causes)
    validate_topology_spread(spec.get("topologySpreadConstraints") or [], f"{at}.topologySpreadConstraints", causes)
    validate_host_users(spec, at, causes)
    for key in ("serviceAccountName", "nodeName"):
        if spec.get(key):
            causes += v.each(f"{at}.{key}", spec[key], v.dns1123_subdomain(spec[key]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        text = f"must be between 1 and {_MAX_INT32}, inclusive"
        causes.append(v.invalid(f"{at}.activeDeadlineSeconds", deadline, text))
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            causes += v.each(f"{at}.{key}", spec[key], v.dns1123_label(spec[key]))
    causes += validate_tolerations(spec.get("tolerations") or [], f"{at}.tolerations")
    _validate_host_aliases(spec.get("hostAliases") or [], f"{at}.hostAliases", causes)
    for key in ("priorityClassName", "runtimeClassName"):
        if spec.get(key) or (key == "runtimeClassName" and spec.get(key) is not None):
            causes += v.each(f"{at}.{key}", spec[key], v.dns1123_subdomain(spec[key]))
    if spec.get("preemptionPolicy") is not None:
        one_of(spec, "preemptionPolicy", ("PreemptLowerPriority", "Never"), at, causes)
    for name, value in (spec.get("overhead") or {}).items():
        validate_quantity(name, value, f"{at}.overhead[{name}]", causes)
    _validate_os(spec, at, causes)
    causes += validate_pod_claims(spec.get("resourceClaims") or [], f"{at}.resourceClaims")
    if is_pod:
        _validate_pod_only(spec, at, causes)
    return causes


def _validate_pod_only(spec: Spec, at: str, causes: list[Cause]) -> None:
    """Check fields that Kubernetes checks in pods only. For historical reasons, templates may have such errors."""
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            image = container.get("image", "")
            if image != image.strip():
                text = "must not have leading or trailing whitespace"
                causes.append(v.invalid(f"{at}.{kind}[{index}].image", image, text))


def _validate_host_network(spec: Spec, at: str, causes: list[Cause], is_pod: bool) -> None:
    if not spec.get("hostNetwork"):
        return
    for number, container in enumerate(spec.get("containers") or ()):
        for index, port in enumerate(container.get("ports") or ()):
            host, inside = port.get("hostPort") or 0, port.get("containerPort") or 0
            if (is_pod or host) and host != inside:
                here = f"{at}.containers[{number}].ports[{index}].hostPort"
                causes.append(v.invalid(here, host, "must match `containerPort` when `hostNetwork` is true"))


def _validate_dns(spec: Spec, at: str, causes: list[Cause]) -> None:
    config = spec.get("dnsConfig")
    if spec.get("dnsPolicy") == "None":
        if config is None:
            causes.append(v.required(at, "must provide `dnsConfig` when `dnsPolicy` is None"))
            return
        if not config.get("nameservers"):
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            causes.append(v.required(f"{at}.nameservers", text))
            return
    servers, searches = (config or {}).get("nameservers") or [], (config or {}).get("searches") or []
    if len(servers) > _MAX_NAMESERVERS:
        causes.append(
            v.invalid(f"{at}.nameservers", servers, f"must not have more than {_MAX_NAMESERVERS} nameservers")
        )
    for index, address in enumerate(servers):
        if v.parse_ip(address) is None:
            causes.append(v.invalid(f"{at}.nameservers[{index}]", address, v.IP_ERROR))
    if len(searches) > _MAX_SEARCHES:
        causes.append(v.invalid(f"{at}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths"))
    if len(" ".join(searches)) > _MAX_SEARCH_CHARACTERS:
        text = f"must not have more than {_MAX_SEARCH_CHARACTERS} characters (including spaces) in the search list"
        causes.append(v.invalid(f"{at}.searches", searches, text))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            causes += v.each(f"{at}.searches[{index}]", name, v.dns1123_subdomain_with_underscore(name))
    for index, option in enumerate((config or {}).get("options") or ()):
        if not option.get("name"):
            causes.append(v.required(f"{at}.options[{index}]", "must not be empty"))
        elif any(one.isspace() for text in (option["name"], option.get("value") or "") for one in text):
            # Options are separated by blanks in /etc/resolv.conf, so an option cannot contain blanks. Kubernetes does
            # not check this.
            causes.append(v.invalid(f"{at}.options[{index}]", option, "must not contain whitespace"))


def _validate_scheduling_gates(gates: list[Spec], at: str, causes: list[Cause]) -> None:
    seen = set()
    for index, gate in enumerate(gates):
        name = gate.get("name", "")
        causes += v.each(f"{at}[{index}]", name, v.qualified_name(name))
        if name in seen:
            causes.append(v.duplicate(f"{at}[{index}]", name))
        seen.add(name)


def _validate_host_aliases(aliases: list[Spec], at: str, causes: list[Cause]) -> None:
    for index, alias in enumerate(aliases):
        address = alias.get("ip", "")
        if v.parse_ip(address) is None:
            causes.append(v.invalid(f"{at}[{index}].ip", address, v.IP_ERROR))
        for number, name in enumerate(alias.get("hostnames") or ()):
            causes += v.each(f"{at}[{index}].hostnames[{number}]", name, v.dns1123_subdomain(name))


def _validate_os(spec: Spec, at: str, causes: list[Cause]) -> None:
    system = spec.get("os")
    if system is None:
        return
    name = system.get("name", "")
    if not name:
        causes.append(v.required(f"{at}.os.name", "cannot be empty"))
    elif name not in ("linux", "windows"):
        causes.append(v.not_supported(f"{at}.os", name, ("linux", "windows")))
