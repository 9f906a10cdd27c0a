"""Brings the built-in services into the cluster, at every start anew."""

from __future__ import annotations

import asyncio

from hatchway.cluster.addons import manifests
from hatchway.cluster.controllers.ensure import ensure
from hatchway.kube.api import Client


async def ensure_addons(client: Client) -> None:
    """Create the built-in services or bring them up to date; what users added to them stays. Raises ApiError."""
    # Each stands on its own, and writes that wait together reach the disk together.
    await asyncio.gather(ensure(client, manifests.dns()), ensure(client, manifests.logging()))
