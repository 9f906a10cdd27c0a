"""Reads objects for the portal's pages with the user's rights (`portal.objectcontent.ObjectSource`)."""

from __future__ import annotations

from hatchway.door.address import DoorAddress
from hatchway.door.problems import notfound, refused, unreached
from hatchway.door.problems.problem import DoorProblem, from_error, placed_at
from hatchway.door.requestfilter import RequestFilter, check_read
from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.access import user_name
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.paths import parse_resource
from hatchway.target import Target

_KINDS = {"services": "Service", "pods": "Pod", "nodes": "Node"}
# The namespace of events about objects without a namespace.
_CLUSTER_EVENTS = "default"


class ObjectReader:
    """Reads objects that the flags of the door allow (`--accept-paths`, `--reject-paths`, `--reject-methods`)."""

    def __init__(
        self, connection: Connection, address: DoorAddress, filter: RequestFilter | None, api_prefix: str
    ) -> None:
        """Make a reader.

        Args:
            connection: the API server with the user's credentials.
            address: the address at which browsers reach the door.
            filter: the door's filter; None when it is off.
            api_prefix: the path below which the door serves the API.
        """
        self._connection = connection
        self._address = address
        self._filter = filter
        self._prefix = api_prefix if api_prefix.endswith("/") else api_prefix + "/"

    @property
    def form_action(self) -> str:
        """Return the door's own host names with any port, as a source of a Content-Security-Policy."""
        return f"{self._address.scheme}://*.{self._address.domain}:*"

    async def get(self, target: Target) -> Object:
        """Return a target's object.

        Raises:
            HatchwayError: the object cannot be read.
        """
        check_read(self._filter, _path(target))
        found = await self._connection.client.get(target.kind, target.name, target.namespace or None)
        return {"apiVersion": "v1", "kind": _KINDS[target.kind], **found}

    async def events(self, target: Target, obj: Object) -> list[Object]:
        """Return the events of a target's object, in any order.

        Raises:
            HatchwayError: the events cannot be read.
        """
        namespace = target.namespace or _CLUSTER_EVENTS
        check_read(self._filter, parse_resource("events").path(namespace))
        selector = f"involvedObject.kind={_KINDS[target.kind]},involvedObject.name={target.name}"
        found = await self._connection.client.list("events", namespace, field_selector=selector)
        # Events with another UID belong to an earlier object. (Kubelets write a node's name in place of its UID.)
        uid = obj["metadata"].get("uid")
        return [
            event for event in found if target.kind == "nodes" or event["involvedObject"].get("uid", uid) in ("", uid)
        ]

    def log_path(self, target: Target) -> str:
        """Return the path of a pod's log on the door's own origin, where the door serves the API."""
        # As in `ApiSite`, a prefix that begins like the API's own paths is not removed.
        prefix = "" if self._prefix.startswith("/api") else self._prefix[:-1]
        return prefix + _path(target) + "/log"

    async def problem(self, error: HatchwayError, target: Target) -> DoorProblem:
        """Turn the error of a failed call into a problem for a page."""
        found = from_error(error if isinstance(error, ApiError) else ApiError(400, "BadRequest", str(error)))
        if isinstance(error, ApiError):
            if error.code == 404:
                found = notfound.not_found(target, self._connection.label)
            elif error.code == 403 and not error.message.startswith("--"):
                resource = "events" if 'resource "events"' in error.message else target.kind
                user = await self._user()
                found = refused.forbidden(user, "get", resource, target.namespace, message=error.message)
            elif error.code == 503:
                found = unreached.cluster_away(self._connection.label, error.message, error.hint)
        return placed_at(found, self._address.domain, self._address.portal_url, self._connection.label)

    async def _user(self) -> str:
        try:
            return await user_name(self._connection.client)
        except ApiError:
            return ""


def _path(target: Target) -> str:
    return parse_resource(target.kind).path(target.namespace or None, target.name)
