"""ConfigMaps, Secrets and ServiceAccounts: validation of `pkg/apis/core/validation/validation.go`."""

from __future__ import annotations

import base64
from typing import Any

from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.api.registry.gojson import object_problem
from hatchway.cluster.api.registry.strategies.base import Strategy, WriteContext, field, readers
from hatchway.errors import Cause
from hatchway.kube.api import Object

# The limit for ConfigMaps and Secrets, in bytes (`core.MaxSecretSize`).
MAX_SIZE = 1024 * 1024
# Pods of an account with this annotation may use only the secrets that the account names.
ENFORCE_SECRETS = "kubernetes.io/enforce-mountable-secrets"

_DOCKER_KEYS = {
    "kubernetes.io/dockercfg": ".dockercfg",
    "kubernetes.io/dockerconfigjson": ".dockerconfigjson",
}
_TLS_KEYS = ("tls.crt", "tls.key")
_SSH_KEY = "ssh-privatekey"
_REDACTED = "<secret contents redacted>"


class _DataStrategy(Strategy):
    def has_status(self, obj: Object) -> bool:
        return False

    def prepare_update(self, ctx: WriteContext, obj: Object, old: Object) -> None:
        pass

    def _immutable(self, obj: Object, old: Object, fields: tuple[str, ...]) -> list[Cause]:
        if not old.get("immutable"):
            return []
        causes = []
        if not obj.get("immutable"):
            causes.append(v.forbidden("immutable", "field is immutable when `immutable` is set"))
        causes += [
            v.forbidden(key, "field is immutable when `immutable` is set")
            for key in fields
            if (obj.get(key) or {}) != (old.get(key) or {})
        ]
        return causes


def _keys(found: dict[str, Any], at: str) -> list[Cause]:
    return [cause for key in found for cause in v.each(f"{at}[{key}]", key, v.config_key(key))]


def _decoded_size(values: dict[str, Any]) -> int:
    return sum(len(value) // 4 * 3 - value[-2:].count("=") for value in values.values())


def _docker_config(data: dict[str, Any], key: str) -> list[Cause]:
    at = f"data[{key}]"
    if key not in data:
        return [v.required(at)]
    problem = object_problem(base64.b64decode(data[key]))
    return [v.invalid(at, _REDACTED, problem)] if problem else []


class ConfigMapStrategy(_DataStrategy):
    """ConfigMaps (`pkg/registry/core/configmap`)."""

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the keys, and an error if the data is larger than 1 MiB."""
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        causes = _keys(data, "data")
        causes += [
            v.invalid(f"data[{key}]", key, "duplicate of key present in binaryData") for key in data if key in binary
        ]
        causes += _keys(binary, "binaryData")
        if sum(len(value.encode()) for value in data.values()) + _decoded_size(binary) > MAX_SIZE:
            causes.append(v.too_long("", MAX_SIZE))
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: an immutable ConfigMap keeps its data."""
        return self._immutable(obj, old, ("data", "binaryData")) + self.validate(obj)


class SecretStrategy(_DataStrategy):
    """Secrets (`pkg/registry/core/secret`)."""

    selectable = readers({"type": field("type")})

    def default(self, obj: Object, old: Object | None = None) -> None:
        """Move `stringData` into `data`, because `stringData` is never stored."""
        plain = obj.pop("stringData", None)
        if plain:
            data = dict(obj.get("data") or {})
            for key, value in plain.items():
                data[key] = base64.b64encode((value or "").encode()).decode()
            obj["data"] = data

    def validate(self, obj: Object) -> list[Cause]:
        """Return the errors in the keys and the size, and errors about keys that the secret's type requires."""
        data = obj.get("data") or {}
        causes = _keys(data, "data")
        if _decoded_size(data) > MAX_SIZE:
            causes.append(v.too_long("data", MAX_SIZE))
        kind = obj.get("type", "")
        if kind == "kubernetes.io/service-account-token":
            annotations = obj["metadata"].get("annotations") or {}
            if not annotations.get("kubernetes.io/service-account.name"):
                causes.append(v.required("metadata.annotations[kubernetes.io/service-account.name]"))
        elif kind == "kubernetes.io/basic-auth":
            if "username" not in data and "password" not in data:
                causes += [v.required("data[username]"), v.required("data[password]")]
        elif kind in _DOCKER_KEYS:
            causes += _docker_config(data, _DOCKER_KEYS[kind])
        elif kind == "kubernetes.io/ssh-auth":
            if not data.get(_SSH_KEY):
                causes.append(v.required(f"data[{_SSH_KEY}]"))
        elif kind == "kubernetes.io/tls":
            causes += [v.required(f"data[{key}]") for key in _TLS_KEYS if key not in data]
        return causes

    def validate_update(self, obj: Object, old: Object) -> list[Cause]:
        """Return the errors in a change: the type never changes, and an immutable Secret keeps its data."""
        causes = v.immutable(obj.get("type"), old.get("type"), "type")
        return causes + self._immutable(obj, old, ("data",)) + self.validate(obj)


class ServiceAccountStrategy(_DataStrategy):
    """ServiceAccounts. As in Kubernetes, the response to a DELETE is the object."""

    return_deleted = True

    def warnings(self, obj: Object, old: Object | None) -> list[str]:
        """Return the warning about a new annotation that limits the secrets of pods."""
        has, had = (ENFORCE_SECRETS in ((one or {}).get("metadata", {}).get("annotations") or {}) for one in (obj, old))
        if had or not has:
            return []
        why = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        return [f"metadata.annotations[{ENFORCE_SECRETS}]: {why}"]
