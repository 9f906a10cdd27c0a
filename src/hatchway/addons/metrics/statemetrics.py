"""Serves the state of the cluster's objects as metrics, as kube-state-metrics does.

Objects are watched only after the first request, so that a cluster without such requests has no cost. The text of an
object is made once for each of its versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hatchway.addons.metrics.autoscalerfamilies import AUTOSCALER_FAMILIES
from hatchway.addons.metrics.exposition import CONTENT_TYPE, line
from hatchway.addons.metrics.nodefamilies import NAMESPACE_FAMILIES, NODE_FAMILIES
from hatchway.addons.metrics.podfamilies import POD_FAMILIES
from hatchway.addons.metrics.servicefamilies import ENDPOINT_SLICE_FAMILIES, SERVICE_FAMILIES
from hatchway.addons.metrics.statefamilies import Family
from hatchway.addons.metrics.workloadfamilies import DEPLOYMENT_FAMILIES, REPLICA_SET_FAMILIES
from hatchway.kube.api import Client, Object
from hatchway.kube.informer import Informer
from hatchway.kube.objects import Key, key_of
from hatchway.kube.wellknown import ENDPOINT_SLICES
from hatchway.proxy.routing import RequestHead, Respond

__all__ = ["PORT", "StateMetrics"]

log = logging.getLogger(__name__)

PORT = 8080
# How many seconds the first requests wait until the objects have been read.
_PATIENCE = 10.0
_TEXT = [(b"Content-Type", b"text/plain; charset=utf-8")]
_ABOUT = b"This is the state of the cluster's objects, as metrics for Prometheus: /metrics\n"


def _named(noun: str, *, namespaced: bool = True, uid: bool = False) -> Callable[[Object], dict[str, str]]:
    """Return a function that makes the labels that name an object. noun: the label with the object's name."""

    def labels(obj: Object) -> dict[str, str]:
        metadata = obj["metadata"]
        found = {"namespace": metadata.get("namespace", "")} if namespaced else {}
        found[noun] = metadata["name"]
        if uid:
            found["uid"] = metadata.get("uid", "")
        return found

    return labels


def _slice_labels(obj: Object) -> dict[str, str]:
    return {"endpointslice": obj["metadata"]["name"], "namespace": obj["metadata"].get("namespace", "")}


# (resource, function for the labels that name an object, metrics)
_RESOURCES: tuple[tuple[str, Callable[[Object], dict[str, str]], tuple[Family, ...]], ...] = (
    ("nodes", _named("node", namespaced=False), NODE_FAMILIES),
    ("namespaces", _named("namespace", namespaced=False), NAMESPACE_FAMILIES),
    ("pods", _named("pod", uid=True), POD_FAMILIES),
    ("deployments.apps", _named("deployment"), DEPLOYMENT_FAMILIES),
    ("replicasets.apps", _named("replicaset"), REPLICA_SET_FAMILIES),
    ("services", _named("service", uid=True), SERVICE_FAMILIES),
    (ENDPOINT_SLICES, _slice_labels, ENDPOINT_SLICE_FAMILIES),
    ("horizontalpodautoscalers.v2.autoscaling", _named("horizontalpodautoscaler"), AUTOSCALER_FAMILIES),
)


class ObjectTexts:
    """The samples of all objects of one resource: one text for each metric of each object."""

    def __init__(self, labels: Callable[[Object], dict[str, str]], families: tuple[Family, ...]) -> None:
        self._labels = labels
        self._families = families
        self._texts: dict[Key, tuple[str, ...]] = {}

    def changed(self, kind: str, obj: Object) -> None:
        """Apply an informer's event: make the texts of the object, or remove them."""
        key = key_of(obj)
        if kind == "DELETED":
            self._texts.pop(key, None)
            return
        named = self._labels(obj)
        self._texts[key] = tuple(
            "".join(line(family.name, {**named, **labels}, value) for labels, value in family.samples(obj))
            for family in self._families
        )

    def write(self, parts: list[str]) -> None:
        """Append the text of each metric to `parts`, its HELP and TYPE lines first."""
        for index, family in enumerate(self._families):
            parts.append(f"# HELP {family.name} {family.help}\n# TYPE {family.name} {family.kind}\n")
            parts += [texts[index] for texts in self._texts.values()]


class StateMetrics:
    """Answers /metrics and /healthz. `run` must run while requests are served."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._wanted = asyncio.Event()
        self._synced = asyncio.Event()
        self._resources = [(resource, ObjectTexts(labels, families)) for resource, labels, families in _RESOURCES]

    async def run(self) -> None:
        """Wait for the first request, then watch the objects until cancelled. Raises ApiError if that is forbidden."""
        await self._wanted.wait()
        async with asyncio.TaskGroup() as group:
            informers = []
            for resource, texts in self._resources:
                informer = Informer(self._client, resource)
                informer.subscribe(texts.changed)
                informers.append(informer)
                group.create_task(informer.run(), name=f"watch {resource}")
            for informer in informers:
                await informer.synced()
            self._synced.set()

    async def route(self, head: RequestHead) -> Respond:
        """Return the answer to a request (a routing function)."""
        if head.path in (b"/healthz", b"/livez", b"/readyz"):
            return Respond(200, _TEXT, b"OK")
        if head.path != b"/metrics":
            # For a person who opens the Service in a browser.
            return Respond(404, _TEXT, _ABOUT if head.path == b"/" else b"404 page not found\n")
        self._wanted.set()
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._synced.wait()
        except TimeoutError:
            return Respond(503, _TEXT, b"the objects have not been read yet: ask again in a moment\n")
        parts: list[str] = []
        for _, texts in self._resources:
            texts.write(parts)
        return Respond(200, [(b"Content-Type", CONTENT_TYPE)], "".join(parts).encode("utf-8", "replace"))
