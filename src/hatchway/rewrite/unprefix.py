"""The way back: undoing what a kube-apiserver did to an answer of its proxy verb.

It put its prefix before URLs in `Location` and in the attributes of HTML that `html.py` lists; who serves the
application at the root of a host name of its own takes it away again. What an API server does not touch (scripts,
styles, cookies, HTML in codings other than gzip and deflate) has no prefix and is not touched here.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.rewrite import encoding
from hatchway.rewrite.encoding import Transform
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.prefix import OF_THE_ORIGINAL, UNREADABLE, Fields
from hatchway.rewrite.rules import UnprefixRule


class Unprefixer:
    """Undoes the prefix in one exchange.

    prefix: the proxy path up to and with `/proxy`. hosts: the `Host` that the API server was asked with; URLs of these
    hosts keep their origin.
    """

    def __init__(self, prefix: bytes, hosts: Iterable[bytes] = ()) -> None:
        self._rule = UnprefixRule(prefix, hosts)

    def edit(self, status: int, headers: Fields, *, method: str = "GET") -> Transform | None:
        """Change a response's fields in place, and say what changes its body (None: nothing)."""
        media_type = coding = b""
        redirect = False
        for at, (name, value) in enumerate(headers):
            lower = name.lower()
            if lower == b"location":
                redirect = True
                headers[at] = (name, self._rule(value))
            elif lower == b"content-type":
                media_type = value.split(b";", 1)[0].strip().lower()
            elif lower == b"content-encoding":
                coding = coding + b"," + value if coding else value
        if media_type != b"text/html" or redirect or status in UNREADABLE or not encoding.supported(coding):
            return None
        headers[:] = [field for field in headers if field[0].lower() not in OF_THE_ORIGINAL]
        return None if method == "HEAD" else encoding.wrap(HtmlRewriter(self._rule), coding)
