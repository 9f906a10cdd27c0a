"""Makes the reports of the portal's page "Exposure": on demand, with the user's rights, and within limits."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from hatchway.door.address import DoorAddress
from hatchway.door.filteredpages import FilteredPages
from hatchway.door.portal.exposurecontent import ExposureReport
from hatchway.door.problems import unreached
from hatchway.door.problems.problem import DoorProblem, from_error, placed_at
from hatchway.door.requestfilter import RequestFilter
from hatchway.errors import ApiError, HatchwayError
from hatchway.exposure.assessment import assess
from hatchway.exposure.reading import SnapshotReader
from hatchway.exposure.snapshot import ClusterSnapshot, Unread
from hatchway.kube.access import missing_rule, user_name
from hatchway.kube.connection import Connection

# Seconds for which a report is cached; and seconds that a request waits for a report that is being made.
_FRESH: Final = 15.0
_PATIENCE: Final = 2.0
# The maximum number of seconds for making one report.
_LONGEST: Final = 120.0
# The maximum number of objects of one kind that are read; a report says when there are more.
_MOST_OBJECTS: Final = 50_000
# The maximum number of reports that are cached, and the maximum number of reports that may wait to be made. Only one at
# a time is made.
_KEPT: Final = 8
_UNDER_WAY: Final = 8
_CLUSTER_WIDE: Final = frozenset({"nodes", "namespaces", "ingressclasses"})
_GROUPS: Final = {
    "endpointslices": "discovery.k8s.io",
    "networkpolicies": "networking.k8s.io",
    "ingresses": "networking.k8s.io",
    "ingressclasses": "networking.k8s.io",
    **dict.fromkeys(
        ("gateways", "httproutes", "grpcroutes", "tlsroutes", "tcproutes", "udproutes"), "gateway.networking.k8s.io"
    ),
}

# A cluster, which may change with the kubeconfig, and a namespace.
_Key = tuple[str, str, str]


class ExposureReports:
    """The reports of one door (`portal.exposurecontent.ExposureSource`)."""

    def __init__(
        self,
        connection: Connection,
        address: DoorAddress,
        filter: RequestFilter | None,
        published: Callable[[str], Sequence[str]],
    ) -> None:
        """Store the arguments.

        Args:
            connection: the API server with the user's credentials.
            address: the address at which browsers reach the door.
            filter: the door's filter, which also applies to the objects that this class reads; None when it is off.
            published: takes the URL of an embedded cluster's API server, and returns the addresses of this machine at
                which that cluster opens node ports.
        """
        self._connection = connection
        self._address = address
        self._client = FilteredPages(connection, filter)
        self._published = published
        self._kept: OrderedDict[_Key, ExposureReport] = OrderedDict()
        self._under_way: dict[_Key, asyncio.Task[ExposureReport]] = {}
        self._gate = asyncio.Semaphore(1)

    async def report(self, namespace: str) -> tuple[ExposureReport | None, bool]:
        """Return the newest report (None if there is none), and True when a newer report is being made.

        namespace: "" for all.

        Raises:
            HatchwayError: there is no report, and making one has failed.
        """
        key = self._key(namespace)
        kept = self._kept.get(key)
        if kept is not None and time.time() - kept.at < _FRESH:
            return kept, False
        task = self._under_way.get(key)
        if task is None:
            if len(self._under_way) >= _UNDER_WAY:
                raise ApiError(429, "TooManyRequests", "reports about too many namespaces are being made")
            task = self._under_way[key] = asyncio.create_task(self._make(key), name="exposure report")
            task.add_done_callback(lambda done: self._ended(key, done))
        # `asyncio.wait` does not cancel the report when this request is cancelled: other requests may wait for it.
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
        return (task.result(), False) if done else (kept, True)

    def forget(self, namespace: str) -> None:
        """Make the next `report` read the objects again, unless a report is being made already."""
        self._kept.pop(self._key(namespace), None)

    def problem(self, error: HatchwayError) -> DoorProblem:
        """Turn an error of the API server into a problem for a page."""
        label = self._connection.label
        if not isinstance(error, ApiError):
            error = ApiError(500, "InternalError", error.message, hint=error.hint)
        away = error.code == 503
        found = unreached.cluster_away(label, error.message, error.hint) if away else from_error(error)
        return placed_at(found, self._address.domain, self._address.portal_url, label)

    def close(self) -> None:
        """Cancel the reports that are being made."""
        for task in self._under_way.values():
            task.cancel()

    def _key(self, namespace: str) -> _Key:
        return self._connection.context, self._connection.server, namespace

    def _ended(self, key: _Key, task: asyncio.Task[ExposureReport]) -> None:
        del self._under_way[key]
        if task.cancelled() or task.exception() is not None:
            return  # the waiting requests get the error
        self._kept[key] = task.result()
        self._kept.move_to_end(key)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    async def _make(self, key: _Key) -> ExposureReport:
        asked = key[-1]
        try:
            async with self._gate, asyncio.timeout(_LONGEST):
                namespace, snapshot = await self._read(asked)
                if any(node.embedded for node in snapshot.nodes):
                    snapshot.published = tuple(self._published(key[1]))
                # On a thread, because it takes seconds when there are many objects.
                found = await asyncio.to_thread(assess, snapshot)
                rules = await self._rules(snapshot.unread, namespace)
        except TimeoutError as error:
            message = f"the objects of the cluster could not be read in {_LONGEST:.0f} seconds"
            raise ApiError(504, "Timeout", message, hint="One namespace takes less time.") from error
        if asked and asked not in snapshot.namespaces:
            raise ApiError(404, "NotFound", f'there is no namespace "{asked}" in {self._connection.label}')
        names = sorted(snapshot.namespaces) if not asked and namespace == asked else self._names(key)
        return ExposureReport(namespace, asked, found, tuple(snapshot.unread), rules, names, time.time())

    async def _read(self, asked: str) -> tuple[str, ClusterSnapshot]:
        """Return the namespace that was read, and its objects."""
        snapshot = await self._snapshot(asked)
        own = self._connection.namespace
        if asked or not own or not any(one.resource == "namespaces" for one in snapshot.unread):
            return asked, snapshot
        if snapshot.services:
            return asked, snapshot  # the user may list objects of all namespaces, but not the namespaces
        return own, await self._snapshot(own)

    async def _snapshot(self, namespace: str) -> ClusterSnapshot:
        return await SnapshotReader(self._client, namespace, most=_MOST_OBJECTS).read()

    def _names(self, key: _Key) -> Sequence[str]:
        """Return the names of the namespaces from the report about all of them, if there is one."""
        whole = self._kept.get((*key[:2], ""))
        return whole.namespaces if whole is not None else ()

    async def _rules(self, unread: Sequence[Unread], namespace: str) -> list[str]:
        """Return the RBAC rules that would allow the user to read the unread objects."""
        plurals = [one.resource for one in unread if one.reason.startswith("you may not")]
        if not plurals:
            return []
        try:
            user = await user_name(self._connection.client)
        except ApiError:
            user = ""  # an old API server does not return the user's name; the rule then has a placeholder
        rules = []
        for wide in (False, True):
            named = [
                _resource(one) for one in dict.fromkeys(plurals) if (one in _CLUSTER_WIDE or not namespace) is wide
            ]
            if named:
                where = "" if wide else namespace
                rules.append(missing_rule(verb="list", resource=named, namespace=where, user=user))
        return rules


def _resource(plural: str) -> str:
    group = _GROUPS.get(plural)
    return f"{plural}.{group}" if group else plural
