"""Load images into the store: from an archive or directory with an OCI image layout, or from a `docker save` archive.

The formats: image-spec `image-layout.md`; Moby's `image/tarexport` and `image/spec/spec.md` (manifest.json). Since
Docker 25, `docker save` writes both formats. The OCI layout is then used, because it keeps the manifests' digests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hatchway.images.archives.archivefiles import ArchiveFiles, DirectoryFiles, ImageFiles
from hatchway.images.contents import BadImage, Descriptor, Image
from hatchway.images.documents import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    OCI_CONFIG,
    OCI_LAYER,
    OCI_MANIFEST,
    IndexEntry,
    is_index,
    parse_config,
    parse_index,
    parse_manifest,
    read_json,
)
from hatchway.images.platforms import Platform, choose, matches, this_machine
from hatchway.images.reference import ImageNameError, Reference, parse
from hatchway.images.store.store import ImageStore

# The maximum number of images of an archive, and the maximum number of names of an image.
_MOST_IMAGES = 1000
_MOST_NAMES = 1000
# How deeply indexes may be nested.
_DEEPEST_INDEX = 3
_INDEX = "index.json"
_DOCKER = "manifest.json"


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A loaded image. names: its names in the store; () when the archive has no name for it."""

    image: Image
    names: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """An image of an archive, whose blobs are in the store."""

    manifest: str
    index: str
    names: tuple[Reference, ...]


def load_archive(
    store: ImageStore, archive: BinaryIO, *, name: Reference | None = None, platform: Platform | None = None
) -> list[LoadedImage]:
    """Load the images of an archive, which may be compressed with gzip or zstd, into the store.

    Args:
        archive: read once, from its current position to the end of the tar archive.
        name: the image's name, in place of the archive's names; the archive must then have only one image.
        platform: selects the image of an index; None for this machine's. With a platform, all images must be for it.

    Raises:
        BadImage: the archive or an image in it is malformed. No image has been added.
        OSError: the archive cannot be read, or the store cannot be written.
        StoreError: the store cannot be used.
    """
    return _load(store, lambda: ArchiveFiles(store, archive), name, platform)


def load_directory(
    store: ImageStore, path: Path, *, name: Reference | None = None, platform: Platform | None = None
) -> list[LoadedImage]:
    """Load the images of a directory with an OCI image layout into the store, as `load_archive` does."""
    return _load(store, lambda: DirectoryFiles(store, path), name, platform)


def _load(store: ImageStore, open_files: Any, name: Reference | None, platform: Platform | None) -> list[LoadedImage]:
    try:
        with store.keep():
            files: ImageFiles = open_files()
            found = list(_find_images(store, files, platform or this_machine()))
            if not found:
                raise BadImage("it has no image")
            if platform is not None:
                _check_platform(store, found, platform)
            if name is not None:
                if len({one.manifest for one in found}) > 1:
                    raise BadImage(f"it has {len(found)} images, which cannot all be named {name.familiar}")
                found = [_Found(found[0].manifest, found[0].index, (name,))]
            # Check all images before any image gets a name.
            return [_add(store, one) for one in found]
    finally:
        # Delete blobs that no image uses. If the archive was refused, these are all its new blobs.
        store.collect_garbage()


def _add(store: ImageStore, found: _Found) -> LoadedImage:
    image = None
    for name in found.names:
        image = store.add(name, found.manifest, found.index)
    return LoadedImage(image or store.add(None, found.manifest, found.index), found.names)


def _check_platform(store: ImageStore, found: list[_Found], platform: Platform) -> None:
    """Raise BadImage when an image is not for the requested platform."""
    for one in found:
        manifest = parse_manifest(store.read_blob(one.manifest, MANIFEST_LIMIT))
        config = parse_config(store.read_blob(manifest.config.digest, CONFIG_LIMIT))
        if not matches(platform, config.os, config.architecture):
            title = one.names[0].familiar if one.names else manifest.config.digest
            raise BadImage(f"{title} is made for {config.os}/{config.architecture}, not for {platform}")


def _find_images(store: ImageStore, files: ImageFiles, platform: Platform) -> Iterator[_Found]:
    if files.has(_INDEX):
        yield from _oci_images(store, files, platform)
    elif files.has(_DOCKER):
        yield from _docker_images(store, files)
    elif files.has("repositories"):
        raise BadImage("it was written by Docker 1.9 or older, whose form is not supported")
    else:
        raise BadImage("it has neither index.json (an OCI image layout) nor manifest.json (docker save)")


# -- OCI image layout --------------------------------------------------------------------------------------------------


def _oci_images(store: ImageStore, files: ImageFiles, platform: Platform) -> Iterator[_Found]:
    entries = [one for one in parse_index(files.read(_INDEX, MANIFEST_LIMIT), "index.json") if not one.is_attestation]
    if len(entries) > _MOST_IMAGES:
        raise BadImage(f"it has {len(entries)} images; at most {_MOST_IMAGES} are loaded at once")
    # Entries with the same name are one image for several platforms. The same holds for entries without a name, if all
    # entries have a platform. Of each image, the entry for the requested platform is used.
    groups: dict[tuple[Reference, ...] | str, list[IndexEntry]] = {}
    all_platforms = all(one.architecture for one in entries) and len({one.architecture for one in entries}) > 1
    for entry in entries:
        names = _annotated_names(entry)
        groups.setdefault(names or ("" if all_platforms else entry.manifest.digest), []).append(entry)
    merged: dict[tuple[str, str], dict[Reference, None]] = {}
    for key, group in groups.items():
        entry = group[0] if len(group) == 1 else choose(group, platform)
        found = _resolve(store, files, entry.manifest, platform)
        merged.setdefault(found, {}).update(dict.fromkeys(key if isinstance(key, tuple) else ()))
    for (manifest, index), references in merged.items():
        yield _Found(manifest, index, tuple(references))


