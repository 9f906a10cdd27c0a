"""Pod specs, in pods and in templates: validation (`ValidatePodSpec` in `pkg/apis/core/validation/validation.go`)."""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api import validation as v
from hatchway.cluster.api.schema import quantity_value
from hatchway.cluster.api.strategies import addresses
from hatchway.errors import Cause

Spec = dict[str, Any]

_PROTOCOLS = ("TCP", "UDP", "SCTP")


def containers(spec: Spec) -> list[Spec]:
    """Init containers and containers."""
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def validate_spec(spec: Spec, at: str) -> list[Cause]:
    """Everything that is wrong with a pod spec. `at`: its path, for example `spec.template.spec`."""
    causes: list[Cause] = []
    volumes = _validate_volumes(spec.get("volumes") or [], f"{at}.volumes", causes)
    names: set[str] = set()
    if not spec.get("containers"):
        causes.append(v.required(f"{at}.containers"))
    for kind in ("containers", "initContainers"):
        for index, container in enumerate(spec.get(kind) or ()):
            _validate_container(container, f"{at}.{kind}[{index}]", volumes, names, causes)
    _one_of(spec, "restartPolicy", ("Always", "OnFailure", "Never"), at, causes)
    _one_of(spec, "dnsPolicy", ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"), at, causes)
    addresses.dns_config(spec, at, causes)
    addresses.host_aliases(spec.get("hostAliases") or [], f"{at}.hostAliases", causes)
    causes += v.labels(spec.get("nodeSelector"), f"{at}.nodeSelector")
    for key, check in (
        ("serviceAccountName", v.dns1123_subdomain),
        ("nodeName", v.dns1123_subdomain),
        ("hostname", v.dns1123_label),
        ("subdomain", v.dns1123_label),
        ("priorityClassName", v.dns1123_subdomain),
    ):
        if spec.get(key):
            causes += v.each(f"{at}.{key}", spec[key], check(spec[key]))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= 2**31 - 1:
        causes.append(
            v.invalid(f"{at}.activeDeadlineSeconds", deadline, f"must be between 1 and {2**31 - 1}, inclusive")
        )
    causes += v.non_negative(spec.get("terminationGracePeriodSeconds"), f"{at}.terminationGracePeriodSeconds")
    for index, toleration in enumerate(spec.get("tolerations") or ()):
        _validate_toleration(toleration, f"{at}.tolerations[{index}]", causes)
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            causes.append(v.required(f"{at}.imagePullSecrets[{index}].name"))
    return causes


def _one_of(found: Spec, key: str, supported: tuple[str, ...], at: str, causes: list[Cause]) -> None:
    value = found.get(key) or ""
    if not value:
        causes.append(v.required(f"{at}.{key}"))
    elif value not in supported:
        causes.append(v.not_supported(f"{at}.{key}", value, supported))


def _validate_volumes(volumes: list[Spec], at: str, causes: list[Cause]) -> set[str]:
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        here = f"{at}[{index}]"
        name = volume.get("name", "")
        sources = [key for key, value in volume.items() if key != "name" and value is not None]
        if not name:
            causes.append(v.required(f"{here}.name"))
        else:
            causes += v.each(f"{here}.name", name, v.dns1123_label(name))
        if name in names:
            causes.append(v.duplicate(f"{here}.name", name))
        names.add(name)
        if len(sources) > 1:
            for extra in sources[1:]:
                causes.append(v.forbidden(f"{here}.{extra}", "may not specify more than 1 volume type"))
        _validate_volume_source(volume, here, causes)
    return names


def _validate_volume_source(volume: Spec, at: str, causes: list[Cause]) -> None:
    for key, field in (("configMap", "name"), ("secret", "secretName"), ("hostPath", "path")):
        source = volume.get(key)
        if source is not None and not source.get(field):
            causes.append(v.required(f"{at}.{key}.{field}"))
    for key in ("configMap", "secret"):
        for index, item in enumerate((volume.get(key) or {}).get("items") or ()):
            for part in ("key", "path"):
                if not item.get(part):
                    causes.append(v.required(f"{at}.{key}.items[{index}].{part}"))
            _local_path(item.get("path", ""), f"{at}.{key}.items[{index}].path", causes)
    hidden = (volume.get("hostPath") or {}).get("path", "")
    if ".." in hidden.split("/"):
        causes.append(v.invalid(f"{at}.hostPath.path", hidden, "must not contain '..'"))
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        token = source.get("serviceAccountToken")
        if token is not None and not token.get("path"):
            causes.append(v.required(f"{at}.projected.sources[{index}].serviceAccountToken.path"))
        if token is not None and (token.get("expirationSeconds") or 0) < 600:
            causes.append(
                v.invalid(
                    f"{at}.projected.sources[{index}].serviceAccountToken.expirationSeconds",
                    token.get("expirationSeconds"),
                    "may not specify a duration less than 10 minutes",
                )
            )


def _local_path(path: str, at: str, causes: list[Cause]) -> None:
    if path.startswith("/"):
        causes.append(v.invalid(at, path, "must be a relative path"))
    if ".." in path.split("/"):
        causes.append(v.invalid(at, path, "must not contain '..'"))


def _validate_container(container: Spec, at: str, volumes: set[str], names: set[str], causes: list[Cause]) -> None:
    name = container.get("name", "")
    if not name:
        causes.append(v.required(f"{at}.name"))
    else:
        causes += v.each(f"{at}.name", name, v.dns1123_label(name))
    if name and name in names:
        causes.append(v.duplicate(f"{at}.name", name))
    names.add(name)
    image = container.get("image", "")
    if not image:
        causes.append(v.required(f"{at}.image"))
    elif image != image.strip():
        causes.append(v.invalid(f"{at}.image", image, "must not have leading or trailing whitespace"))
    _one_of(container, "terminationMessagePolicy", ("File", "FallbackToLogsOnError"), at, causes)
    _validate_ports(container.get("ports") or [], f"{at}.ports", causes)
    _validate_env(container, at, causes)
    _validate_mounts(container.get("volumeMounts") or [], f"{at}.volumeMounts", volumes, causes)
    for key in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(key)
        if probe is not None:
            _validate_probe(probe, f"{at}.{key}", causes)
            if key != "readinessProbe" and probe.get("successThreshold") != 1:
                causes.append(v.invalid(f"{at}.{key}.successThreshold", probe.get("successThreshold"), "must be 1"))
    _one_of(container, "imagePullPolicy", ("Always", "IfNotPresent", "Never"), at, causes)
    _validate_resources(container.get("resources") or {}, f"{at}.resources", causes)
    for key in ("postStart", "preStop"):
        hook = (container.get("lifecycle") or {}).get(key)
        if hook is not None:
            _validate_handler(hook, f"{at}.lifecycle.{key}", ("exec", "httpGet", "sleep", "tcpSocket"), causes)


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
        _one_of(port, "protocol", _PROTOCOLS, here, causes)


def _validate_env(container: Spec, at: str, causes: list[Cause]) -> None:
    for index, variable in enumerate(container.get("env") or ()):
        here = f"{at}.env[{index}]"
        name = variable.get("name", "")
        if not name:
            causes.append(v.required(f"{here}.name"))
        else:
            causes += v.each(f"{here}.name", name, v.env_name(name))
        source = variable.get("valueFrom")
        if source is None:
            continue
        here = f"{here}.valueFrom"
        chosen = [key for key, value in source.items() if value is not None]
        if not chosen:
            causes.append(
                v.invalid(
                    here,
                    "",
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
                )
            )
        elif variable.get("value"):
            causes.append(v.invalid(here, "", "may not be specified when `value` is not empty"))
        elif len(chosen) > 1:
            causes.append(v.invalid(here, "", "may not have more than one field specified at a time"))
        for key in ("configMapKeyRef", "secretKeyRef"):
            reference = source.get(key)
            if reference is None:
                continue
            if not reference.get("name"):
                causes.append(v.required(f"{here}.{key}.name"))
            if not reference.get("key"):
                causes.append(v.required(f"{here}.{key}.key"))
            else:
                causes += v.each(f"{here}.{key}.key", reference["key"], v.config_key(reference["key"]))
        if source.get("fieldRef") is not None:
            _validate_field_ref(source["fieldRef"], f"{here}.fieldRef", causes)
    for index, source in enumerate(container.get("envFrom") or ()):
        here = f"{at}.envFrom[{index}]"
        chosen = [key for key in ("configMapRef", "secretRef") if source.get(key) is not None]
        if not chosen:
            causes.append(v.invalid(here, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(chosen) > 1:
            causes.append(v.invalid(here, "", "may not have more than one field specified at a time"))
        for key in chosen:
            if not source[key].get("name"):
                causes.append(v.required(f"{here}.{key}.name"))


_FIELD_PATHS = (
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


def _validate_field_ref(reference: Spec, at: str, causes: list[Cause]) -> None:
    path = reference.get("fieldPath", "")
    if not path:
        causes.append(v.required(f"{at}.fieldPath"))
    elif path.startswith(("metadata.labels['", "metadata.annotations['")) and path.endswith("']"):
        key = path.partition("['")[2][:-2]
        causes += v.each(f"{at}.fieldPath", path, v.qualified_name(key.lower()))
    elif path not in _FIELD_PATHS:
        if path.partition(".")[0] in ("metadata", "spec", "status"):
            causes.append(v.not_supported(f"{at}.fieldPath", path, _FIELD_PATHS))
        else:
            causes.append(
                v.invalid(f"{at}.fieldPath", path, f"error converting fieldPath: field label not supported: {path}")
            )


def _validate_mounts(mounts: list[Spec], at: str, volumes: set[str], causes: list[Cause]) -> None:
    paths = set()
    for index, mount in enumerate(mounts):
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
            _local_path(mount["subPath"], f"{here}.subPath", causes)


_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")


def _validate_handler(handler: Spec, at: str, kinds: tuple[str, ...], causes: list[Cause]) -> None:
    chosen = [key for key in kinds if handler.get(key) is not None]
    if not chosen:
        causes.append(v.required(at, "must specify a handler type"))
    for extra in chosen[1:]:
        causes.append(v.forbidden(f"{at}.{extra}", "may not specify more than 1 handler type"))
    for key in ("httpGet", "tcpSocket", "grpc"):
        if handler.get(key) is not None:
            _validate_port_reference(handler[key].get("port", 0), f"{at}.{key}.port", causes)
    if handler.get("exec") is not None and not handler["exec"].get("command"):
        causes.append(v.required(f"{at}.exec.command"))
    action = handler.get("httpGet")
    if action is not None:
        _one_of(action, "scheme", ("HTTP", "HTTPS"), f"{at}.httpGet", causes)


def _validate_port_reference(port: Any, at: str, causes: list[Cause]) -> None:
    if isinstance(port, int):
        causes += [v.invalid(at, port, message) for message in v.port_number(port)]
    else:
        causes += v.each(at, port, v.port_name(port))


def _validate_probe(probe: Spec, at: str, causes: list[Cause]) -> None:
    _validate_handler(probe, at, _HANDLERS, causes)
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        causes += v.non_negative(probe.get(key), f"{at}.{key}")


def _validate_resources(resources: Spec, at: str, causes: list[Cause]) -> None:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for kind, found in (("limits", limits), ("requests", requests)):
        for name, value in found.items():
            if quantity_value(value) < 0:
                causes.append(v.invalid(f"{at}.{kind}[{name}]", str(value), "must be greater than or equal to 0"))
    for name, value in requests.items():
        if name in limits and quantity_value(value) > quantity_value(limits[name]):
            causes.append(
                v.invalid(f"{at}.requests", str(value), f"must be less than or equal to {name} limit of {limits[name]}")
            )


def _validate_toleration(toleration: Spec, at: str, causes: list[Cause]) -> None:
    key, operator, effect = toleration.get("key", ""), toleration.get("operator", ""), toleration.get("effect", "")
    if key:
        causes += v.each(f"{at}.key", key, v.qualified_name(key))
    elif operator != "Exists":
        causes.append(
            v.invalid(
                f"{at}.operator",
                operator,
                'operator must be Exists when `key` is empty, which means "match all values and all keys"',
            )
        )
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        causes.append(v.invalid(f"{at}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set"))
    if operator in ("", "Equal"):
        causes += v.each(f"{at}.value", toleration.get("value", ""), v.label_value(toleration.get("value", "")))
    elif operator == "Exists":
        if toleration.get("value"):
            causes.append(v.invalid(f"{at}.operator", toleration, "value must be empty when `operator` is 'Exists'"))
    else:
        causes.append(v.not_supported(f"{at}.operator", operator, ("Equal", "Exists")))
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    if effect and effect not in effects:
        causes.append(v.not_supported(f"{at}.effect", effect, effects))
