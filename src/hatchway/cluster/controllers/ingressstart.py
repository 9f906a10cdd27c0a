"""Starts the ingress controller when the first Ingress needs it, and stops it some time after the last one is deleted.

The ingress controller is a program in a pod (`addons/ingress`); a cluster without Ingresses does not run it. This file
only creates its objects and scales its Deployment.
"""

from __future__ import annotations

import time

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.ensure import ensure
from hatchway.kube.api import Object
from hatchway.kube.objects import Key, key_of

__all__ = ["IngressStartController"]

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEPLOYMENTS = "deployments.apps"
# This annotation marks a Deployment that this controller has scaled down. This controller scales up only Deployments
# with the annotation, because a user may have scaled down the others.
_IDLE = "hatchway.dev/scaled-down-without-ingresses"
# Seconds without an Ingress after which the Deployment is scaled down.
_IDLE_SECONDS = 30.0


class IngressStartController(Controller):
    """Keeps the ingress controller running while there are Ingresses of its classes. The queue's only key is ""."""

    name = "ingress-start"
    workers = 1

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.manifests = context.config.ingress_manifests
        self._ensured = False
        self._idle_since: float | None = None
        if not self.manifests:
            return
        self.ingresses = context.cache("ingresses.networking.k8s.io")
        self.classes = context.cache("ingressclasses.networking.k8s.io")
        self.deployments = context.cache(_DEPLOYMENTS)
        self.deployment: Key = next(key_of(obj) for resource, obj in self.manifests if resource == _DEPLOYMENTS)
        for cache in (self.ingresses, self.classes):
            cache.subscribe(lambda _kind, _obj, _before: self.queue.add(""))
        self.deployments.subscribe(self._deployment_changed)

    def _deployment_changed(self, _kind: str, obj: Object, _before: Object | None) -> None:
        if key_of(obj) == self.deployment:
            self.queue.add("")

    async def reconcile(self, key: str) -> float | None:
        """Create the ingress controller's objects, or scale its Deployment. Return the seconds until the next check."""
        deployment = self.deployments.get(self.deployment)
        if self._is_needed():
            self._idle_since = None
            if not self._ensured or deployment is None:
                await ensure(self.client, self.manifests)
                self._ensured = True
            elif _IDLE in (deployment["metadata"].get("annotations") or {}):
                await self._scale(1, None)
            return None
        if deployment is None or deployment["spec"].get("replicas") == 0:
            return None
        if self._idle_since is None:
            self._idle_since = time.monotonic()
        left = self._idle_since + _IDLE_SECONDS - time.monotonic()
        if left > 0:
            return left
        await self._scale(0, "true")
        return None

    def _is_needed(self) -> bool:
        names = {
            one["metadata"]["name"]
            for one in self.classes
            if (one.get("spec") or {}).get("controller") == self.context.config.ingress_controller
        }
        return any(_class_of(one) in names for one in self.ingresses)

    async def _scale(self, replicas: int, idle: str | None) -> None:
        namespace, name = self.deployment
        change = {"metadata": {"annotations": {_IDLE: idle}}, "spec": {"replicas": replicas}}
        written = await self.client.patch(_DEPLOYMENTS, name, change, namespace)
        await self.deployments.wait_for_write(written)


def _class_of(ingress: Object) -> str:
    """Return the name of an Ingress's class; "" when it has none."""
    name = (ingress.get("spec") or {}).get("ingressClassName")
    return str(name or (ingress["metadata"].get("annotations") or {}).get(_CLASS_ANNOTATION) or "")
