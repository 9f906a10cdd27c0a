"""`hatchway password`: HTTP basic authentication for a user of an embedded cluster."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hatchway.cli.options import Name, StatePath
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir
from hatchway.errors import HatchwayError


def password(
    user: Annotated[str, typer.Argument(help="The user.")],
    name: Name = DEFAULT_NAME,
    state_dir: StatePath = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group of the user; may be repeated.")] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget the user.")] = False,
) -> None:
    """Let a user in by HTTP basic authentication.

    It is what a browser's address bar can send, and off as long as there is no such user. The password is asked for,
    or read from standard input.
    """
    from hatchway.cluster.auth import credentials

    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    lifecycle.require(state)
    if remove:
        credentials.remove_password(state, user)
        print(f'user "{user}" is forgotten')
        return
    if sys.stdin.isatty():
        secret = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        secret = sys.stdin.readline().rstrip("\n")
    if not secret:
        raise HatchwayError("the password is empty", "type one, or send it by standard input")
    credentials.set_password(state, user=user, groups=group or [], password=secret)
    print(f'user "{user}" may come in by password')
