"""What a browser may ask for on behalf of which page.

A page of any site can make a browser send requests to this machine. Whoever asks is told by fields that no page can set
(https://www.w3.org/TR/fetch-metadata/, RFC 6454 section 7): `Sec-Fetch-Site` and `Origin`. All host names below
`localhost` are one site, so "same-site" is as foreign as "cross-site". Tools send neither.
"""

from __future__ import annotations

from dataclasses import dataclass

from hatchway.proxy.routing import RequestHead

_SAFE = frozenset(("GET", "HEAD"))


@dataclass(frozen=True, slots=True)
class Sender:
    """What a request says of its sender.

    origin: the field Origin, None without one. site, mode, dest: the Sec-Fetch fields, b"" without one.
    html: the field Accept asks for a page.
    """

    origin: bytes | None
    site: bytes
    mode: bytes
    dest: bytes
    html: bool

    @classmethod
    def of(cls, head: RequestHead) -> Sender:
        origin: bytes | None = None
        site = mode = dest = b""
        html = False
        for name, value in head.headers:
            lower = name.lower()
            if lower == b"origin":
                # Two of them are nobody's.
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
    def browser(self) -> bool:
        return bool(self.site) or self.origin is not None

    @property
    def who(self) -> str:
        """Which page asks, for people."""
        if self.origin is None:
            return "a page of another name here" if self.site == b"same-site" else "a page of another site"
        return (
            "a page that hides its address" if self.origin == b"null" else f"a page of {self.origin.decode('latin-1')}"
        )

    @property
    def navigates(self) -> bool:
        """A person goes to a page, as far as can be told."""
        return self.mode == b"navigate" or (self.html and not self.mode)

    def foreign(self, head: RequestHead, own: bytes) -> bool:
        """Whether a page of another origin asks. own: the origin that was asked, `http://HOST`.

        A person who follows a link from elsewhere is welcome: a navigation of the whole tab, which only reads.
        """
        if self.site in (b"cross-site", b"same-site"):
            arrives = self.mode == b"navigate" and self.dest in (b"document", b"") and head.method in _SAFE
            return not arrives or head.upgrade is not None
        # A page that hides its address sends `Origin: null` to its own origin, too.
        if self.origin is None or self.site == b"same-origin":
            return False
        return self.origin.lower() != own.lower()
