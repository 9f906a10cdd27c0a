"""Brings the built-in services into the cluster, at every start anew."""

from __future__ import annotations

import asyncio

from hatchway.cluster.addons import manifests
from hatchway.cluster.controllers.ensure import ensure_each
from hatchway.kube.api import Client


async def ensure_addons(client: Client) -> list[str]:
    """Create the built-in services or bring them up to date; what users added to them stays.

    Returns what could not be made, for people: something else is in its place.
    """
    # Each stands on its own, and writes that wait together reach the disk together.
    parts = (manifests.dns(), manifests.logging())
    found = await asyncio.gather(*(ensure_each(client, part) for part in parts))
    return [problem for problems in found for problem in problems]
