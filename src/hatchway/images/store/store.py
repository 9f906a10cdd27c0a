"""The image store of this machine's user: blobs by their digests, and the names of images.

blobs/, partial/   blobs, and parts of downloads (blobs.py)
origins/           the origins of private blobs that no image of the index has (bloborigins.py)
names.json         the index of images and their names (storenames.py, storedimages.py)
uses/              images and blobs in use (storeuses.py, ownuses.py)
lock               the lock of the store (storelock.py)
layers/            unpacked layers (layerplaces.py)

A blob becomes visible only when it is whole, verified and synced to disk. An image gets its name after all its blobs
are visible. So a killed process leaves only garbage, never a damaged image. Several processes may use a store at a
time.

Every method may block on the disk, and on another process that deletes garbage. Call them in a thread where an event
loop runs, except `find` and `images`, which only read small files.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from hatchway.files import state_home
from hatchway.images.contents import BadImage, Image, PullGrant
from hatchway.images.reference import Reference
from hatchway.images.store.bloborigins import BlobOrigin, BlobOrigins
from hatchway.images.store.blobs import BlobFiles, BlobWriter, hash_of
from hatchway.images.store.garbage import Garbage
from hatchway.images.store.layerplaces import USERS_WAYS, LayerPlaces
from hatchway.images.store.ownuses import OwnUses
from hatchway.images.store.storedimages import StoredImages
from hatchway.images.store.storelock import StoreLock, unusable
from hatchway.images.store.storenames import (
    NamedImage,
    NameIndex,
    StoreError,
    digest_name,
    move_tag,
    with_name,
    without_tag,
)
from hatchway.images.store.storeuses import ImageUse

__all__ = ["BlobOrigin", "BlobWriter", "Garbage", "ImageStore", "ImageUse", "StoreError", "store_path"]


def store_path(state_dir: str | None = None) -> Path:
    """Return the directory of this user's image store, which all clusters share.

    state_dir: the directory of clusters' state, as --state-dir names it; None for the default.
    """
    return state_home(state_dir) / ".images"


class ImageStore:
    """The images below one directory. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Open a store; nothing is read or made yet. path: its directory, which may not exist."""
        self.path = path
        self._blobs = BlobFiles(path)
        self._names = NameIndex(path / "names.json")
        self._stored = StoredImages(self._names, self._blobs)
        self._lock = StoreLock(path)
        self._uses = OwnUses(path, self._lock, self._blobs)
        self._origins = BlobOrigins(path)

    # -- questions -----------------------------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """Return the images whose blobs are complete and undamaged, the oldest first. Raises StoreError."""
        return self._stored.whole(self._names.read())

    def find(self, wanted: Reference | str) -> Image | None:
        """Return an image by its name, its ID, or the beginning of its ID; None without such an image.

        A reference with a digest matches an image that was pulled by that name and digest. When several images' IDs
        have the given beginning, the result is None.

        Raises:
            StoreError: the store cannot be read.
        """
        entry = self._stored.find_entry(wanted)
        if entry is None:
            return None
        try:
            return self._stored.image(entry)
        except BadImage:
            return None

    def added_at(self, image: Image) -> float:
        """Return the time at which an image was added, in seconds since 1970; 0 when it is not in the store."""
        return next((one.added for one in self._names.read() if one.manifest == image.manifest_digest), 0.0)

    def users(self, image: Image) -> list[str]:
        """Return the descriptions of an image's users in all processes (`user` of `use`). Raises StoreError."""
        with self._lock.held(shared=False):
            uses = self._uses.read_live()
        return [user for use in uses if use.manifest == image.manifest_digest for user in use.users]

    def has_blob(self, digest: str) -> bool:
        """Return True when the store has this blob. Within `keep`, also protect it from deletion."""
        return self._uses.has_blob(digest)

    def has_blob_for(self, digest: str, repository: str) -> bool:
        """Return True when the store has this blob, and it is not withheld from a repository (`is_withheld`).

        Within `keep`, also protect the blob from deletion. repository: as in `is_withheld`.
        """
        # The order matters: a private blob is recorded before it becomes visible.
        return self.has_blob(digest) and not self.is_withheld(digest, repository)

    def is_withheld(self, digest: str, repository: str) -> bool:
        """Return True when a blob belongs only to private images of other repositories.

        A pull from `repository` must download such a blob, although the store has it. Otherwise a registry that does
        not have a private image could name the image's blobs, and pods could use the image by the registry's name.

        repository: "" for an archive, which must have such a blob itself.
        """
        holders = [entry for entry in self._names.read() if digest in entry.blobs()]
        if holders:
            return not any(entry.is_open_to(repository) for entry in holders)
        origins = self._origins.read(digest)
        return bool(origins) and repository not in origins

    def blob_size(self, digest: str) -> int:
        """Return a blob's size in bytes. Raises BadImage when it is not in the store."""
        return self._blobs.size(digest)

    def read_blob(self, digest: str, limit: int) -> bytes:
        """Read a small blob into memory, and verify its digest.

        limit: the largest accepted size, in bytes.

        Raises:
            BadImage: the blob is not in the store, is larger than `limit`, or its file is damaged.
        """
        return self._blobs.read(digest, limit)

    def delete_if_damaged(self, digest: str, limit: int | None = None) -> bool:
        """Delete a blob whose file does not have its digest, so that it can be pulled or loaded again.

        The whole file is read. limit: the size in bytes above which files are not checked; None for no limit.

        Returns True when it was damaged. Raises OSError.
        """
        return self._blobs.delete_if_damaged(digest, limit)

    def open_blob(self, digest: str) -> BinaryIO:
        """Open a blob for reading. The caller closes it. Raises BadImage when it is not in the store."""
        return self._blobs.open(digest)

    # -- adding --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """Within the block, protect blobs that this object writes or finds (`has_blob`) from deletion by any process.

        Raises:
            StoreError: the store's directory cannot be used.
        """
        with self._uses.keep():
            yield

    def begin_blob(self, digest: str, size: int, origin: BlobOrigin | None = None) -> BlobWriter:
        """Begin to write a blob. Read the part that an earlier writer has left, and continue it.

        Only a part from the same origin is continued. When the blob is committed, its origin is recorded.

        digest: the expected digest. size: the expected size in bytes. origin: the repository that serves the blob;
        None for this machine's user, whose blobs everyone may use.

        Raises:
            BadImage: the digest or the size is invalid.
            OSError: no file can be made.
        """
        self._blobs.path(digest)
        self._lock.create_store()
        owner = origin.repository if origin is not None else ""
        return self._blobs.begin(digest, size, functools.partial(self._publish, origin), owner)

    def begin_new_blob(self, size: int) -> BlobWriter:
        """Begin to write a blob whose digest (SHA-256) is not known; `commit` returns it. Raises OSError."""
        self._lock.create_store()
        return self._blobs.begin("", size, functools.partial(self._publish, None))

    def put_blob(self, data: bytes, origin: BlobOrigin | None = None, algorithm: str = "sha256") -> str:
        """Add a blob that is in memory; return its digest.

        origin: as in `begin_blob`. algorithm: of the digest.

        Raises OSError, StoreError.
        """
        digest = hash_of(f"{algorithm}:", data)
        self._blobs.delete_if_damaged(digest)
        if not self.has_blob(digest):
            with self.begin_blob(digest, len(data), origin) as writer:
                writer.restart()
                writer.write(data)
                writer.commit()
        elif not self._origins.is_recorded(digest, origin):
            with self._lock.held(shared=False):
                self._origins.record(digest, origin, is_new=not self._blobs.has(digest))
        return digest

    def add(
        self, reference: Reference | None, manifest_digest: str, index_digest: str = "", grant: PullGrant | None = None
    ) -> Image:
        """Add an image, whose blobs are all in the store, and give it a name. A tag is removed from its former image.

        Args:
            reference: the image's name; None for an image without a name. With None, an image in the store with the
                same configuration is returned instead, if there is one.
            manifest_digest: the digest of the image's manifest.
            index_digest: the digest of the index from which the manifest was chosen; "" without an index.
            grant: the pod's Secret that was needed to pull the image; None when none was needed.

        Raises:
            BadImage: a blob is missing, has another size, or is not what the manifest says.
            StoreError: the store cannot be used.
        """
        self._lock.create_store()
        with self._lock.held(shared=False):
            manifest, config = self._stored.parse(manifest_digest)
            for layer in (manifest.config, *manifest.layers):
                if self._blobs.size(layer.digest) != layer.size:
                    raise BadImage(f"the blob {layer.digest} has another size than its manifest says")
            if len(config.diff_ids) != len(manifest.layers):
                raise BadImage(
                    f"the manifest has {len(manifest.layers)} layers, but the configuration {len(config.diff_ids)}"
                )
            if index_digest and not self._blobs.has(index_digest):
                index_digest = ""
            before = self._names.read()
            old = next((one for one in before if one.manifest == manifest_digest), None)
            if reference is None and old is None and (same := self._with_config(before, manifest.config.digest)):
                return same
            entry = old or NamedImage(
                manifest_digest,
                manifest.config.digest,
                tuple(dict.fromkeys(layer.digest for layer in manifest.layers)),
                added=time.time(),
            )
            entry = replace(entry, index=index_digest or entry.index)
            if reference is not None:
                entry = with_name(entry, reference, index_digest, grant)
            others = [one for one in before if one.manifest != manifest_digest]
            if reference is not None and reference.tag:
                entry, others = move_tag(entry, others, reference)
            self._write((*others, entry))
            return self._stored.image(entry)

    def tag(self, image: Image, reference: Reference) -> Image:
        """Give an image one more name; return it with all its names. Raises BadImage, StoreError."""
        return self.add(reference, image.manifest_digest)

    # -- removing ------------------------------------------------------------------------------------------------------

    def untag(self, reference: Reference) -> Image | None:
        """Remove a name from its image; return the image without this name.

        The image stays, even without a name, until `remove` or `prune`. Returns None when no image has the name, or
        when the image's blobs are missing or damaged.
        """
        with self._lock.held(shared=False):
            entry = self._stored.find_entry(reference)
            if entry is None:
                return None
            changed = (
                without_tag(entry, reference)
                if reference.tag and not reference.digest
                else replace(entry, digests=tuple(one for one in entry.digests if one != digest_name(reference)))
            )
            self._write(tuple(changed if one is entry else one for one in self._names.read()))
        with contextlib.suppress(BadImage):
            return self._stored.image(changed)
        return None

    def remove(self, image: Image) -> Garbage:
        """Remove an image with all its names, and delete the blobs and layers that no other image needs.

        Blobs and layers that are in use stay until a later garbage collection. Raises StoreError.
        """
        with self._lock.held(shared=False):
            before = self._names.read()
            left = tuple(one for one in before if one.manifest != image.manifest_digest)
            if len(left) != len(before):
                self._write(left)
            garbage = self._collect()
        garbage.images = (image,) if len(left) != len(before) else ()
        self._remove_layers(garbage)
        return garbage

    def remove_unused(self, image: Image) -> bool:
        """Remove an image unless it is in use; return True when it was removed. Raises StoreError."""
        with self._lock.held(shared=False):
            if image.manifest_digest in {use.manifest for use in self._uses.read_live()}:
                return False
            before = self._names.read()
            self._write(tuple(one for one in before if one.manifest != image.manifest_digest))
            garbage = self._collect()
        self._remove_layers(garbage)
        return True

    def prune(self, *, every: bool = False) -> Garbage:
        """Remove the images without a tag that are not in use, then delete garbage.

        every: True to remove unused images with tags, too.
        """
        with self._lock.held(shared=False):
            used = {use.manifest for use in self._uses.read_live()}
            before = self._names.read()
            gone = [one for one in before if one.manifest not in used and (every or not one.tags)]
            images = self._stored.whole(gone)
            if gone:
                self._write(tuple(one for one in before if one not in gone))
            garbage = self._collect()
        garbage.images = tuple(images)
        self._remove_layers(garbage)
        return garbage

    def collect_garbage(self) -> Garbage:
        """Delete blobs and unpacked layers that no image needs and nothing uses, and parts of downloads a day old."""
        if not self.path.is_dir():
            return Garbage()
        with self._lock.held(shared=False):
            garbage = self._collect()
        self._remove_layers(garbage)
        return garbage

    # -- uses ----------------------------------------------------------------------------------------------------------

    def use(self, image: Image, user: str) -> ImageUse:
        """Mark an image as used, until the returned object is closed or this process ends.

        user: the user's description for messages, such as `pod default/web of cluster hatchway`.

        Raises:
            BadImage: the image is no longer in the store.
            StoreError: the store's directory cannot be used.
        """
        return self._uses.use(image, user)

    def needed_images(self) -> list[Image]:
        """Return the images whose unpacked layers are needed: all images in the index, and all images in use.

        Raises StoreError.
        """
        with self._lock.held(shared=False):
            used = {use.manifest for use in self._uses.read_live() if use.manifest}
            found = {entry.manifest: entry for entry in self._names.read()}
            images = self._stored.whole(found.values())
            for manifest in used - set(found):
                with contextlib.suppress(BadImage):
                    images.append(self._stored.unnamed_image(manifest))
            return images

    # -- private methods -----------------------------------------------------------------------------------------------

    def _publish(self, origin: BlobOrigin | None, digest: str, show: Callable[[], None]) -> None:
        """Make a verified blob visible. show: makes its file visible."""
        # Mark the blob as used first. Otherwise a garbage collection in between would delete it.
        self._uses.pin(digest)
        with self._lock.held(shared=False):
            self._origins.record(digest, origin, is_new=not self._blobs.has(digest))
            show()

    def _with_config(self, images: tuple[NamedImage, ...], config: str) -> Image | None:
        """Return the newest image with this configuration whose files are whole; None without one."""
        for entry in reversed(images):
            if entry.config == config:
                with contextlib.suppress(BadImage):
                    return self._stored.image(entry)
        return None

    def _collect(self) -> Garbage:
        """Delete the blobs that are not needed. The caller holds the lock exclusively."""
        needed: set[str] = set()
        for entry in self._names.read():
            needed.update(entry.blobs())
        for use in self._uses.read_live():
            needed.update(use.blobs)
        garbage = Garbage()
        for digest in [one for one in self._blobs.digests() if one not in needed]:
            with contextlib.suppress(FileNotFoundError):
                garbage.size += self._blobs.delete(digest)
                garbage.blobs += 1
        garbage.size += self._blobs.delete_broken_downloads()
        self._origins.sweep({one.partition(":")[2] for one in self._blobs.digests()})
        return garbage

    def _remove_layers(self, garbage: Garbage) -> None:
        """Remove the unpacked layers that no image needs. The caller does not hold the lock."""
        for users in USERS_WAYS:
            places = LayerPlaces(self.path, users)
            try:
                garbage.layers += places.remove_unneeded(self.needed_images)
            except OSError as error:
                why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
                garbage.problems += (f"unpacked layers below {places.path} remain: {why}",)

    def _write(self, images: tuple[NamedImage, ...]) -> None:
        try:
            self._origins.record_removal(self._names.read(), images)
            self._names.write(images)
        except OSError as error:
            raise unusable(error, self.path) from error
