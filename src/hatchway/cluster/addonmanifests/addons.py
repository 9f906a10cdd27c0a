"""Applies the objects of the chosen add-ons at every start, and removes the objects of all other add-ons."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from hatchway.cluster.addonmanifests import dns, ingress, logging, metrics, monitoring
from hatchway.cluster.addonmanifests.metrics import ServerCertificate
from hatchway.cluster.addonmanifests.shapes import APP, DEPLOYMENTS, Manifest
from hatchway.cluster.addonnames import ADDONS
from hatchway.cluster.controllers.ensure import ensure_each
from hatchway.cluster.firstuse import DEPLOYMENT_OF, STARTED_ON_USE
from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.firstuse import STARTS_ON_FIRST_USE

__all__ = ["ADDON_LABEL", "ensure_addons", "ingress_controller", "remove_addons"]

# The label of every object of an add-on; its value is the add-on's name. An object with the same name that a user has
# made does not have the label, and is kept.
ADDON_LABEL: Final = "hatchway.dev/addon"
_NO_CERTIFICATE = ServerCertificate(b"", b"", b"")


async def ensure_addons(client: Client, chosen: Collection[str], metrics_certificate: ServerCertificate) -> list[str]:
    """Create or update the objects of the chosen add-ons. Fields that users have added are kept.

    metrics_certificate: a certificate for the name METRICS_HOST.

    Return messages about objects that could not be made, because another object has their name.
    """
    # The objects do not depend on each other, and the store commits simultaneous writes together.
    work = [_apply(client, _applied(name, metrics_certificate)) for name in ADDONS if name in chosen]
    if "ingress" in chosen:
        work.append(_create_ingress_class(client))
    return [problem for problems in await asyncio.gather(*work) for problem in problems]


async def remove_addons(client: Client, chosen: Collection[str]) -> tuple[list[str], list[str]]:
    """Delete the objects of the add-ons that are not chosen.

    Return the names of the add-ons that had objects, and messages about objects that could not be deleted.
    """
    others = [name for name in ADDONS if name not in chosen]
    found = await asyncio.gather(*(_remove(client, name) for name in others))
    removed = [name for name, (count, _) in zip(others, found, strict=True) if count]
    return removed, [problem for _, problems in found for problem in problems]


def ingress_controller() -> list[Manifest]:
    """Return the objects of the ingress controller, which are made when there is an Ingress for it."""
    return _labelled("ingress", ingress.manifests())


def _applied(name: str, certificate: ServerCertificate) -> list[Manifest]:
    """Return the objects that are applied at every start."""
    match name:
        case "dns":
            found = dns.manifests()
        case "logging":
            found = logging.manifests()
        case "metrics":
            found = metrics.manifests(certificate)
        case "dashboards":
            found = monitoring.manifests()
        case _:
            found = []
    return _labelled(name, found)


def _labelled(name: str, manifests: list[Manifest]) -> list[Manifest]:
    return [
        (resource, {**obj, "metadata": {**obj["metadata"], "labels": {**_labels(obj), ADDON_LABEL: name}}})
        for resource, obj in manifests
    ]


def _labels(obj: Object) -> dict[str, str]:
    return obj["metadata"].get("labels") or {}


async def _apply(client: Client, manifests: list[Manifest]) -> list[str]:
    for resource, obj in manifests:
        name = obj["metadata"]["name"]
        if resource == DEPLOYMENTS and name in STARTED_ON_USE and await _create(client, *_not_started(resource, obj)):
            services = [one for one in manifests if one[0] == "services" and DEPLOYMENT_OF.get(_name(one)) == name]
            await asyncio.gather(*(_create(client, *_not_started(*one)) for one in services))
    return await ensure_each(client, manifests)


def _name(manifest: Manifest) -> str:
    return str(manifest[1]["metadata"]["name"])


def _not_started(resource: str, obj: Object) -> Manifest:
    """Return the first form of an object: a Deployment without replicas, or a Service that starts it on first use."""
    value = "true" if resource == DEPLOYMENTS else "waiting"
    annotations = {**(obj["metadata"].get("annotations") or {}), STARTS_ON_FIRST_USE: value}
    found = {**obj, "metadata": {**obj["metadata"], "annotations": annotations}}
    if resource == DEPLOYMENTS:
        found["spec"] = {**obj["spec"], "replicas": 0}
    return resource, found


async def _create(client: Client, resource: str, obj: Object) -> bool:
    """Create an object. Return False when it is there already, or cannot be made (`ensure_each` then says why)."""
    try:
        await client.create(resource, obj)
    except ApiError:
        return False
    return True


async def _create_ingress_class(client: Client) -> list[str]:
    """Create the class if it does not exist. A user's changes are kept, such as whether the class is the default."""
    for resource, obj in _labelled("ingress", ingress.ingress_class()):
        try:
            await client.create(resource, obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                return [f"{resource}/{ingress.INGRESS_CLASS}: {error.message}"]
    return []


async def _remove(client: Client, name: str) -> tuple[int, list[str]]:
    """Delete an add-on's objects. Return how many there were, and messages about those that could not be deleted."""
    wanted = _applied(name, _NO_CERTIFICATE)
    if name == "ingress":
        wanted = [*_labelled(name, ingress.ingress_class()), *ingress_controller()]
    current = [(resource, obj) for resource, obj in await _read(client, wanted) if obj is not None]
    # Earlier releases set no label. Their objects are recognized by the image of their Deployment.
    unlabelled = any(_runs_own_image(obj) for resource, obj in current if resource == DEPLOYMENTS)
    removed, problems = 0, []
    # In reverse order, so that a Service is deleted before the Deployment to which it leads.
    for resource, obj in reversed(current):
        metadata, labels = obj["metadata"], _labels(obj)
        if labels.get(ADDON_LABEL) != name and not unlabelled and labels.get(APP) != ingress.INGRESS:
            continue
        try:
            await client.delete(
                resource, metadata["name"], metadata.get("namespace"), uid=metadata["uid"], propagation="Background"
            )
            removed += 1
        except ApiError as error:
            if error.code not in (404, 409):
                problems.append(f"{resource}/{metadata['name']}: {error.message}")
    return removed, problems


async def _read(client: Client, wanted: list[Manifest]) -> list[tuple[str, Object | None]]:
    async def read(resource: str, obj: Object) -> Object | None:
        try:
            return await client.get(resource, obj["metadata"]["name"], obj["metadata"].get("namespace"))
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    return [(resource, await read(resource, obj)) for resource, obj in wanted]


def _runs_own_image(deployment: Object) -> bool:
    containers = deployment["spec"]["template"]["spec"].get("containers") or ()
    return any(str(one.get("image")).startswith("hatchway/") for one in containers)
