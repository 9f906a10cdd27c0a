"""The API server's own answers for connecting subresources: errors as `Status` objects.

Errors of connections have Go's texts, because clients search for these texts.
"""

from __future__ import annotations

import json
import os
import ssl

from hatchway.cluster.api.connect.resourcelocation import BackendEndpoint
from hatchway.errors import ApiError, service_unavailable
from hatchway.proxy.routing import ProxyError, Respond, ResponseHead, Transform

__all__ = ["CORS_FIELDS", "NO_CACHE", "dial_error", "dial_message", "replace_response", "status_response"]

NO_CACHE = (b"Cache-Control", b"no-cache, private")
# The CORS fields are removed, so that a backend cannot give other sites access to the API server's origin
# (`removeCORSHeaders`).
CORS_FIELDS = frozenset(
    (
        b"access-control-allow-credentials",
        b"access-control-allow-headers",
        b"access-control-allow-methods",
        b"access-control-allow-origin",
    )
)


class _OtherBody:
    """A body that replaces the backend's body."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def feed(self, data: bytes) -> bytes:
        return b""

    def finish(self) -> bytes:
        return self._body


def replace_response(head: ResponseHead, error: ApiError) -> Transform:
    """Change the head of a backend's answer to an error of the API server. Return the transform for the body."""
    answer = status_response(error)
    head.status, head.reason, head.headers = answer.status, b"", answer.headers
    return _OtherBody(answer.body)


def status_response(error: ApiError) -> Respond:
    """Return the answer to an error: a Status."""
    body = json.dumps(error.status(), separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    headers = [NO_CACHE, (b"Content-Type", b"application/json"), *error.headers()]
    return Respond(error.code, headers, body)


def dial_error(message: str, upgrade: bool) -> ApiError:
    """Return the error for an endpoint that cannot be reached: 503, or 500 for an upgrade."""
    if upgrade:
        return ApiError(500, "", f"error dialing backend: {message}")
    return service_unavailable(f"error trying to reach service: {message}")


# OpenSSL's names for reasons of failed handshakes, and the messages of Go's `crypto/tls` for them (`common.go`,
# `alert.go`).
_TLS_WORDS = {
    "WRONG_VERSION_NUMBER": "tls: first record does not look like a TLS handshake",
    "RECORD_LAYER_FAILURE": "tls: first record does not look like a TLS handshake",
    "HTTP_REQUEST": "tls: first record does not look like a TLS handshake",
    "UNSUPPORTED_PROTOCOL": "tls: no supported versions satisfy MinVersion and MaxVersion",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "remote error: tls: handshake failure",
    "SSLV3_ALERT_BAD_CERTIFICATE": "remote error: tls: bad certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "remote error: tls: unknown certificate",
    "TLSV1_ALERT_PROTOCOL_VERSION": "remote error: tls: protocol version not supported",
    "TLSV1_ALERT_INTERNAL_ERROR": "remote error: tls: internal error",
    "TLSV1_ALERT_ACCESS_DENIED": "remote error: tls: access denied",
    "TLSV1_ALERT_UNKNOWN_CA": "remote error: tls: unknown certificate authority",
    "TLSV1_UNRECOGNIZED_NAME": "remote error: tls: unrecognized name",
    "TLSV1_ALERT_NO_APPLICATION_PROTOCOL": "remote error: tls: no application protocol",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "remote error: tls: certificate required",
    "UNEXPECTED_EOF_WHILE_READING": "EOF",
}


def dial_message(error: ProxyError, endpoint: BackendEndpoint) -> str:
    """Return the text of Go's net package for an error of a connection.

    Clients search for parts of this text, such as "connection refused".
    """
    cause = error.__cause__
    if error.stage == "tls":
        if isinstance(cause, ssl.SSLEOFError):
            return "EOF"
        if isinstance(cause, ssl.SSLError):
            return _TLS_WORDS.get(cause.reason or "", error.message)
        if isinstance(cause, ConnectionResetError):
            return f"read tcp {endpoint.dialed}: read: {error.message}"
        return error.message
    if error.stage == "protocol":
        return f"net/http: HTTP/1.x transport connection broken: {error.message}"
    if error.stage != "dial":
        return error.message
    if isinstance(cause, TimeoutError):
        why = "i/o timeout"
    elif isinstance(cause, OSError) and cause.errno:
        why = f"connect: {os.strerror(cause.errno).lower()}"  # asyncio's errors have another text
    else:
        why = error.message
    return f"dial tcp {endpoint.dialed}: {why}"
