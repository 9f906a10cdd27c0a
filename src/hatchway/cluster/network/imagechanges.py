"""Prepares and measures the root file systems of images' containers, for the node agent.

Where no overlay can be mounted (older kernels; a state directory that is itself on an overlay), each container gets a
copy of its image's files. A child process makes the copy: `python -m hatchway.cluster.network.imagechanges TARGET
LAYER...`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Any

from hatchway import beneath, trees
from hatchway.cluster.network.overlay import UPPER, overlay_problem
from hatchway.cluster.runtime import ImageRoot, StartError

# The directory below `changes` with the whole root of a container whose image was copied.
COPY = "root"


@dataclass(frozen=True, slots=True)
class ImageChanges:
    """The directory with a container's changes. path: `ImageRoot.changes`. copied: bytes of the image's copy in it."""

    path: str
    copied: int = 0

    def measure(self) -> int:
        """Return the bytes on disk that the container has written. Blocks. Raises OSError."""
        return max(0, _measure(f"{self.path}/{COPY if self.copied else UPPER}") - self.copied)


class ImageRoots:
    """Finds out, once for each file system, whether an overlay can be mounted there."""

    def __init__(self) -> None:
        self._problems: dict[int, str] = {}
        self._lock = asyncio.Lock()

    async def prepare(self, root: ImageRoot) -> tuple[dict[str, Any], ImageChanges]:
        """Prepare a container's root; return it in the form of messages (`ImageRootConfig`). Raises StartError."""
        try:
            problem = await self._problem(root.changes)
            copied = await _copy(root) if problem else 0
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise StartError(f"cannot make the container's file system: {why}") from error
        message = {"layers": root.layers, "changes": root.changes, "volumes": root.volumes, "copied": bool(problem)}
        return message, ImageChanges(root.changes, copied)

    async def _problem(self, changes: str) -> str:
        device = os.stat(changes).st_dev
        async with self._lock:
            if device not in self._problems:
                self._problems[device] = await asyncio.to_thread(overlay_problem, changes)
            return self._problems[device]


async def _copy(root: ImageRoot) -> int:
    """Copy an image's files; return how many bytes they take. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", __name__, f"{root.changes}/{COPY}", *root.layers),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines()
        raise OSError(0, f"its image cannot be copied: {lines[-1] if lines else 'the copying process has ended'}")
    # An image without layers is an empty copy.
    return max(1, int(output))


def _measure(path: str) -> int:
    with beneath.closing(beneath.open_directory(path)) as directory:
        return trees.measure_tree(directory)


def main(target: str, layers: list[str]) -> int:
    """Copy layers to a new directory, and print the bytes that they take. Return the exit code."""
    from hatchway.images.layers.layercopies import copy_layers

    try:
        copy_layers(layers, target)
        os.chmod(target, 0o755)
        print(_measure(target))
    except OSError as error:
        print((error.strerror or str(error)).lower(), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
