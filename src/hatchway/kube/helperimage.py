"""Chooses the image of pods that Hatchway's own commands make."""

from __future__ import annotations

import asyncio
import json
from typing import Protocol

from hatchway.errors import HatchwayError

__all__ = ["HOST_PROGRAMS", "helper_image"]

# With this image, a container of an embedded cluster runs programs that are installed on the cluster's machine.
HOST_PROGRAMS = "hatchway/host"
_PATIENCE = 5.0


class Exchanger(Protocol):
    """A client that sends single requests."""

    async def exchange(self, method: str, path: str) -> tuple[int, bytes]:
        """Return an answer's status and body. Raises HatchwayError."""
        ...


async def helper_image(client: Exchanger, usual: str) -> str:
    """Return the image for a pod that runs only common programs.

    An embedded cluster, which is recognized by its version, runs these programs without pulling an image.

    usual: the image for other clusters, and for a cluster that does not answer in time.
    """
    try:
        async with asyncio.timeout(_PATIENCE):
            status, body = await client.exchange("GET", "/version")
        version = json.loads(body)["gitVersion"] if status == 200 else ""
    except (HatchwayError, OSError, ValueError, KeyError, TypeError):
        return usual
    return HOST_PROGRAMS if isinstance(version, str) and "+hatchway." in version else usual
