"""Describes socket errors in words."""

from __future__ import annotations

import os
import socket
import ssl


def describe(error: BaseException) -> str:
    """Return a description of a socket error in the words of Go's net package, as in kubectl's messages."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"tls: failed to verify certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"tls: {error.reason or error}".replace("_", " ").lower()
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    if isinstance(error, ConnectionResetError):
        return "connection reset by peer"
    if isinstance(error, socket.gaierror):
        return f"lookup failed: {error.strerror}".lower()
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno).lower()  # asyncio's own messages contain the whole call
    return str(error) or type(error).__name__
