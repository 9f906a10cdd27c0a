"""Save images to an archive that Docker, Podman and skopeo read: an OCI image layout with Docker's manifest.json.

Since Docker 25, `docker save` writes the same files (Moby's `image/tarexport/save.go`). The output is reproducible: the
same images always give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Sequence
from io import BytesIO
from typing import BinaryIO

from hatchway.images.contents import BadImage, Image
from hatchway.images.documents import MANIFEST_LIMIT, OCI_INDEX, parse_manifest
from hatchway.images.reference import Reference
from hatchway.images.store.store import ImageStore

_CHUNK = 1 << 20


def save(store: ImageStore, images: Sequence[tuple[Image, Sequence[Reference]]], output: BinaryIO) -> None:
    """Write images to an archive. images: each with its names in the archive.

    Raises:
        BadImage: a blob is missing or damaged.
        OSError: the archive cannot be written.
    """
    with tarfile.open(fileobj=output, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as archive:
        written: set[str] = set()
        entries, listed = [], []
        for image, names in images:
            manifest = parse_manifest(store.read_blob(image.manifest_digest, MANIFEST_LIMIT))
            digests = (image.manifest_digest, image.image_id, *(layer.digest for layer in image.layers))
            for digest in digests:
                if digest not in written:
                    written.add(digest)
                    _add_blob(store, archive, digest)
            size = store.blob_size(image.manifest_digest)
            entry = {"mediaType": manifest.media_type, "digest": image.manifest_digest, "size": size}
            entry["platform"] = {"architecture": image.config.architecture, "os": image.config.os}
            entries += [{**entry, "annotations": _annotations(name)} for name in names] or [entry]
            listed.append(
                {
                    "Config": _path(image.image_id),
                    # The names are complete, because Podman would put a short name under its own registry "localhost".
                    "RepoTags": [str(name) for name in names] or None,
                    "Layers": [_path(layer.digest) for layer in image.layers],
                }
            )
        _add_json(archive, "index.json", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
        _add_json(archive, "manifest.json", listed)
        _add_json(archive, "oci-layout", {"imageLayoutVersion": "1.0.0"})


def _annotations(name: Reference) -> dict[str, str]:
    """Return the annotations with the image's name: the first is for containerd and Docker, the second for others."""
    return {"io.containerd.image.name": str(name), "org.opencontainers.image.ref.name": name.tag}


def _path(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _add_json(archive: tarfile.TarFile, name: str, content: object) -> None:
    data = json.dumps(content, separators=(",", ":")).encode()
    archive.addfile(_header(name, len(data)), BytesIO(data))


def _add_blob(store: ImageStore, archive: tarfile.TarFile, digest: str) -> None:
    with store.open_blob(digest) as file:
        reader = _VerifyingReader(file, digest)
        archive.addfile(_header(_path(digest), store.blob_size(digest)), reader)
        try:
            reader.verify()
        except BadImage:
            store.delete_if_damaged(digest)
            raise


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size, header.mode = size, 0o444
    return header


class _VerifyingReader:
    """Reads a blob's file and computes its digest, so that a damaged blob is detected."""

    def __init__(self, file: BinaryIO, digest: str) -> None:
        self._file = file
        self._digest = digest
        self._hash = hashlib.new(digest.partition(":")[0])

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def verify(self) -> None:
        """Raise BadImage unless the bytes read have the blob's digest."""
        if self._hash.hexdigest() != self._digest.partition(":")[2]:
            raise BadImage(f"the file of the blob {self._digest} is damaged; pull or load the image again")
