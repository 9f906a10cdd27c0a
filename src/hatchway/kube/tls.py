"""TLS contexts towards an API server."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator


def client_context(ca: bytes | None, certificate: bytes | None, key: bytes | None, *, insecure: bool) -> ssl.SSLContext:
    """A context that trusts `ca` alone (the system's authorities when None) and shows the certificate when given (PEM).

    Raises OSError (ssl.SSLError) or ValueError when something of it cannot be used.
    """
    # Not `create_default_context`: from Python 3.13 on it refuses authorities that kubeadm and others have made.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is not None:
        context.load_verify_locations(cadata=ca.decode("ascii"))
    else:
        context.load_default_certs()
    if certificate is not None and key is not None:
        with _as_file(certificate + b"\n" + key) as path:
            # The password is for a key that has one: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(path, password="")
    # Without it a server may choose HTTP/2, which the data path does not speak.
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextlib.contextmanager
def _as_file(secret: bytes) -> Iterator[str]:
    """A name for bytes that `load_cert_chain` can open: in memory where the system can do that, else a file of ours
    alone that is gone at the end of the block."""
    if hasattr(os, "memfd_create") and os.path.exists("/proc/self/fd"):
        with os.fdopen(os.memfd_create("hatchway", os.MFD_CLOEXEC), "wb") as memory:
            memory.write(secret)
            memory.flush()
            yield f"/proc/self/fd/{memory.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="hatchway.") as file:
            file.write(secret)
            file.flush()
            yield file.name
