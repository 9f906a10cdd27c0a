"""`hatchway password`: HTTP basic authentication for a user of an embedded cluster."""

from __future__ import annotations

import sys

import click

from hatchway.cli import options


@click.command(
    short_help="Let a user in by HTTP basic authentication.",
    epilog=options.examples("""
    hatchway password ada --group system:masters
    printf %s "$SECRET" | hatchway password ada
    hatchway password ada --remove
    """),
)
@click.argument("user")
@options.own_name
@options.state_dir
@click.option("--group", "groups", multiple=True, help="A group of the user; may be repeated.")
@click.option("--remove", is_flag=True, help="Forget the user.")
def password(user: str, name: str, state_dir: str | None, groups: tuple[str, ...], remove: bool) -> None:
    """Let USER in by HTTP basic authentication.

    It is what a browser's address bar can send, and off as long as there is no such user. The password is asked for,
    or read from standard input.
    """
    from hatchway.cluster import lifecycle
    from hatchway.cluster.auth import credentials
    from hatchway.cluster.state import StateDir
    from hatchway.errors import HatchwayError

    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    lifecycle.require(state)
    if remove:
        credentials.remove_password(state, user)
        print(f'user "{user}" is forgotten')
        return
    if sys.stdin.isatty():
        secret = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        secret = sys.stdin.readline().rstrip("\n")
    if not secret:
        raise HatchwayError("the password is empty", "type one, or send it by standard input")
    credentials.set_password(state, user=user, groups=list(groups), password=secret)
    print(f'user "{user}" may come in by password')
