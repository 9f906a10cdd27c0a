"""Makes the header fields for a target from the fields of a browser's request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hatchway.door import urlfields
from hatchway.door.sitecontext import SiteContext
from hatchway.door.targetattempt import TargetAttempt
from hatchway.proxy.routing import Headers

if TYPE_CHECKING:
    from hatchway.rewrite.prefix import PrefixRewriter

# Fields that the door writes itself, or never sends.
_REPLACED: Final = frozenset(
    b"host forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port x-forwarded-server"
    b" x-forwarded-prefix x-forwarded-uri x-real-ip authorization cookie".split()
)
# A browser must not act as another user at the API server, nor control the embedded API server.
_REMOVED: Final = (b"impersonate-", b"x-remote-", b"x-hatchway-")
# Content codings of HTML that every kube-apiserver can rewrite (`transport.go`, `rewriteResponse`). A kube-apiserver
# decodes `deflate` as raw deflate, although applications send the zlib format, and answers 500. Older releases damage
# all other codings.
_KEPT_CODINGS: Final = frozenset((b"gzip", b"identity"))
# The number of bytes of Accept-Encoding that are parsed.
_LONGEST_PREFERENCES: Final = 1024


def request_fields(context: SiteContext, attempt: TargetAttempt, rewriter: PrefixRewriter | None) -> Headers:
    """Return the fields of an attempt for the route.

    rewriter: the exchange's rewriter under a path prefix; None under a host name.
    """
    outer, route, sent, address = attempt.outer, attempt.route, attempt.host_value, context.address
    outer_scheme = b"https" if context.knowledge.https_claim.active else address.wire_scheme
    scheme = b"https" if attempt.scheme == "https" else outer_scheme
    headers: Headers = [(b"Host", sent)]
    for name, value in attempt.head.headers:
        lower = name.lower()
        if lower in _REPLACED or lower.startswith(_REMOVED):
            continue
        if lower in urlfields.REQUEST_FIELDS:
            value = urlfields.inner_url(value, outer=outer, scheme=scheme, sent=sent)
        elif lower == b"if":
            value = urlfields.inner_tags(value, outer=outer, scheme=scheme, sent=sent)
        elif lower == b"accept-encoding" and not (route.capabilities.codings and not _may_be_edited(context, attempt)):
            value = _known_codings(value)
        headers.append((name, value))
    if attempt.cookie:
        headers.append((b"Cookie", attempt.cookie))
    if attempt.authorization is not None and route.capabilities.authorization:
        headers.append((route.authorization_field, attempt.authorization))
    if attempt.sent_host.forwarded:
        headers += _forwarded(attempt, outer_scheme, address.default_port)
    if rewriter is not None:
        headers = rewriter.edit_request(headers)
    return headers + route.fields


def _may_be_edited(context: SiteContext, attempt: TargetAttempt) -> bool:
    """Return True when the response's body may have to be edited, so that it needs a coding that can be decoded."""
    sender = attempt.sender
    return sender.navigates or (context.knowledge.names_itself and sender.dest in (b"script", b"style"))


def _forwarded(attempt: TargetAttempt, scheme: bytes, default_port: bytes) -> Headers:
    """Return the X-Forwarded-* fields, which contain the outer address (the address that the browser uses).

    `Forwarded` (RFC 7239) is not sent. It requires quotes around a host with a port. Some applications read the quotes
    as a part of the name, and then refuse every Origin (code-server, lunuc). All applications that read `Forwarded`
    also read the X-Forwarded-* fields or Host.
    """
    outer = attempt.outer
    peer = attempt.head.peer.address
    _, colon, port = outer.rpartition(b":")
    return [
        (b"X-Forwarded-For", peer[0].encode() if peer is not None else b"unknown"),
        (b"X-Forwarded-Host", outer),
        (b"X-Forwarded-Proto", scheme),
        (b"X-Forwarded-Port", port if colon and port.isdigit() else default_port),
    ]


def _known_codings(value: bytes) -> bytes:
    kept = [
        coding.strip()
        for coding in value[:_LONGEST_PREFERENCES].split(b",")
        if coding.partition(b";")[0].strip().lower() in _KEPT_CODINGS
    ]
    return b", ".join(kept) or b"identity"
