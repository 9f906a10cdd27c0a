"""The parts of an image as values: layers and configuration. Pure.

The forms are those of the OCI image specification 1.1 (`manifest.md`, `config.md`) and of Docker's image manifest
version 2, schema 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hatchway.errors import HatchwayError


class BadImage(HatchwayError):
    """An image cannot be read, fetched or used. The message says why, for the user."""


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A manifest's description of one of its blobs.

    media_type: a media type of Docker or of the OCI. digest: with its algorithm. size: in bytes.
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


class PullGrant(NamedTuple):
    """A Secret with which an image was pulled: its uid, and a hash of the credential in it."""

    secret: str
    credential: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image in the store.

    image_id: the digest of its configuration, as Docker and the CRI name images.
    manifest_digest: the digest of the manifest for this platform.
    tags: complete names with tags (`docker.io/library/nginx:1.27`). digests: complete names with the digests of
    the manifests and indexes by which the image was pulled (`docker.io/library/nginx@sha256:...`).
    layers: compressed as they are in the registry, the lowest first. size: the bytes of all blobs.
    config: the parts of the configuration that matter.
    private: the repositories from which the image was pulled only with Secrets of pods, each with these Secrets. By
    names of other repositories, everyone may use the image.
    """

    image_id: str
    manifest_digest: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    layers: tuple[Descriptor, ...]
    size: int
    config: ImageConfig
    private: Mapping[str, tuple[PullGrant, ...]] = field(default_factory=dict)

    def may_use(self, repository: str, grants: Iterable[PullGrant]) -> bool:
        """Return True when a pod with these Secrets may use the image without a pull, by a name of this repository.

        A Secret is accepted even when its content has changed, and a credential even in another Secret, as in the
        kubelet (`pkg/kubelet/images/pullmanager/image_pull_manager.go`, MustAttemptImagePull).
        """
        known = self.private.get(repository)
        if known is None:
            return True
        values = {value for grant in known for value in grant}
        return any(values.intersection(grant) for grant in grants)
