"""Removes a bearer token for the cluster from a WebSocket's handshake (`request/websocket/protocol.go`)."""

from __future__ import annotations

_BEARER = b"base64url.bearer.authorization.k8s.io."


def without_bearer(protocols: bytes) -> bytes:
    """Return the offered sub-protocols without the one that contains a token; b"" when none is left."""
    if _BEARER not in protocols:
        return protocols
    offered = [protocol.strip() for protocol in protocols.split(b",")]
    return b", ".join(protocol for protocol in offered if not protocol.startswith(_BEARER))
