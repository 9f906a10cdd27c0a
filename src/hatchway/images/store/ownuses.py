"""Records this process's uses of an image store: images in use, and blobs of images that are being added."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from pathlib import Path

from hatchway.images.contents import BadImage, Image
from hatchway.images.store.blobs import BlobFiles
from hatchway.images.store.storelock import StoreLock, unusable
from hatchway.images.store.storenames import StoreError
from hatchway.images.store.storeuses import FoundUse, ImageUse, Use, read_live_uses


class OwnUses:
    """Records uses in the store, so that no process deletes what is in use. Its methods are thread-safe."""

    def __init__(self, path: Path, lock: StoreLock, blobs: BlobFiles) -> None:
        """path: the store's directory."""
        self._path = path
        self._directory = path / "uses"
        self._lock = lock
        self._blobs = blobs
        self._keeps: list[Use] = []
        self._images: dict[str, Use] = {}
        self._guard = threading.RLock()

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """See `ImageStore.keep`."""
        use = self._begin()
        with self._guard:
            self._keeps.append(use)
        try:
            yield
        finally:
            with self._guard:
                self._keeps.remove(use)
            use.close()

    def has_blob(self, digest: str) -> bool:
        """See `ImageStore.has_blob`."""
        with self._guard:
            if not self._keeps:
                return self._blobs.has(digest)
            with self._lock.held(shared=True):
                if not self._blobs.has(digest):
                    return False
                self._pin(digest)
                return True

    def pin(self, digest: str) -> None:
        """Within `keep`, protect a blob from deletion, even before it is visible. Outside of `keep`, do nothing."""
        with self._guard:
            if self._keeps:
                with self._lock.held(shared=True):
                    self._pin(digest)

    def use(self, image: Image, user: str) -> ImageUse:
        """See `ImageStore.use`."""
        with self._guard:
            use = self._images.get(image.manifest_digest)
            if use is None:
                blobs = (image.manifest_digest, image.image_id, *(layer.digest for layer in image.layers))
                use = self._begin(image.manifest_digest, blobs)
                if not all(map(self._blobs.has, blobs)):
                    use.close()
                    raise BadImage(f"the image {image.image_id} is no longer in the store")
                self._images[image.manifest_digest] = use
            try:
                use.add_user(user)
            except OSError as error:
                if not use.users:
                    del self._images[image.manifest_digest]
                    use.close()
                raise unusable(error, self._path) from error
            return ImageUse(functools.partial(self._end, use, user))

    def read_live(self) -> list[FoundUse]:
        """Return the uses by all running processes. Raises StoreError. The caller holds the lock exclusively."""
        try:
            return read_live_uses(self._directory)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"cannot read what is in use in {self._directory}: {error}") from error

    def _begin(self, manifest: str = "", blobs: tuple[str, ...] = ()) -> Use:
        self._lock.create_store()
        try:
            return Use.begin(self._directory, lambda: self._lock.held(shared=True), manifest, blobs)
        except OSError as error:
            raise unusable(error, self._path) from error

    def _end(self, use: Use, user: str) -> None:
        with self._guard:
            use.remove_user(user)
            if not use.users:
                self._images.pop(use.manifest, None)
                use.close()

    def _pin(self, digest: str) -> None:
        for use in self._keeps:
            use.pin(digest)
