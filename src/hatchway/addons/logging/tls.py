"""Makes and stores the certificate for HTTPS, self-signed: the API server's proxy does not verify certificates."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from pathlib import Path

_DAYS = 3650
# This runs in a separate process, because the library for certificates needs much memory.
_MAKE = f"""
import datetime, os, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "elasticsearch-logging")])
now = datetime.datetime.now(datetime.timezone.utc)
names = ["elasticsearch-logging", "elasticsearch-logging.kube-system", "elasticsearch-logging.kube-system.svc"]
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days={_DAYS}))
    .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    .sign(key, hashes.SHA256())
)
private = key.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
with os.fdopen(descriptor, "wb") as file:
    file.write(private + certificate.public_bytes(serialization.Encoding.PEM))
"""


def server_context(directory: Path) -> ssl.SSLContext:
    """Return a server's TLS context. Its key and certificate are in `directory/tls.pem` (mode 0600). Raises OSError."""
    path = directory / "tls.pem"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(path)
    except (FileNotFoundError, ssl.SSLError):
        temporary = directory / f"tls.{os.getpid()}.new"
        done = subprocess.run([sys.executable, "-I", "-c", _MAKE, str(temporary)], check=False, capture_output=True)
        if done.returncode != 0:
            reason = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise OSError(f"making a certificate failed: {reason}") from None
        os.replace(temporary, path)
        context.load_cert_chain(path)
    return context
