"""IngressClasses (networking.k8s.io/v1): defaults and validation (`pkg/apis/networking`)."""

from __future__ import annotations

import re

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.strategies.base import Strategy, label_name_errors
from hatchway.cluster.api.registry.strategies.ingresses import typed_reference
from hatchway.errors import Cause
from hatchway.kube.api import Object

__all__ = ["IngressClassStrategy"]

_MAX_CONTROLLER = 250
_PATH = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+"
_path = re.compile(_PATH).fullmatch


class IngressClassStrategy(Strategy):
    """IngressClasses (`pkg/registry/networking/ingressclass/strategy.go`)."""

    generation = True

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Set the scope of the parameters (`SetDefaults_IngressClass`)."""
        parameters = (obj.get("spec") or {}).get("parameters")
        if parameters is not None and parameters.get("scope") is None:
            parameters["scope"] = "Cluster"

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the controller's name and in the reference to its parameters."""
        spec = obj.get("spec") or {}
        controller = spec.get("controller") or ""
        causes = []
        if len(controller.encode()) > _MAX_CONTROLLER:
            causes.append(v.too_long("spec.controller", _MAX_CONTROLLER))
        causes += _domain_prefixed_path(controller, "spec.controller")
        parameters = spec.get("parameters")
        if parameters is None:
            return causes
        at = "spec.parameters"
        causes += typed_reference(parameters, at)
        scope, namespace = parameters.get("scope"), parameters.get("namespace")
        if scope not in ("Cluster", "Namespace"):
            causes.append(v.not_supported(f"{at}.scope", scope, ("Cluster", "Namespace")))
        elif scope == "Namespace":
            if namespace is None:
                causes.append(v.required(f"{at}.namespace", "`parameters.scope` is set to 'Namespace'"))
            else:
                causes += v.each(f"{at}.namespace", namespace, label_name_errors(namespace, False))
        elif namespace is not None:
            causes.append(v.forbidden(f"{at}.namespace", "`parameters.scope` is set to 'Cluster'"))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the controller never changes."""
        before = (old.get("spec") or {}).get("controller") or ""
        after = (obj.get("spec") or {}).get("controller") or ""
        return v.immutable(after, before, "spec.controller") + self.validate(obj)


def _domain_prefixed_path(text: str, at: str) -> list[Cause]:
    """Return the errors in a name such as `acme.io/foo` (`IsDomainPrefixedPath`)."""
    if not text:
        return [v.required(at)]
    host, _, path = text.partition("/")
    if not host or not path:
        return [v.invalid(at, text, 'must be a domain-prefixed path (such as "acme.io/foo")')]
    causes = v.each(at, host, v.dns1123_subdomain(host))
    if not _path(path):
        causes.append(v.invalid(at, path, f"Invalid path (regex used for validation is '{_PATH}')"))
    return causes
