"""The aggregator: the interface of this package for the API server and the controllers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from hatchway.cluster.api.aggregation.availability import AvailabilityChecks
from hatchway.cluster.api.aggregation.backends import RemoteBackends
from hatchway.cluster.api.aggregation.localapis import ensure_local_apis
from hatchway.cluster.api.aggregation.remoteanswers import RemoteStatus, decode
from hatchway.cluster.api.aggregation.remoteapis import RemoteApi, RemoteApis
from hatchway.cluster.api.aggregation.remoteclient import RemoteClient, RemoteError
from hatchway.cluster.api.aggregation.remoteproxy import PreparedRemote, RemoteProxy
from hatchway.cluster.api.connect.endpointslices import IndexedObjects
from hatchway.cluster.api.connect.resourcelocation import Locator
from hatchway.cluster.api.describe.remoteversions import RemoteVersion
from hatchway.cluster.api.registry.priorities import is_builtin
from hatchway.cluster.auth.source import StoredObjects
from hatchway.cluster.auth.user import UserInfo
from hatchway.errors import ApiError, service_unavailable
from hatchway.kube.api import Client, Object
from hatchway.kube.wellknown import API_SERVICES
from hatchway.proxy.routing import RequestHead, Respond

__all__ = ["Aggregator"]

_Answer = TypeVar("_Answer")
# The maximum number of characters of a remote error's message that clients get.
_LONGEST_MESSAGE = 1024

_log = logging.getLogger(__name__)


class Aggregator:
    """Routes requests for API groups that other servers serve, and checks which of these servers are available.

    Call `start` in an event loop.

    Args:
        source: stores the APIServices.
        objects: reads services and their EndpointSlices.
        locator: finds the endpoints of services.
        client: writes APIServices and their conditions.
        served: returns the (group, version) pairs that this API server serves itself.
        certificate, key: the files of the front proxy's client certificate.
        publish: called with all remote versions when one of them has changed.
    """

    def __init__(
        self,
        source: StoredObjects,
        objects: IndexedObjects,
        locator: Locator,
        client: Client,
        *,
        served: Callable[[], Iterable[tuple[str, str]]],
        certificate: Path,
        key: Path,
        publish: Callable[[Iterable[RemoteVersion]], None],
    ) -> None:
        self._served = served
        self._local_changed = asyncio.Event()
        self._client = client
        # Custom types are left out, because an APIService has precedence over them.
        self._apis = RemoteApis(source, (pair for pair in served() if is_builtin(pair[0])))
        backends = RemoteBackends(locator, certificate, key)
        self._proxy = RemoteProxy(backends)
        self._remote = RemoteClient(backends)
        source.subscribe(API_SERVICES, self._api_service_changed)
        self._checks = AvailabilityChecks(source, self._apis, objects, self._remote, client, publish)
        self._task: asyncio.Task[None] | None = None
        self._keeping: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to check the remote APIs."""
        loop = asyncio.get_running_loop()
        self._task = loop.create_task(self._checks.run(), name="APIServices")
        self._keeping = loop.create_task(self._keep_local(), name="local APIServices")

    def update_local(self) -> None:
        """Update the APIServices of this server soon, because the versions that it serves have changed."""
        self._local_changed.set()

    def _api_service_changed(self, _type: str, _old: Object | None, new: Object | None) -> None:
        if new is None:
            # An APIService for a local version is created again when it is missing (`autoregister_controller.go`).
            self._local_changed.set()

    async def _keep_local(self) -> None:
        while True:
            await self._local_changed.wait()
            self._local_changed.clear()
            for problem in await ensure_local_apis(self._client, self._served()):
                _log.warning("%s", problem)

    async def ensure_local(self) -> list[str]:
        """Create the APIServices of the groups that this server serves. Return messages about failed writes."""
        return await ensure_local_apis(self._client, self._served())

    def find(self, group: str, version: str) -> RemoteApi | None:
        """Return the remote API that serves a version of a group, or None."""
        return self._apis.find(group, version)

    def find_path(self, path: str) -> RemoteApi | None:
        """Return the remote API that serves a path without a resource, or None."""
        return self._apis.find_path(path)

    def prepare(self, head: RequestHead, api: RemoteApi, user: UserInfo) -> PreparedRemote | Respond:
        """Decide how to answer an authorized request: forward it to a remote API, or send an error. Raises nothing."""
        return self._proxy.prepare(head, api, user)

    def versions(self, group: str) -> list[str] | None:
        """Return the available versions of a remote group, the preferred one first; None for an unknown group."""
        found = [one for one in self._apis if one.group == group]
        if not found:
            return None
        found.sort(key=lambda one: (-one.version_priority, one.version))
        return [one.version for one in found if one.available]

    async def get_answer(
        self, group: str, version: str, path: str, user: UserInfo, kind: type[_Answer], what: str
    ) -> _Answer:
        """Read an object from a remote API as `user`.

        path: the path below the version, with the query.
        kind: the type of the answer, from `remoteanswers`.
        what: the resource, for messages.

        Raises ApiError: the remote server's own error; 404 for an API that is not registered; 503 when the remote
        server does not answer, or its answer is not of this type. The messages are client-go's.
        """
        api = self._apis.find(group, version)
        if api is None:
            raise ApiError(404, "NotFound", f"the server could not find the requested resource (get {what})")
        away = service_unavailable(f"the server is currently unable to handle the request (get {what})")
        if not api.available:
            raise away
        try:
            answer = await self._remote.get(api, f"{api.root}{path}", user)
            if answer.status == 200:
                return decode(answer.body, kind)
            refusal = decode(answer.body, RemoteStatus)
        except RemoteError as error:
            raise away from error
        if not refusal.message:
            raise away
        raise ApiError(answer.status, refusal.reason, refusal.message[:_LONGEST_MESSAGE])

    async def aclose(self) -> None:
        """End the checks and close all connections."""
        for task in (self._task, self._keeping):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        await self._remote.aclose()
