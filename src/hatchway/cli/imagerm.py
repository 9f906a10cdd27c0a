"""`hatchway image rm`: removes names of images, and images with their last name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from hatchway.cli import options
from hatchway.cli.imagestore import complete_image, find_image, open_store
from hatchway.cli.printing import complain, say
from hatchway.errors import HatchwayError
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.images.store.store import ImageStore


@click.command(
    short_help="Remove images.",
    epilog=options.examples("""
    hatchway image rm web:1
    hatchway image rm 4f2a91c03d17
    hatchway image rm -f web:1 web:2
    """),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_image)
@click.option(
    "--force", "-f", is_flag=True, help="Remove an image even if containers use it, or all names of an image by its ID."
)
@options.state_dir
@click.pass_context
def rm(ctx: click.Context, images: tuple[str, ...], force: bool, state_dir: str | None) -> None:
    """Remove images, as `docker rmi` does. If an image has several names, only the given name is removed.

    IMAGE: a name, an ID, or the first digits of an ID. An image that containers use is removed only with --force; its
    files then stay until the last of these containers ends.
    """
    store = open_store(state_dir)
    failed = False
    for name in images:
        try:
            _remove(store, name, force)
        except HatchwayError as error:
            if len(images) == 1:
                raise
            # As in Docker, the other images are removed even if there is an error for one.
            complain(error.message, error.hint)
            failed = True
    if failed:
        ctx.exit(1)


def _remove(store: ImageStore, name: str, force: bool) -> None:
    from hatchway.images.store.imageremoval import remove

    for line in remove(store, *find_image(store, name), force=force):
        say(printable(line))
