"""The index of an image store: its images and their names.

It is one JSON file, which is replaced as a whole: {"version": 1, "images": [{"manifest": DIGEST, "config": DIGEST,
"layers": [DIGEST], "index": DIGEST, "tags": [...], "digests": [...], "added": SECONDS, "private": {REPOSITORY: [[UID,
HASH]]}}]}. Each tag belongs to one image.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from hatchway.errors import HatchwayError
from hatchway.files import write_private
from hatchway.images.contents import BadImage, PullGrant
from hatchway.images.reference import Reference
from hatchway.images.store.blobs import sync_directory

_VERSION = 1
# The most Secrets that are stored for one repository.
_MOST_GRANTS = 100


class StoreError(HatchwayError):
    """The image store cannot be used."""


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image of the index.

    manifest, config, layers, index: the digests of its blobs; index is "" when the manifest was not chosen from an
    index. tags, digests: complete names, as in `Image`. added: when it was added, in seconds since 1970.
    private: as in `Image`.
    """

    manifest: str
    config: str
    layers: tuple[str, ...]
    index: str = ""
    tags: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()
    added: float = 0.0
    private: Mapping[str, tuple[PullGrant, ...]] = field(default_factory=dict)

    def blobs(self) -> tuple[str, ...]:
        """Return the digests of all its blobs."""
        return (self.manifest, self.config, *self.layers, *([self.index] if self.index else []))

    def is_open(self) -> bool:
        """Return True when everyone may use the image by one of its names."""
        return not self.private or not self._repositories() <= set(self.private)

    def is_open_to(self, repository: str) -> bool:
        """Return True when a pull from this repository may use the image's blobs without downloading them.

        This is so when everyone may use the image by one of its names, or when the image is from this repository.
        """
        return self.is_open() or repository in self._repositories()

    def _repositories(self) -> set[str]:
        tags = (name.rpartition(":")[0] for name in self.tags)
        return {*self.private, *tags, *(name.partition("@")[0] for name in self.digests)}


class NameIndex:
    """The index file of a store. Writers hold the store's lock exclusively; readers need none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, ...] = ()
        self._images: tuple[NamedImage, ...] = ()

    def read(self) -> tuple[NamedImage, ...]:
        """Return the images, in the order in which they were added. Raises StoreError."""
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
                if stamp == self._stamp:
                    return self._images
                images = _parse(file.read())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise StoreError(
                f"cannot read the list of images {self._path}: {error.strerror}",
                f"`ls -ld {self._path.parent}` shows whose it is; --state-dir takes another directory",
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise StoreError(
                f"cannot read the list of images {self._path}: {error}",
                "move the file away; then pull or load the images again",
            ) from error
        # The order matters: another thread that reads at the same time must not get old images with the new stamp.
        self._stamp = ()
        self._images = images
        self._stamp = stamp
        return images

    def write(self, images: tuple[NamedImage, ...]) -> None:
        """Replace the file. The caller holds the store's lock exclusively. Raises OSError."""
        # Remove the temporary file that a killed writer has left.
        for path in self._path.parent.glob(f".{self._path.name}.*"):
            path.unlink(missing_ok=True)
        document = {"version": _VERSION, "images": [asdict(image) for image in images]}
        write_private(self._path, json.dumps(document, indent=1).encode())
        sync_directory(self._path.parent)


def _parse(text: bytes) -> tuple[NamedImage, ...]:
    document = json.loads(text)
    if document["version"] != _VERSION:
        raise ValueError(f"its version is {document['version']}, of a newer release of Hatchway")
    return tuple(
        NamedImage(
            manifest=found["manifest"],
            config=found["config"],
            layers=tuple(found["layers"]),
            index=found["index"],
            tags=tuple(found["tags"]),
            digests=tuple(found["digests"]),
            added=found["added"],
            # Earlier releases did not write this field.
            private={
                str(name): tuple(PullGrant(str(secret), str(credential)) for secret, credential in grants)
                for name, grants in found.get("private", {}).items()
            },
        )
        for found in document["images"]
    )


def without_tag(image: NamedImage, reference: Reference) -> NamedImage:
    """Return the image without a tag. If no tag of the same repository is left, its digests are removed, too."""
    tags = tuple(tag for tag in image.tags if tag != f"{reference.name}:{reference.tag}")
    digests = image.digests
    if not any(tag.startswith(f"{reference.name}:") for tag in tags):
        digests = tuple(name for name in digests if not name.startswith(f"{reference.name}@"))
    return replace(image, tags=tags, digests=digests)


def move_tag(image: NamedImage, others: list[NamedImage], reference: Reference) -> tuple[NamedImage, list[NamedImage]]:
    """Return the image that gets a tag, and the other images without this tag. As in Docker, digests stay.

    An image that loses its last tag, and has the same configuration (and so the same files) as `image`, is replaced by
    `image`.
    """
    left = []
    for one in others:
        tags = tuple(tag for tag in one.tags if tag != f"{reference.name}:{reference.tag}")
        if len(tags) == len(one.tags):
            left.append(one)
        elif not tags and one.config == image.config:
            digests = tuple(dict.fromkeys([*image.digests, *one.digests]))
            image = replace(image, digests=digests, private={**one.private, **image.private})
        else:
            left.append(replace(one, tags=tags))
    return image, left


def with_name(image: NamedImage, reference: Reference, index_digest: str, grant: PullGrant | None = None) -> NamedImage:
    """Return the image with one more name. Raises BadImage when the name has the digest of another image.

    grant: the pod's Secret with which the image was pulled; None when everyone may use it. If everyone may already use
    the image by names of this repository, this does not change.
    """
    if reference.digest and reference.digest not in (image.manifest, image.index, index_digest):
        raise BadImage(f"{reference} is not the name of the manifest {image.manifest}")
    digests = [f"{reference.name}@{digest}" for digest in (index_digest, image.manifest) if digest]
    tags = [f"{reference.name}:{reference.tag}"] if reference.tag else []
    return replace(
        image,
        tags=tuple(dict.fromkeys([*image.tags, *tags])),
        digests=tuple(dict.fromkeys([*image.digests, *digests])),
        private=_with_grant(image, reference.name, grant),
    )


def _with_grant(image: NamedImage, repository: str, grant: PullGrant | None) -> dict[str, tuple[PullGrant, ...]]:
    others = {name: grants for name, grants in image.private.items() if name != repository}
    known = image.private.get(repository)
    is_new = not any(name.startswith((f"{repository}:", f"{repository}@")) for name in (*image.tags, *image.digests))
    if grant is None or (known is None and not is_new):
        return others
    return {**others, repository: tuple(dict.fromkeys([grant, *(known or ())]))[:_MOST_GRANTS]}


def digest_name(reference: Reference) -> str:
    """Return the complete name of a reference with a digest."""
    return f"{reference.name}@{reference.digest}"
