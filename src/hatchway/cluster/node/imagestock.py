"""The container images of a cluster's nodes: finds them in the store, pulls them into it, and unpacks them.

All nodes of the agent share one stock. The store is shared with the user's other clusters, and with `hatchway image`.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from hatchway.errors import HatchwayError
from hatchway.images.contents import BadImage, Image
from hatchway.images.pullservice.pullmessages import Pulled, PullRequest
from hatchway.images.reference import Reference
from hatchway.images.store.store import ImageStore
from hatchway.images.store.storeuses import ImageUse
from hatchway.kube.api import Object

__all__ = ["ImageStock", "ImageUnpacker", "PullingService", "UnpackedImage"]

log = logging.getLogger(__name__)

# The maximum number of images in a node's status, and the maximum number of names of each image in the status
# (`nodestatus/setters.go`).
_MOST_IMAGES, _MOST_NAMES = 50, 5
# The maximum number of images that are unpacked at a time; more would only compete for the disk.
_UNPACKED_AT_ONCE = 2


class PullingService(Protocol):
    """Pulls images into the store (`images/pullservice/serviceclient.py`)."""

    async def pull(self, request: PullRequest) -> Pulled:
        """Pull an image. Raises BadImage with the registry's reason."""
        ...


class ImageUnpacker(Protocol):
    """Unpacks the layers of images (`images/layers/layerstore.py`)."""

    def directories(self, image: Image) -> tuple[str, ...] | None:
        """Return the directories of an image's layers, the topmost first; None when it is not unpacked."""
        ...

    async def unpack(self, image: Image) -> tuple[str, ...]:
        """Unpack the layers that are not unpacked yet; return all directories. Raises BadImage, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """An unpacked image, which stays in the store until `close`.

    layers: directories, the topmost first. release: ends the use of the image.
    """

    image: Image
    layers: tuple[str, ...]
    release: Callable[[], None]

    def close(self) -> None:
        """Allow the removal of the image from the store."""
        self.release()


class ImageStock:
    """The user's images, for the nodes of one cluster.

    load_unpacker: returns the unpacker. It is called when the first image is opened, because importing the unpacker
    takes memory.
    cluster: the cluster's name, for messages of `hatchway image rm`.
    why_not: why containers of images cannot run on this machine; "" where they can.
    """

    def __init__(
        self,
        store: ImageStore,
        service: PullingService,
        load_unpacker: Callable[[], ImageUnpacker],
        *,
        cluster: str,
        why_not: str = "",
    ) -> None:
        self._store = store
        self._service = service
        self._load_unpacker = functools.cache(load_unpacker)
        self._cluster = cluster
        self.why_not = why_not
        self._turns = asyncio.Semaphore(_UNPACKED_AT_ONCE)
        self._closing: set[asyncio.Task[None]] = set()
        self._unpacking: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    async def find(self, reference: Reference) -> Image | None:
        """Return an image of the store; None when the store lacks it. Raises BadImage when the store cannot be read."""
        try:
            return await asyncio.to_thread(self._store.find, reference)
        except HatchwayError as error:
            raise BadImage(error.message) from error

    async def pull(self, request: PullRequest) -> tuple[Image, Pulled]:
        """Pull an image into the store. Raises BadImage with the registry's reason."""
        pulled = await self._service.pull(request)
        image = await self.find(request.reference)
        if image is None:
            raise BadImage(f"{request.reference} was pulled and then removed from the image store")
        return image, pulled

    async def open(self, image: Image, pod: str) -> UnpackedImage:
        """Unpack an image if necessary, and keep it in the store for a container. The caller closes it.

        pod: NAMESPACE/NAME. Raises BadImage.
        """
        use = await self._use(image, f"pod {pod} of cluster {self._cluster}")
        try:
            return UnpackedImage(image, await self._unpack(image), functools.partial(self._release, use))
        except BaseException as error:
            self._release(use)
            if isinstance(error, OSError):
                raise BadImage(f"the image cannot be unpacked: {error.strerror or error}") from error
            raise

    def _release_taken(self, taking: asyncio.Future[ImageUse]) -> None:
        if not taking.cancelled() and taking.exception() is None:
            self._release(taking.result())

    def _release(self, use: ImageUse) -> None:
        # Closing may wait for the store's lock. If the caller is cancelled meanwhile, the use must still be ended.
        task = asyncio.get_running_loop().create_task(asyncio.to_thread(use.close))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Wait until the store has ended all released uses of images."""
        await asyncio.gather(*self._closing)

    async def _use(self, image: Image, user: str) -> ImageUse:
        taking = asyncio.ensure_future(asyncio.to_thread(self._store.use, image, user))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            # The thread continues after a cancellation. Close the use that it returns.
            taking.add_done_callback(self._release_taken)
            raise
        except HatchwayError as error:
            raise BadImage(error.message) from error
        except OSError as error:
            raise BadImage(f"the image store cannot be used: {error.strerror or error}") from error

    async def _unpack(self, image: Image) -> tuple[str, ...]:
        # One container unpacks the image; other containers of the image wait for the result, and do not count for
        # `_turns`.
        lock = self._unpacking.setdefault(image.image_id, asyncio.Lock())
        async with lock:
            unpacker = self._load_unpacker()
            found = await asyncio.to_thread(unpacker.directories, image)
            if found is not None:
                return found
            async with self._turns:
                return await unpacker.unpack(image)

    async def summary(self) -> list[Object]:
        """Return the images for a node's status, the largest first; [] when the store cannot be read."""
        if self.why_not:
            return []
        try:
            images = await asyncio.to_thread(self._store.images)
        except HatchwayError as error:
            log.warning("%s", error.message)
            return []
        return [
            {"names": [*image.digests, *image.tags][:_MOST_NAMES] or [image.image_id], "sizeBytes": image.size}
            for image in sorted(images, key=lambda image: image.size, reverse=True)[:_MOST_IMAGES]
        ]
