"""Checks the rights to allocate devices and to report the state of devices in a claim's status.

The rights are `resourceclaims/binding` and `resourceclaims/driver` (`AuthorizedForBinding`, `AuthorizedForDeviceStatus`
in `pkg/registry/resource`). Users need them in addition to the right to change the status. In Kubernetes, the type's
strategy makes these checks.
"""

from __future__ import annotations

from typing import Any

from hatchway.cluster.api.admission.contract import AdmissionAttributes, AdmissionOperation, AdmissionPlugin
from hatchway.cluster.api.registry import validation as v
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.user import Attributes
from hatchway.errors import ApiError, Cause, invalid

__all__ = ["ClaimStatusAdmission"]

Json = dict[str, Any]

_GROUP, _PLURAL = "resource.k8s.io", "resourceclaims"
_ACCOUNT, _NODE = "system:serviceaccount:", "authentication.kubernetes.io/node-name"


class ClaimStatusAdmission(AdmissionPlugin):
    """Checks changes of the status of ResourceClaims. authorizer: decides who has these rights."""

    name = "ResourceClaimStatus"

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def handles(self, operation: AdmissionOperation, resource: str, subresource: str) -> bool:
        """Return True for changes of the status of claims."""
        return (operation, resource, subresource) == ("UPDATE", f"{_PLURAL}.{_GROUP}", "status")

    def validate(self, attributes: AdmissionAttributes) -> None:
        """Raise ApiError 422 for changes of the allocation or the devices that the user may not make."""
        new, old = ((one or {}).get("status") or {} for one in (attributes.object, attributes.old_object))
        is_patch = (attributes.make_options() or {}).get("kind") == "PatchOptions"
        verb = "patch" if is_patch else "update"
        causes: list[Cause] = []
        binds = any((new.get(key) or None) != (old.get(key) or None) for key in ("allocation", "reservedFor"))
        if binds and (problem := self._problem(attributes, verb, "binding", "", "")):
            text = (
                f'changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", '
                f'verb="{verb}" permission: {problem}'
            )
            causes.append(v.forbidden("status.allocation", text))
        if new.get("allocation") is not None:
            verbs = [f"arbitrary-node:{verb}"]
            if _is_on_node(attributes, new["allocation"]):
                verbs.insert(0, f"associated-node:{verb}")
            for driver in sorted(_changed_drivers(new, old)):
                found = [self._problem(attributes, one, "driver", attributes.namespace, driver) for one in verbs]
                if all(found):
                    text = (
                        f'changing status.devices requires resource="resourceclaims/driver", '
                        f'verb="[{" ".join(verbs)}]" permission: {found[0]}'
                    )
                    causes.append(v.forbidden("status.devices", text))
        if causes:
            raise invalid("ResourceClaim", attributes.object_name, causes, _GROUP)

    def _problem(self, attributes: AdmissionAttributes, verb: str, subresource: str, namespace: str, name: str) -> str:
        """Return why the user lacks a right; "" when the user has it."""
        try:
            self._authorizer.require(
                Attributes(attributes.user, verb, _PLURAL, subresource, _GROUP, "v1", namespace, name)
            )
        except ApiError as error:
            return error.message
        return ""


def _changed_drivers(new: Json, old: Json) -> set[str]:
    def devices(status: Json) -> dict[tuple[str, ...], Json]:
        keys = ("driver", "pool", "device", "shareID")
        return {tuple(str(one.get(key) or "") for key in keys): one for one in status.get("devices") or ()}

    after, before = devices(new), devices(old)
    return {key[0] for key in {*after, *before} if after.get(key) != before.get(key)}


def _is_on_node(attributes: AdmissionAttributes, allocation: Json) -> bool:
    """Return True for a service account whose token is bound to the node of the allocated devices."""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions") or len(terms[0].get("matchFields") or ()) != 1:
        return False
    field = terms[0]["matchFields"][0]
    values = field.get("values") or []
    if (field.get("key"), field.get("operator"), len(values)) != ("metadata.name", "In", 1):
        return False
    user = attributes.user
    return user.name.startswith(_ACCOUNT) and tuple(user.extra.get(_NODE) or ()) == (values[0],)
