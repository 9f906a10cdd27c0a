"""`hatchway password`: sets up HTTP basic authentication for a user of an embedded cluster."""

from __future__ import annotations

import sys

import click

from hatchway.cli import options


@click.command(
    short_help="Allow a user to log in by HTTP basic authentication.",
    epilog=options.examples("""
    hatchway password ada --group system:masters
    printf %s "$SECRET" | hatchway password ada
    hatchway password ada --remove
    """),
)
@click.argument("user")
@options.own_name
@options.state_dir
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group of the user; may be repeated.")
@click.option("--remove", is_flag=True, help="Remove the user.")
def password(user: str, name: str, state_dir: str | None, groups: tuple[str, ...], remove: bool) -> None:
    """Allow USER to log in by HTTP basic authentication.

    A browser can then open the API server's URLs. Basic authentication is off while there is no such user. The command
    asks for the password, or reads it from standard input.
    """
    from hatchway.cluster import inventory
    from hatchway.cluster.auth import credentialfiles
    from hatchway.cluster.state import StateDir
    from hatchway.errors import HatchwayError

    state = StateDir.for_name(inventory.check_name(name), state_dir)
    inventory.require(state)
    if remove:
        credentialfiles.remove_password(state, user)
        print(f'user "{user}" was removed')
        return
    if sys.stdin.isatty():
        secret = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        secret = sys.stdin.readline().rstrip("\n")
    if not secret:
        raise HatchwayError("the password is empty", "type one, or write it to standard input")
    credentialfiles.set_password(state, user=user, groups=list(groups), password=secret)
    print(f'user "{user}" can log in by password')
