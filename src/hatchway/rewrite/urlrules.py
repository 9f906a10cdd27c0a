"""URL rules: callables that rewrite one URL. Every rewriter of this package takes one.

`KubernetesRule` is `location.rewrite_location`. `PrefixRule` is for applications in browsers: their own addresses
become path-absolute, so that applications that build them from Host and a wrong scheme still work. `UnprefixRule`
removes a prefix. All rules are idempotent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from hatchway.rewrite.location import collapse_path, rewrite_location

# A rule takes a URL and returns the new one; the same object when nothing changes.
UrlRule = Callable[[bytes], bytes]

_OWN = re.compile(rb"(?:(?i:(https?|wss?)):)?//([^/?#\\]*)")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_DOTS = re.compile(rb"/(?:\.|%2[eE])")


def under(path: bytes, prefix: bytes) -> bool:
    """Return True when a path is under the prefix (without a slash at its end), by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"", b"/", b"?", b"#")


class KubernetesRule:
    """The API server's rule; see `location.rewrite_location` for the arguments."""

    def __init__(self, prefix: bytes, request_host: bytes, endpoint_host: bytes) -> None:
        self._prefix = prefix
        self._request_host = request_host
        self._endpoint_host = endpoint_host

    def __call__(self, value: bytes) -> bytes:
        """Return the rewritten URL; the same object when nothing changes."""
        found = rewrite_location(
            value, prefix=self._prefix, request_host=self._request_host, endpoint_host=self._endpoint_host
        )
        return value if found == value else found


class PrefixRule:
    """Puts path-absolute URLs under the prefix. URLs of one of `hosts` become path-absolute and get the prefix, too.

    `ws:` and `wss:` URLs keep scheme and host. Relative and foreign URLs stay unchanged.

    absolute: a host whose URLs stay absolute; b"" for none.
    """

    def __init__(self, prefix: bytes, hosts: Iterable[bytes], absolute: bytes = b"") -> None:
        self.prefix = prefix
        self._absolute = absolute.lower()
        self._hosts = frozenset(host.lower() for host in hosts if host)

    def __call__(self, value: bytes) -> bytes:
        """Return the rewritten URL; the same object when nothing changes."""
        if _CONTROL.search(value):
            return value
        if value[:1] == b"/" and value[1:2] not in (b"/", b"\\"):
            return self._path(value)
        own = _OWN.match(value)
        if own is None or own[2].lower() not in self._hosts:
            return value
        rest = value[own.end() :]
        if rest[:1] != b"/":
            rest = b"/" + rest
        scheme = own[1]
        found = self._path(rest)
        if (scheme is not None and scheme[:1] in b"wW") or (self._absolute and own[2].lower() == self._absolute):
            found = own[0] + found
        return value if found == value else found

    def _path(self, value: bytes) -> bytes:
        if _DOTS.search(value):  # a browser would resolve `..` to a path above the prefix
            path, mark, rest = _split(value)
            value = collapse_path(path) + mark + rest
        return value if under(value, self.prefix) else self.prefix + value


class UnprefixRule:
    """Removes the prefix from path-absolute URLs, and from URLs of one of `hosts`, which keep their origin."""

    def __init__(self, prefix: bytes, hosts: Iterable[bytes]) -> None:
        self.prefix = prefix
        self._hosts = frozenset(host.lower() for host in hosts if host)

    def __call__(self, value: bytes) -> bytes:
        """Return the rewritten URL; the same object when nothing changes."""
        origin = b""
        rest = value
        if value[:1] != b"/" or value[1:2] == b"/":
            own = _OWN.match(value)
            if own is None or own[2].lower() not in self._hosts:
                return value
            origin, rest = own[0], value[own.end() :]
        if not under(rest, self.prefix):
            return value
        rest = rest[len(self.prefix) :]
        if rest[:1] != b"/":
            rest = b"/" + rest
        if not origin and rest[:2] == b"//":
            rest = b"/." + rest  # two slashes would begin a host
        return origin + rest


def _split(url: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the path of a URL, the character that ends it ("?" or "#"), and the rest."""
    match = re.search(rb"[?#]", url)
    if match is None:
        return url, b"", b""
    return url[: match.start()], match[0], url[match.end() :]
