"""`hatchway image tag`: gives an image one more name."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.imagestore import complete_image, find_image, open_store, parse_name


@click.command(
    short_help="Give an image one more name.",
    epilog=options.examples("""
    hatchway image tag web:1 web:latest
    hatchway image tag 4f2a91c03d17 registry.example.com/team/web:1
    """),
)
@click.argument("image", shell_complete=complete_image)
@click.argument("name")
@options.state_dir
def tag(image: str, name: str, state_dir: str | None) -> None:
    """Give an image one more name. If another image has this name, that image loses it.

    IMAGE: a name, an ID, or the first digits of an ID. NAME: without a tag it means `latest`.
    """
    reference = parse_name(name, "NAME")
    if reference.digest:
        raise click.BadParameter("a name with a digest cannot be given; write a tag", param_hint="NAME")
    store = open_store(state_dir)
    store.tag(find_image(store, image)[0], reference)
