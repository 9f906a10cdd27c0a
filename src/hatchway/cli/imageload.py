"""`hatchway image load`: brings images from files into the store."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hatchway.cli import options
from hatchway.cli.imagestore import open_store, parse_name
from hatchway.cli.printing import explained, say
from hatchway.errors import HatchwayError
from hatchway.printable import printable

if TYPE_CHECKING:
    from hatchway.images.archives.loading import LoadedImage
    from hatchway.images.platforms import Platform
    from hatchway.images.reference import Reference
    from hatchway.images.store.store import ImageStore


@click.command(
    short_help="Load images from files.",
    epilog=options.examples("""
    hatchway image load web.tar
    hatchway image load *.tar
    docker save web:1 | hatchway image load -
    skopeo copy docker://nginx oci-archive:nginx.tar && hatchway image load nginx.tar --name nginx
    hatchway image load ./layout --platform linux/arm64
    """),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--name", metavar="NAME", help="The image's name, in place of the names in the file; only with one FILE.")
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT]",
    show_default="this machine's",
    help="The platform to load when an image is for several.",
)
@options.state_dir
def load(files: tuple[str, ...], name: str | None, platform: str | None, state_dir: str | None) -> None:
    """Load images: an archive of `docker save`, `podman save` or skopeo, or a directory with an OCI image layout.

    A FILE is a directory, or an archive: plain, or compressed with gzip or zstd; - reads an archive from standard
    input. If one image in a FILE cannot be used, no image in that FILE is loaded. The images in the other FILEs are
    still loaded.
    """
    if files.count("-") > 1:
        raise click.BadParameter("standard input can be read only once", param_hint="FILE")
    if name is not None and len(files) > 1:
        raise click.BadParameter("several files cannot have one name", param_hint="--name")
    if "-" in files and sys.stdin.isatty():
        raise click.BadParameter("standard input is a terminal; write a file, or pipe an archive", param_hint="FILE")
    from hatchway.images.platforms import parse_platform

    reference = parse_name(name, "--name") if name is not None else None
    if reference is not None and reference.digest:
        raise click.BadParameter("an image cannot be given a digest; write a tag", param_hint="--name")
    try:
        wanted = parse_platform(platform) if platform else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--platform") from error
    store = open_store(state_dir)
    failed: list[str] = []
    for file in files:
        try:
            _report(_load(store, file, reference, wanted))
        except (HatchwayError, OSError) as error:
            # The images in the other files are still loaded.
            if len(files) == 1:
                raise
            if isinstance(error, OSError):
                told = HatchwayError(f"cannot load {file}: {error.strerror or error}")
            else:
                told = error
            click.echo(f"hatchway: {explained(told.message, told.hint)}", err=True)
            failed.append(file)
    if failed:
        raise HatchwayError(
            f"{len(failed)} of {len(files)} files could not be loaded: {', '.join(failed)}",
            "the images in the other files are loaded" if len(failed) < len(files) else "",
        )


def _load(store: ImageStore, file: str, name: Reference | None, platform: Platform | None) -> list[LoadedImage]:
    """Load the images of one file. Raises HatchwayError."""
    from hatchway.images.archives.loading import load_archive, load_directory
    from hatchway.images.contents import BadImage

    try:
        if file == "-":
            return load_archive(store, sys.stdin.buffer, name=name, platform=platform)
        if Path(file).is_dir():
            return load_directory(store, Path(file), name=name, platform=platform)
        with open(file, "rb") as archive:
            return load_archive(store, archive, name=name, platform=platform)
    except BadImage as error:
        raise HatchwayError(f"cannot load {'standard input' if file == '-' else file}: {error}", error.hint) from error


def _report(loaded: Sequence[LoadedImage]) -> None:
    from hatchway.images.platforms import matches, this_machine

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
