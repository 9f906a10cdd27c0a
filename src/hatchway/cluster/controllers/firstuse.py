"""Sets and removes the annotation STARTS_ON_FIRST_USE of the Services of add-ons that start on first use.

A Deployment with the annotation has not run yet: it has no replicas until it is used (`cluster/firstuse.py`) or scaled.
This controller removes the annotation when the Deployment has started, so that a user's later `kubectl scale
--replicas=0` has its usual effect. It copies the annotation to the Deployment's Services, because the service proxy and
the list of Services read only Services.
"""

from __future__ import annotations

import time

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.firstuse import DEPLOYMENT_OF, DEPLOYMENTS, STARTED_ON_USE
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.clusterinfo import NAMESPACE
from hatchway.kube.firstuse import STARTS_ON_FIRST_USE, FirstUseState
from hatchway.kube.objects import endpoint_is_ready
from hatchway.kube.wellknown import ENDPOINT_SLICES, SERVICE_NAME

__all__ = ["FirstUseController"]

# Endpoints must be ready for this many seconds before the annotations are removed. The service proxy has two watches,
# one of Services and one of EndpointSlices, and must see the endpoints before it sees the Service without annotation.
_SETTLE_SECONDS = 2.0


class FirstUseController(Controller):
    """Sets and removes the annotations. Its keys are the names of Deployments."""

    name = "first-use"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.deployments = context.cache(DEPLOYMENTS)
        self.services = context.cache("services")
        self.slices = context.cache(ENDPOINT_SLICES)
        self._ready_since: dict[str, float] = {}
        for cache in (self.deployments, self.services, self.slices):
            cache.subscribe(self._changed)

    def _changed(self, _kind: str, obj: Object, _before: Object | None) -> None:
        metadata = obj["metadata"]
        if metadata.get("namespace") != NAMESPACE:
            return
        service = (metadata.get("labels") or {}).get(SERVICE_NAME)
        name = metadata["name"] if service is None else service
        # A Deployment has the same name as one of its Services.
        if name in DEPLOYMENT_OF:
            self.queue.add(DEPLOYMENT_OF[name])

    async def reconcile(self, key: str) -> float | None:
        """Set or remove the annotations of a Deployment's Services. Return the seconds until the next check or None."""
        deployment = self.deployments.get((NAMESPACE, key))
        state: FirstUseState = ""
        again: float | None = None
        if deployment is not None and STARTS_ON_FIRST_USE in (deployment["metadata"].get("annotations") or {}):
            state = "starting" if deployment["spec"].get("replicas", 1) else "waiting"
            if state == "starting" and self._is_ready(key):
                again = self._ready_since.setdefault(key, time.monotonic()) + _SETTLE_SECONDS - time.monotonic()
                if again <= 0:
                    state, again = "", None
                    await self._annotate(DEPLOYMENTS, key, None)
        if again is None:
            self._ready_since.pop(key, None)
        for name in STARTED_ON_USE[key]:
            service = self.services.get((NAMESPACE, name))
            if service is not None and _state_of(service) != state:
                await self._annotate("services", name, state or None)
        return again

    def _is_ready(self, key: str) -> bool:
        """Return True when each Service of a Deployment has a ready endpoint."""
        ready = {
            (found["metadata"].get("labels") or {}).get(SERVICE_NAME)
            for found in self.slices.in_namespace(NAMESPACE)
            if any(map(endpoint_is_ready, found.get("endpoints") or ()))
        }
        return all(name in ready for name in STARTED_ON_USE[key] if self.services.get((NAMESPACE, name)) is not None)

    async def _annotate(self, resource: str, name: str, value: str | None) -> None:
        change = {"metadata": {"annotations": {STARTS_ON_FIRST_USE: value}}}
        try:
            written = await self.client.patch(resource, name, change, NAMESPACE)
        except ApiError as error:
            if error.code != 404:
                raise
            return
        await (self.services if resource == "services" else self.deployments).wait_for_write(written)


def _state_of(service: Object) -> str:
    return str((service["metadata"].get("annotations") or {}).get(STARTS_ON_FIRST_USE) or "")
