"""Builds a container's environment, and expands `$(VAR)`.

Behaviour: `third_party/forked/golang/expansion`, `kubelet_pods.go`.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from hatchway.cluster.node import downward
from hatchway.kube.api import Object

# get(resource, namespace, name): the object, or None when there is none.
Get = Callable[[str, str, str], Awaitable[Object | None]]

_REFERENCE = re.compile(r"\$(?:\$|\(([^)]*)\))")
# The names that Kubernetes accepts since 1.32 (relaxed validation): printable ASCII except "=".
_NAME = re.compile(r"[\x20-\x3c\x3e-\x7e]+\Z")
_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ConfigError(Exception):
    """The container cannot be configured. Its message is for a status with the reason CreateContainerConfigError."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace `$(NAME)` with its value, and `$$` with `$`. A reference to an unknown name is not changed."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return "$"
        return variables.get(name, match[0])

    return _REFERENCE.sub(replace, text)


def base_environment(hostname: str) -> dict[str, str]:
    """Return the environment of a program of this machine, in place of an image's environment. The runtime sets HOME.

    The last directory in PATH contains Hatchway's Python interpreter.
    """
    path = _PROGRAMS
    own = os.path.dirname(sys.executable)
    if own and own not in path.split(":"):
        path += f":{own}"
    return {"PATH": path, "HOSTNAME": hostname}


def service_environment(
    services: Iterable[Object], namespace: str, *, links: bool, api_server: str = ""
) -> dict[str, str]:
    """Return the variables of services (`pkg/kubelet/envvars`).

    links: True for variables of all services of the namespace, False for variables of the API server's service only
        (enableServiceLinks).
    api_server: the URL that replaces the address of the service `kubernetes`; "" keeps it.
    """
    found: dict[str, str] = {}
    for service in services:
        metadata, spec = service["metadata"], service.get("spec", {})
        api = metadata.get("namespace") == "default" and metadata["name"] == "kubernetes"
        if not api and not (links and metadata.get("namespace") == namespace):
            continue
        address, ports = spec.get("clusterIP"), spec.get("ports") or ()
        if not address or address == "None" or not ports:
            continue
        found |= _links(metadata["name"], address, ports)
    if api_server:
        url = urlsplit(api_server)
        found |= _links(
            "kubernetes", url.hostname or "", [{"name": "https", "port": url.port or 443, "protocol": "TCP"}]
        )
    return found


def _links(name: str, address: str, ports: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    prefix = name.upper().replace("-", "_")
    found: dict[str, str] = {}
    for index, port in enumerate(ports):
        number, protocol = str(port["port"]), port.get("protocol") or "TCP"
        url = f"{protocol.lower()}://{address}:{number}"
        if index == 0:
            found |= {
                f"{prefix}_SERVICE_HOST": address,
                f"{prefix}_SERVICE_PORT": number,
                f"{prefix}_PORT": url,
            }
        if port.get("name"):
            found[f"{prefix}_SERVICE_PORT_{port['name'].upper().replace('-', '_')}"] = number
        link = f"{prefix}_PORT_{number}_{protocol.upper()}"
        found |= {link: url, f"{link}_PROTO": protocol.lower(), f"{link}_PORT": number, f"{link}_ADDR": address}
    return found


class Environment:
    """Builds the environments of one pod's containers.

    base: variables with lower priority than the container's own.
    skipped: called with (source, keys) for keys that are not valid names.
    """

    def __init__(
        self,
        pod: Object,
        get: Get,
        *,
        base: Mapping[str, str],
        services: Mapping[str, str],
        host_ip: str,
        pod_ip: str,
        allocatable: Mapping[str, str],
        skipped: Callable[[str, list[str]], None],
    ) -> None:
        self._pod = pod
        self._namespace: str = pod["metadata"].get("namespace", "")
        self._get = get
        self._base = base
        self._services = services
        self._host_ip = host_ip
        self._pod_ip = pod_ip
        self._allocatable = allocatable
        self._skipped = skipped

    async def build(self, container: Object) -> dict[str, str]:
        """Return the complete environment of a container. Raises ConfigError."""
        own: dict[str, str] = {}
        for source in container.get("envFrom") or ():
            own |= await self._from(source)
        for variable in container.get("env") or ():
            value = await self._value(container, variable, {**self._services, **own})
            if value is not None:
                own[variable["name"]] = value
        return {**self._base, **self._services, **own}

    async def _from(self, source: Mapping[str, Any]) -> dict[str, str]:
        reference, kind = source.get("configMapRef"), "configMap"
        if reference is None:
            reference, kind = source.get("secretRef"), "secret"
        if reference is None:
            return {}
        name = reference.get("name", "")
        obj = await self._object(kind, name, bool(reference.get("optional")))
        prefix = source.get("prefix") or ""
        values = _values(kind, obj) if obj is not None else {}
        bad = sorted(key for key in values if not _NAME.match(prefix + key))
        if bad:
            self._skipped(f"{kind} {self._namespace}/{name}", bad)
        return {prefix + key: value for key, value in values.items() if key not in bad}

    async def _value(self, container: Object, variable: Mapping[str, Any], known: Mapping[str, str]) -> str | None:
        source = variable.get("valueFrom")
        if not source:
            return expand(variable.get("value") or "", known)
        try:
            if "fieldRef" in source:
                path = source["fieldRef"].get("fieldPath", "")
                return downward.field_value(self._pod, path, host_ip=self._host_ip, pod_ip=self._pod_ip)
            if "resourceFieldRef" in source:
                reference = source["resourceFieldRef"]
                of = _named(self._pod, reference.get("containerName")) or container
                return downward.resource_value(of, reference, self._allocatable)
        except downward.FieldError as error:
            raise ConfigError(str(error)) from error
        for key, kind, spoken in (("configMapKeyRef", "configMap", "ConfigMap"), ("secretKeyRef", "secret", "Secret")):
            if key in source:
                reference = source[key]
                optional = bool(reference.get("optional"))
                obj = await self._object(kind, reference.get("name", ""), optional)
                values = _values(kind, obj) if obj is not None else {}
                wanted = reference.get("key", "")
                if wanted in values:
                    return values[wanted]
                if optional:
                    return None
                raise ConfigError(
                    f"couldn't find key {wanted} in {spoken} {self._namespace}/{reference.get('name', '')}"
                )
        raise ConfigError(f"the source of variable {variable.get('name')} is not supported")

    async def _object(self, kind: str, name: str, optional: bool) -> Object | None:
        obj = await self._get(f"{kind.lower()}s", self._namespace, name)
        if obj is None and not optional:
            raise ConfigError(f'{kind.lower()} "{name}" not found')
        return obj


def _values(kind: str, obj: Object) -> dict[str, str]:
    data: dict[str, str] = obj.get("data") or {}
    if kind == "configMap":
        return data
    return {key: base64.b64decode(value).decode("utf-8", "surrogateescape") for key, value in data.items()}


def _named(pod: Object, name: str | None) -> Object | None:
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    return next((container for container in containers if container["name"] == name), None)
