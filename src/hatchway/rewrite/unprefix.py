"""Undoes the changes of a kube-apiserver's proxy verb in an answer.

A kube-apiserver puts its prefix before URLs in `Location` and in the attributes that `html.py` lists. When the
application is shown at the root of its own host name, the prefix must be removed again. Content that an API server does
not change (scripts, styles, cookies, HTML in codings other than gzip and deflate) is not changed here, either.
"""

from __future__ import annotations

from collections.abc import Iterable

from hatchway.rewrite import encoding
from hatchway.rewrite.encoding import BodyTransform
from hatchway.rewrite.html import HtmlRewriter
from hatchway.rewrite.prefix import OF_THE_ORIGINAL, UNREADABLE, Fields
from hatchway.rewrite.urlrules import UnprefixRule


class Unprefixer:
    """Undoes the prefix in one exchange.

    prefix: the proxy path up to and including `/proxy`.
    hosts: the values of `Host` in the request to the API server; URLs of these hosts keep their origin.
    """

    def __init__(self, prefix: bytes, hosts: Iterable[bytes] = ()) -> None:
        self._rule = UnprefixRule(prefix, hosts)

    def edit_response(self, status: int, headers: Fields) -> BodyTransform | None:
        """Change a response's fields in place, and return the transform of its body; None when the body stays as it is.

        Call this for HEAD, too. A transform then means that Content-Length is wrong, because GET's body is changed.
        """
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
        return encoding.wrap(HtmlRewriter(self._rule), coding)
