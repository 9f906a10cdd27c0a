"""Refuse well-formed manifests that are not manifests of images, or whose images cannot run here. Pure."""

from __future__ import annotations

from typing import Any

from hatchway.images.contents import BadImage, ImageConfig
from hatchway.images.documents import CONFIG_LIMIT, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Manifest
from hatchway.images.platforms import Platform, matches

_DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+"
LAYERS = frozenset(
    {
        OCI_LAYER,
        f"{OCI_LAYER}+gzip",
        f"{OCI_LAYER}+zstd",
        _DOCKER_LAYER,
        f"{_DOCKER_LAYER}.gzip",
        # BuildKit's media type for zstd layers in Docker manifests.
        f"{_DOCKER_LAYER}.zstd",
    }
)
# Artifacts that are not images, by the media types of their configurations.
_ARTIFACTS = {
    "application/vnd.cncf.helm.config.v1+json": "a Helm chart",
    "application/vnd.cncf.flux.config.v1+json": "a Flux artifact",
    "application/vnd.wasm.config.v0+json": "a WebAssembly module",
    "application/vnd.oci.empty.v1+json": "an artifact without a configuration",
    "application/vnd.docker.plugin.v1+json": "a plugin of Docker",
    "application/vnd.dev.cosign.artifact.sig.v1+json": "a signature",
}
# The most bytes of all layers together.
_LARGEST_IMAGE = 1 << 40


def check_shape(document: dict[str, Any]) -> None:
    """Refuse manifests of Docker's schema 1, and documents that are both manifest and index (CVE-2021-41190).

    Raises:
        BadImage: the document is refused.
    """
    media_type = document.get("mediaType")
    if document.get("schemaVersion") == 1 or (isinstance(media_type, str) and media_type.startswith(_SCHEMA_1)):
        raise BadImage(
            f'media type "{_SCHEMA_1}prettyjws" is not supported, please rebuild the image as '
            f'"{DOCKER_MANIFEST}" or "{OCI_MANIFEST}"'
        )
    if "manifests" in document and ("layers" in document or "config" in document):
        raise BadImage("the manifest has both the parts of an index and those of an image")


def check_manifest(manifest: Manifest) -> None:
    """Refuse artifacts that are no container images, and layers that cannot be downloaded or read. Raises BadImage."""
    kind = manifest.config.media_type
    if kind not in (OCI_CONFIG, _DOCKER_CONFIG):
        known = f" ({_ARTIFACTS[kind]})" if kind in _ARTIFACTS else ""
        raise BadImage(f'it is not a container image: the media type of its configuration is "{kind}"{known}')
    if manifest.config.size > CONFIG_LIMIT:
        raise BadImage(
            f"the image's configuration has {manifest.config.size} bytes; at most {CONFIG_LIMIT} are supported"
        )
    for layer in manifest.layers:
        if "foreign" in layer.media_type or "nondistributable" in layer.media_type:
            raise BadImage(
                f"the layer {layer.digest} is a foreign one, which registries do not have ({layer.media_type}); such "
                "layers, of Windows, are not supported"
            )
        if layer.media_type not in LAYERS:
            raise BadImage(f'the layer {layer.digest} has the media type "{layer.media_type}", which is not supported')
    total = sum(layer.size for layer in manifest.layers)
    if total > _LARGEST_IMAGE:
        raise BadImage(f"the layers have {total} bytes; at most {_LARGEST_IMAGE} are supported")


def check_config(config: ImageConfig, manifest: Manifest, platform: Platform) -> None:
    """Refuse an image for another platform than `platform`, and a configuration that does not belong to `manifest`.

    Raises:
        BadImage: the image is refused.
    """
    if not matches(platform, config.os, config.architecture):
        made_for = "/".join(part for part in (config.os, config.architecture) if part)
        raise BadImage(f"no match for platform in manifest: the image is made for {made_for}, not for {platform}")
    if len(config.diff_ids) != len(manifest.layers):
        raise BadImage(
            f"mismatched image rootfs and manifest layers: {len(config.diff_ids)} and {len(manifest.layers)}"
        )
