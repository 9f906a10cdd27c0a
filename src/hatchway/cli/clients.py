"""Command lines by which programs reach a host name of the door that they cannot resolve.

RFC 6761 (section 6.3) asks resolvers to answer names below `localhost` by themselves. Browsers, curl and
systemd-resolved do; glibc without it, musl and macOS's C library do not, and so neither do wget, Python, Java or
Node.js. A proxy's client sends the name instead of resolving it, and the door takes such requests (absolute form, RFC
9112 section 3.2.2).
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import sys

import click

from hatchway.target import Target, format_door_url, format_host_name, format_proxy_path

# Seconds to wait for a door on this machine.
_PATIENCE = 0.5
_PYTHON = "import urllib.request as r; print(r.urlopen({}).read().decode())"


def door_lines(
    target: Target, resolved: Target | None, rest: str, *, port: int, domain: str = "localhost"
) -> dict[str, str]:
    """Return lines and addresses by what they are for, in the order in which they are printed.

    target: as the host name spells it.
    resolved: with the port that the API server finds; None where there is none.
    rest: path and query, with the slash at its beginning.
    Raises TargetError for names that no host name can carry.
    """
    name, url = format_host_name(target, domain), format_door_url(target, rest, port=port, domain=domain)
    proxy, quoted = f"http://127.0.0.1:{port}", shlex.quote(url)
    # An entry for localhost in NO_PROXY covers the names below it, too, and would bypass the door.
    through = f"no_proxy= NO_PROXY= http_proxy={proxy}"
    found = {
        "curl": f"curl --resolve {name}:{port}:127.0.0.1 {quoted}",
        "wget": f"{through} wget -qO- {quoted}",
        "python": f'{through} python3 -c "{_PYTHON.format(_in_shell(url))}"',
        "httpie": f"{through} http --ignore-stdin {quoted}",
        "java": f"java -Dhttp.proxyHost=127.0.0.1 -Dhttp.proxyPort={port} PROGRAM",
        "any": f"{through} PROGRAM",
        "hosts": f"127.0.0.1 {name}",
    }
    if resolved is not None:
        found["address"] = door_address(format_proxy_path(resolved, rest), port)
    return found


def _in_shell(url: str) -> str:
    """Return the URL as a Python string inside of double quotes of a shell."""
    escaped = url.replace("\\", "%5C").replace("'", "%27").replace('"', "%22")
    return "'" + escaped.replace("$", "\\$").replace("`", "\\`").replace("!", "%21") + "'"


def door_address(path: str, port: int) -> str:
    """Return the address of a proxy path at the door, which needs no name to be resolved."""
    return f"http://127.0.0.1:{port}{path}" if path else ""


def print_lines(found: dict[str, str], url: str) -> None:
    """Print what `door_lines` has found for people."""
    words = {
        "curl": "curl",
        "wget": "wget",
        "python": "Python",
        "httpie": "HTTPie",
        "java": "Java",
        "any": "most programs",
        "address": "an address alone",
        "hosts": "/etc/hosts",
    }
    print(f"{'browsers, curl':<17} {url}")
    for key, word in words.items():
        if key in found:
            print(f"{'old curls' if key == 'curl' else word:<17} {found[key]}")


def note_for_terminal(port: int, example: str) -> None:
    """Print notes below URLs of host names, on a terminal: what keeps the names from working.

    example: the arguments of `hatchway url` that print lines for other programs.
    """
    flag = f" --port {port}" if port != 8001 else ""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return
    if not _door_is_open(port):
        click.echo(f"note: no door is open on 127.0.0.1:{port}; `hatchway proxy{flag}` opens one", err=True)
    command = f"hatchway url {example} --clients{flag}"
    click.echo(f"note: browsers and curl resolve these names; for wget, Python, Java: `{command}`", err=True)


def _door_is_open(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), _PATIENCE):
        return True
    return False
