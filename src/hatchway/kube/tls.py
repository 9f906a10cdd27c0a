"""TLS contexts towards an API server, its proxy or its issuer, which trust and show what Go's `crypto/tls` would."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a PEM file. kind: as in its first line. headers: whether it has some (`Proc-Type`, `DEK-Info`)."""

    kind: str
    content: bytes
    headers: bool

    @property
    def pem(self) -> bytes:
        """Written without headers."""
        kind = self.kind.encode()
        text = base64.encodebytes(self.content)
        return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (kind, text, kind)


def client_context(ca: bytes | None, certificate: bytes | None, key: bytes | None, *, insecure: bool) -> ssl.SSLContext:
    """A context that trusts `ca` alone (the system's authorities when None) and shows the certificate when given (PEM).

    Whatever certificate is in `ca` is trusted: a root, an intermediate one, the server's own. Raises OSError
    (ssl.SSLError) or ValueError when something of it cannot be used.
    """
    # Not `create_default_context`: from Python 3.13 on it refuses authorities that kubeadm and others have made.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    # Go goes by the alternative names alone.
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
            # The password is for a key that has one: OpenSSL would ask for it on the terminal.
            context.load_cert_chain(path, password="")
    # Without it a server may choose HTTP/2, which the data path does not speak.
    context.set_alpn_protocols(["http/1.1"])
    return context


def blocks(data: bytes) -> Iterator[Block]:
    """The blocks of a PEM file, as Go's `pem.Decode` finds them: text around them, in whatever encoding, does not
    matter, and what is broken is passed over."""
    at = 0
    while (end := _line_start(data, _END, at)) >= 0:
        begin = data.rfind(_BEGIN, at, end)
        at = end + len(_END)
        trailer = data[end:].split(b"\n", 1)[0].strip()
        if begin < 0 or (begin > 0 and data[begin - 1 : begin] != b"\n"):
            continue
        first, _, body = data[begin:end].partition(b"\n")
        kind = first.strip()[len(_BEGIN) : -len(_DASHES)]
        if not first.strip().endswith(_DASHES) or trailer != _END + kind + _DASHES:
            continue
        lines = body.split(b"\n")
        while lines and b":" in lines[0]:
            lines.pop(0)
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
    """Trust each certificate that can be read; one that cannot does not spoil the others. Raises ValueError for none."""
    problem: ssl.SSLError | None = None
    taken = 0
    for block in _certificates(ca):
        try:
            context.load_verify_locations(cadata=block.content)
            taken += 1
        except ssl.SSLError as error:
            problem = error
    if not taken:
        why = "holds no certificate in PEM" if problem is None else f"has no certificate that can be read: {problem}"
        raise ValueError(f"the certificate-authority {why}")


def _chain(certificate: bytes) -> bytes:
    found = _certificates(certificate)
    if not found:
        raise ValueError("the client-certificate holds no certificate in PEM")
    return b"".join(block.pem for block in found)


def _private_key(key: bytes) -> bytes:
    """The first private key; a file may hold parameters and certificates beside it."""
    for block in blocks(key):
        if block.kind == "PRIVATE KEY" or block.kind.endswith(" PRIVATE KEY"):
            if block.headers or block.kind == "ENCRYPTED PRIVATE KEY":
                raise ValueError("the client-key is encrypted; `openssl pkey` writes one without a password")
            return block.pem
    raise ValueError("the client-key holds no private key in PEM")


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
