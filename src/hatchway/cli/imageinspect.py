"""`hatchway image inspect`: describes images with the fields of `docker image inspect`."""

from __future__ import annotations

import click

from hatchway.cli import options
from hatchway.cli.imagestore import complete_image, find_image, open_store
from hatchway.cli.printing import print_data


@click.command(
    short_help="Print what is known of images, as JSON.",
    epilog=options.examples("""
    hatchway image inspect web:1
    hatchway image inspect web:1 | jq -r '.[0].Config.Env[]'
    hatchway image inspect 4f2a91c03d17 -o yaml
    """),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_image)
@options.output("json", "yaml")
@options.state_dir
def inspect(images: tuple[str, ...], output: str, state_dir: str | None) -> None:
    """Print what is known of images: names, platform, configuration, layers; with the fields of `docker inspect`.

    IMAGE: a name, an ID, or the first digits of an ID.
    """
    from hatchway.images.store.inspection import describe

    store = open_store(state_dir)
    print_data([describe(store, find_image(store, name)[0]) for name in images], output)
