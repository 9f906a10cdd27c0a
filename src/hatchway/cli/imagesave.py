"""`hatchway image save`: writes images to an archive."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from hatchway.cli import options
from hatchway.cli.imagestore import complete_image, find_image, open_store

if TYPE_CHECKING:
    from hatchway.images.contents import Image
    from hatchway.images.reference import Reference


@click.command(
    short_help="Save images to an archive.",
    epilog=options.examples("""
    hatchway image save web:1 -o web.tar
    hatchway image save web:1 db:2 | zstd >images.tar.zst
    hatchway image save web:1 | docker load
    """),
)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...", shell_complete=complete_image)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    show_default="standard output",
    help="The file to write. An existing file is replaced when the archive is complete.",
)
@options.state_dir
def save(images: tuple[str, ...], output: str | None, state_dir: str | None) -> None:
    """Save images to an archive that `hatchway image load`, `docker load`, `podman load` and skopeo read.

    IMAGE: a name, an ID, or the first digits of an ID. In the archive, images have the names that are given here.
    """
    if output is None and sys.stdout.isatty():
        raise click.BadParameter("standard output is a terminal; write to a file, or to a pipe", param_hint="--output")
    from hatchway.images.archives.saving import save as write_archive

    store = open_store(state_dir)
    wanted: dict[str, tuple[Image, list[Reference]]] = {}
    for text in images:
        image, name = find_image(store, text)
        names = wanted.setdefault(image.manifest_digest, (image, []))[1]
        if name is not None and name.tag and name not in names:
            names.append(name)
    if output is None or not _is_file(output):
        with open(output, "wb") if output is not None else _standard_output() as stream:
            write_archive(store, list(wanted.values()), stream)
        return
    descriptor, temporary = tempfile.mkstemp(dir=Path(output).absolute().parent, prefix=f".{Path(output).name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write_archive(store, list(wanted.values()), file)
        # mkstemp gives the file mode 0600. Give it the mode of an ordinary new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, output)
    except BaseException as error:
        os.unlink(temporary)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = output
        raise


def _is_file(path: str) -> bool:
    """Return True for a file, which may not exist yet; False for a device such as /dev/null, or a FIFO."""
    return os.path.isfile(path) or not os.path.exists(path)


def _standard_output() -> BinaryIO:
    return open(os.dup(sys.stdout.fileno()), "wb")
