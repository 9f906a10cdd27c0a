"""`hatchway image prune`: removes unused images and files."""

from __future__ import annotations

import sys

import click

from hatchway.cli import options
from hatchway.cli.imagestore import familiar_tags, open_store
from hatchway.cli.printing import counted, say, size, warn
from hatchway.errors import HatchwayError
from hatchway.printable import printable


@click.command(
    short_help="Remove images that nothing needs.",
    epilog=options.examples("""
    hatchway image prune
    hatchway image prune --all --yes
    """),
)
@click.option("--all", "-a", "every", is_flag=True, help="Remove every image that no container uses now.")
@click.option("--yes", "-y", is_flag=True, help="Remove them without asking.")
@options.state_dir
def prune(every: bool, yes: bool, state_dir: str | None) -> None:
    """Remove the images without a tag that no container uses, unfinished downloads, and files that no image needs.

    With --all, images with a tag are removed, too. A stopped cluster uses no images: after its next start, its pods'
    images must be pulled or loaded again.
    """
    store = open_store(state_dir)
    if every and not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise HatchwayError("--all removes every image that no container uses", "add --yes to agree")
        click.confirm("Remove every image that no container uses now?", abort=True, err=True)
    garbage = store.prune(every=every)
    if store.path.is_dir():
        from hatchway.images.store.formerlayers import present_users, remove_former_layers

        former, problems = remove_former_layers(store.path, present_users())
        garbage.layers += former
        garbage.problems += problems
    for image in garbage.images:
        for name in familiar_tags(image):
            say(printable(f"Untagged: {name}"))
    for image_id in dict.fromkeys(image.image_id for image in garbage.images):
        if store.find(image_id) is None:
            say(f"Deleted: {image_id}")
    if garbage.layers:
        say(f"Deleted: {counted(garbage.layers, 'unpacked layer')}")
    for problem in garbage.problems:
        warn(problem)
    say(f"Total reclaimed space: {size(garbage.size)}")
