"""Makes TLS contexts for an API server, its proxy or its issuer, with the behaviour of Go's `crypto/tls`."""

from __future__ import annotations

import base64
import binascii
import contextlib
import functools
import itertools
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a PEM file.

    kind: the type in its first line, such as CERTIFICATE.
    headers: True when the block has headers (`Proc-Type`, `DEK-Info`).
    """

    kind: str
    content: bytes
    headers: bool

    @property
    def pem(self) -> bytes:
        """Return the block as PEM, without headers."""
        kind = self.kind.encode()
        text = base64.encodebytes(self.content)
        return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind, text, kind)


@functools.cache
def unverified() -> ssl.SSLContext:
    """Return a context that does not verify certificates, for programs inside a cluster.

    Such programs seldom have certificates for a name that could be verified. Kubernetes' probes and its API server's
    proxy do not verify them, either.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_context(ca: bytes | None, certificate: bytes | None, key: bytes | None, *, insecure: bool) -> ssl.SSLContext:
    """Return a context that trusts only `ca`, and sends the client certificate if there is one.

    Any certificate in `ca` is trusted, including the certificate of an intermediate CA or of the server itself.

    Args:
        ca: PEM; None for the system's CAs.
        certificate: PEM, with `key`; None for no client certificate.
        key: PEM.
        insecure: True to skip the verification of the server's certificate.

    Raises:
        OSError, ValueError: a certificate or key cannot be used. (ssl.SSLError is an OSError.)
    """
    # `create_default_context` is stricter since Python 3.13: it refuses the CAs of kubeadm and others.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Like Go, ignore the certificate's common name; only subject alternative names count.
    context.hostname_checks_common_name = False
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is not None:
        _trust(context, ca)
    else:
        context.load_default_certs()
    if certificate is not None and key is not None:
        with _as_file(_chain(certificate) + _private_key(key)) as path:
            # Without a password argument OpenSSL would ask on the terminal when the key is encrypted.
            context.load_cert_chain(path, password="")
    # Without ALPN a server may choose HTTP/2, which `proxy/` does not support.
    context.set_alpn_protocols(["http/1.1"])
    return context


def server_context(certificate: bytes, key: bytes) -> ssl.SSLContext:
    """Return the context of an HTTPS server.

    certificate: PEM; the server's certificate first, then its intermediate CAs.
    key: PEM.

    Raises:
        OSError, ValueError: certificate or key cannot be used. (ssl.SSLError is an OSError.)
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with _as_file(_chain(certificate, "certificate") + _private_key(key, "key")) as path:
        context.load_cert_chain(path, password="")
    context.set_alpn_protocols(["http/1.1"])
    return context


def blocks(data: bytes) -> Iterator[Block]:
    """Return the blocks of a PEM file, as Go's `pem.Decode` finds them.

    Other text, in any encoding, and malformed blocks are skipped.
    """
    at = 0
    while (end := _line_start(data, _END, at)) >= 0:
        begin = data.rfind(_BEGIN, at, end)
        at = end + len(_END)
        line = data.find(b"\n", end)
        trailer = data[end : line if line >= 0 else len(data)].strip()
        if begin < 0 or (begin > 0 and data[begin - 1 : begin] != b"\n"):
            continue
        first, _, body = data[begin:end].partition(b"\n")
        kind = first.strip()[len(_BEGIN) : -len(_DASHES)]
        if not first.strip().endswith(_DASHES) or trailer != _END + kind + _DASHES:
            continue
        lines = itertools.dropwhile(lambda text: b":" in text, body.split(b"\n"))
        with contextlib.suppress(binascii.Error, UnicodeDecodeError):
            content = base64.b64decode(b"".join(b"".join(lines).split()), validate=True)
            yield Block(kind.decode(), content, b":" in body)


def _line_start(data: bytes, text: bytes, at: int) -> int:
    if at == 0 and data.startswith(text):
        return 0
    found = data.find(b"\n" + text, max(0, at - 1))
    return found + 1 if found >= 0 else -1


def _certificates(data: bytes) -> list[Block]:
    return [block for block in blocks(data) if block.kind == "CERTIFICATE" and not block.headers]


def _trust(context: ssl.SSLContext, ca: bytes) -> None:
    """Trust each certificate that can be read, even if others cannot. Raises ValueError when none can be read."""
    problem: ssl.SSLError | None = None
    taken = 0
    for block in _certificates(ca):
        try:
            context.load_verify_locations(cadata=block.content)
            taken += 1
        except ssl.SSLError as error:
            problem = error
    if not taken:
        why = "contains no certificate in PEM" if problem is None else f"has no certificate that can be read: {problem}"
        raise ValueError(f"the certificate-authority {why}")


def _chain(certificate: bytes, name: str = "client-certificate") -> bytes:
    found = _certificates(certificate)
    if not found:
        raise ValueError(f"the {name} contains no certificate in PEM")
    return b"".join(block.pem for block in found)


def _private_key(key: bytes, name: str = "client-key") -> bytes:
    """Return the first private key of a PEM file, which may also contain parameters and certificates."""
    for block in blocks(key):
        if block.kind == "PRIVATE KEY" or block.kind.endswith(" PRIVATE KEY"):
            if block.headers or block.kind == "ENCRYPTED PRIVATE KEY":
                raise ValueError(f"the {name} is encrypted; `openssl pkey` writes one without a password")
            return block.pem
    raise ValueError(f"the {name} contains no private key in PEM")


@contextlib.contextmanager
def _as_file(secret: bytes) -> Iterator[str]:
    """Yield a path from which `load_cert_chain` can read the bytes.

    Where the system supports it, the file exists in memory only. Elsewhere it is a file that only this user can read,
    and it is removed afterwards.
    """
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
