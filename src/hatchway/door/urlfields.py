"""Changes URLs in header fields between the door's addresses and the application's.

The browser uses outer URLs, and the application knows inner URLs. In redirects an application may
use its name in the cluster, the Host that it was sent, or the path under which the API server serves it. All of these
are changed to outer URLs.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from hatchway.door.targetaddresses import TargetAddresses
from hatchway.target import Target

# Fields of responses that contain URLs, in lower case.
RESPONSE_FIELDS = frozenset(
    b"location content-location destination link refresh sourcemap x-sourcemap reporting-endpoints hx-redirect"
    b" hx-push-url hx-replace-url turbo-location x-inertia-location x-pjax-url operation-location azure-asyncoperation"
    b" content-security-policy content-security-policy-report-only access-control-allow-origin".split()
)
# Fields of requests in which a browser sends an address of the page, in lower case.
REQUEST_FIELDS = frozenset(b"origin referer destination hx-current-url turbo-referrer".split())
# Longer fields (in bytes) are left unchanged. Matching takes linear time for all patterns here.
_LONGEST = 64 * 1024
_TAGGED = re.compile(rb"<([^<>]*)>(?=[ \t]*\()")
_POLICIES = frozenset((b"content-security-policy", b"content-security-policy-report-only"))
_LINK_TARGET = re.compile(rb"<([^<>]*)>")
_REFRESH = re.compile(
    rb"([ \t]*(?:[0-9.]+[ \t]*)?[;,][ \t]*(?:url[ \t]*=[ \t]*)?['\"]?)([^'\"]*)(.*)", re.IGNORECASE | re.DOTALL
)
_QUOTED = re.compile(rb'"([^"]*)"')
# Sources of a Content-Security-Policy that are hosts with a scheme or a port; not keywords, not schemes alone.
_SOURCE = re.compile(
    rb"(?<![^\t ;,])(?:(?:https?|wss?)://[^\t ;,'*]+|[A-Za-z0-9.-]+:[0-9]+(?:/[^\t ;,'*]*)?)(?=[\t ;,]|\Z)",
    re.IGNORECASE,
)
_URL = re.compile(rb"(https?):(//)([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)
_WITH_HOST = re.compile(rb"(?:https?:)?//([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)


def outer_url(
    value: bytes,
    *,
    outer: bytes,
    origin_of: Callable[[bytes], bytes],
    sent: bytes,
    addresses: TargetAddresses,
    prefix: bytes,
    url_of_port: Callable[[Target], bytes],
) -> bytes:
    """Return the outer URL for a URL in a response's field (Location ...).

    Args:
        value: the URL that the application has written, absolute or relative.
        outer: the `Host` of the browser's request.
        origin_of: returns the origin (`SCHEME://HOST`) of the door's pages for a request's `Host`.
        sent: the Host that the application was sent.
        addresses: the addresses by which the target knows itself.
        prefix: the path that the API server's proxy verb may have put before the application's path; b"" for none.
        url_of_port: returns the URL of the target with another port, without a slash at its end.
    """
    found = _WITH_HOST.match(value)
    if found is None:
        return without_prefix(value, prefix)
    host, rest = found.groups()
    if host.lower() == outer.lower():
        return origin_of(outer) + (without_prefix(rest, prefix) or b"/")
    match = addresses.find(value, sent=sent)
    if match is None:
        return value
    if match.other is not None:
        return url_of_port(match.other) + match.rest
    return origin_of(outer) + without_prefix(match.rest, prefix)


def outer_field(name: bytes, value: bytes, rule: Callable[[bytes], bytes]) -> bytes:
    """Return the value of a field of `RESPONSE_FIELDS` with outer URLs.

    Args:
        name: the field's name in lower case.
        value: the value that the application has sent.
        rule: returns the outer URL for one URL (`outer_url`).
    """
    if len(value) > _LONGEST:
        return value
    if name == b"link":
        return _LINK_TARGET.sub(lambda match: b"<" + rule(match[1]) + b">", value)
    if name == b"refresh":
        found = _REFRESH.match(value)
        return found[1] + rule(found[2]) + found[3] if found else value
    if name in _POLICIES:
        return _outer_policy(value, rule)
    if name == b"reporting-endpoints":
        return _QUOTED.sub(lambda match: b'"' + rule(match[1]) + b'"', value)
    if name == b"access-control-allow-origin":
        return rule(value).removesuffix(b"/") if value[:4].lower() == b"http" else value
    return rule(value)


def _outer_policy(value: bytes, rule: Callable[[bytes], bytes]) -> bytes:
    """Return a Content-Security-Policy in which sources that mean the target (`ws://localhost:8080`) name the door."""

    def source(match: re.Match[bytes]) -> bytes:
        text = match[0]
        whole = text if b"://" in text else b"http://" + text
        scheme, _, rest = whole.partition(b"://")
        as_http = b"http" + whole[len(scheme) :]
        found = rule(as_http)
        if found == as_http:
            return text
        outer_scheme, _, rest = found.partition(b"://")
        host, _, path = rest.partition(b"/")
        kept = host + (b"/" + path if path else b"")
        if b"://" not in text:
            return kept
        return (b"ws" + outer_scheme[4:] if scheme[:1].lower() == b"w" else outer_scheme) + b"://" + kept

    return _SOURCE.sub(source, value)


def authority_of(url: bytes) -> bytes:
    """Return the host and port of an absolute URL, in lower case; b"" for any other."""
    found = _WITH_HOST.match(url)
    return found[1].lower() if found is not None else b""


def without_prefix(path: bytes, prefix: bytes) -> bytes:
    """Return a path without the prefix; unchanged when it does not begin with it."""
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in (b"/", b"", b"?", b"#"):
        rest = path[len(prefix) :]
        return rest if rest[:1] == b"/" else b"/" + rest
    return path


def inner_url(value: bytes, *, outer: bytes, scheme: bytes, sent: bytes) -> bytes:
    """Return the inner URL for an Origin or a Referer.

    Args:
        value: the value that the browser has sent.
        outer: the `Host` of the browser's request; other addresses stay unchanged.
        scheme: the scheme to write into the application's address.
        sent: the Host that the application is sent.
    """
    found = _URL.match(value)
    if found is None or found[3].lower() != outer.lower():
        return value
    return scheme + b"://" + sent + found[4]


def inner_tags(value: bytes, *, outer: bytes, scheme: bytes, sent: bytes) -> bytes:
    """Return WebDAV's `If` field with inner URLs in its tagged lists, which name resources (RFC 4918, 10.4).

    The parameters are those of `inner_url`.
    """
    return _TAGGED.sub(lambda match: b"<" + inner_url(match[1], outer=outer, scheme=scheme, sent=sent) + b">", value)
