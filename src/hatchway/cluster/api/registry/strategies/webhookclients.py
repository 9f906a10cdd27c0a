"""Validates the description of a webhook's server (`clientConfig`), and the review versions that it accepts.

Used for admission and conversion webhooks. From apiserver's `pkg/util/webhook/validation.go` (servers) and
`pkg/apis/*/validation` (review versions).
"""

from __future__ import annotations

import base64
import ssl
from typing import Any
from urllib.parse import urlsplit

from hatchway.cluster.api.registry import validation as v
from hatchway.errors import Cause

__all__ = ["REVIEW_VERSIONS", "bundle_errors", "review_version_errors", "service_errors", "url_errors"]

Json = dict[str, Any]

REVIEW_VERSIONS = ("v1", "v1beta1")
_FORM = "; desired format: https://host[/path]"
_BEGIN, _END = "-----BEGIN ", "-----END "
# The maximum number of certificates of a bundle that are parsed.
_MOST_CERTIFICATES = 1000
# The maximum number of bytes of a bundle that a message shows.
_SHOWN = 64


def review_version_errors(versions: list[str], at: str, *, detail: str, needs_known: bool = True) -> list[Cause]:
    """Return the errors in the review versions that a webhook accepts.

    detail: the message for an empty list. needs_known: the list must have a version that the server knows.
    """
    known = ", ".join(REVIEW_VERSIONS)
    if not versions:
        return [v.required(at, detail)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, one in enumerate(versions):
        if one in seen:
            causes.append(v.invalid(f"{at}[{index}]", one, "duplicate version"))
            continue
        seen.add(one)
        causes += v.each(f"{at}[{index}]", one, v.dns1035_label(one))
    if needs_known and not seen.intersection(REVIEW_VERSIONS):
        causes.append(v.invalid(at, versions, f"must include at least one of {known}"))
    return causes


def url_errors(url: str, at: str) -> list[Cause]:
    """Return the errors in the URL of a webhook (`ValidateWebhookURL`)."""
    try:
        parts = urlsplit(url)
        _ = parts.port
        if any(ord(one) < 0x21 or ord(one) == 0x7F for one in url):
            raise ValueError("invalid character in URL")
    except ValueError as error:
        return [v.required(at, f"url must be a valid URL: parse {v.quote(url)}: {error}{_FORM}")]
    causes = []
    if parts.scheme != "https":
        causes.append(v.invalid(at, parts.scheme, f"'https' is the only allowed URL scheme{_FORM}"))
    if not parts.hostname:
        causes.append(v.invalid(at, "", f"host must be specified{_FORM}"))
    if "@" in parts.netloc:
        user = parts.netloc.rpartition("@")[0]
        causes.append(v.invalid(at, user, "user information is not permitted in the URL"))
    if parts.fragment:
        causes.append(v.invalid(at, parts.fragment, "fragments are not permitted in the URL"))
    if parts.query:
        causes.append(v.invalid(at, parts.query, "query parameters are not permitted in the URL"))
    return causes


def service_errors(service: Json, at: str) -> list[Cause]:
    """Return the errors in the reference to the Service of a webhook (`ValidateWebhookService`)."""
    causes = [v.required(f"{at}.{key}") for key in ("name", "namespace") if not service.get(key)]
    port = service.get("port", 0)
    if errors := v.port_number(port):
        causes.append(v.invalid(f"{at}.port", port, f"port is not valid: {', '.join(errors)}"))
    path = service.get("path")
    if path in (None, "", "/"):
        return causes
    if path == "//":
        return [*causes, v.invalid(f"{at}.path", path, "segment[0] may not be empty")]
    if not path.startswith("/"):
        causes.append(v.invalid(f"{at}.path", path, "must start with a '/'"))
    for index, step in enumerate(path[1:].removesuffix("/").split("/")):
        if not step:
            causes.append(v.invalid(f"{at}.path", path, f"segment[{index}] may not be empty"))
            continue
        causes += [
            v.invalid(f"{at}.path", path, f"segment[{index}]: {message}") for message in v.dns1123_subdomain(step)
        ]
    return causes


def bundle_errors(bundle: str, at: str) -> list[Cause]:
    """Return the errors in a `caBundle` (`ValidateCABundle`). bundle: base64 of certificates in PEM."""
    data = base64.b64decode(bundle)
    problem = _bundle_problem(data)
    if not problem:
        return []
    # The format in which Go shows a []byte.
    shown = ", ".join(f"{one:#x}" for one in data[:_SHOWN])
    more = ", ..." if len(data) > _SHOWN else ""
    message = f"Invalid value: []byte{{{shown}{more}}}: unable to load root certificates: {problem}"
    return [Cause("FieldValueInvalid", message, at)]


def _bundle_problem(data: bytes) -> str:
    """Return why a bundle has no usable certificate; "" when it has one (client-go `rootCertPool`)."""
    blocks = [one for one in data.decode("latin-1").split(_BEGIN)[1:] if _END in one]
    if not blocks:
        return "unable to parse bytes as PEM block"
    problem = "no valid certificate authority data seen"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for block in blocks[:_MOST_CERTIFICATES]:
        kind, _, rest = block.partition("-----")
        if kind != "CERTIFICATE":
            continue
        try:
            context.load_verify_locations(cadata=f"{_BEGIN}{kind}-----{rest.partition(_END)[0]}{_END}{kind}-----\n")
            return ""
        except (ssl.SSLError, ValueError) as error:
            problem = f"failed to parse certificate: {error}"
    return problem
