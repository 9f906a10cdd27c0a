"""Cookies of one host name, kept apart from those of the others.

For a browser all host names below `svc.localhost` are one site: a page of service A may set a cookie with
`Domain=svc.localhost`, by a field or by script, and service B would receive it. So `Domain` is taken out of every
Set-Cookie, and a browser's cookie reaches an application only when it is known to be its own:

- it came in a Set-Cookie of this very host name, or its name begins with `__Host-`, which browsers take from nobody else;
- it has outlived a challenge: the request was answered with a redirect to itself that deletes cookies of that name from
  all parent domains, under every path that the request has. What is sent again then was set by the host's own pages.

A redirect 307 keeps method and body, and happens once for each cookie that scripts set. That a browser has done what the
redirect says is known by a marker, a cookie with a random value, which no request has that left before. WebSockets
cannot be redirected; what is unknown there is left out.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

MARKER: Final = b"hatchway-own"

# Cookies that are remembered of one host; browsers keep 180 for a whole site.
_REMEMBERED: Final = 256
# Deeper paths are not challenged: one field for each of their parents would be needed.
_DEPTH: Final = 16
_UNKNOWN_AT_ONCE: Final = 24
# A browser that never brings the marker back is not sent in circles: so many challenges in so many seconds.
_CHALLENGES: Final = 8
_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Checked:
    """A Cookie field that was looked through. passed: what of it is the host's own. unknown: names of the rest."""

    passed: bytes
    unknown: tuple[bytes, ...]


class CookieJar:
    """What is known of one host name's cookies. parents: the domains above it that cookies can be set for."""

    def __init__(self, host: bytes, domain: bytes) -> None:
        """host: without a port. domain: the door's, which no cookie can be set for."""
        labels = host.removesuffix(b"." + domain).split(b".")
        self._parents = [b".".join(labels[start:]) + b"." + domain for start in range(1, len(labels))]
        self._own: OrderedDict[bytes, None] = OrderedDict()
        # By the markers of challenges that have not been answered: the pairs that were asked about.
        self._asked: OrderedDict[bytes, frozenset[bytes]] = OrderedDict()
        self._challenged: list[float] = []

    def check(self, field: bytes) -> Checked:
        """Tell the host's own cookies of a request from others."""
        pairs = [pair for pair in (one.strip(b" \t") for one in field.split(b";")) if pair]
        for pair in pairs:
            name, _, value = pair.partition(b"=")
            if name == MARKER and value in self._asked:
                for outlived in self._asked.pop(value).intersection(pairs):
                    self._remember(outlived)
        passed: list[bytes] = []
        unknown: list[bytes] = []
        for pair in pairs:
            name = pair.partition(b"=")[0]
            if name == MARKER:
                continue
            if pair in self._own:
                self._own.move_to_end(pair)
                passed.append(pair)
            elif name.lower().startswith(b"__host-"):
                passed.append(pair)
            else:
                unknown.append(name)
        return Checked(b"; ".join(passed), tuple(dict.fromkeys(unknown)))

    def challenge(self, field: bytes, unknown: tuple[bytes, ...], path: bytes) -> list[bytes]:
        """Set-Cookie values that delete what parent domains have under these names, and leave the marker. path: the
        request's. Empty when it is too deep, or when challenges do not help: the cookies stay unknown.
        """
        paths = _parents(path)
        now = time.monotonic()
        self._challenged = [then for then in self._challenged if now - then < _SECONDS]
        if len(paths) > _DEPTH or len(unknown) > _UNKNOWN_AT_ONCE or len(self._challenged) >= _CHALLENGES:
            return []
        self._challenged.append(now)
        marker = secrets.token_urlsafe(16).encode()
        pairs = (pair.strip(b" \t") for pair in field.split(b";"))
        self._asked[marker] = frozenset(pair for pair in pairs if pair.partition(b"=")[0] in unknown)
        if len(self._asked) > 4 * _CHALLENGES:
            self._asked.popitem(last=False)
        gone = [
            b"%b=; Domain=%b; Path=%b; Max-Age=0%b" % (name, parent, one, b"; Secure" if _secure(name) else b"")
            for name in unknown
            for parent in self._parents
            for one in paths
        ]
        return [*gone, b"%b=%b; Path=/; Max-Age=10; HttpOnly; SameSite=Lax" % (MARKER, marker)]

    def set(self, value: bytes) -> bytes:
        """Take note of a Set-Cookie's value. Returns it as it may go to the browser: without Domain."""
        pair, semicolon, attributes = value.partition(b";")
        self._remember(pair.strip(b" \t"))
        if not semicolon:
            return value
        kept = [part for part in attributes.split(b";") if part.partition(b"=")[0].strip(b" \t").lower() != b"domain"]
        return b";".join([pair, *kept])

    def _remember(self, pair: bytes) -> None:
        self._own[pair] = None
        self._own.move_to_end(pair)
        if len(self._own) > _REMEMBERED:
            self._own.popitem(last=False)


def _secure(name: bytes) -> bool:
    return name.lower().startswith(b"__secure-")


def _parents(path: bytes) -> list[bytes]:
    """Every Path that a cookie may have which is sent to `path` (RFC 6265 section 5.1.4)."""
    found = [b"/"]
    at = path.find(b"/", 1)
    while at > 0:
        found += [path[:at], path[: at + 1]]
        at = path.find(b"/", at + 1)
    if path not in found:
        found.append(path)
    return [one for one in found if b";" not in one]
