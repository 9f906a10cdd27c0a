"""Checks the secrets that a pod uses, if an annotation of its service account limits them. Pure.

Source: `limitSecretReferences` in `plugin/pkg/admission/serviceaccount/admission.go`.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.registry.strategies.data import ENFORCE_SECRETS

__all__ = ["must_name_secrets", "secret_problem"]

Json = dict[str, Any]

# The texts that Go's strconv.ParseBool parses as true.
_TRUE = ("1", "t", "T", "true", "TRUE", "True")


def must_name_secrets(account: Json) -> bool:
    """Return True for an account whose pods may use only the secrets that the account names."""
    return (account["metadata"].get("annotations") or {}).get(ENFORCE_SECRETS) in _TRUE


def secret_problem(account: Json, spec: Json, only_ephemeral: bool = False) -> str:
    """Return why a pod may not use its secrets; "" when it may.

    spec: the spec of the pod.
    only_ephemeral: True to check only the ephemeral containers, which are added later.
    """
    name = account["metadata"]["name"]
    named = {one.get("name") for one in account.get("secrets") or ()}
    why = f"is not allowed because service account {name} does not reference that secret"
    if only_ephemeral:
        return _of_containers(spec, "ephemeralContainers", "ephemeral container", named, why)
    for volume in spec.get("volumes") or ():
        for source in (volume, *((volume.get("projected") or {}).get("sources") or ())):
            secret = source.get("secret")
            wanted = None if secret is None else secret.get("secretName") or secret.get("name")
            # Kubernetes checks only plain volumes. Hatchway also checks projected volumes, which can contain secrets.
            if secret is not None and wanted not in named:
                return f'volume with secret.secretName="{wanted}" {why}'
    for key, what in (("initContainers", "init container"), ("containers", "container")):
        if problem := _of_containers(spec, key, what, named, why):
            return problem
    pulls = {one.get("name") for one in account.get("imagePullSecrets") or ()}
    for index, one in enumerate(spec.get("imagePullSecrets") or ()):
        if one.get("name") not in pulls:
            reason = f"is not allowed because service account {name} does not reference that imagePullSecret"
            return f'imagePullSecrets[{index}].name="{one.get("name", "")}" {reason}'
    return ""


def _of_containers(spec: Json, key: str, what: str, named: set[Any], why: str) -> str:
    for container in spec.get(key) or ():
        here = f"{what} {container.get('name', '')} with"
        for env in container.get("env") or ():
            reference = (env.get("valueFrom") or {}).get("secretKeyRef")
            if reference is not None and reference.get("name") not in named:
                wanted = reference.get("name", "")
                return f'{here} envVar {env.get("name", "")} referencing secret.secretName="{wanted}" {why}'
        for source in container.get("envFrom") or ():
            reference = source.get("secretRef")
            if reference is not None and reference.get("name") not in named:
                return f'{here} envFrom referencing secret.secretName="{reference.get("name", "")}" {why}'
    return ""
