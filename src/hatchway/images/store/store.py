"""The image store of this machine's user: blobs by their digests, and the names of images.

blobs/, partial/   blobs, and parts of downloads (blobs.py)
names.json         which images there are, under which names (storenames.py)
uses/              what is in use now (storeuses.py)
lock               locked exclusively while names change or garbage is deleted; shared while a use is recorded
layers/            unpacked layers (layerplaces.py)

A blob becomes visible only when it is whole, verified and synced to disk. An image gets its name after all its blobs
are visible. So a killed process leaves only garbage, never a damaged image. Several processes may use a store at a
time.

Every method may block on the disk, and on another process that deletes garbage. Call them in a thread where an event
loop runs, except `find` and `images`, which only read small files.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from hatchway.files import state_home
from hatchway.images.contents import BadImage, Image, ImageConfig, PullGrant
from hatchway.images.documents import CONFIG_LIMIT, MANIFEST_LIMIT, Manifest, parse_config, parse_manifest
from hatchway.images.reference import Reference
from hatchway.images.store.blobs import BlobFiles, BlobWriter
from hatchway.images.store.garbage import Garbage
from hatchway.images.store.layerplaces import USERS_WAYS, LayerPlaces
from hatchway.images.store.storenames import (
    NamedImage,
    NameIndex,
    StoreError,
    digest_name,
    move_tag,
    with_name,
    without_tag,
)
from hatchway.images.store.storeuses import FoundUse, ImageUse, Use, live_uses

__all__ = ["BlobWriter", "Garbage", "ImageStore", "ImageUse", "StoreError", "store_path"]

# The fewest hexadecimal digits that are accepted as the beginning of an image's ID.
_SHORTEST_ID = 4
# The most parsed images that are remembered.
_REMEMBERED = 1000


def store_path(state_dir: str | None = None) -> Path:
    """Return the directory of this user's image store, which all clusters share.

    state_dir: where clusters keep their state, as --state-dir says; None takes the default.
    """
    return state_home(state_dir) / ".images"


class ImageStore:
    """The images below one directory. Its methods may be called from several threads."""

    def __init__(self, path: Path) -> None:
        """Open a store; nothing is read or made yet. path: its directory, which may not exist."""
        self.path = path
        self._blobs = BlobFiles(path)
        self._names = NameIndex(path / "names.json")
        self._uses = path / "uses"
        self._keeps: list[Use] = []
        self._image_uses: dict[str, Use] = {}
        self._guard = threading.RLock()
        self._parsed: dict[str, tuple[str, Manifest, ImageConfig]] = {}

    # -- questions -----------------------------------------------------------------------------------------------------

    def images(self) -> list[Image]:
        """Return the images, the oldest first, without those whose blobs are missing or damaged. Raises StoreError."""
        found = []
        for named in self._names.read():
            with contextlib.suppress(BadImage):
                found.append(self._image(named))
        return found

    def find(self, wanted: Reference | str) -> Image | None:
        """Return an image by its name, its ID, or the beginning of its ID; None when there is none.

        A reference with a digest matches an image that was pulled by that name and digest. When several images' IDs
        have the given beginning, the result is None.

        Raises:
            StoreError: the store cannot be read.
        """
        named = self._find(wanted)
        if named is None:
            return None
        try:
            return self._image(named)
        except BadImage:
            return None

    def added(self, image: Image) -> float:
        """Return the time at which an image was added, in seconds since 1970; 0 when it is not in the store."""
        return next((one.added for one in self._names.read() if one.manifest == image.manifest_digest), 0.0)

    def users(self, image: Image) -> list[str]:
        """Return the users of an image in all processes, as they were given to `use`. Raises StoreError."""
        with self._locked(shared=False):
            uses = self._live_uses()
        return [user for use in uses if use.manifest == image.manifest_digest for user in use.users]

    def has_blob(self, digest: str) -> bool:
        """Return True when the store has this blob. Within `keep`, also keep it from being deleted."""
        with self._guard:
            if not self._keeps:
                return self._blobs.has(digest)
            with self._locked(shared=True):
                if not self._blobs.has(digest):
                    return False
                self._pin(digest)
                return True

    def blob_size(self, digest: str) -> int:
        """Return a blob's size in bytes. Raises BadImage when it is not there."""
        return self._blobs.size(digest)

    def read_blob(self, digest: str, limit: int) -> bytes:
        """Read a small blob into memory, and verify its digest.

        limit: the largest accepted size, in bytes.

        Raises:
            BadImage: it is not in the store, it is larger, or its file is damaged.
        """
        return self._blobs.read(digest, limit)

    def open_blob(self, digest: str) -> BinaryIO:
        """Open a blob for reading. The caller closes it. Raises BadImage when it is not in the store."""
        return self._blobs.open(digest)

    # -- adding --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def keep(self) -> Iterator[None]:
        """Within the block, keep all processes from deleting the blobs that this object writes or finds (`has_blob`).

        Raises:
            StoreError: the store's directory cannot be used.
        """
        use = self._begin_use()
        with self._guard:
            self._keeps.append(use)
        try:
            yield
        finally:
            with self._guard:
                self._keeps.remove(use)
            use.close()

    def begin_blob(self, digest: str, size: int) -> BlobWriter:
        """Begin to write a blob. The part that an earlier writer left is continued; it is read to compute its digest.

        digest: the expected digest. size: the expected size in bytes.

        Raises:
            BadImage: the digest or the size is invalid.
            OSError: no file can be made.
        """
        self._blobs.path(digest)
        self._create()
        return self._blobs.begin(digest, size, self._blob_committed)

    def begin_new_blob(self, size: int) -> BlobWriter:
        """Begin to write a blob whose digest (SHA-256) is not known; `commit` returns it. Raises OSError."""
        self._create()
        return self._blobs.begin("", size, self._blob_committed)

    def put_blob(self, data: bytes) -> str:
        """Add a blob that is in memory; return its digest. Raises OSError."""
        from hashlib import sha256

        digest = f"sha256:{sha256(data).hexdigest()}"
        if not self.has_blob(digest):
            with self.begin_blob(digest, len(data)) as writer:
                writer.restart()
                writer.write(data)
                writer.commit()
        return digest

    def add(
        self, reference: Reference | None, manifest_digest: str, index_digest: str = "", grant: PullGrant | None = None
    ) -> Image:
        """Add an image, whose blobs are all in the store, and give it a name. A tag moves from the image that had it.

        Args:
            reference: its name; None for an image without a name. In that case, an image with the same
                configuration that is already in the store is returned instead.
            manifest_digest: of the image's manifest.
            index_digest: of the index from which the manifest was chosen, if it was.
            grant: the pod's Secret that was needed for it, if one was.

        Raises:
            BadImage: a blob is missing, has another size, or is not what the manifest says.
            StoreError: the store cannot be used.
        """
        self._create()
        with self._locked(shared=False):
            manifest, config = self._parse(manifest_digest)
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
            named = old or NamedImage(
                manifest_digest,
                manifest.config.digest,
                tuple(dict.fromkeys(layer.digest for layer in manifest.layers)),
                added=time.time(),
            )
            named = replace(named, index=index_digest or named.index)
            if reference is not None:
                named = with_name(named, reference, index_digest, grant)
            others = [one for one in before if one.manifest != manifest_digest]
            if reference is not None and reference.tag:
                named, others = move_tag(named, others, reference)
            self._write((*others, named))
            return self._image(named)

    def tag(self, image: Image, reference: Reference) -> Image:
        """Give an image one more name; return it with all its names. Raises BadImage, StoreError."""
        return self.add(reference, image.manifest_digest)

    # -- removing ------------------------------------------------------------------------------------------------------

    def untag(self, reference: Reference) -> Image | None:
        """Remove a name from its image; return the image without it, or None when no image has the name.

        The image stays, even without a name, until `remove` or `prune`.
        """
        with self._locked(shared=False):
            named = self._find(reference)
            if named is None:
                return None
            changed = (
                without_tag(named, reference)
                if reference.tag and not reference.digest
                else replace(named, digests=tuple(one for one in named.digests if one != digest_name(reference)))
            )
            self._write(tuple(changed if one is named else one for one in self._names.read()))
        with contextlib.suppress(BadImage):
            return self._image(changed)
        return None

    def remove(self, image: Image) -> Garbage:
        """Remove an image with all its names, and delete the blobs and layers that no other image needs.

        Blobs and layers that are in use stay until a later garbage collection. Raises StoreError.
        """
        with self._locked(shared=False):
            before = self._names.read()
            left = tuple(one for one in before if one.manifest != image.manifest_digest)
            if len(left) != len(before):
                self._write(left)
            garbage = self._collect()
        garbage.images = (image,) if len(left) != len(before) else ()
        self._remove_layers(garbage)
        return garbage

    def remove_unused(self, image: Image) -> bool:
        """Remove an image unless something uses it; return whether it was removed. Raises StoreError."""
        with self._locked(shared=False):
            if image.manifest_digest in {use.manifest for use in self._live_uses()}:
                return False
            before = self._names.read()
            self._write(tuple(one for one in before if one.manifest != image.manifest_digest))
            garbage = self._collect()
        self._remove_layers(garbage)
        return True

    def prune(self, *, every: bool = False) -> Garbage:
        """Remove the images without a tag that are not in use, then delete garbage.

        every: remove those with tags, too.
        """
        with self._locked(shared=False):
            used = {use.manifest for use in self._live_uses()}
            before = self._names.read()
            gone = [one for one in before if one.manifest not in used and (every or not one.tags)]
            images = []
            for named in gone:
                with contextlib.suppress(BadImage):
                    images.append(self._image(named))
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
        with self._locked(shared=False):
            garbage = self._collect()
        self._remove_layers(garbage)
        return garbage

    # -- uses ----------------------------------------------------------------------------------------------------------

    def use(self, image: Image, user: str) -> ImageUse:
        """Mark an image as used, until the returned object is closed or this process ends.

        user: the user's description for messages, such as `pod default/web of cluster hatchway`.

        Raises:
            BadImage: the image is no longer there.
            StoreError: the store's directory cannot be used.
        """
        with self._guard:
            use = self._image_uses.get(image.manifest_digest)
            if use is None:
                blobs = (image.manifest_digest, image.image_id, *(layer.digest for layer in image.layers))
                use = self._begin_use(image.manifest_digest, blobs)
                if not all(map(self._blobs.has, blobs)):
                    use.close()
                    raise BadImage(f"the image {image.image_id} is no longer in the store")
                self._image_uses[image.manifest_digest] = use
            try:
                use.add_user(user)
            except OSError as error:
                if not use.users:
                    del self._image_uses[image.manifest_digest]
                    use.close()
                raise _unusable(error, self.path) from error
            return ImageUse(functools.partial(self._end_use, use, user))

    def _end_use(self, use: Use, user: str) -> None:
        with self._guard:
            use.remove_user(user)
            if not use.users:
                self._image_uses.pop(use.manifest, None)
                use.close()

    def needed_images(self) -> list[Image]:
        """Return the images whose unpacked layers are needed: all in the index, and all in use. Raises StoreError."""
        with self._locked(shared=False):
            used = {use.manifest for use in self._live_uses() if use.manifest}
            found = {named.manifest: named for named in self._names.read()}
            images = []
            for manifest in dict.fromkeys([*found, *used]):
                with contextlib.suppress(BadImage):
                    images.append(self._image(found.get(manifest) or self._unnamed(manifest)))
            return images

    # -- within --------------------------------------------------------------------------------------------------------

    def _find(self, wanted: Reference | str) -> NamedImage | None:
        images = self._names.read()
        if isinstance(wanted, Reference):
            if wanted.digest:
                name = digest_name(wanted)
                return next((one for one in reversed(images) if name in one.digests), None)
            return next((one for one in images if str(wanted) in one.tags), None)
        text = wanted.removeprefix("sha256:")
        if len(text) < _SHORTEST_ID:
            return None
        found = [one for one in images if one.config.removeprefix("sha256:").startswith(text)]
        return found[-1] if len({one.config for one in found}) == 1 else None

    def _with_config(self, images: tuple[NamedImage, ...], config: str) -> Image | None:
        """Return the image of the last entry with a configuration, if its files are whole."""
        for named in reversed(images):
            if named.config == config:
                with contextlib.suppress(BadImage):
                    return self._image(named)
        return None

    def _image(self, named: NamedImage) -> Image:
        """Return the image of an entry. Raises BadImage when a blob is missing or damaged."""
        manifest, config = self._parse(named.manifest)
        sizes = {manifest.config.digest: manifest.config.size}
        for layer in manifest.layers:
            if not self._blobs.has(layer.digest):
                raise BadImage(f"the blob {layer.digest} is not in the store")
            sizes[layer.digest] = layer.size
        size = sum(sizes.values()) + self._blobs.size(named.manifest)
        names = named.tags, named.digests
        return Image(named.config, named.manifest, *names, manifest.layers, size, config, named.private)

    def _unnamed(self, manifest_digest: str) -> NamedImage:
        manifest, _ = self._parse(manifest_digest)
        return NamedImage(manifest_digest, manifest.config.digest, tuple(layer.digest for layer in manifest.layers))

    def _parse(self, manifest_digest: str) -> tuple[Manifest, ImageConfig]:
        """Return an image's manifest and configuration. They are cached: blobs never change. Raises BadImage."""
        found = self._parsed.get(manifest_digest)
        if found is None or not self._blobs.has(manifest_digest) or not self._blobs.has(found[0]):
            manifest = parse_manifest(self._blobs.read(manifest_digest, MANIFEST_LIMIT))
            config = parse_config(self._blobs.read(manifest.config.digest, CONFIG_LIMIT))
            found = (manifest.config.digest, manifest, config)
            if len(self._parsed) >= _REMEMBERED:
                self._parsed.clear()
            self._parsed[manifest_digest] = found
        return found[1], found[2]

    def _collect(self) -> Garbage:
        """Delete the blobs that are not needed. The caller holds the lock exclusively."""
        needed: set[str] = set()
        for named in self._names.read():
            needed.update(named.blobs())
        for use in self._live_uses():
            needed.update(use.blobs)
        garbage = Garbage()
        for digest in [one for one in self._blobs.digests() if one not in needed]:
            with contextlib.suppress(FileNotFoundError):
                garbage.size += self._blobs.delete(digest)
                garbage.blobs += 1
        garbage.size += self._blobs.delete_broken_downloads()
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

    def _live_uses(self) -> list[FoundUse]:
        try:
            return live_uses(self._uses)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise StoreError(f"cannot read what is in use in {self._uses}: {error}") from error

    def _begin_use(self, manifest: str = "", blobs: tuple[str, ...] = ()) -> Use:
        self._create()
        try:
            return Use.begin(self._uses, lambda: self._locked(shared=True), manifest, blobs)
        except OSError as error:
            raise _unusable(error, self.path) from error

    def _pin(self, digest: str) -> None:
        for use in self._keeps:
            use.pin(digest)

    def _blob_committed(self, digest: str) -> None:
        with self._guard:
            if self._keeps:
                with self._locked(shared=True):
                    self._pin(digest)

    def _write(self, images: tuple[NamedImage, ...]) -> None:
        try:
            self._names.write(images)
        except OSError as error:
            raise _unusable(error, self.path) from error

    def _create(self) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(error, self.path) from error

    @contextlib.contextmanager
    def _locked(self, *, shared: bool) -> Iterator[None]:
        """Hold the store's lock within the block. Raises StoreError when the lock file cannot be used."""
        self._create()
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _unusable(error, self.path) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _unusable(error: OSError, path: Path) -> StoreError:
    """Return the error for a store that cannot be used."""
    where = error.filename or path
    return StoreError(
        f"cannot use the image store {path}: {where}: {error.strerror or error}",
        "free some space there, or choose another directory with --state-dir",
    )
