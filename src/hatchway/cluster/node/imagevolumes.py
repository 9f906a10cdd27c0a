"""Volumes with the files of an image (`volumes[].image`; KEP-4639).

As in the kubelet, these images are pulled before the pod's containers start, with the same events as containers'
images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hatchway.cluster.node.containersecurity import CreateError
from hatchway.cluster.node.imagemanager import ImageError, get_image
from hatchway.cluster.node.imagestock import UnpackedImage
from hatchway.cluster.node.podcontext import PodContext
from hatchway.cluster.node.podstatus import ContainerState
from hatchway.cluster.runtime import ImageRoot, StartError

__all__ = ["ImageVolumes"]


class ImageVolumes:
    """The image volumes of one pod. Their images stay in the store until `close`."""

    def __init__(self, context: PodContext) -> None:
        self._context = context
        self._opened: dict[str, UnpackedImage] = {}

    async def prepare(self, waiting: Iterable[ContainerState]) -> bool:
        """Get the images, and link their files for `Volumes`. Idempotent.

        waiting: the containers that wait for the volumes. Returns False when an image cannot be used now; events and
        the containers' states then give the reason.
        """
        try:
            await self._open()
        except ImageError as error:
            for container in waiting:
                container.wait(error.reason, str(error))
            if error.is_new:
                self._context.event("Warning", "Failed", f"Error: {error.reason}")
        except (CreateError, OSError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            self._context.event("Warning", "FailedMount", f"MountVolume.SetUp failed for an image volume: {why}")
        else:
            return True
        self._context.mark_changed()
        return False

    async def _open(self) -> None:
        volumes = self._context.volumes
        for volume in self._context.pod["spec"].get("volumes") or ():
            name, source = volume["name"], volume.get("image")
            if source is None or name in self._opened:
                continue
            # These events are about the pod, not about a container.
            wanted = {"name": "", "image": source.get("reference"), "imagePullPolicy": source.get("pullPolicy")}
            opened = await get_image(self._context, wanted)
            try:
                changes, place = await asyncio.to_thread(volumes.make_image_places, name)
                shown = await self._context.node.runtime.show_image(ImageRoot(opened.layers, changes), place)
            except StartError as error:
                opened.close()
                raise OSError(0, str(error)) from error
            except BaseException:
                opened.close()
                raise
            self._opened[name] = opened
            volumes.add_image(name, shown)

    def close(self) -> None:
        """Allow the removal of the images from the store, after the pod's end."""
        for opened in self._opened.values():
            opened.close()
        self._opened.clear()
