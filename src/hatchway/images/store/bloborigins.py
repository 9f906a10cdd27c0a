"""Records from which repositories a store's private blobs are: those that were fetched only with Secrets of pods.

origins/HEX    for one blob or the part of one: the repositories, as a JSON list; HEX is from the blob's digest

The index (storenames.py) says which images are private. These files say it for blobs that no image of the index has:
those of a pull that has not ended, and those of a removed image. A file is written before the first byte of its blob.
A blob without a file may be used by everyone.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Container
from pathlib import Path

from hatchway.files import write_private
from hatchway.images.store.blobs import KEPT_SECONDS

# The most repositories that are recorded for one blob. A further one has to fetch the blob each time.
_MOST = 100
# In place of the repositories of a damaged file. It is no name of a repository.
_UNKNOWN = "?"


class BlobOrigins:
    """The records below a store's directory. Writers hold the store's lock exclusively; readers need none."""

    def __init__(self, path: Path) -> None:
        """path: the store's directory."""
        self._path = path / "origins"

    def read(self, digest: str) -> frozenset[str]:
        """Return the repositories of a private blob; none for a blob that everyone may use.

        For a file that cannot be read the result has no repository's name: everyone has to fetch the blob.
        """
        try:
            found = json.loads(self._file(digest).read_bytes())
            return frozenset(str(name) for name in found) or frozenset([_UNKNOWN])
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError, TypeError):
            return frozenset([_UNKNOWN])

    def add(self, digest: str, repository: str) -> None:
        """Record that a blob is private, and from this repository. Raises OSError."""
        names = [*dict.fromkeys([*sorted(self.read(digest)), repository])]
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._file(digest), json.dumps(names[:_MOST]).encode())

    def remove(self, digest: str) -> None:
        """Record that everyone may use a blob. Raises OSError."""
        self._file(digest).unlink(missing_ok=True)

    def sweep(self, needed: Container[str]) -> None:
        """Remove the records that are a day old, except those of `needed`: the hexadecimal parts of digests."""
        oldest = time.time() - KEPT_SECONDS
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._path):
                with contextlib.suppress(FileNotFoundError):
                    if entry.name not in needed and entry.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(entry.path)

    def _file(self, digest: str) -> Path:
        return self._path / digest.partition(":")[2]
