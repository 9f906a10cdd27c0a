"""Command lines for programs that cannot resolve the door's host names.

RFC 6761 (section 6.3) says that resolvers should answer names below `localhost` themselves. Browsers, curl and
systemd-resolved do. The C libraries (glibc without systemd-resolved, musl, macOS's) do not, so wget, Python, Java and
Node.js cannot resolve these names. A client of an HTTP proxy does not resolve the name but sends it to the proxy, and
the door accepts such requests (absolute form, RFC 9112 section 3.2.2).
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
    """Return command lines and addresses by program (`wget`, `hosts` ...), in the order in which they are printed.

    target: the target in the host name.
    resolved: the target with the port that the API server needs; None when no port was found.
    rest: path and query, beginning with a slash.

    Raises TargetError for a target without a host name.
    """
    name, url = format_host_name(target, domain), format_door_url(target, rest, port=port, domain=domain)
    proxy, quoted = f"http://127.0.0.1:{port}", shlex.quote(url)
    # no_proxy is cleared: an entry for localhost would also apply to names below it, and bypass the door.
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
    """Return the URL as a Python string literal for use inside double quotes of a shell."""
    escaped = url.replace("\\", "%5C").replace("'", "%27").replace('"', "%22")
    return "'" + escaped.replace("$", "\\$").replace("`", "\\`").replace("!", "%21") + "'"


def door_address(path: str, port: int) -> str:
    """Return the URL of a proxy path at the door. The URL has the door's IP address, so that it needs no resolver."""
    return f"http://127.0.0.1:{port}{path}" if path else ""


def print_lines(found: dict[str, str], url: str) -> None:
    """Print the result of `door_lines` as a table."""
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
    """On a terminal, print notes that explain why the host name in a URL may not work.

    example: arguments for `hatchway url` to print lines for other programs.
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
