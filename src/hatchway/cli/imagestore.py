"""Shared by the commands of `hatchway image`: opens the store, and finds images by name or ID."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hatchway.errors import HatchwayError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from hatchway.images.contents import Image
    from hatchway.images.reference import Reference
    from hatchway.images.store.store import ImageStore

NONE = "<none>"


def open_store(state_dir: str | None) -> ImageStore:
    """Return the image store of this user."""
    from hatchway.images.store.store import ImageStore, store_path

    return ImageStore(store_path(state_dir))


def complete_image(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of images that begin with `incomplete`."""
    from click.shell_completion import CompletionItem

    try:
        found = open_store(ctx.params.get("state_dir")).images()
    except HatchwayError:
        return []
    names = sorted(name for image in found for name in familiar_tags(image))
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def find_image(store: ImageStore, text: str) -> tuple[Image, Reference | None]:
    """Return the image that has this name, or an ID that begins so. Also return the name; None if `text` is an ID.

    A name is preferred to the beginning of an ID, as in Docker.

    Raises:
        HatchwayError: there is no such image.
    """
    from hatchway.images.reference import ImageNameError, parse

    if not text.startswith("sha256:"):
        try:
            reference = parse(text)
        except ImageNameError as error:
            raise HatchwayError(f'"{text}" is not the name of an image: {error}') from error
        if (image := store.find(reference)) is not None:
            return image, reference
    if (image := store.find(text)) is not None:
        return image, None
    raise HatchwayError(f'there is no image "{text}"', "`hatchway image ls` lists all images")


def parse_name(text: str, what: str) -> Reference:
    """Parse an image's name from the command line. what: its argument or option. Raises click.BadParameter."""
    from hatchway.images.reference import ImageNameError, parse

    try:
        return parse(text)
    except ImageNameError as error:
        raise click.BadParameter(f'"{text}" is not the name of an image: {error}', param_hint=what) from error


def familiar_tags(image: Image) -> list[str]:
    """Return an image's tags as people write them: `nginx:1.27`."""
    from hatchway.images.reference import parse

    return [parse(name).familiar for name in image.tags]


def short_id(image: Image) -> str:
    """Return the twelve digits by which Docker shows an image."""
    return image.image_id.partition(":")[2][:12]
