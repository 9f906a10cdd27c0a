"""Applies objects: creates them, and patches those that exist."""

from __future__ import annotations

import json

from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.restclient import answer_error
from hatchway.testing.problems import ClusterError
from hatchway.testing.session import ClusterSession

_DEFINITION = "CustomResourceDefinition"


async def apply_all(session: ClusterSession, objects: list[Object], namespace: str) -> list[Object]:
    """Create or patch the objects in their order; return them as the cluster has them afterwards.

    After a CustomResourceDefinition, this function waits until the API server serves its types.

    namespace: the namespace of objects whose manifest names no namespace.

    Raises:
        ClusterError: the cluster does not serve the type of an object, or an object cannot be written as JSON.
        ApiError: the API server refuses an object; the message names it.
    """
    found = []
    for obj in objects:
        found.append(await _apply(session, obj, namespace))
        if obj["kind"] == _DEFINITION and obj["apiVersion"].startswith("apiextensions.k8s.io/"):
            await session.resources.await_defined(obj)
    return found


async def _apply(session: ClusterSession, obj: Object, namespace: str) -> Object:
    resource = await session.resources.of_object(obj)
    metadata = obj["metadata"]
    if resource.namespaced:
        metadata.setdefault("namespace", namespace)
    else:
        metadata.pop("namespace", None)
    place = metadata.get("namespace")
    what = f"{obj['kind']} {metadata.get('name') or metadata['generateName']}"
    where = f" in namespace {place}" if place else ""
    try:
        return await request(session, "POST", resource.path(place), obj)
    except ApiError as error:
        if error.reason != "AlreadyExists" or not metadata.get("name"):
            raise _named(error, f"{what}{where}") from error
    try:
        return await request(session, "PATCH", resource.path(place, metadata["name"]), obj)
    except ApiError as error:
        raise _named(error, f"{what}{where}") from error


def _named(error: ApiError, what: str) -> ApiError:
    return ApiError(error.code, error.reason, f"{what}: {error.message}", error.details, error.hint)


async def request(session: ClusterSession, method: str, path: str, body: Object | None = None) -> Object:
    """Send a request to the API server; return its answer. A PATCH is a JSON merge patch. Raises ApiError."""
    content = None if body is None else _encode(body)
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    status, answer = await session.client.exchange(method, path, content, kind)
    if status >= 300:
        raise answer_error(status, answer, path.partition("?")[0])
    found: Object = json.loads(answer)
    return found


def _encode(body: Object) -> bytes:
    try:
        return json.dumps(body).encode()
    except (TypeError, ValueError) as error:
        raise ClusterError(f"the object cannot be written as JSON: {error}") from error
