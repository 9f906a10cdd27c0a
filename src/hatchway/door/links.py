"""Addresses in an application's answers, as they are right at the door.

An application knows itself under other names than the door does: its name in the cluster, the Host that it was told, the
path under which the API server shows it. Redirects to any of them come back to the door.
"""

from __future__ import annotations

import re

from hatchway.target import Target

_URL = re.compile(rb"(https?):(//)([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_ELSEWHERE = re.compile(rb"(?:https?:)?//([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)


def own_names(target: Target) -> frozenset[bytes]:
    """Host names, without port, that stand for the target inside the cluster."""
    if target.kind != "services":
        return frozenset((target.name.encode(),))
    name, namespace = target.name, target.namespace
    spellings = (name, f"{name}.{namespace}", f"{name}.{namespace}.svc", f"{name}.{namespace}.svc.cluster.local")
    return frozenset(text.encode() for text in spellings)


def loopback_names(port: str) -> frozenset[bytes]:
    """Hosts, with port, by which an application on this port knows itself on its own machine; none without a port.

    One that was never told another name redirects to them: in the browser they would lead to the person's own machine.
    """
    if not port:
        return frozenset()
    hosts = ("localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::]")
    return frozenset(f"{host}:{port}".encode() for host in hosts) | (
        frozenset(host.encode() for host in hosts) if port == "80" else frozenset()
    )


def outer_location(
    value: bytes,
    *,
    outer: bytes,
    sent: bytes,
    names: frozenset[bytes],
    prefix: bytes,
    loopback: frozenset[bytes] = frozenset(),
) -> bytes:
    """A Location (or the URL of a Refresh) as the browser should follow it.

    outer: the door's `Host` for the target. sent: the Host that the application was told. names: `own_names`. loopback:
    `loopback_names`. prefix: the path of the proxy verb, which the API server may have put before it, or b"".
    """
    found = _ELSEWHERE.match(value)
    if found is None:
        return without_prefix(value, prefix)
    host, rest = found.groups()
    lower = host.lower()
    if lower in (outer.lower(), sent.lower()) or lower in loopback or lower.partition(b":")[0] in names:
        return b"http://" + outer + (without_prefix(rest, prefix) or b"/")
    return value


def authority(url: bytes) -> bytes:
    """The host and port of an absolute URL, in lower case; b"" for any other."""
    found = _ELSEWHERE.match(url)
    return found[1].lower() if found is not None else b""


def without_prefix(path: bytes, prefix: bytes) -> bytes:
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"/", b"", b"?", b"#"):
        rest = path[len(prefix) :]
        return rest if rest[:1] == b"/" else b"/" + rest
    return path


def inner_url(value: bytes, *, outer: bytes, scheme: bytes, sent: bytes) -> bytes:
    """An Origin or a Referer as the application should see it: under the Host that it is told."""
    found = _URL.match(value)
    if found is None or found[3].lower() != outer.lower():
        return value
    return scheme + b"://" + sent + found[4]
