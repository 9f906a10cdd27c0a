"""What the node agent does for the roots of containers of images: chooses how they are made, and measures them."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from hatchway import beneath, trees
from hatchway.cluster.network.overlay import UPPER, overlay_problem
from hatchway.cluster.runtime import ImageRoot, StartError


class ImageRoots:
    """Finds out, once for each file system, whether an overlay can be mounted there."""

    def __init__(self) -> None:
        self._problems: dict[int, str] = {}
        self._lock = asyncio.Lock()

    async def prepare(self, root: ImageRoot) -> dict[str, Any]:
        """Return a container's root as a message has it (`ImageRootConfig`). Raises StartError."""
        if not root.layers:
            raise StartError("the image has no layers")
        try:
            problem = await self._problem(root.changes)
        except OSError as error:
            raise StartError(f"cannot make the container's file system: {error.strerror}") from error
        if problem:
            raise StartError(f"cannot make the container's file system: this machine mounts no overlay: {problem}")
        return {"layers": list(root.layers), "changes": root.changes, "volumes": list(root.volumes), "copied": False}

    async def _problem(self, changes: str) -> str:
        device = os.stat(changes).st_dev
        async with self._lock:
            if device not in self._problems:
                self._problems[device] = await asyncio.to_thread(overlay_problem, changes)
            return self._problems[device]


def measure_changes(changes: str) -> int:
    """Return the bytes on disk of what a container has written. Blocks. Raises OSError."""
    with beneath.opened(beneath.open_directory(f"{changes}/{UPPER}")) as upper:
        return trees.measure_tree(upper)
