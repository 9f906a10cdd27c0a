"""Parses the node of `--ssh`. It is not in `ssh.py`, because the import of asyncssh takes time."""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.errors import HatchwayError
from hatchway.numerals import is_digits


@dataclass(frozen=True, slots=True)
class SshDestination:
    """A node to log in to.

    host: the node's name or address, or a `Host` of `~/.ssh/config`.
    user: "" for the user in `~/.ssh/config`, or the local user if that file names none.
    port: 0 for the port in `~/.ssh/config`, or 22 if that file names none.
    jump: hosts on the way, as in OpenSSH's `-J`; "" for the hosts in `~/.ssh/config`.
    """

    host: str
    user: str = ""
    port: int = 0
    jump: str = ""

    @classmethod
    def parse(cls, text: str, jump: str = "") -> SshDestination:
        """Parse `[USER@]HOST[:PORT]`, with an IPv6 address in brackets. Raises HatchwayError."""
        user, at, place = text.rpartition("@")
        host, colon, port = place.rpartition(":")
        if not colon or place.endswith("]"):
            host, port = place, ""
        host = host.removeprefix("[").removesuffix("]")
        right_port = not colon or not port or (is_digits(port) and 0 < int(port) < 65536)
        # A text that begins with "-" is an option in the wrong place.
        if not host or host.startswith("-") or (at and not user) or not right_port or any(c.isspace() for c in text):
            raise HatchwayError(f'--ssh: "{text}" is not a node to log in to', "write USER@HOST or USER@HOST:PORT")
        return cls(host, user, int(port) if port else 0, jump)

    def __str__(self) -> str:
        place = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{place}" if self.user else place
