"""Recognizes requests that come from a page of another origin; the door's routing functions refuse them.

A page of any site can make a browser send requests to this machine. Two fields that no page can set show which page
sends a request (https://www.w3.org/TR/fetch-metadata/, RFC 6454 section 7): `Sec-Fetch-Site` and `Origin`. All host
names below `localhost` are one site, so "same-site" is treated like "cross-site". Tools send neither field.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.proxy.routing import RequestHead

_READING = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Sender:
    """The sender of a request, as its header fields describe it.

    origin: the field Origin; None without one.
    site, mode, dest: the Sec-Fetch fields; b"" without them.
    html: True when Accept contains text/html.
    """

    origin: bytes | None
    site: bytes
    mode: bytes
    dest: bytes
    html: bool

    @classmethod
    def of(cls, head: RequestHead) -> Sender:
        """Return the sender of a request."""
        origin: bytes | None = None
        site = mode = dest = b""
        html = False
        for name, value in head.headers:
            lower = name.lower()
            if lower == b"origin":
                # A request with two Origin fields is treated like one that hides its origin.
                origin = value if origin is None else b"null"
            elif lower == b"sec-fetch-site":
                site = value
            elif lower == b"sec-fetch-mode":
                mode = value
            elif lower == b"sec-fetch-dest":
                dest = value
            elif lower == b"accept":
                html = html or b"text/html" in value
        return cls(origin, site, mode, dest, html)

    @property
    def is_browser(self) -> bool:
        """Return True when a browser sends the request, for a page or for its user."""
        return bool(self.site) or self.origin is not None

    @property
    def description(self) -> str:
        """Return a description of the page that sends the request, for messages."""
        if self.origin is None:
            return "a page under another name of this door" if self.site == b"same-site" else "a page of another site"
        return (
            "a page that hides its address" if self.origin == b"null" else f"a page of {self.origin.decode('latin-1')}"
        )

    @property
    def navigates(self) -> bool:
        """Return True when the fields say that the user opens a page (a navigation)."""
        return self.mode == b"navigate" or (self.html and not self.mode)

    def is_foreign(self, head: RequestHead, own_origin: bytes) -> bool:
        """Return True when a page of another origin sends the request.

        A link from another site is allowed: following a link is a navigation of the whole tab, and changes nothing.

        Args:
            head: the request.
            own_origin: the origin to which the request is sent, `SCHEME://HOST`.
        """
        if self.site in (b"cross-site", b"same-site"):
            arrives = self.mode == b"navigate" and self.dest in (b"document", b"") and head.method in _READING
            return not arrives or head.upgrade is not None
        # A page that hides its address (`Referrer-Policy`) sends `Origin: null` even to its own origin.
        if self.origin is None or self.site == b"same-origin":
            return False
        return self.origin.lower() != own_origin.lower()
