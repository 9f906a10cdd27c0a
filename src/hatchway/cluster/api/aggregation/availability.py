"""Checks the servers behind APIServices, writes the condition Available, and keeps discovery up to date.

The checks and messages are those of kube-aggregator `controllers/status/remote/remote_available_controller.go`. Each
APIService has its own task, so that a server that does not answer delays no other check.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from hatchway.cluster.api.aggregation.remoteapis import RemoteApi, RemoteApis
from hatchway.cluster.api.aggregation.remoteclient import RemoteClient, RemoteError
from hatchway.cluster.api.aggregation.remotediscovery import read_discovery, unread_version
from hatchway.cluster.api.connect.endpointslices import IndexedObjects
from hatchway.cluster.api.describe.remoteversions import RemoteVersion
from hatchway.cluster.auth.source import StoredObjects
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.objects import endpoint_is_ready, get_condition
from hatchway.kube.wellknown import API_SERVICES, ENDPOINT_SLICES, SERVICE_NAME

__all__ = ["AvailabilityChecks"]

log = logging.getLogger(__name__)

Json = dict[str, Any]

# Seconds until the next check of a server that answers.
_EVERY = 30.0
# Seconds until the next check of a server that does not answer: after the first failure, and the longest time.
_FIRST_RETRY, _LAST_RETRY = 1.0, 30.0


class _Check:
    """The task of one APIService, and the event that makes the task check at once."""

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class AvailabilityChecks:
    """Checks all remote APIs until `run` is cancelled.

    Args:
        source: stores the APIServices.
        apis: the remote APIs.
        objects: reads services and their EndpointSlices.
        remote: sends the requests to the servers.
        client: writes the conditions.
        publish: called with all remote versions when one of them has changed.
    """

    def __init__(
        self,
        source: StoredObjects,
        apis: RemoteApis,
        objects: IndexedObjects,
        remote: RemoteClient,
        client: Client,
        publish: Callable[[Iterable[RemoteVersion]], None],
    ) -> None:
        self._source = source
        self._apis = apis
        self._objects = objects
        self._remote = remote
        self._client = client
        self._publish = publish
        self._checks: dict[str, _Check] = {}
        self._versions: dict[str, RemoteVersion] = {}
        self._servers: dict[str, tuple[object, ...]] = {}
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Check until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._apis.subscribe(self._changed)
            stops = [
                self._source.subscribe("services", self._service_changed),
                self._source.subscribe(ENDPOINT_SLICES, self._service_changed),
            ]
            for api in self._apis:
                self._changed(api.name)
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self._group = None
                for stop in stops:
                    stop()

    def _changed(self, name: str) -> None:
        """Start, wake or end the task of an APIService that has changed."""
        if self._group is None:
            return
        api = self._apis.by_name(name)
        check = self._checks.get(name)
        if api is None:
            if check is not None:
                del self._checks[name]
                self._servers.pop(name, None)
                self._versions.pop(name, None)
                if check.task is not None:
                    check.task.cancel()
                self._publish(self._versions.values())
            return
        settings = (*api.server, api.group_priority, api.version_priority)
        if check is None:
            check = self._checks[name] = _Check()
            self._versions[name] = unread_version(api, None)
            self._publish(self._versions.values())
            check.task = self._group.create_task(self._follow(name, check), name=f"APIService {name}")
        elif self._servers.get(name) != settings:
            check.wake.set()
        self._servers[name] = settings

    def _service_changed(self, _type: str, old: Object | None, new: Object | None) -> None:
        if not self._checks:
            return
        metadata = (new or old or {})["metadata"]
        labels = metadata.get("labels") or {}
        names = (metadata["name"], labels.get(SERVICE_NAME))
        for api in self._apis:
            if api.namespace == metadata.get("namespace") and api.service in names and api.name in self._checks:
                self._checks[api.name].wake.set()

    async def _follow(self, name: str, check: _Check) -> None:
        pause = _FIRST_RETRY
        while True:
            check.wake.clear()
            api = self._apis.by_name(name)
            if api is None:
                return
            available = False
            try:
                available = await self._check(api)
            except ApiError as error:
                # Another client has changed or deleted the APIService meanwhile. The next check reads it again.
                log.debug("the status of APIService %s was not written: %s", name, error.message)
            except Exception:
                log.exception("the check of APIService %s has failed", name)
            pause = _FIRST_RETRY if available else min(pause * 2, _LAST_RETRY)
            try:
                async with asyncio.timeout(_EVERY if available else pause):
                    await check.wake.wait()
                pause = _FIRST_RETRY
            except TimeoutError:
                continue

    async def _check(self, api: RemoteApi) -> bool:
        """Check an API once, write its condition, and read its discovery. Return True when it is available."""
        condition = self._service_fault(api) or await self._ask(api)
        before = self._versions.get(api.name)
        version = unread_version(api, before)
        if condition["status"] == "True":
            try:
                version = await read_discovery(self._remote, api, before)
            except RemoteError as error:
                log.info("discovery of APIService %s has failed: %s", api.name, error)
        if api.name in self._checks and version != before:
            self._versions[api.name] = version
            self._publish(self._versions.values())
        await self._write(api.name, condition)
        return bool(condition["status"] == "True") and version.current

    def _service_fault(self, api: RemoteApi) -> Json | None:
        """Return the condition for a service without the port or endpoints; None if the service can be called."""
        where = f'service/{api.service} in "{api.namespace}"'
        service = self._objects.get("services", api.namespace, api.service)
        if service is None:
            return _condition("False", "ServiceNotFound", f"{where} is not present")
        if (service.get("spec") or {}).get("type") != "ClusterIP":
            return None
        port = next((one for one in service["spec"].get("ports") or () if one.get("port") == api.port), None)
        if port is None:
            return _condition("False", "ServicePortError", f"{where} is not listening on port {api.port}")
        slices = self._objects.endpoint_slices(api.namespace, api.service)
        if not slices:
            return _condition("False", "EndpointsNotFound", f"cannot find endpointslices for {where}")
        name = port.get("name") or ""
        if not any(_has_endpoint(one, name) for one in slices):
            text = f'endpointslices for {where} have no addresses with port name "{name}"'
            return _condition("False", "MissingEndpoints", text)
        return None

    async def _ask(self, api: RemoteApi) -> Json:
        """Ask the server for the resources of the API's version. Return the resulting condition."""
        url = self._remote.url(api)
        try:
            answer = await self._remote.get(api, api.root)
        except RemoteError as error:
            why = f'failing or missing response from {url}: Get "{url}": {error}'
            return _condition("False", "FailedDiscoveryCheck", why)
        if not 200 <= answer.status < 300:
            why = f"failing or missing response from {url}: bad status from {url}: {answer.status}"
            return _condition("False", "FailedDiscoveryCheck", why)
        return _condition("True", "Passed", "all checks passed")

    async def _write(self, name: str, condition: Json) -> None:
        """Write the condition, unless the APIService has it already. Raises ApiError."""
        current = self._source.get(API_SERVICES, "", name)
        if current is None:
            return
        before = get_condition(current, "Available")
        if before is not None and all(before.get(key) == value for key, value in condition.items()):
            return
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if before is not None and before.get("status") == condition["status"]:
            since = before.get("lastTransitionTime") or since
        others = [
            one for one in (current.get("status") or {}).get("conditions") or () if one.get("type") != "Available"
        ]
        status = {"conditions": [*others, {**condition, "lastTransitionTime": since}]}
        await self._client.update(API_SERVICES, {**current, "status": status}, subresource="status")


def _condition(status: str, reason: str, message: str) -> Json:
    return {"type": "Available", "status": status, "reason": reason, "message": message}


def _has_endpoint(piece: Object, port: str) -> bool:
    """Return True when a slice has a ready endpoint and a port of this name (`hasAvailableEndpoint`)."""
    endpoints = piece.get("endpoints") or ()
    if not any(map(endpoint_is_ready, endpoints)):
        return False
    return any((one.get("name") or "") == port and one.get("port") for one in piece.get("ports") or ())
