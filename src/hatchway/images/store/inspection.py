"""Describe an image with the fields of `docker image inspect` (Moby's `image.InspectResponse`)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hatchway.images.contents import Image
from hatchway.images.documents import CONFIG_LIMIT
from hatchway.images.reference import parse
from hatchway.images.store.store import ImageStore


def describe(store: ImageStore, image: Image) -> dict[str, Any]:
    """Return an image's description. `Config` is copied from the image. The field `UsedBy` is Hatchway's own.

    Raises:
        BadImage: the image's files are damaged.
        StoreError: the store cannot be read.
    """
    document = json.loads(store.read_blob(image.image_id, CONFIG_LIMIT))
    added = datetime.fromtimestamp(store.added_at(image), UTC)
    return {
        "Id": image.image_id,
        "RepoTags": [parse(name).familiar for name in image.tags],
        "RepoDigests": [parse(name).familiar for name in image.digests],
        "Created": image.config.created,
        "Author": document.get("author") or "",
        "Architecture": image.config.architecture,
        "Variant": document.get("variant") or "",
        "Os": image.config.os,
        "Size": image.size,
        "Config": document.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": list(image.config.diff_ids)},
        "Metadata": {"LastTagTime": added.isoformat()},
        "Descriptor": {
            "digest": image.manifest_digest,
            "size": store.blob_size(image.manifest_digest),
        },
        "UsedBy": store.users(image),
    }
