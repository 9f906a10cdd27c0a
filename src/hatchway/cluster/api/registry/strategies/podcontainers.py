"""Containers of a pod spec: validation (`validateContainers` in `pkg/apis/core/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.schema import quantity_value
from hatchway.cluster.api.registry.strategies.podclaims import validate_container_claims
from hatchway.cluster.api.registry.strategies.podsecurity import validate_container_security
from hatchway.cluster.api.registry.strategies.podvolumes import (
    VolumeNames,
    local_path,
    validate_field_ref,
    validate_resource_field,
)
from hatchway.errors import Cause

Spec = dict[str, Any]

_PROTOCOLS = ("SCTP", "TCP", "UDP")
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_RESIZABLE = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_SIDECARS_ONLY = "may not be set for init containers without restartPolicy=Always"
_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)


def one_of(found: Spec, key: str, supported: tuple[str, ...], at: str, causes: list[Cause]) -> None:
    """Check a required text that must be one of a list."""
    value = found.get(key) or ""
    if not value:
        causes.append(v.required(f"{at}.{key}"))
    elif value not in supported:
        causes.append(v.not_supported(f"{at}.{key}", value, supported))


def validate_containers(spec: Spec, at: str, volumes: VolumeNames, causes: list[Cause]) -> None:
    """Check `containers` and `initContainers`."""
    grace = spec.get("terminationGracePeriodSeconds")
    names: set[str] = set()
    if not spec.get("containers"):
        causes.append(v.required(f"{at}.containers"))
    for kind in ("containers", "initContainers"):
        ports: set[str] = set()
        for index, container in enumerate(spec.get(kind) or ()):
            here = f"{at}.{kind}[{index}]"
            validate_container(container, here, volumes, spec, causes)
            policy = container.get("restartPolicy")
            is_init = kind == "initContainers"
            if is_init and policy is not None and policy != "Always":
                causes.append(v.not_supported(f"{here}.restartPolicy", policy, ("Always",)))
            name = container.get("name", "")
            if name and name in names:
                causes.append(v.duplicate(f"{here}.name", name))
            names.add(name)
            if is_init:
                ports = set()
                _unique_host_ports(container, here, ports, causes)
            if is_init and policy != "Always":
                for number, one in enumerate(container.get("resizePolicy") or ()):
                    if one.get("restartPolicy") == "RestartContainer":
                        text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                        place = f"{here}.resizePolicy[{number}].restartPolicy"
                        causes.append(v.invalid(place, "RestartContainer", text))
                for key in ("lifecycle", *_PROBES):
                    if container.get(key) is not None:
                        causes.append(v.forbidden(f"{here}.{key}", _SIDECARS_ONLY))
            else:
                _validate_running(container, here, grace, causes)
            if not is_init and policy is not None:
                causes.append(v.forbidden(f"{here}.restartPolicy", "may not be set for non-init containers"))
    ports = set()
    for index, container in enumerate(spec.get("containers") or ()):
        _unique_host_ports(container, f"{at}.containers[{index}]", ports, causes)


def validate_container(container: Spec, at: str, volumes: VolumeNames, spec: Spec, causes: list[Cause]) -> None:
    """Check the fields that all kinds of containers have."""
    name = container.get("name", "")
    if not name:
        causes.append(v.required(f"{at}.name"))
    else:
        causes += v.each(f"{at}.name", name, v.dns1123_label(name))
    if not container.get("image"):
        causes.append(v.required(f"{at}.image"))
    one_of(container, "terminationMessagePolicy", ("File", "FallbackToLogsOnError"), at, causes)
    _validate_ports(container.get("ports") or [], f"{at}.ports", causes)
    _validate_env(container, at, causes)
    _validate_env_from(container.get("envFrom") or [], f"{at}.envFrom", causes)
    _validate_mounts(container, f"{at}.volumeMounts", volumes, causes)
    one_of(container, "imagePullPolicy", _PULL_POLICIES, at, causes)
    _validate_resources(container.get("resources") or {}, f"{at}.resources", causes)
    claims = (container.get("resources") or {}).get("claims") or []
    causes += validate_container_claims(claims, spec.get("resourceClaims") or [], f"{at}.resources.claims")
    _validate_resize_policy(container.get("resizePolicy") or [], f"{at}.resizePolicy", spec, causes)
    validate_container_security(container.get("securityContext"), f"{at}.securityContext", spec, causes)


def _validate_resize_policy(policies: list[Spec], at: str, spec: Spec, causes: list[Cause]) -> None:
    """Check which resources may be changed without a restart (`validateResizePolicy`)."""
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName") or "", policy.get("restartPolicy") or ""
        if name in seen:
            causes.append(v.duplicate(f"{at}[{index}]", name))
        seen.add(name)
        for value, supported in ((name, _RESIZABLE), (restart, _RESIZE_POLICIES)):
            if not value:
                causes.append(v.required(at))
            elif value not in supported:
                causes.append(v.not_supported(at, value, supported))
        if spec.get("restartPolicy") == "Never" and restart != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            causes.append(v.invalid(at, restart, text))


def _validate_running(container: Spec, at: str, grace: int | None, causes: list[Cause]) -> None:
    for key in ("postStart", "preStop"):
        hook = (container.get("lifecycle") or {}).get(key)
        if hook is not None:
            _validate_handler(hook, f"{at}.lifecycle.{key}", grace, causes)
    for key in _PROBES:
        probe = container.get(key)
        if probe is None:
            continue
        here = f"{at}.{key}"
        _validate_handler(probe, here, grace, causes)
        for number in (
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ):
            causes += v.non_negative(probe.get(number), f"{here}.{number}")
        period = probe.get("terminationGracePeriodSeconds")
        if period is not None and period <= 0:
            causes.append(v.invalid(f"{here}.terminationGracePeriodSeconds", period, "must be greater than 0"))
        if key == "readinessProbe" and period is not None:
            text = "must not be set for readinessProbes"
            causes.append(v.invalid(f"{here}.terminationGracePeriodSeconds", period, text))
        elif key != "readinessProbe" and probe.get("successThreshold") != 1:
            causes.append(v.invalid(f"{here}.successThreshold", probe.get("successThreshold"), "must be 1"))


def _unique_host_ports(container: Spec, at: str, seen: set[str], causes: list[Cause]) -> None:
    for index, port in enumerate(container.get("ports") or ()):
        if port.get("hostPort"):
            key = f"{port.get('protocol', '')}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if key in seen:
                causes.append(v.duplicate(f"{at}.ports[{index}].hostPort", key))
            seen.add(key)


def _validate_ports(ports: list[Spec], at: str, causes: list[Cause]) -> None:
    names = set()
    for index, port in enumerate(ports):
        here = f"{at}[{index}]"
        name = port.get("name")
        if name:
            messages = v.port_name(name)
            causes += v.each(f"{here}.name", name, messages)
            if not messages and name in names:
                causes.append(v.duplicate(f"{here}.name", name))
            names.add(name)
        number = port.get("containerPort", 0)
        if number == 0:
            causes.append(v.required(f"{here}.containerPort"))
        else:
            causes += [v.invalid(f"{here}.containerPort", number, message) for message in v.port_number(number)]
        host = port.get("hostPort", 0)
        if host:
            causes += [v.invalid(f"{here}.hostPort", host, message) for message in v.port_number(host)]
        one_of(port, "protocol", _PROTOCOLS, here, causes)


def _validate_env(container: Spec, at: str, causes: list[Cause]) -> None:
    for index, variable in enumerate(container.get("env") or ()):
        here = f"{at}.env[{index}]"
        name = variable.get("name", "")
        if not name:
            causes.append(v.required(f"{here}.name"))
        else:
            causes += v.each(f"{here}.name", name, v.env_name(name))
        source = variable.get("valueFrom")
        if source is not None:
            _validate_value_from(source, bool(variable.get("value")), f"{here}.valueFrom", causes)


def _validate_value_from(source: Spec, has_value: bool, at: str, causes: list[Cause]) -> None:
    if source.get("fieldRef") is not None:
        validate_field_ref(source["fieldRef"], f"{at}.fieldRef", _FIELDS, causes)
    if source.get("resourceFieldRef") is not None:
        validate_resource_field(source["resourceFieldRef"], f"{at}.resourceFieldRef", causes)
    for key in ("configMapKeyRef", "secretKeyRef"):
        reference = source.get(key)
        if reference is None:
            continue
        name = reference.get("name", "")
        causes += v.each(f"{at}.{key}.name", name, v.dns1123_subdomain(name))
        if not reference.get("key"):
            causes.append(v.required(f"{at}.{key}.key"))
        else:
            causes += v.each(f"{at}.{key}.key", reference["key"], v.config_key(reference["key"]))
    chosen = [key for key, value in source.items() if value is not None]
    if not chosen:
        kinds = "`fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        causes.append(v.invalid(at, "", f"must specify one of: {kinds}"))
    elif has_value:
        causes.append(v.invalid(at, "", "may not be specified when `value` is not empty"))
    elif len(chosen) > 1:
        causes.append(v.invalid(at, "", "may not have more than one field specified at a time"))


def _validate_env_from(sources: list[Spec], at: str, causes: list[Cause]) -> None:
    for index, source in enumerate(sources):
        here = f"{at}[{index}]"
        if source.get("prefix"):
            causes += v.each(f"{here}.prefix", source["prefix"], v.env_name(source["prefix"]))
        chosen = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        for key in chosen:
            name = source[key].get("name", "")
            if not name:
                causes.append(v.required(f"{here}.{key}.name"))
            else:
                causes += v.each(f"{here}.{key}.name", name, v.dns1123_subdomain(name))
        # As in Kubernetes, the field of the error is the list, not the entry.
        if not chosen:
            causes.append(v.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(chosen) > 1:
            causes.append(v.invalid(at, "", "may not have more than one field specified at a time"))


def _validate_mounts(container: Spec, at: str, volumes: VolumeNames, causes: list[Cause]) -> None:
    paths = set()
    security = container.get("securityContext") or {}
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        here = f"{at}[{index}]"
        name, path = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.append(v.required(f"{here}.name"))
        if name not in volumes:
            causes.append(v.not_found(f"{here}.name", name))
        if not path:
            causes.append(v.required(f"{here}.mountPath"))
        if path in paths:
            causes.append(v.invalid(f"{here}.mountPath", path, "must be unique"))
        paths.add(path)
        if mount.get("subPath"):
            # As in Kubernetes, the field of the error is the list, not the entry.
            local_path(mount["subPath"], f"{at}.subPath", causes)
        if mount.get("subPathExpr"):
            if mount.get("subPath"):
                text = "subPathExpr and subPath are mutually exclusive"
                causes.append(v.invalid(f"{here}.subPathExpr", mount["subPathExpr"], text))
            local_path(mount["subPathExpr"], f"{at}.subPathExpr", causes)
        mode = mount.get("mountPropagation")
        if mode is not None and mode not in ("Bidirectional", "HostToContainer", "None"):
            kinds = ("Bidirectional", "HostToContainer", "None")
            causes.append(v.not_supported(f"{at}.mountPropagation", mode, kinds))
        if mode == "Bidirectional" and not security.get("privileged"):
            text = "Bidirectional mount propagation is available only to privileged containers"
            causes.append(v.forbidden(f"{at}.mountPropagation", text))


def _validate_handler(handler: Spec, at: str, grace: int | None, causes: list[Cause]) -> None:
    chosen = [key for key in _HANDLERS if handler.get(key) is not None]
    for key in chosen[:1]:
        here, action = f"{at}.{key}", handler[key]
        if key == "exec":
            if not action.get("command"):
                causes.append(v.required(f"{here}.command"))
        elif key == "sleep":
            seconds = action.get("seconds", 0)
            if grace is not None and not 0 <= seconds <= grace:
                text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                causes.append(v.invalid(here, seconds, text))
        else:
            _validate_port_reference(action.get("port", 0), f"{here}.port", causes)
        if key == "httpGet":
            if action.get("scheme") not in ("HTTP", "HTTPS"):
                causes.append(v.not_supported(f"{here}.scheme", action.get("scheme"), ("HTTP", "HTTPS")))
            for header in action.get("httpHeaders") or ():
                name = header.get("name", "")
                causes += v.each(f"{here}.httpHeaders", name, v.http_header_name(name))
    for extra in chosen[1:]:
        causes.append(v.forbidden(f"{at}.{extra}", "may not specify more than 1 handler type"))
    if not chosen:
        causes.append(v.required(at, "must specify a handler type"))


def _validate_port_reference(port: Any, at: str, causes: list[Cause]) -> None:
    if isinstance(port, int):
        causes += [v.invalid(at, port, message) for message in v.port_number(port)]
    else:
        causes += v.each(at, port, v.port_name(port))


_STANDARD = ("cpu", "memory", "ephemeral-storage")


def validate_quantity(name: str, value: Any, at: str, causes: list[Cause]) -> None:
    """Check the name and the amount of a container's resource."""
    messages = v.qualified_name(name)
    causes += v.each(at, name, messages)
    if not messages and "/" not in name and name not in _STANDARD and not name.startswith("hugepages-"):
        causes.append(v.invalid(at, name, "must be a standard resource for containers"))
    amount = quantity_value(value)
    if amount < 0:
        causes.append(v.invalid(at, str(value), "must be greater than or equal to 0"))
    elif _is_extended(name) and amount % 1:
        causes.append(v.invalid(at, str(value), "must be an integer"))


def _is_extended(name: str) -> bool:
    return "/" in name and not name.partition("/")[0].endswith("kubernetes.io")


def _validate_resources(resources: Spec, at: str, causes: list[Cause]) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, found in (("limits", limits), ("requests", requests)):
        for name, value in found.items():
            validate_quantity(name, value, f"{at}.{kind}[{name}]", causes)
    for name, value in requests.items():
        exact = _is_extended(name) or name.startswith("hugepages-")
        if name not in limits:
            if exact:
                causes.append(v.required(f"{at}.limits", "Limit must be set for non overcommitable resources"))
        elif exact and quantity_value(value) != quantity_value(limits[name]):
            text = f"must be equal to {name} limit of {limits[name]}"
            causes.append(v.invalid(f"{at}.requests", str(value), text))
        elif quantity_value(value) > quantity_value(limits[name]):
            text = f"must be less than or equal to {name} limit of {limits[name]}"
            causes.append(v.invalid(f"{at}.requests", str(value), text))
