"""The admission plugin ServiceAccount: sets the account of a new pod, and adds the volume with its token.

Source: `plugin/pkg/admission/serviceaccount`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.admission.mountablesecrets import must_name_secrets, secret_problem
from hatchway.cluster.api.registry.objectnames import random_suffix
from hatchway.cluster.api.registry.strategies.podspec import containers
from hatchway.cluster.api.storage.store import Store
from hatchway.errors import forbidden
from hatchway.kube.api import Object
from hatchway.kube.wellknown import MIRROR_POD

__all__ = ["TOKEN_PATH", "ServiceAccountAdmission"]

TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


class ServiceAccountAdmission(AdmissionPlugin):
    """Sets the service account of new pods and mounts its token. store: has the accounts."""

    name = "ServiceAccount"

    def __init__(self, store: Store) -> None:
        self._store = store

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for new pods and new ephemeral containers."""
        return resource == "pods" and (operation, subresource) in (("CREATE", ""), ("UPDATE", "ephemeralcontainers"))

    def admit(self, attributes: AdmissionAttributes) -> None:
        """Set account, token and image pull secrets. Raises ApiError 403 when the account does not exist."""
        assert attributes.object is not None
        if attributes.subresource:
            return
        obj, spec = attributes.object, attributes.object["spec"]
        if MIRROR_POD in (obj["metadata"].get("annotations") or {}):
            _check_mirror(obj)
            return
        name = spec.get("serviceAccountName") or "default"
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        namespace = attributes.namespace
        account = self._store.latest("serviceaccounts", namespace, name)
        if account is None:
            raise forbidden(
                "pods",
                obj["metadata"].get("name", ""),
                f'error looking up service account {namespace}/{name}: serviceaccount "{name}" not found',
            )
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [dict(one) for one in account["imagePullSecrets"]]
        mount = spec.get("automountServiceAccountToken")
        if mount is None:
            mount = account.get("automountServiceAccountToken")
        if mount is None or mount:
            _mount_token(spec)

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 403 for a secret that the account does not list, if its pods may use only listed secrets."""
        assert attributes.object is not None
        obj = attributes.object
        if MIRROR_POD in (obj["metadata"].get("annotations") or {}):
            return
        account = self._store.latest(
            "serviceaccounts", attributes.namespace, (obj.get("spec") or {}).get("serviceAccountName") or "default"
        )
        if account is None or not must_name_secrets(account):
            return
        if problem := secret_problem(account, obj.get("spec") or {}, bool(attributes.subresource)):
            raise forbidden("pods", attributes.object_name, problem)


def _check_mirror(obj: Object) -> None:
    """Raise ApiError 403 when a mirror pod refers to objects of the API (`plugin/pkg/admission/serviceaccount`)."""
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
