"""`hatchway token`: prints a bearer token for an embedded cluster."""

from __future__ import annotations

import re

import click

from hatchway.cli import options
from hatchway.cli.printing import print_data

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(?:[0-9]+[smhd])+\Z")
_LONGEST_DIGITS = 12


@click.command(
    short_help="Print a bearer token.",
    epilog=options.examples("""
    hatchway token
    hatchway token --user ada --group devs --duration 1h
    curl --cacert ~/.local/state/hatchway/hatchway/pki/ca.crt \\
      -H "Authorization: Bearer $(hatchway token)" https://127.0.0.1:6443/version
    """),
)
@options.own_name
@options.state_dir
@click.option("--user", metavar="NAME", show_default="the administrator", help="The user.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="A group of the user; may be repeated.")
@click.option(
    "--duration",
    metavar="TIME",
    show_default="24h; without --user as long as the cluster",
    help="How long the token is valid, like 90s, 30m, 1h30m or 7d.",
)
@options.output("text", "json", "yaml")
def token(
    name: str, state_dir: str | None, user: str | None, groups: tuple[str, ...], duration: str | None, output: str
) -> None:
    """Print a bearer token: the administrator's, or any user's."""
    from hatchway.cluster import inventory
    from hatchway.cluster.auth import credentialfiles
    from hatchway.cluster.state import StateDir

    seconds = _seconds(duration or "24h")
    if not all(groups):
        raise click.BadParameter("a group's name is empty", param_hint="--group")
    state = StateDir.for_name(inventory.check_name(name), state_dir)
    inventory.require(state)
    if user is None and groups:
        raise click.BadParameter("groups belong to a user: add --user NAME", param_hint="--group")
    who, its_groups = (
        (user, list(groups)) if user is not None else (credentialfiles.ADMIN, list(credentialfiles.ADMIN_GROUPS))
    )
    if user is not None or duration is not None:
        text = credentialfiles.mint_token(state, user=who, groups=its_groups, seconds=seconds)
    else:
        text = credentialfiles.ensure_admin_token(state)
    if output == "text":
        print(text)
    else:
        print_data({"user": who, "groups": its_groups, "token": text}, output)


def _seconds(text: str) -> int:
    if not _DURATION.match(text) or len(text) > _LONGEST_DIGITS:
        raise click.BadParameter(
            f'"{text}" is not a duration; write 90s, 30m, 24h, 7d or 1h30m', param_hint="--duration"
        )
    total = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhd])", text))
    if not 1 <= total <= 10 * 365 * 86400:
        raise click.BadParameter("it must be between one second and ten years", param_hint="--duration")
    return total
