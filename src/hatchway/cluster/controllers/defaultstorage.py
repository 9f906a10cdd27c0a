"""The StorageClass that every cluster starts with."""

from __future__ import annotations

from hatchway.cluster.controllers.provisioner import default_storage_class
from hatchway.cluster.controllers.volumematch import CLASSES
from hatchway.errors import ApiError
from hatchway.kube.api import Client


async def ensure_storage_class(client: Client) -> list[str]:
    """Create the class unless a class with its name or another default class exists. Return error messages.

    An existing class is never changed, because it belongs to the user.
    """
    wanted = default_storage_class()
    [default] = wanted["metadata"]["annotations"]
    try:
        for found in await client.list(CLASSES):
            annotations = found["metadata"].get("annotations") or {}
            if found["metadata"]["name"] == wanted["metadata"]["name"] or annotations.get(default) == "true":
                return []
        await client.create(CLASSES, wanted)
    except ApiError as error:
        return [f"{CLASSES}/{wanted['metadata']['name']}: {error.message}"]
    return []
