"""`hatchway image pull`: brings images from registries into the store."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import click

from hatchway.cli import options
from hatchway.cli.imagestore import complete_image, open_store, parse_name
from hatchway.cli.registryflags import registry_options

if TYPE_CHECKING:
    from hatchway.cli.pullscreen import PullScreen
    from hatchway.images.contents import Image
    from hatchway.images.platforms import Platform
    from hatchway.images.pulling.dockerconfig import UserCredentials
    from hatchway.images.pulling.pull import PullError
    from hatchway.images.pulling.registries import Registries
    from hatchway.images.reference import Reference
    from hatchway.images.store.store import ImageStore


@click.command(
    short_help="Pull images from registries.",
    epilog=options.examples("""
    hatchway image pull nginx:1.27 redis
    hatchway image pull ghcr.io/org/app@sha256:...
    hatchway image pull --platform linux/arm64 alpine
    hatchway image pull --insecure-registry registry.local:5000 registry.local:5000/app
    """),
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_image)
@click.option(
    "--platform", metavar="OS/ARCH[/VARIANT]", default="", show_default="this machine's", help="For which machine."
)
@click.option("--quiet", "-q", is_flag=True, help="Print only the names of the images.")
@registry_options
@options.state_dir
def pull(names: tuple[str, ...], platform: str, quiet: bool, registries: Registries, state_dir: str | None) -> None:
    """Download images into the store. Layers that the store has already are not downloaded again.

    Credentials come from `docker login` and `podman login`, and from their credential helpers. A registry on this
    machine needs no TLS. HTTPS_PROXY, HTTP_PROXY and NO_PROXY are used. After an interruption, the same command
    continues the downloads. docs/images.md describes mirrors and certificates (registries.toml).
    """
    import asyncio

    from hatchway.cluster.node.hostprograms import why_not_pulled
    from hatchway.images.platforms import parse_platform

    references = list(dict.fromkeys(parse_name(name, "NAME") for name in names))
    for name in names:
        if reserved := why_not_pulled(name):
            raise click.BadParameter(f'"{name}" cannot be pulled: {reserved}', param_hint="NAME")
    try:
        wanted = parse_platform(platform) if platform else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--platform") from error
    asyncio.run(_pull_all(open_store(state_dir), references, wanted, registries, quiet=quiet))


async def _pull_all(
    store: ImageStore,
    references: list[Reference],
    platform: Platform | None,
    registries: Registries,
    *,
    quiet: bool,
) -> None:
    """Pull the images one after the other. The first that fails ends the command."""
    from hatchway.cli.pullscreen import PullScreen
    from hatchway.images.pulling.dockerconfig import find_credentials
    from hatchway.images.pulling.pull import PullError, pull
    from hatchway.remote.console import ending_signals

    hosts = [server.name for one in references for server in registries.endpoints(one.registry)]
    with ending_signals():
        user = await find_credentials(hosts, os.environ)
        for reference in references:
            screen = PullScreen(reference.familiar, quiet=quiet)
            began = time.monotonic()
            try:
                image = await pull(
                    store,
                    reference,
                    credentials=user.credentials,
                    registries=registries,
                    platform=platform,
                    progress=screen.show,
                )
            except PullError as error:
                raise _explained(error, user) from error
            finally:
                screen.close()
            if quiet:
                click.echo(str(reference))
            else:
                click.echo(_summary(reference, image, screen, time.monotonic() - began))
            sys.stdout.flush()


def _explained(error: PullError, user: UserCredentials) -> PullError:
    """Add the problems of the user's credentials to the hint of a refused pull."""
    if user.problems and error.kind in ("denied", "not-found", "limited"):
        error.hint = "\n".join([error.hint, *user.problems] if error.hint else user.problems)
    return error


def _summary(reference: Reference, image: Image, screen: PullScreen, seconds: float) -> str:
    from hatchway.cli.printing import counted, size

    fetched = f"{size(screen.fetched)} fetched in {seconds:.1f} s" if screen.fetched else "nothing had to be fetched"
    digest = next((one.rpartition("@")[2] for one in image.digests if one.startswith(f"{reference.name}@")), "")
    return f"{reference}: {digest or image.manifest_digest}, {counted(len(image.layers), 'layer')}, {fetched}"
