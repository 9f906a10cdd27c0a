"""`hatchway token`: a bearer token of an embedded cluster."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from hatchway.cli.options import Name, StatePath
from hatchway.cluster import lifecycle
from hatchway.cluster.state import DEFAULT_NAME, StateDir

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:[0-9]+[smhd])+\Z")


def token(
    name: Name = DEFAULT_NAME,
    state_dir: StatePath = None,
    user: Annotated[str | None, typer.Option(help="For this user.", show_default="the administrator")] = None,
    group: Annotated[list[str] | None, typer.Option("--group", help="A group of the user; may be repeated.")] = None,
    duration: Annotated[
        str | None,
        typer.Option(
            help="How long it is good for: 90s, 30m, 1h30m, 7d.",
            show_default="24h; without --user as long as the cluster",
        ),
    ] = None,
) -> None:
    """Print a bearer token: the administrator's, or any user's."""
    from hatchway.cluster.auth import credentials

    seconds = _seconds(duration or "24h")
    if not all(group or ()):
        raise typer.BadParameter("a group's name is empty", param_hint="--group")
    state = StateDir.for_name(lifecycle.check_name(name), state_dir)
    lifecycle.require(state)
    if user is None and group:
        raise typer.BadParameter("groups belong to a user: add --user NAME", param_hint="--group")
    if user is not None:
        print(credentials.mint_token(state, user=user, groups=group or [], seconds=seconds))
    elif duration is not None:
        administrator, groups = credentials.ADMIN, credentials.ADMIN_GROUPS
        print(credentials.mint_token(state, user=administrator, groups=groups, seconds=seconds))
    else:
        print(credentials.admin_token(state))


def _seconds(text: str) -> int:
    if not _DURATION.match(text):
        raise typer.BadParameter("write 90s, 30m, 24h, 7d or 1h30m", param_hint="--duration")
    total = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))
    if not 1 <= total <= 10 * 365 * 86400:
        raise typer.BadParameter("it must be between one second and ten years", param_hint="--duration")
    return total
