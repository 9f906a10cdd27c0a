"""Remove images by name or ID, with Docker's rules (Moby's `daemon/images/image_delete.go`)."""

from __future__ import annotations

from hatchway.errors import HatchwayError
from hatchway.images.contents import Image
from hatchway.images.reference import Reference, parse
from hatchway.images.store.store import ImageStore
from hatchway.images.store.storeuses import described


def remove(store: ImageStore, image: Image, name: Reference | None, *, force: bool = False) -> list[str]:
    """Remove a name of an image. Remove the image itself if this is its last name, or if it is given by its ID.

    Args:
        name: the name by which the image was found; None when it was found by its ID.
        force: True to remove the image by its ID although it has several names, or although containers use it.

    Returns:
        Docker's lines: `Untagged: NAME`, `Deleted: ID`.

    Raises:
        HatchwayError: the image has names of several repositories, or containers use it. `force` prevents this error.
    """
    if name is not None and _has_other_names(image, name):
        left = store.untag(name)
        kept = (*left.tags, *left.digests) if left is not None else ()
        return [f"Untagged: {parse(one).familiar}" for one in (*image.tags, *image.digests) if one not in kept]
    # The store has one entry for each manifest, and the same image may have several manifests, with differently
    # compressed layers.
    entries = [one for one in store.images() if one.image_id == image.image_id]
    tags = [tag for one in entries for tag in one.tags]
    if name is None and not force and len({parse(one).name for one in tags}) > 1:
        names = ", ".join(parse(one).familiar for one in tags)
        raise HatchwayError(
            f"the image {_short(image)} has names of several repositories: {names}",
            "remove it by each of its names, or with --force",
        )
    entries = [image] if name is not None else entries
    users = [user for one in entries for user in store.users(one)]
    if users and not force:
        raise HatchwayError(
            f"the image {parse(image.tags[0]).familiar if image.tags else _short(image)} is in use: {described(users)}",
            "end them first; or --force removes it, and its files stay until they have ended",
        )
    lines = []
    for entry in entries:
        store.remove(entry)
        lines += [f"Untagged: {parse(one).familiar}" for one in (*entry.tags, *entry.digests)]
    if store.find(image.image_id) is None:
        lines.append(f"Deleted: {image.image_id}")
    return lines


def _has_other_names(image: Image, name: Reference) -> bool:
    """Return True when the image has another tag, or a name in another repository."""
    if name.digest:
        return bool(image.tags) or any(parse(one).name != name.name for one in image.digests)
    others = [one for one in image.tags if one != f"{name.name}:{name.tag}"]
    return bool(others) or any(parse(one).name != name.name for one in image.digests)


def _short(image: Image) -> str:
    return image.image_id.partition(":")[2][:12]
