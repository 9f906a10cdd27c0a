"""Records the repositories of a store's private blobs. A blob is private if it was fetched only with Secrets of pods.

origins/HEX    for one whole blob: the repositories, as a JSON list; HEX is from the blob's digest

The index (storenames.py) says which images are private. These files are for blobs that no image of the index has: blobs
of a pull that has not ended, and blobs of a removed image. A blob without a file may be used by everyone. Earlier
releases wrote no files. The files for their images are written when the images are removed from the index.

A repository is recorded only after it has served the whole blob, when the blob's digest is verified. A request for a
blob proves nothing: a manifest may name any digest. The file is written just before the blob becomes visible.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Container, Iterable
from pathlib import Path
from typing import NamedTuple

from hatchway.files import write_private
from hatchway.images.store.blobs import sync_directory
from hatchway.images.store.storenames import NamedImage

# The maximum number of repositories that are recorded for one blob. Each pull from a further repository downloads the
# blob.
_MOST = 100
# Stands for the repositories of a damaged file. No repository has this name.
_UNKNOWN = "?"


class BlobOrigin(NamedTuple):
    """The origin of a blob.

    repository: the registry and the path, as in images' names. is_private: True when a pod's Secret is needed there.
    """

    repository: str
    is_private: bool


class BlobOrigins:
    """The records below a store's directory. Writers hold the store's lock exclusively; readers need none."""

    def __init__(self, path: Path) -> None:
        """path: the store's directory."""
        self._path = path / "origins"

    def read(self, digest: str) -> frozenset[str]:
        """Return the repositories of a private blob; an empty set for a blob that everyone may use.

        If the file cannot be read, the result has only a name that no repository has. So each pull downloads the blob.
        """
        try:
            found = json.loads(self._file(digest).read_bytes())
            return frozenset(str(name) for name in found) or frozenset([_UNKNOWN])
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError):
            return frozenset([_UNKNOWN])

    def is_recorded(self, digest: str, origin: BlobOrigin | None) -> bool:
        """Return True when `record` would change nothing for a blob that the store has."""
        known = self.read(digest)
        return not known or (origin is not None and origin.is_private and origin.repository in known)

    def record(self, digest: str, origin: BlobOrigin | None, *, is_new: bool) -> None:
        """Record the origin of a whole blob. Raises OSError.

        Args:
            digest: the blob's digest, which is verified.
            origin: None for this machine's user (archives and built images).
            is_new: True when the store does not have the blob yet. A record of an earlier, deleted blob is replaced.
        """
        if origin is None or not origin.is_private:
            self._file(digest).unlink(missing_ok=True)
        elif is_new:
            self.write(digest, [origin.repository])
        elif not self.is_recorded(digest, origin):
            self.write(digest, [*sorted(self.read(digest)), origin.repository])

    def write(self, digest: str, repositories: Iterable[str]) -> None:
        """Record a private blob with its repositories, and sync the record to disk. Raises OSError."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._file(digest), json.dumps([*repositories][:_MOST]).encode())
        sync_directory(self._path)

    def record_removal(self, before: Iterable[NamedImage], after: Iterable[NamedImage]) -> None:
        """Record the repositories of the blobs of removed private images, unless the blobs have a record already.

        A blob gets no record if everyone could use it by one of the removed images.

        before, after: the images of the index. Raises OSError.
        """
        kept = {digest for image in after for digest in image.blobs()}
        leaving: dict[str, list[NamedImage]] = {}
        for image in before:
            for digest in image.blobs():
                if digest not in kept:
                    leaving.setdefault(digest, []).append(image)
        for digest, images in leaving.items():
            if not any(image.is_open() for image in images) and not self.read(digest):
                self.write(digest, sorted({name for image in images for name in image.private}))

    def sweep(self, blobs: Container[str]) -> None:
        """Remove the records of blobs that the store does not have. blobs: the hexadecimal parts of its digests."""
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._path):
                # This also removes the temporary files that killed writers have left.
                if entry.name not in blobs:
                    os.unlink(entry.path)

    def _file(self, digest: str) -> Path:
        return self._path / digest.partition(":")[2]
