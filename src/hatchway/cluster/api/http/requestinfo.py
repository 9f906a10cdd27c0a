"""Derives verb, resource, namespace and name from a request's method, path and query (`request/requestinfo.go`).

Every request is parsed here before it is authenticated. So parsing must be cheap, and must not fail for a well-formed
request-target. Names are not changed: authorization gets `https:web:` if the client has written that.

The path is split before its escapes are decoded. Kubernetes decodes first: there, an escaped slash (`%2F`) begins a new
segment. In Hatchway, the slash stays in its segment, which is then not a valid name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote_to_bytes

from hatchway.cluster.api.operations.requestoptions import MAX_QUERY_FIELDS
from hatchway.cluster.api.registry.selectors import parse_field_selector
from hatchway.errors import ApiError, bad_request

_VERBS = {"POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
# Methods that only read, which Kubernetes does not know; the proxy verb forwards them. Any method in none of these
# tables counts as a write. As in Kubernetes, a preflight request (OPTIONS) needs a rule for every verb.
_READING_METHODS = frozenset(("PROPFIND", "REPORT", "SEARCH"))
_UNMAPPED_METHODS = frozenset(("OPTIONS", "CONNECT", "TRACE"))
_NAMESPACE_SUBRESOURCES = frozenset((b"status", b"finalize"))
_LEGACY_VERBS = frozenset((b"proxy", b"watch"))
# A "%" without two hex digits, or a NUL byte, plain or escaped. A path with one of these is refused.
_bad_escape = re.compile(rb"%(?![0-9A-Fa-f]{2})|%00|\x00").search
_malformed = re.compile(rb"%(?![0-9A-Fa-f]{2})").search


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The verb, resource, namespace and name of one request.

    path: the decoded path, for messages, the audit log and rules for non-resource URLs.
    verb: Kubernetes' verb for a resource request; otherwise the method in lower case.
    api_prefix: `api` or `apis`.
    name: the name as the client has written it, percent-decoded.
    parts: the decoded segments from the resource on, without the segments after the subresource `proxy`.
    prefix: for the subresource `proxy`, the raw path up to and including `/proxy`.
    rest: for the subresource `proxy`, the bytes after `prefix`: b"", or with a slash at the beginning.
    fields: the requirements of the field selector of a list or watch, as (field, value).
    """

    is_resource: bool
    path: str
    verb: str
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    prefix: bytes = b""
    rest: bytes = b""
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def group_resource(self) -> str:
        """Return the resource with its group: `pods`, `deployments.apps`."""
        return f"{self.resource}.{self.api_group}" if self.api_group else self.resource


def has_bad_escape(path: bytes) -> bool:
    """Return True for a path that cannot be percent-decoded."""
    return b"%" in path and _malformed(path) is not None


def _decode(segment: bytes) -> str:
    try:
        return (unquote_to_bytes(segment) if b"%" in segment else segment).decode()
    except UnicodeDecodeError:
        raise bad_request("the path of the request is not valid UTF-8") from None


def _readable(path: bytes) -> str:
    return (unquote_to_bytes(path) if b"%" in path else path).decode("utf-8", "replace")


def parse(method: str, path: bytes | str, query: bytes | None = None) -> RequestInfo:
    """Parse a request's method, path and query.

    path, query: as received (origin form).

    Raises ApiError 400 for malformed escapes, NUL bytes, names that are not UTF-8, and legacy paths without a resource.
    """
    if isinstance(path, str):
        path = path.encode()
    if _bad_escape(path):
        raise bad_request("the path of the request holds a malformed escape or a NUL byte")
    raw = path.split(b"/")
    first, last = 0, len(raw)
    while first < last and not raw[first]:
        first += 1
    while last > first and not raw[last - 1]:
        last -= 1

    at = first
    count = last - first
    prefix = raw[first] if count else b""
    if count < 3 or prefix not in (b"api", b"apis") or (prefix == b"apis" and count < 4):
        return RequestInfo(False, _readable(path), method.lower())
    at += 1
    group = ""
    if prefix == b"apis":
        group = _decode(raw[at])
        at += 1
    version = _decode(raw[at])
    at += 1

    special = raw[at] in _LEGACY_VERBS
    if special:
        if last - at < 2:
            raise bad_request("unable to determine kind and namespace from url")
        verb = raw[at].decode()
        at += 1
    else:
        verb = _VERBS.get(method, "")

    namespace = ""
    if raw[at] == b"namespaces" and last - at > 1:
        namespace = _decode(raw[at + 1])
        if last - at > 2 and raw[at + 2] not in _NAMESPACE_SUBRESOURCES:
            at += 2

    resource = _decode(raw[at])
    name = _decode(raw[at + 1]) if last - at > 1 else ""
    subresource = _decode(raw[at + 2]) if last - at > 2 and not special else ""
    raw_prefix = rest = b""
    parts: tuple[str, ...]
    if subresource == "proxy":
        raw_prefix = b"/".join(raw[: at + 3])
        rest = path[len(raw_prefix) :]
        parts = (resource, name, subresource)
        if not verb and method not in _UNMAPPED_METHODS:
            verb = "get" if method in _READING_METHODS else "update"
    else:
        parts = tuple(_decode(one) for one in raw[at:last])

    fields: tuple[tuple[str, str], ...] = ()
    if not name and (verb == "get" or verb == "delete"):
        if verb == "delete":
            verb = "deletecollection"
        else:
            verb, name, fields = _collection(query)
    return RequestInfo(
        True,
        _readable(path),
        verb,
        prefix.decode(),
        group,
        version,
        namespace,
        resource,
        subresource,
        name,
        parts,
        raw_prefix,
        rest,
        fields,
    )


def _collection(query: bytes | None) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return the verb, the name and the field terms of a request for a collection.

    If a field selector selects a single object by name, that name is returned, so that rules with resourceNames apply.
    The terms are the selector's requirements, as (field, value).
    """
    if not query:
        return "list", "", ()
    verb, selector = "list", ""
    seen = set()
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError:
        # Ignore the error here: the request is refused later, when its options are parsed.
        return "list", "", ()
    for key, value in pairs:
        if key in seen:
            continue  # only the first of several values counts
        seen.add(key)
        if key == "watch":
            verb = "watch" if value.lower() not in ("0", "false") else "list"
        elif key == "fieldSelector":
            selector = value
    if not selector:
        return verb, "", ()
    try:
        found = parse_field_selector(selector)
    except ApiError:
        return verb, "", ()
    name = found.exact("metadata.name") or ""
    if "/" in name or "%" in name or name in (".", ".."):
        name = ""
    return verb, name, tuple((term.field, term.value) for term in found.terms if not term.negated)
