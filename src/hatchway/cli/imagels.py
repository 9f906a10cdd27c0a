"""`hatchway image ls`: the images in the store, as `docker images` lists them."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from hatchway.cli import options
from hatchway.cli.imagestore import NONE, complete_image, open_store, parse_name, short_id
from hatchway.cli.printing import print_data, print_table, size
from hatchway.cli.usage import Text

if TYPE_CHECKING:
    from hatchway.images.contents import Image
    from hatchway.images.reference import Reference
    from hatchway.images.store.store import ImageStore


@click.command(
    short_help="List images.",
    epilog=options.examples("""
    hatchway image ls
    hatchway image ls web
    hatchway image ls --digests
    hatchway image ls --dangling -o name | xargs hatchway image rm
    """),
)
@click.argument("name", type=Text(empty=True), default="", shell_complete=complete_image)
@click.option("--digests", is_flag=True, help="Show the digests by which registries know the images, too.")
@click.option(
    "--dangling", is_flag=True, help="Only images without a tag, such as those whose tag was given to another image."
)
@options.output("text", "name", "json", "yaml")
@options.state_dir
def ls(name: str, digests: bool, dangling: bool, output: str, state_dir: str | None) -> None:
    """List the images, the newest first. An image with several names has a line for each.

    NAME: list only images with this name; without a tag, it matches all tags. SIZE is the size of the stored files,
    which are mostly compressed; a layer that several images share counts for each of them. -o name prints the ID of an
    image without a tag.
    """
    wanted = parse_name(name, "NAME") if name else None
    has_tag = ":" in name.rpartition("/")[2]
    store = open_store(state_dir)
    images = store.images()
    tagged = {one.image_id for one in images if one.tags}
    # The same image may be stored twice, with differently compressed layers. An entry without a tag is not shown if
    # another entry of the image has one.
    found = [one for one in reversed(images) if (one.tags and not dangling) or one.image_id not in tagged]
    rows = [row for image in found for row in _rows(image) if _matches(row, wanted, has_tag)]
    if output == "name":
        for row in rows:
            click.echo(row["name"] if row["tag"] else row["image"].image_id)
    elif output != "text":
        shown = {row["image"].manifest_digest: row["image"] for row in rows}
        print_data([summary(store, image) for image in shown.values()], output)
    elif rows:
        print_table([_header(digests), *(_cells(row, digests) for row in rows)])
    elif name or dangling:
        click.echo("there is no such image; `hatchway image ls` lists all", err=True)
    else:
        click.echo("there are no images yet; `hatchway image pull` or `load` brings some", err=True)


def summary(store: ImageStore, image: Image) -> dict[str, Any]:
    """Return an image's description for `-o json` and `-o yaml`."""
    return {
        "id": image.image_id,
        "tags": list(image.tags),
        "digests": list(image.digests),
        "created": image.config.created,
        "added": datetime.fromtimestamp(int(store.added_at(image))).astimezone().isoformat(),
        "size": image.size,
        "platform": f"{image.config.os}/{image.config.architecture}",
    }


def _rows(image: Image) -> list[dict[str, Any]]:
    """Return one row for each tag, and one for each repository in which the image has only a digest."""
    from hatchway.images.reference import parse

    rows = []
    digests = [parse(name) for name in image.digests]
    repositories = set()
    for reference in map(parse, image.tags):
        repositories.add(reference.name)
        digest = next((one.digest for one in digests if one.name == reference.name), "")
        rows.append({"repository": reference.familiar_name, "tag": reference.tag, "digest": digest})
        rows[-1]["name"] = reference.familiar
    for reference in digests:
        if reference.name not in repositories:
            repositories.add(reference.name)
            rows.append({"repository": reference.familiar_name, "tag": "", "digest": reference.digest, "name": ""})
    rows = rows or [{"repository": "", "tag": "", "digest": "", "name": ""}]
    return [{**row, "image": image} for row in rows]


def _matches(row: dict[str, Any], wanted: Reference | None, has_tag: bool) -> bool:
    if wanted is None:
        return True
    return bool(row["repository"] == wanted.familiar_name and (not has_tag or row["tag"] == wanted.tag))


def _header(digests: bool) -> list[str]:
    return ["REPOSITORY", "TAG", *(["DIGEST"] if digests else []), "IMAGE ID", "CREATED", "SIZE"]


def _cells(row: dict[str, Any], digests: bool) -> list[str]:
    image: Image = row["image"]
    return [
        row["repository"] or NONE,
        row["tag"] or NONE,
        *([row["digest"] or NONE] if digests else []),
        short_id(image),
        _age(image.config.created),
        size(image.size),
    ]


def _age(created: str) -> str:
    """Return an image's age: `3 weeks ago`; "N/A" when it is not known."""
    try:
        seconds = time.time() - datetime.fromisoformat(created).timestamp()
    except (ValueError, OverflowError):
        return "N/A"
    for unit, length in (("year", 31_536_000), ("month", 2_592_000), ("week", 604_800), ("day", 86_400)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}s ago"
    for unit, length in (("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}s ago"
    return "less than two minutes ago" if seconds >= 0 else "in the future"