def _annotated_names(entry: IndexEntry) -> tuple[Reference, ...]:
    """Return the image name in an entry's annotations; () without one. A single word is only a tag, and is ignored."""
    for text in entry.names:
        if any(sign in text for sign in "/:@"):
            try:
                return (parse(text),)
            except ImageNameError:
                continue
    return ()


def _resolve(
    store: ImageStore, files: ImageFiles, descriptor: Descriptor, platform: Platform, depth: int = 0
) -> tuple[str, str]:
    """Load an image's blobs into the store.

    Returns the digest of its manifest, and the digest of the index that refers to the manifest ("" without an index).
    """
    if depth > _DEEPEST_INDEX:
        raise BadImage("its indexes refer to each other too deeply")
    _store_document(files, descriptor)
    text = store.read_blob(descriptor.digest, MANIFEST_LIMIT)
    if is_index(read_json(text, f"the manifest {descriptor.digest}")):
        entry = choose(parse_index(text, f"the index {descriptor.digest}"), platform)
        manifest, _ = _resolve(store, files, entry.manifest, platform, depth + 1)
        return manifest, descriptor.digest
    manifest_ = parse_manifest(text)
    for blob in (manifest_.config, *manifest_.layers):
        files.store_blob(blob.digest, blob.size)
    _check(store, descriptor.digest)
    return descriptor.digest, ""


def _store_document(files: ImageFiles, descriptor: Descriptor) -> None:
    if descriptor.size > MANIFEST_LIMIT:
        raise BadImage(f"the manifest {descriptor.digest} has more than {MANIFEST_LIMIT} bytes")
    files.store_blob(descriptor.digest, descriptor.size)


def _check(store: ImageStore, manifest_digest: str) -> None:
    """Raise BadImage when the image's configuration cannot be read, or does not have one digest for each layer."""
    manifest = parse_manifest(store.read_blob(manifest_digest, MANIFEST_LIMIT))
    config = parse_config(store.read_blob(manifest.config.digest, CONFIG_LIMIT))
    if len(config.diff_ids) != len(manifest.layers):
        raise BadImage(f"a manifest has {len(manifest.layers)} layers, but its configuration {len(config.diff_ids)}")


# -- docker save -------------------------------------------------------------------------------------------------------


def _docker_images(store: ImageStore, files: ImageFiles) -> Iterator[_Found]:
    try:
        listed = json.loads(files.read(_DOCKER, MANIFEST_LIMIT))
    except (ValueError, RecursionError) as error:
        raise BadImage(f"manifest.json is not valid JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadImage("manifest.json is not a list of images")
    if len(listed) > _MOST_IMAGES:
        raise BadImage(f"it has {len(listed)} images; at most {_MOST_IMAGES} are loaded at once")
    for found in listed:
        yield _Found(_write_manifest(store, files, found), "", _repo_tags(found.get("RepoTags")))


def _repo_tags(found: Any) -> tuple[Reference, ...]:
    if found is None:
        return ()
    if not isinstance(found, list) or len(found) > _MOST_NAMES or not all(isinstance(one, str) for one in found):
        raise BadImage("manifest.json has RepoTags that are not a list of names")
    try:
        return tuple(parse(one) for one in found)
    except ImageNameError as error:
        raise BadImage(f"manifest.json has an invalid name: {error}") from error


def _write_manifest(store: ImageStore, files: ImageFiles, found: dict[str, Any]) -> str:
    """Make a manifest for an image of `docker save`, which has none; return its digest."""
    config_name, layer_names = found.get("Config"), found.get("Layers")
    if not isinstance(config_name, str):
        raise BadImage("manifest.json has an image without Config")
    if layer_names is None:
        layer_names = []
    if not isinstance(layer_names, list) or not all(isinstance(one, str) for one in layer_names):
        raise BadImage("manifest.json has Layers that are not a list of files")
    text = files.read(config_name, CONFIG_LIMIT)
    config = parse_config(text)
    if len(config.diff_ids) != len(layer_names):
        raise BadImage(f"manifest.json has {len(layer_names)} layers, but {config_name} has {len(config.diff_ids)}")
    layers = []
    for name, diff_id in zip(layer_names, config.diff_ids, strict=True):
        digest, size = files.store_file(name)
        media_type = _layer_type(store, digest)
        # The digest of a compressed layer's content is verified when the layer is unpacked.
        if media_type == OCI_LAYER and diff_id.startswith("sha256:") and digest != diff_id:
            raise BadImage(f"the layer {name} has another content than {config_name} says")
        layers.append({"mediaType": media_type, "digest": digest, "size": size})
    config_entry = {"mediaType": OCI_CONFIG, "digest": store.put_blob(text), "size": len(text)}
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config_entry, "layers": layers}
    return store.put_blob(json.dumps(manifest, separators=(",", ":")).encode())


def _layer_type(store: ImageStore, digest: str) -> str:
    """Return a layer's media type, by the layer's first bytes."""
    with store.open_blob(digest) as file:
        start = file.read(4)
    if start.startswith(b"\x1f\x8b"):
        return f"{OCI_LAYER}+gzip"
    return f"{OCI_LAYER}+zstd" if start == b"\x28\xb5\x2f\xfd" else OCI_LAYER
