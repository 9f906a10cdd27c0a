"""Writes Events about Ingresses, and writes the load balancer's addresses into the Ingresses' statuses."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.objects import Key

__all__ = ["INGRESSES", "AddressWriter", "IngressProblem", "ProblemReporter"]

log = logging.getLogger("hatchway.ingress")

INGRESSES = "ingresses.networking.k8s.io"
_RETRY_SECONDS = 2.0


class IngressProblem(NamedTuple):
    """An Event to report: its reason and message, which `kubectl describe` shows."""

    reason: str
    message: str
    type: Literal["Normal", "Warning"] = "Warning"


class ProblemReporter:
    """Reports the problems of Ingresses; each problem once, when it begins."""

    def __init__(self, recorder: EventRecorder) -> None:
        self._recorder = recorder
        self._told: dict[str, set[IngressProblem]] = {}

    def report(self, found: Iterable[tuple[Object, set[IngressProblem]]]) -> None:
        """Report the problems that are new since the last call. found: all Ingresses, with all of their problems."""
        told: dict[str, set[IngressProblem]] = {}
        for ingress, problems in found:
            uid = str(ingress["metadata"].get("uid", ""))
            if problems:
                told[uid] = problems
            for problem in sorted(problems - self._told.get(uid, set())):
                self._recorder.event(ingress, problem.type, problem.reason, problem.message)
        self._told = told


class AddressWriter:
    """Writes the load balancer's addresses into the statuses of served Ingresses, and cleans the other statuses.

    ingresses: the cluster's Ingresses by key.
    """

    def __init__(self, client: Client, ingresses: Mapping[Key, Object]) -> None:
        self._client = client
        self._ingresses = ingresses
        self._addresses: list[Object] = []
        self._served: set[Key] = set()
        self._written: set[Key] = set()
        self._waiting: dict[Key, None] = {}
        self._wake = asyncio.Event()

    def use_addresses(self, addresses: list[Object]) -> None:
        """Replace the addresses. addresses: entries of `status.loadBalancer.ingress`."""
        if addresses != self._addresses:
            self._addresses = addresses
            self._add(self._served)

    def use_served(self, served: set[Key]) -> None:
        """Replace the set of Ingresses that are served."""
        changed = served ^ self._served
        self._served = served
        self._add(changed)

    def check(self, key: Key) -> None:
        """Note that the status of a changed Ingress must be checked."""
        if key in self._served:
            self._add((key,))

    def _add(self, keys: Iterable[Key]) -> None:
        for key in keys:
            self._waiting[key] = None
        self._wake.set()

    async def run(self) -> None:
        """Write statuses until cancelled. Failed writes are repeated."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                del self._waiting[key]
                try:
                    await self._write(key)
                except (ApiError, OSError) as error:
                    if isinstance(error, ApiError) and error.code in (403, 404):
                        log.info("the status of Ingress %s/%s is not written: %s", *key, error)
                        continue
                    log.warning("writing the status of Ingress %s/%s failed: %s", *key, error)
                    self._waiting[key] = None
                    await asyncio.sleep(_RETRY_SECONDS)

    async def _write(self, key: Key) -> None:
        ingress = self._ingresses.get(key)
        if ingress is None:
            self._written.discard(key)
            return
        if key not in self._served and key not in self._written:
            return
        wanted = self._addresses if key in self._served else []
        status = (ingress.get("status") or {}).get("loadBalancer") or {}
        if (status.get("ingress") or []) != wanted:
            change = {"status": {"loadBalancer": {"ingress": wanted or None}}}
            await self._client.patch(INGRESSES, key[1], change, key[0], subresource="status")
        if wanted:
            self._written.add(key)
        else:
            self._written.discard(key)
