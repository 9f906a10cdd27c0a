"""Read an image's JSON documents: manifests, indexes and configurations. Pure. The documents are untrusted input.

The forms are those of the OCI image specification 1.1 (`manifest.md`, `config.md`) and of Docker's image manifest
version 2, schema 2.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hatchway.images.contents import BadImage, Descriptor, ImageConfig
from hatchway.images.reference import is_digest

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"

# The largest manifest or index, in bytes. Registries must accept this size (distribution-spec, "Pushing Manifests").
MANIFEST_LIMIT = 4 << 20
# The largest configuration, in bytes. Its history and labels make it longer than a manifest.
CONFIG_LIMIT = 8 << 20
# The maximum number of layers. Overlay file systems take some 500 lower directories; Docker refuses more than 127
# layers.
MOST_LAYERS = 500
# The maximum number of values in a document. Millions of empty lists fit into a manifest, and parsing them takes
# seconds.
_MOST_VALUES = 20_000
# The largest size of a blob that a manifest may state, in bytes.
_LARGEST_BLOB = 1 << 46
# The maximum number of entries of a list or map in a configuration.
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an image for one platform. config, layers: its blobs; the lowest layer is first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """An entry of an index. os, architecture, variant: the platform; "" for a part that the index does not have.

    names: the values of the annotations that name an image in an archive or directory.
    """

    manifest: Descriptor
    os: str = ""
    architecture: str = ""
    variant: str = ""
    names: tuple[str, ...] = ()
    is_attestation: bool = False


def read_json(text: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object. what: its name for messages. Raises BadImage."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise BadImage(f"{what} has more than {_MOST_VALUES} values")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadImage(f"{what} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadImage(f"{what} is not a JSON object")
    return found


def is_index(document: dict[str, Any]) -> bool:
    """Return True for an image index or a manifest list, rather than the manifest of one image."""
    media_type = document.get("mediaType")
    if media_type in (OCI_INDEX, DOCKER_INDEX):
        return True
    return not media_type and isinstance(document.get("manifests"), list)


def parse_manifest(text: bytes) -> Manifest:
    """Return the manifest of an image.

    Raises:
        BadImage: the document is no manifest, or has a form that is not supported (schema 1, an index of images).
    """
    document = read_json(text, "the manifest")
    if document.get("schemaVersion") == 1:
        raise BadImage("the manifest has Docker's schema 1, which is not supported; push the image again")
    if document.get("schemaVersion") != 2:
        raise BadImage("the manifest has no schemaVersion 2")
    if is_index(document):
        raise BadImage("the document is an index of images, not the manifest of one image")
    layers = document.get("layers")
    if not isinstance(layers, list):
        raise BadImage("the manifest has no list of layers")
    if len(layers) > MOST_LAYERS:
        raise BadImage(f"the manifest has {len(layers)} layers; at most {MOST_LAYERS} are supported")
    return Manifest(
        str(document.get("mediaType") or OCI_MANIFEST),
        parse_descriptor(document.get("config"), "the manifest's config"),
        tuple(parse_descriptor(layer, f"layer {number} of the manifest") for number, layer in enumerate(layers)),
    )


def parse_descriptor(found: Any, what: str) -> Descriptor:
    """Return a descriptor. what: its name for messages. Raises BadImage."""
    if not isinstance(found, dict):
        raise BadImage(f"{what} is not a descriptor")
    digest, size, media_type = found.get("digest"), found.get("size"), found.get("mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        raise BadImage(f"{what} has no valid digest")
    if type(size) is not int or not 0 <= size <= _LARGEST_BLOB:
        raise BadImage(f"{what} has no valid size")
    return Descriptor(media_type if isinstance(media_type, str) else "", digest, size)


def parse_index(text: bytes, what: str = "the index") -> list[IndexEntry]:
    """Return the entries of an index. Raises BadImage."""
    manifests = read_json(text, what).get("manifests")
    if not isinstance(manifests, list):
        raise BadImage(f"{what} has no list of manifests")
    if len(manifests) > _MOST_ENTRIES:
        raise BadImage(f"{what} has {len(manifests)} entries; at most {_MOST_ENTRIES} are supported")
    return [_index_entry(entry, f"entry {number} of {what}") for number, entry in enumerate(manifests)]


def _index_entry(found: Any, what: str) -> IndexEntry:
    manifest = parse_descriptor(found, what)
    platform = found.get("platform") if isinstance(found.get("platform"), dict) else {}
    notes = found.get("annotations") if isinstance(found.get("annotations"), dict) else {}
    # Tools write a whole name into containerd's annotation; into the OCI's annotation, a whole name or only a tag.
    keys = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
    return IndexEntry(
        manifest,
        _text(platform.get("os")),
        _text(platform.get("architecture")),
        _text(platform.get("variant")),
        tuple(value for key in keys if (value := _text(notes.get(key)))),
        notes.get("vnd.docker.reference.type") == "attestation-manifest",
    )


def parse_config(text: bytes) -> ImageConfig:
    """Return the parts of a configuration that matter for running the image. Raises BadImage."""
    document = read_json(text, "the image's configuration")
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(one, str) and is_digest(one) for one in diff_ids):
        raise BadImage("the image's configuration has no list of its layers' digests (rootfs.diff_ids)")
    if len(diff_ids) > MOST_LAYERS:
        raise BadImage(f"the image has {len(diff_ids)} layers; at most {MOST_LAYERS} are supported")
    config = document.get("config")
    if config is None:
        config = {}
    if not isinstance(config, dict):
        raise BadImage("the image's configuration has a config that is not an object")
    return ImageConfig(
        architecture=_text(document.get("architecture")),
        os=_text(document.get("os")),
        entrypoint=_texts(config, "Entrypoint"),
        command=_texts(config, "Cmd"),
        env=_texts(config, "Env"),
        working_dir=_text(config.get("WorkingDir")),
        user=_text(config.get("User")),
        volumes=_keys(config, "Volumes"),
        stop_signal=_text(config.get("StopSignal")),
        exposed_ports=_keys(config, "ExposedPorts"),
        labels={key: _text(config["Labels"][key]) for key in _keys(config, "Labels")},
        created=_text(document.get("created")),
        diff_ids=tuple(diff_ids),
    )


def _text(value: Any) -> str:
    """Return the value if it is a string, else "". Raises BadImage for characters that cannot be passed to programs."""
    if not isinstance(value, str):
        return ""
    if "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value):
        raise BadImage("the image has a text with a zero byte or with half a character (a surrogate)")
    return value


def _texts(config: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of strings. A single string is a list of one, as Docker reads it (`strslice.StrSlice`)."""
    found = config.get(name)
    if found is None:
        return ()
    if isinstance(found, str):
        found = [found]
    if not isinstance(found, list) or not all(isinstance(part, str) for part in found):
        raise BadImage(f"{name} of the image's configuration is not a list of strings")
    if len(found) > _MOST_ENTRIES:
        raise BadImage(f"{name} of the image's configuration has more than {_MOST_ENTRIES} entries")
    return tuple(map(_text, found))


def _keys(config: dict[str, Any], name: str) -> tuple[str, ...]:
    found = config.get(name)
    if found is None:
        return ()
    if not isinstance(found, dict):
        raise BadImage(f"{name} of the image's configuration is not an object")
    if len(found) > _MOST_ENTRIES:
        raise BadImage(f"{name} of the image's configuration has more than {_MOST_ENTRIES} entries")
    return tuple(map(_text, found))
