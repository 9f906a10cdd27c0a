"""Recorded manifests of public images: the exact bytes from the registries, as their digests prove."""

from __future__ import annotations

from pathlib import Path

import pytest

from hatchway.images.contents import BadImage
from hatchway.images.documents import is_index, parse_index, parse_manifest, read_json
from hatchway.images.platforms import Platform, choose
from hatchway.images.pulling.manifestchecks import check_manifest, check_shape
from tests.images.making import digest_of

_RECORDED = Path(__file__).parents[2] / "images" / "recorded"
# Each file's digest, under which it was published.
_DIGESTS = {
    # docker.io/library/nginx:1.23.1: a manifest of Docker's schema 2
    "nginx-1.23.1-amd64.json": "sha256:f26fbadb0acab4a21ecb4e337a326907e61fbec36c9a9b52e725669d99ed1261",
    # keygen/api:1.3.0, made by buildx with attestations
    "keygen-1.3.0-index.json": "sha256:410e8b41faa7b09512984829d2721110f6fbefa9be77ba80162a07e7e0039ec1",
    "keygen-1.3.0-amd64.json": "sha256:9c74df62b4d5722f86c31ce8319f047bdced5af0da2e9403fb3154d2599736cd",
    # quay.io/openshift-scale/etcd-perf: an index without a mediaType
    "etcd-perf-index.json": "sha256:6416299892584b515393076863b75f192ca6cf98583d83b8e583ec3b6f2a8a5e",
}


def recorded(name: str) -> bytes:
    return (_RECORDED / name).read_bytes()


@pytest.mark.parametrize(("name", "digest"), _DIGESTS.items())
def test_the_files_have_the_published_digests(name: str, digest: str) -> None:
    assert digest_of(recorded(name)) == digest


@pytest.mark.parametrize(
    ("name", "layers", "size", "config"),
    [
        ("nginx-1.23.1-amd64.json", 6, 56_718_389, "b692a91e4e1582db97076184dae0b2f4a7a86b68c4fe6f91affa50ae06369bf5"),
        ("keygen-1.3.0-amd64.json", 10, 96_946_485, "9ec80051ed72131fe1d3df8d47a29f4f259295267252e9c8d89968410ed26edc"),
    ],
)
def test_manifests(name: str, layers: int, size: int, config: str) -> None:
    check_shape(read_json(recorded(name), name))
    manifest = parse_manifest(recorded(name))
    check_manifest(manifest)
    assert len(manifest.layers) == layers
    assert sum(layer.size for layer in manifest.layers) == size
    assert manifest.config.digest == f"sha256:{config}"


@pytest.mark.parametrize(
    ("name", "platform", "digest"),
    [
        ("keygen-1.3.0-index.json", "amd64", "9c74df62b4d5722f86c31ce8319f047bdced5af0da2e9403fb3154d2599736cd"),
        ("keygen-1.3.0-index.json", "arm64", "415654d92c281414cda9931cb7cb13027a5dadc63f8844944c53c6a4888d23d3"),
        ("etcd-perf-index.json", "ppc64le", "dacec655f2712b6f5eabc007b154959bba7add6aafdcab883e314f16e491f9d3"),
    ],
)
def test_indexes(name: str, platform: str, digest: str) -> None:
    assert is_index(read_json(recorded(name), name))
    entry = choose(parse_index(recorded(name)), Platform("linux", platform))
    assert entry.manifest.digest == f"sha256:{digest}"


def test_an_attestation_is_never_chosen() -> None:
    entries = parse_index(recorded("keygen-1.3.0-index.json"))
    assert sum(entry.is_attestation for entry in entries) == 2
    with pytest.raises(BadImage, match=r"made for linux/s390x, but for linux/amd64, linux/arm64$"):
        choose(entries, Platform("linux", "s390x"))
