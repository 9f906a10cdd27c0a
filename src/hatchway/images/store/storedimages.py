"""The images of a store, read from its index and its blobs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from hatchway.images.contents import BadImage, Image, ImageConfig
from hatchway.images.documents import CONFIG_LIMIT, MANIFEST_LIMIT, Manifest, parse_config, parse_manifest
from hatchway.images.reference import Reference
from hatchway.images.store.blobs import BlobFiles
from hatchway.images.store.storenames import NamedImage, NameIndex, digest_name

# The fewest hexadecimal digits that are accepted as the beginning of an image's ID.
_SHORTEST_ID = 4
# The maximum number of images whose parsed manifests and configurations are cached.
_MOST_CACHED = 1000


class StoredImages:
    """Reads images; never changes the store."""

    def __init__(self, names: NameIndex, blobs: BlobFiles) -> None:
        self._names = names
        self._blobs = blobs
        # Manifests and configurations by the manifest's digest.
        self._parsed: dict[str, tuple[Manifest, ImageConfig]] = {}

    def find_entry(self, wanted: Reference | str) -> NamedImage | None:
        """Return the index's entry of an image; see `ImageStore.find`. Its blobs may be missing. Raises StoreError."""
        entries = self._names.read()
        if isinstance(wanted, Reference):
            if wanted.digest:
                name = digest_name(wanted)
                return next((entry for entry in reversed(entries) if name in entry.digests), None)
            return next((entry for entry in entries if str(wanted) in entry.tags), None)
        text = wanted.removeprefix("sha256:")
        if len(text) < _SHORTEST_ID:
            return None
        found = [entry for entry in entries if entry.config.removeprefix("sha256:").startswith(text)]
        return found[-1] if len({entry.config for entry in found}) == 1 else None

    def whole(self, entries: Iterable[NamedImage]) -> list[Image]:
        """Return the images of some entries. Images whose blobs are missing or damaged are left out."""
        found = []
        for entry in entries:
            with contextlib.suppress(BadImage):
                found.append(self.image(entry))
        return found

    def image(self, entry: NamedImage) -> Image:
        """Return the image of an entry. Raises BadImage when a blob is missing or damaged."""
        manifest, config = self.parse(entry.manifest)
        sizes = {manifest.config.digest: manifest.config.size}
        for layer in manifest.layers:
            if not self._blobs.has(layer.digest):
                raise BadImage(f"the blob {layer.digest} is not in the store")
            sizes[layer.digest] = layer.size
        size = sum(sizes.values()) + self._blobs.size(entry.manifest)
        return Image(
            entry.config, entry.manifest, entry.tags, entry.digests, manifest.layers, size, config, entry.private
        )

    def unnamed_image(self, manifest_digest: str) -> Image:
        """Return an image that is not in the index. Raises BadImage when a blob is missing or damaged."""
        manifest, _ = self.parse(manifest_digest)
        layers = tuple(layer.digest for layer in manifest.layers)
        return self.image(NamedImage(manifest_digest, manifest.config.digest, layers))

    def parse(self, manifest_digest: str) -> tuple[Manifest, ImageConfig]:
        """Return an image's manifest and configuration. They are cached: blobs never change. Raises BadImage."""
        found = self._parsed.get(manifest_digest)
        if found is None or not self._blobs.has(manifest_digest) or not self._blobs.has(found[0].config.digest):
            manifest = parse_manifest(self._blobs.read(manifest_digest, MANIFEST_LIMIT))
            config = parse_config(self._blobs.read(manifest.config.digest, CONFIG_LIMIT))
            found = (manifest, config)
            if len(self._parsed) >= _MOST_CACHED:
                self._parsed.clear()
            self._parsed[manifest_digest] = found
        return found
