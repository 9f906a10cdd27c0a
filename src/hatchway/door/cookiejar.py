"""Keeps the cookies of one user for one host name apart from the cookies of the other host names.

For a browser all host names below `svc.localhost` are one site: a page of service A may set a cookie with
`Domain=svc.localhost`, by a field or by script, and service B would receive it. So `Domain` is removed from every
Set-Cookie, and a browser's cookie is sent on to an application only if one of these is true:

- The cookie was set by a Set-Cookie of this host name, or its name begins with `__Host-`, which browsers accept only
from the host itself.
- The cookie has survived a challenge. In a challenge, the door answers the request with a redirect to the same address,
which deletes the cookies of this name from all parent domains, for the request's path and each of its parent paths. If
the browser still sends the cookie after that, the host's own pages have set it.

The redirect is a 307, which keeps method and body. One challenge is needed for each cookie that a script sets. A marker
shows that the browser has followed the redirect: a cookie with a random value, which no earlier request can have.
WebSockets cannot be redirected, so unknown cookies are left out of their requests.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

MARKER: Final = b"hatchway-own"

# The maximum number of cookies of one host that are remembered; browsers store 180 for a whole site.
_REMEMBERED: Final = 256
# Requests with deeper paths are not challenged, because every parent path needs a header field.
_DEPTH: Final = 16
_UNKNOWN_AT_ONCE: Final = 24
# At most _CHALLENGES challenges in _SECONDS: a browser that never returns the marker must not be redirected for ever.
_CHALLENGES: Final = 8
_SECONDS: Final = 10.0
# The maximum number of hosts of one user for which cookies are remembered.
_JARS: Final = 1024


@dataclass(frozen=True, slots=True)
class AdmittedCookies:
    """A Cookie field, split into known and unknown cookies.

    passed: the host's own cookies, as a field value; b"" for none.
    unknown: the names of all other cookies, without repetitions.
    """

    passed: bytes
    unknown: tuple[bytes, ...]


class CookieJar:
    """The known cookies of one user for one host name."""

    def __init__(self, host: bytes, domain: bytes) -> None:
        """Begin without any cookie.

        Args:
            host: the host name, without a port.
            domain: the door's domain, for which browsers set no cookies.
        """
        labels = host.removesuffix(b"." + domain).split(b".")
        self._parents = [b".".join(labels[start:]) + b"." + domain for start in range(1, len(labels))]
        # Digests of the host's own name=value pairs. (The pairs themselves may have any length.)
        self._own: OrderedDict[bytes, None] = OrderedDict()
        # Maps the marker of each unanswered challenge to the digests of the challenged pairs.
        self._challenged: OrderedDict[bytes, frozenset[bytes]] = OrderedDict()
        self._challenge_times: list[float] = []

    def admit(self, field: bytes) -> AdmittedCookies:
        """Split a Cookie field into the host's own cookies and others; remember those that survived a challenge."""
        pairs = [pair for pair in (one.strip(b" \t") for one in field.split(b";")) if pair]
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if name == MARKER and value in self._challenged:
                for outlived in self._challenged.pop(value).intersection(map(_digest, pairs)):
                    self._remember(outlived)
        passed: list[bytes] = []
        unknown: list[bytes] = []
        for pair in pairs:
            name = pair.partition(b"=")[0]
            if name == MARKER:
                continue
            digest = _digest(pair)
            if digest in self._own:
                self._own.move_to_end(digest)
                passed.append(pair)
            elif name.lower().startswith(b"__host-"):
                passed.append(pair)
            else:
                unknown.append(name)
        return AdmittedCookies(b"; ".join(passed), tuple(dict.fromkeys(unknown)))

    def challenge(self, field: bytes, unknown: tuple[bytes, ...], path: bytes) -> list[bytes]:
        """Begin a challenge of unknown cookies.

        Args:
            field: the Cookie field of the request.
            unknown: the names of the cookies to challenge.
            path: the path of the request.

        Returns:
            Set-Cookie values that delete the cookies of these names from the parent domains, and one that sets the
            marker. Empty when the path is too deep, or when there are too many unknown cookies or recent challenges;
            the cookies then stay unknown.
        """
        paths = _parent_paths(path)
        now = time.monotonic()
        self._challenge_times = [then for then in self._challenge_times if now - then < _SECONDS]
        if len(paths) > _DEPTH or len(unknown) > _UNKNOWN_AT_ONCE or len(self._challenge_times) >= _CHALLENGES:
            return []
        self._challenge_times.append(now)
        marker = secrets.token_urlsafe(16).encode()
        pairs = (pair.strip(b" \t") for pair in field.split(b";"))
        self._challenged[marker] = frozenset(_digest(pair) for pair in pairs if pair.partition(b"=")[0] in unknown)
        if len(self._challenged) > 4 * _CHALLENGES:
            self._challenged.popitem(last=False)
        deletions = [
            b"%b=; Domain=%b; Path=%b; Max-Age=0%b" % (name, parent, one, b"; Secure" if _is_secure(name) else b"")
            for name in unknown
            for parent in self._parents
            for one in paths
        ]
        return [*deletions, b"%b=%b; Path=/; Max-Age=10; HttpOnly; SameSite=Lax" % (MARKER, marker)]

    def record_set_cookie(self, value: bytes) -> bytes:
        """Remember the cookie in a Set-Cookie value as the host's own. Return the value without its Domain."""
        pair, semicolon, attributes = value.partition(b";")
        self._remember(_digest(pair.strip(b" \t")))
        if not semicolon:
            return value
        kept = [part for part in attributes.split(b";") if part.partition(b"=")[0].strip(b" \t").lower() != b"domain"]
        return b";".join([pair, *kept])

    def _remember(self, digest: bytes) -> None:
        self._own[digest] = None
        self._own.move_to_end(digest)
        if len(self._own) > _REMEMBERED:
            self._own.popitem(last=False)


class CookieJars:
    """The cookie jars of one user, one for each recently used host name."""

    def __init__(self, domain: bytes) -> None:
        """Begin without jars. domain: as for `CookieJar`."""
        self._domain = domain
        self._jars: OrderedDict[bytes, CookieJar] = OrderedDict()

    def get_or_add(self, host: bytes) -> CookieJar:
        """Return the jar of a host name; make one if there is none.

        When there are too many jars, the least recently used one is dropped; its cookies are then challenged again.
        """
        jar = self._jars.get(host)
        if jar is None:
            if len(self._jars) >= _JARS:
                self._jars.popitem(last=False)
            jar = self._jars[host] = CookieJar(host, self._domain)
        else:
            self._jars.move_to_end(host)
        return jar


def _digest(pair: bytes) -> bytes:
    return blake2b(pair, digest_size=16).digest()


def _is_secure(name: bytes) -> bool:
    return name.lower().startswith(b"__secure-")


def _parent_paths(path: bytes) -> list[bytes]:
    """Return the values of the attribute Path with which browsers send a cookie to `path` (RFC 6265 section 5.1.4)."""
    found = [b"/"]
    at = path.find(b"/", 1)
    while at > 0:
        found += [path[:at], path[: at + 1]]
        at = path.find(b"/", at + 1)
    if path not in found:
        found.append(path)
    return [one for one in found if b";" not in one]
