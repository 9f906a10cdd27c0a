"""`hatchway image load`: brings images from a file into the store."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from hatchway.cli import options
from hatchway.cli.imagestore import open_store, parse_name
from hatchway.cli.printing import say
from hatchway.errors import HatchwayError
from hatchway.printable import printable


@click.command(
    short_help="Load images from a file.",
    epilog=options.examples("""
    hatchway image load web.tar
    docker save web:1 | hatchway image load -
    skopeo copy docker://nginx oci-archive:nginx.tar && hatchway image load nginx.tar --name nginx
    hatchway image load ./layout --platform linux/arm64
    """),
)
@click.argument("file", metavar="FILE")
@click.option("--name", metavar="NAME", help="The image's name, in place of the names in the file.")
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    show_default="this machine's",
    help="The platform to load when an image is for several.",
)
@options.state_dir
def load(file: str, name: str | None, platform: str | None, state_dir: str | None) -> None:
    """Load images: an archive of `docker save`, `podman save` or skopeo, or a directory with an OCI image layout.

    FILE: the archive, plain or compressed with gzip or zstd; or the directory; - reads an archive from standard input.
    If one image of it cannot be used, none is loaded.
    """
    if file == "-" and sys.stdin.isatty():
        raise click.BadParameter("standard input is a terminal; write a file, or pipe an archive", param_hint="FILE")
    from hatchway.images.archives.loading import load_archive, load_directory
    from hatchway.images.contents import BadImage
    from hatchway.images.platforms import matches, parse_platform, this_machine

    reference = parse_name(name, "--name") if name is not None else None
    if reference is not None and reference.digest:
        raise click.BadParameter("an image cannot be given a digest; write a tag", param_hint="--name")
    try:
        wanted = parse_platform(platform) if platform else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--platform") from error
    store = open_store(state_dir)
    try:
        if file == "-":
            loaded = load_archive(store, sys.stdin.buffer, name=reference, platform=wanted)
        elif Path(file).is_dir():
            loaded = load_directory(store, Path(file), name=reference, platform=wanted)
        else:
            with open(file, "rb") as archive:
                loaded = load_archive(store, archive, name=reference, platform=wanted)
    except BadImage as error:
        raise HatchwayError(f"cannot load {'standard input' if file == '-' else file}: {error}", error.hint) from error
    for one in loaded:
        for tag in one.names:
            say(printable(f"Loaded image: {tag.familiar}"))
            if tag.tag == "latest":
                told = f"note: pods pull {tag.familiar} again, unless their imagePullPolicy is IfNotPresent or Never"
                click.echo(printable(told), err=True)
        if not one.names:
            say(f"Loaded image ID: {one.image.image_id}")
        config = one.image.config
        if not matches(this_machine(), config.os, config.architecture):
            click.echo(
                printable(f"note: it is made for {config.os}/{config.architecture}, and this is {this_machine()}"),
                err=True,
            )
