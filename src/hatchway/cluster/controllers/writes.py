"""Writes and checks of errors that several controllers need."""

from __future__ import annotations

from hatchway.cluster.controllers.objectfields import uid_of
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import key_of


async def delete_unless_gone(
    client: Client, resource: str, obj: Object, *, grace_period: int | None = None, propagation: str = ""
) -> None:
    """Delete `obj`. Do nothing if it no longer exists, or if another object has its name now.

    grace_period: seconds; None for the resource's default.
    propagation: the propagationPolicy; "" for the resource's default.

    Raises ApiError.
    """
    namespace, name = key_of(obj)
    try:
        await client.delete(
            resource, name, namespace or None, grace_period=grace_period, uid=uid_of(obj), propagation=propagation
        )
    except ApiError as error:
        if error.code not in (404, 409):
            raise


def is_namespace_terminating(error: ApiError) -> bool:
    """Return True when the server refused to create an object because its namespace is being deleted."""
    causes = (error.details or {}).get("causes") or ()
    return any(cause.get("reason") == "NamespaceTerminating" for cause in causes)
