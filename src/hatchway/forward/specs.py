"""Parses the forwards that a user asks for, on the command line or in the lines of a file. Pure.

    svc/web 8080:80 admin svc/db.shop 5432 deploy/api 3000 pod/debug-0 :9229

The first word is a target, and so is every later word that has a slash or is an IP address. All other words are ports
of the target before them. A target's word may end with a port (`svc/db:5432`); a target without any port means all its
TCP ports. `/udp` after a port means UDP (`svc/dns 5353:53/udp`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hatchway.errors import HatchwayError
from hatchway.numerals import is_digits
from hatchway.target import KINDS, Target, parse_host_argument, parse_qualified_argument

# A port's name in Kubernetes (IANA_SVC_NAME, RFC 6335 section 5.1).
_PORT_NAME = re.compile(r"(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z")
_WRITE_PORT = "write PORT, LOCAL:PORT, or :PORT for any free local port"


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port that is forwarded.

    remote: the number or the name of the target's port.
    local: the local port; 0 for any free port; None for the number of the remote port, or any free port when that
        number is in use.
    protocol: TCP or UDP.
    """

    remote: str
    local: int | None = None
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True)
class ForwardSpec:
    """A target, and the ports to forward.

    target: without a port and a scheme.
    ports: an empty tuple means all TCP ports.
    """

    target: Target
    ports: tuple[PortSpec, ...] = ()


def parse_words(words: Sequence[str], namespace: str | None, default: str) -> list[ForwardSpec]:
    """Parse the words of a command line.

    Args:
        words: targets and their ports.
        namespace: the namespace of the option -n; None without that option.
        default: the namespace to use when none is given.

    Raises:
        HatchwayError: a word is neither a target nor a port.
    """
    specs: list[ForwardSpec] = []
    for word in words:
        bare, protocol = _split_protocol(word)
        host = parse_host_argument(bare)
        if host is not None:
            specs.append(_with_port(host, word, protocol))
        elif not specs or "/" in bare:
            specs.append(_with_port(parse_qualified_argument(bare, namespace, default, workloads=True), word, protocol))
        else:
            last = specs[-1]
            specs[-1] = replace(last, ports=(*last.ports, replace(_parse_port(bare), protocol=protocol or "TCP")))
    return specs


def parse_lines(lines: Iterable[str], namespace: str | None, default: str, source: str) -> list[ForwardSpec]:
    """Parse the lines of a file: each has the words of a command line, and may have `-n NAMESPACE`.

    Empty lines, and text after a `#`, are ignored.

    namespace, default: as in `parse_words`. source: the file's name, for errors.

    Raises:
        HatchwayError: a line cannot be parsed; the message has `source` and the line's number.
    """
    specs: list[ForwardSpec] = []
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line, comments=True)
            own, words = _take_namespace(words)
            specs += parse_words(words, own or namespace, default)
        except ValueError as error:
            raise HatchwayError(f"{source}, line {number}: {error}") from error
        except HatchwayError as error:
            raise HatchwayError(f"{source}, line {number}: {error.message}", error.hint) from error
    return specs


def _take_namespace(words: list[str]) -> tuple[str | None, list[str]]:
    found: str | None = None
    left: list[str] = []
    following = iter(words)
    for word in following:
        name, equals, value = word.partition("=")
        if name not in ("-n", "--namespace"):
            if word.startswith("-"):
                raise HatchwayError(f"{word} is not allowed in a line of a file", "the only option is -n NAMESPACE")
            left.append(word)
            continue
        found = value if equals else next(following, "")
        if not found:
            raise HatchwayError(f"{name} needs a namespace")
    return found, left


def _split_protocol(word: str) -> tuple[str, str]:
    """Return (a word without the protocol at its end, the protocol in capitals or "")."""
    head, slash, last = word.rpartition("/")
    # `svc/udp` does not end with a protocol: it is a service called `udp`.
    if slash and last.lower() in ("tcp", "udp") and head.lower() not in (*KINDS, "host"):
        return head, last.upper()
    return word, ""


def _with_port(target: Target, word: str, protocol: str) -> ForwardSpec:
    """Return the spec of a target, with the port that the target's word may contain. word: this word, for errors."""
    if protocol and not target.port:
        raise HatchwayError(f"{word}: {protocol} needs a port", _WRITE_PORT)
    ports = (PortSpec(_check_remote(target.port, word), protocol=protocol or "TCP"),) if target.port else ()
    return ForwardSpec(replace(target, port="", scheme=""), ports)


def _parse_port(word: str) -> PortSpec:
    local, colon, remote = word.rpartition(":")
    if not colon:
        number = int(remote) if is_digits(remote) else None
        return PortSpec(_check_remote(remote, word), number)
    if local and not is_digits(local):
        raise HatchwayError(
            f'"{word}": "{local}" is not a local port',
            f"{_WRITE_PORT}; another target has its kind before it: svc/{word}",
        )
    if local and (len(local) > 5 or int(local) > 65535):
        raise HatchwayError(f'"{word}": local ports go up to 65535', _WRITE_PORT)
    return PortSpec(_check_remote(remote, word), int(local or "0"))


def _check_remote(remote: str, word: str) -> str:
    if is_digits(remote):
        if len(remote) > 5 or not 0 < int(remote) < 65536:
            raise HatchwayError(f'"{word}": ports go from 1 to 65535', _WRITE_PORT)
        return str(int(remote))
    if not _PORT_NAME.match(remote):
        raise HatchwayError(
            f'"{word}" is neither a port nor a target', f"{_WRITE_PORT}; targets are svc/NAME, deploy/NAME or pod/NAME"
        )
    return remote
