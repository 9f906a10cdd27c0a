"""What an image consists of: its manifest's layers and its configuration, as values. Pure.

The forms are those of the OCI image specification 1.1 (`manifest.md`, `config.md`) and of Docker's image manifest
version 2, schema 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hatchway.errors import HatchwayError


class BadImage(HatchwayError):
    """An image cannot be read, fetched or used. The message says why, for people."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a manifest says of one of its blobs.

    media_type: its media type, Docker's or the OCI's. digest: with its algorithm. size: in bytes.
    """

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The parts of an image's configuration that matter for running it.

    architecture, os: the platform, in Go's words. entrypoint, command: together the argv; either may be empty.
    env: entries `NAME=value`. working_dir: "" is "/". user: a name or number, or `USER:GROUP`; "" is root.
    volumes: paths in the container. stop_signal: a name or a number; "" is SIGTERM.
    diff_ids: the digests of the uncompressed layers, the lowest first.
    """

    architecture: str = ""
    os: str = ""
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    working_dir: str = ""
    user: str = ""
    volumes: tuple[str, ...] = ()
    stop_signal: str = ""
    exposed_ports: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    created: str = ""
    diff_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store.

    image_id: the digest of its configuration, as Docker and the CRI name images.
    manifest_digest: the digest of the manifest for this platform.
    tags: complete names with tags (`docker.io/library/nginx:1.27`). digests: complete names with digests, of manifests
    and indexes, as it was pulled (`docker.io/library/nginx@sha256:...`).
    layers: compressed as they are in the registry, the lowest first. size: the bytes of all blobs.
    config: the parts of the configuration that matter.
    """

    image_id: str
    manifest_digest: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Descriptor, ...]
    size: int
    config: ImageConfig
