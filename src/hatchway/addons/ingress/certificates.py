"""Makes TLS contexts from Secrets (type kubernetes.io/tls), and chooses one by the name that a client asks for."""

from __future__ import annotations

import base64
import binascii
import ssl
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from hatchway.addons.ingress.hostroutes import wildcard_of
from hatchway.kube.api import Object
from hatchway.kube.objects import Key
from hatchway.kube.tls import blocks, server_context

__all__ = ["CertificateStore", "LoadedCertificate", "make_default_context"]

# The most Secrets whose contexts are cached; each context takes about 50 KiB.
MAX_CERTIFICATES = 2000
_LARGEST = 256 * 1024
# The maximum number of bytes of a private key: enough for RSA with 8192 bits (the most that Go's crypto/tls accepts).
# With a larger key, each handshake would delay all other clients by a large part of a second.
_LARGEST_KEY = 4800
_NAME = "Hatchway's default certificate"
# This runs in a separate process, because the library for certificates needs much memory.
_MAKE = f"""
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, {_NAME!r})])
now = datetime.datetime.now(datetime.timezone.utc)
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=3650))
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("ingress.local")]), critical=False)
    .sign(key, hashes.SHA256())
)
sys.stdout.buffer.write(certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
))
"""


def make_default_context() -> ssl.SSLContext:
    """Make a self-signed certificate, for clients that ask for a host without a certificate. Raises OSError."""
    done = subprocess.run([sys.executable, "-I", "-c", _MAKE], check=False, capture_output=True)
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise OSError(f"making the default certificate failed: {reason}")
    return server_context(done.stdout, done.stdout)


@dataclass(frozen=True, slots=True)
class LoadedCertificate:
    """The TLS context that was made from a Secret.

    version: (uid, resourceVersion) of the Secret. context: None when the Secret cannot be used. problem: the reason.
    """

    version: tuple[str, str]
    context: ssl.SSLContext | None
    problem: str = ""


class CertificateStore:
    """Keeps the contexts of Secrets, and chooses one for each client.

    secrets: the cluster's Secrets of type kubernetes.io/tls by key. default: the context for all other names.
    """

    def __init__(self, secrets: Mapping[Key, Object], default: ssl.SSLContext) -> None:
        self._secrets = secrets
        self._default = default
        self._loaded: dict[Key, LoadedCertificate] = {}
        self._hosts: dict[str, ssl.SSLContext] = {}

    def choose(self, name: str) -> ssl.SSLContext:
        """Return the context for a client (a `TlsChooser`).

        name: the host name that the client asks for; "" for none.
        """
        name = name.lower().removesuffix(".")
        return self._hosts.get(name) or self._hosts.get(wildcard_of(name)) or self._default

    def use(self, hosts: dict[str, ssl.SSLContext], used: set[Key]) -> None:
        """Replace the map of host names to contexts. used: the Secrets whose contexts stay cached."""
        self._hosts = hosts
        self._loaded = {key: found for key, found in self._loaded.items() if key in used}

    def load(self, key: Key) -> LoadedCertificate:
        """Return the context of a Secret, and cache it until the Secret changes."""
        secret = self._secrets.get(key)
        if secret is None:
            return LoadedCertificate(("", ""), None, "it does not exist, or its type is not kubernetes.io/tls")
        metadata = secret["metadata"]
        version = (str(metadata.get("uid", "")), str(metadata.get("resourceVersion", "")))
        found = self._loaded.get(key)
        if found is None or found.version != version:
            if found is None and len(self._loaded) >= MAX_CERTIFICATES:
                return LoadedCertificate(version, None, f"{MAX_CERTIFICATES} other Secrets are used already")
            found = self._loaded[key] = _load(secret, version)
        return found


def _load(secret: Object, version: tuple[str, str]) -> LoadedCertificate:
    data = secret.get("data") or {}
    try:
        certificate, key = (_decoded(data, name) for name in ("tls.crt", "tls.key"))
        if any(len(block.content) > _LARGEST_KEY for block in blocks(key) if block.kind.endswith("PRIVATE KEY")):
            raise ValueError("tls.key has more than 8192 bits")
        return LoadedCertificate(version, server_context(certificate, key))
    except ssl.SSLError as error:
        return LoadedCertificate(version, None, f"OpenSSL refuses it: {error.reason or error}")
    except (ValueError, OSError) as error:
        return LoadedCertificate(version, None, str(error))


def _decoded(data: Mapping[str, str], name: str) -> bytes:
    text = data.get(name) or ""
    if len(text) > _LARGEST:
        raise ValueError(f"{name} is larger than {_LARGEST >> 10} KiB")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"{name} is no base64") from error
