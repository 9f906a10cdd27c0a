"""Ingresses (networking.k8s.io/v1): validation (`pkg/apis/networking/validation/validation.go`)."""

from __future__ import annotations

import re
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, keep, label_name_errors
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["IngressStrategy", "typed_reference"]

Json = Any

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")
_INVALID_SEQUENCES = ("//", "/./", "/../", "%2f", "%2F")
_INVALID_SUFFIXES = ("/..", "/.")
_NOT_AN_ADDRESS = "must be a DNS name, not an IP address"
_WILDCARD = r"\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_wildcard = re.compile(_WILDCARD).fullmatch
_WILDCARD_ERROR = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    f"regex used for validation is '{_WILDCARD}')"
)


class IngressStrategy(Strategy):
    """Ingresses (`pkg/registry/networking/ingress/strategy.go`)."""

    generation = True

    def prepare_create(self, ctx: WriteContext, obj: Object) -> None:
        """Drop the client's status. Set an empty `loadBalancer`, which Kubernetes always writes."""
        obj["status"] = {"loadBalancer": {}}

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        """Keep the status."""
        keep(obj, old, "status")

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the rules, the backends, TLS and the class of a new Ingress."""
        causes = self.validate_update(obj, obj)
        annotation = (obj["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION)
        wanted = (obj.get("spec") or {}).get("ingressClassName")
        if annotation is not None and wanted is not None and annotation != wanted:
            text = "must match `ingressClassName` when both are specified"
            causes.append(v.invalid(f"annotations.{_CLASS_ANNOTATION}", annotation, text))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the rules, the backends, TLS and the class of a changed Ingress."""
        spec = obj.get("spec") or {}
        causes = []
        rules, default = spec.get("rules"), spec.get("defaultBackend")
        if not rules and default is None:
            causes.append(v.invalid("spec", rules, "either `defaultBackend` or `rules` must be specified"))
        if default is not None:
            causes += _backend(default, "spec.defaultBackend")
        for index, rule in enumerate(rules or ()):
            causes += _rule(rule, f"spec.rules[{index}]")
        for index, tls in enumerate(spec.get("tls") or ()):
            at = f"spec.tls[{index}]"
            for number, host in enumerate(tls.get("hosts") or ()):
                causes += v.each(f"{at}.hosts[{number}]", host, _host(host))
            if secret := tls.get("secretName"):
                causes += v.each(f"{at}.secretName", secret, v.dns1123_subdomain(secret))
        if (name := spec.get("ingressClassName")) is not None:
            causes += v.each("spec.ingressClassName", name, v.dns1123_subdomain(name))
        return causes

    def validate_status(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in the addresses of the load balancer."""
        causes = []
        balancer = (obj.get("status") or {}).get("loadBalancer") or {}
        for index, one in enumerate(balancer.get("ingress") or ()):
            at = f"status.loadBalancer.ingress[{index}]"
            if (ip := one.get("ip")) and v.parse_ip(ip) is None:
                causes.append(v.invalid(f"{at}.ip", ip, v.IP_ERROR))
            if hostname := one.get("hostname"):
                causes += v.each(f"{at}.hostname", hostname, v.dns1123_subdomain(hostname))
                if v.parse_ip(hostname) is not None:
                    causes.append(v.invalid(f"{at}.hostname", hostname, _NOT_AN_ADDRESS))
        return causes


def _host(host: str) -> list[str]:
    if "*" not in host:
        return v.dns1123_subdomain(host)
    found = ["must be no more than 253 characters"] if len(host) > 253 else []
    return found if _wildcard(host) else [*found, _WILDCARD_ERROR]


def _rule(rule: Json, at: str) -> list[Cause]:
    causes = []
    if host := rule.get("host"):
        if v.parse_ip(host) is not None:
            causes.append(v.invalid(f"{at}.host", host, _NOT_AN_ADDRESS))
        causes += v.each(f"{at}.host", host, _host(host))
    http = rule.get("http")
    if http is None:
        return causes
    if not http.get("paths"):
        causes.append(v.required(f"{at}.http.paths"))
    for index, path in enumerate(http.get("paths") or ()):
        causes += _path(path, f"{at}.http.paths[{index}]")
    return causes


def _path(rule: Json, at: str) -> list[Cause]:
    path, kind = rule.get("path") or "", rule.get("pathType")
    if kind is None:
        return [v.required(f"{at}.pathType", "pathType must be specified")]
    causes = []
    if kind in ("Exact", "Prefix"):
        if not path.startswith("/"):
            causes.append(v.invalid(f"{at}.path", path, "must be an absolute path"))
        for part in _INVALID_SEQUENCES:
            if part in path:
                causes.append(v.invalid(f"{at}.path", path, f"must not contain '{part}'"))
        for part in _INVALID_SUFFIXES:
            if path.endswith(part):
                causes.append(v.invalid(f"{at}.path", path, f"cannot end with '{part}'"))
    elif kind == "ImplementationSpecific":
        if path and not path.startswith("/"):
            causes.append(v.invalid(f"{at}.path", path, "must be an absolute path"))
    else:
        causes.append(v.not_supported(f"{at}.pathType", kind, _PATH_TYPES))
    return causes + _backend(rule.get("backend") or {}, f"{at}.backend")


def _backend(backend: Json, at: str) -> list[Cause]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [v.invalid(at, "", "cannot set both resource and service backends")]
    if resource is not None:
        return typed_reference(resource, f"{at}.resource")
    if service is None:
        return [v.invalid(at, "", "resource or service backend is required")]
    causes = []
    name = service.get("name")
    if not name:
        causes.append(v.required(f"{at}.service.name"))
    else:
        causes += v.each(f"{at}.service.name", name, label_name_errors(name, False))
    port = service.get("port") or {}
    port_name, number = port.get("name"), port.get("number")
    if port_name and number:
        causes.append(v.invalid(at, "", "cannot set both port name & port number"))
    elif port_name:
        causes += v.each(f"{at}.service.port.name", port_name, v.port_name(port_name))
    elif number:
        causes += [v.invalid(f"{at}.service.port.number", number, text) for text in v.port_number(number)]
    else:
        causes.append(v.required(at, "port name or number is required"))
    return causes


def typed_reference(reference: Json, at: str) -> list[Cause]:
    """Return the errors in a reference to an object by group, kind and name."""
    causes = []
    if (group := reference.get("apiGroup")) is not None:
        causes += v.each(f"{at}.apiGroup", group, v.dns1123_subdomain(group))
    for key in ("kind", "name"):
        value = reference.get(key)
        if not value:
            causes.append(v.required(f"{at}.{key}"))
        else:
            causes += v.each(f"{at}.{key}", value, v.path_segment(value))
    return causes
