"""Starts Services on first use. Until a Service has an endpoint, its requests are held."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from hatchway.cluster.firstuse import HELD_AT_MOST, HELD_SECONDS, deployment_to_start
from hatchway.kube.api import Object
from hatchway.kube.objects import endpoint_is_ready
from hatchway.proxy.routing import ProxyError

__all__ = ["FirstStart", "ServiceEndpoints"]


class ServiceEndpoints(Protocol):
    """Reads committed Services and their EndpointSlices, and waits for changes of slices."""

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        ...

    def endpoint_slices(self, namespace: str, service: str) -> list[Object]:
        """Return the EndpointSlices of a Service."""
        ...

    async def wait_for_change(self) -> None:
        """Return after the next change of any EndpointSlice."""
        ...


class FirstStart:
    """Starts Services on first use, and holds requests meanwhile: at most `most`, each for at most `seconds`.

    objects: reads Services and their endpoints.
    report_use: starts the Deployment with the given name.
    """

    def __init__(
        self,
        objects: ServiceEndpoints,
        report_use: Callable[[str], None],
        *,
        most: int = HELD_AT_MOST,
        seconds: float = HELD_SECONDS,
    ) -> None:
        self._objects = objects
        self._report_use = report_use
        self._most = most
        self._seconds = seconds
        self._count = 0

    def __len__(self) -> int:
        """Return the number of held requests."""
        return self._count

    async def wait_for_port_forward(self, namespace: str, name: str) -> None:
        """Start a Service that a port-forward is about to use. Return when it has running pods, or after `seconds`.

        Returns at once for Services that do not start on first use.
        """

        objects = self._objects

        def is_ready() -> bool:
            service = objects.get("services", namespace, name)
            # The annotation is removed when the Service's pods exist.
            return (
                service is None
                or not deployment_to_start(service)
                or any(
                    endpoint_is_ready(endpoint)
                    for piece in objects.endpoint_slices(namespace, name)
                    for endpoint in piece.get("endpoints") or ()
                )
            )

        service = objects.get("services", namespace, name)
        if service is None or is_ready():
            return
        with contextlib.suppress(ProxyError):  # the client will find no pod, and report this
            await self.wait(deployment_to_start(service), is_ready)

    async def wait(self, deployment: str, is_ready: Callable[[], bool]) -> None:
        """Start a Deployment, and wait until it is ready.

        Raises:
            ProxyError: when the Deployment is not ready in time, or too many requests are held.
        """
        self._report_use(deployment)
        if self._count >= self._most:
            raise ProxyError("dial", f"{deployment} is being started, and {self._most} requests wait for it already")
        self._count += 1
        try:
            async with asyncio.timeout(self._seconds):
                while not is_ready():
                    await self._objects.wait_for_change()
        except TimeoutError:
            message = f"{deployment} starts on first use, and is not ready after {self._seconds:.0f} s"
            raise ProxyError("dial", message) from None
        finally:
            self._count -= 1
