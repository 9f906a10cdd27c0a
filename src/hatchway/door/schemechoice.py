"""Chooses HTTP or HTTPS for a target whose scheme is not given, and learns from failures. Pure, except for a clock.

The API server uses the scheme in the path, and reports failures in Go's words. A port that speaks TLS answers plain
HTTP with an error page (nginx, Go, Apache, Tomcat) or a TLS alert (Java), or closes the connection (Python, Node.js,
HAProxy). A plain port answers a TLS handshake with an HTTP error, or closes the connection. After such a failure, the
request is tried with the other scheme. The choice changes only when that attempt gets an answer: otherwise a single
closed connection could make the door use the wrong scheme from then on.
"""

from __future__ import annotations

import re
import time
from enum import Enum
from typing import Final

# After both schemes have failed, only one scheme is tried for this many seconds.
_PATIENCE: Final = 30.0

# Go's message when it gets a TLS record (an alert, 0x15, or a handshake message, 0x16) in place of an HTTP response.
_TLS_RECORD = re.compile(r'malformed HTTP response "\\x1[56]\\x03')
_CLOSED = re.compile(r"\bEOF\b|connection reset|broken pipe|server closed|forcibly closed", re.I)
_NO_TLS = re.compile(
    "HTTP response to HTTPS|does not look like a TLS|wrong version number|record layer|oversized record", re.I
)
# The texts of status 400 by which servers refuse plain HTTP on a TLS port.
_WANTS_TLS = re.compile(
    rb"HTTP request to an HTTPS server|plain HTTP request was sent to HTTPS|speaking plain HTTP to an SSL"
    rb"|requires TLS|use https|HTTP request .{0,40}HTTPS port|not an SSL/TLS record",
    re.I,
)
_REACHING: Final = ("error trying to reach service", "error dialing backend")


class SchemeHint(Enum):
    """The conclusion from a failed exchange about its scheme, HTTP or HTTPS."""

    NONE = "the failure has another reason"
    PERHAPS = "the scheme may be wrong"
    WRONG = "the scheme is wrong"


def scheme_hint(message: str, scheme: str, *, upgrade: bool = False) -> SchemeHint:
    """Return the hint about the scheme in an API server's message about a failed exchange.

    Args:
        message: `Status.message` of the API server.
        scheme: the scheme that was tried: "https", or another value for HTTP.
        upgrade: True when the message may lack the API server's usual first words, for example after an upgrade.
    """
    if not upgrade and not any(words in message for words in _REACHING):
        return SchemeHint.NONE
    if scheme == "https":
        if _NO_TLS.search(message):
            return SchemeHint.WRONG
    elif _TLS_RECORD.search(message):
        return SchemeHint.WRONG
    return SchemeHint.PERHAPS if _CLOSED.search(message) else SchemeHint.NONE


def wants_tls(status: int, body: bytes) -> bool:
    """Return True for the answer of a TLS server to plain HTTP."""
    return status in (400, 403, 421, 497) and _WANTS_TLS.search(body, 0, 4096) is not None


class SchemeChoice:
    """The choice of scheme for one target.

    value: the scheme that is used now: "https", "http" or "" (not given: HTTP).
    fixed: True when the scheme was given, so that it never changes.
    """

    def __init__(self, value: str, *, fixed: bool) -> None:
        self.value = value
        self.fixed = fixed
        self._both_failed_until = 0.0

    @property
    def both_failed(self) -> bool:
        """Return True when both schemes have failed a short while ago."""
        return time.monotonic() < self._both_failed_until

    def other(self, scheme: str) -> str | None:
        """Return the scheme for another attempt, after a request by `scheme` failed; None for no other attempt."""
        if self.fixed:
            return None
        if _is_plain(self.value) != _is_plain(scheme):
            return self.value or "http"  # another request has found the right scheme in the meantime
        if self.both_failed:
            return None
        return "https" if _is_plain(scheme) else "http"

    def switch_to(self, scheme: str) -> bool:
        """Use this scheme from now on, because a request with it was answered. Return True if that is a change."""
        if self.fixed or _is_plain(self.value) == _is_plain(scheme):
            return False
        self.value = "https" if not _is_plain(scheme) else "http"
        self._both_failed_until = 0.0
        return True

    def record_failure(self) -> None:
        """Record that both schemes have failed."""
        self._both_failed_until = time.monotonic() + _PATIENCE


class HttpsAnswer(Enum):
    """What to do with an application that redirects browsers to the same address by HTTPS."""

    CLAIM = "say in X-Forwarded-Proto that browsers use HTTPS"
    SPEAK = "send requests to the application by HTTPS, because the claim did not help"
    IGNORE = "pass the redirect on, because nothing has helped"


class HttpsClaim:
    """Decides if requests to an application claim, by X-Forwarded-Proto, that browsers use HTTPS.

    Some applications demand X-Forwarded-Proto (Django's SECURE_SSL_REDIRECT, Rails' force_ssl); others check the
    connection instead (Argo CD).

    active: True when `X-Forwarded-Proto: https` is sent.
    """

    def __init__(self) -> None:
        self.active = False
        self._tries = 0
        self._until = 0.0

    def record_demand(self) -> HttpsAnswer:
        """Record that the application has redirected a browser to HTTPS. Return what to do about it."""
        if time.monotonic() > self._until:
            self._tries = 0
        self._until = time.monotonic() + _PATIENCE
        self._tries += 1
        if self._tries == 1:
            self.active = True
            return HttpsAnswer.CLAIM
        return HttpsAnswer.SPEAK if self._tries == 2 else HttpsAnswer.IGNORE


def _is_plain(scheme: str) -> bool:
    return scheme != "https"
