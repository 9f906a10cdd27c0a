"""Certificate requests in PKCS #10, and the certificates that the cluster's CA issues for them.

The rules of each signer are those of `pkg/controller/certificates/signer/signer.go` and of
`pkg/apis/certificates/helpers.go`. Requests come from clients, so their size is limited, and only their subject, names
and public key are used.
"""

from __future__ import annotations

import base64
import binascii
import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = [
    "API_CLIENT", "KUBELET_CLIENT", "KUBELET_SERVING", "MalformedRequest", "check_certificates", "issue",
    "parse_request", "signer_problem",
]  # fmt: skip

API_CLIENT = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING = "kubernetes.io/kubelet-serving"

# The maximum number of bytes of a request. A request with a key of 16,384 bits has about 5 KiB.
_MAX_REQUEST = 64 << 10
_MAX_RSA_BITS = 16_384
_BACKDATE = datetime.timedelta(minutes=5)
# A shorter lifetime than this is counted from now on. Any other lifetime is counted from the backdated start
# (`authority.PermissiveSigningPolicy`).
_SHORT = datetime.timedelta(hours=8)
# kube-controller-manager's --cluster-signing-duration.
_LIFE = datetime.timedelta(days=365)
_SHORTEST = datetime.timedelta(minutes=10)

_KEY_USAGES = {
    "signing": "digital_signature",
    "digital signature": "digital_signature",
    "content commitment": "content_commitment",
    "key encipherment": "key_encipherment",
    "key agreement": "key_agreement",
    "data encipherment": "data_encipherment",
}
_EXTENDED = {
    "any": ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "s/mime": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "timestamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
_SERVING_USAGES = ("digital signature", "key encipherment", "server auth")
_CLIENT_USAGES = ("client auth", "digital signature", "key encipherment")


class MalformedRequest(Exception):
    """The data is not a valid certificate request or certificate. The text says why."""


def parse_request(data: str) -> x509.CertificateSigningRequest:
    """Return the request in `data` (base64 of PEM) after checking its signature. Raises MalformedRequest."""
    if len(data) > _MAX_REQUEST:
        raise MalformedRequest(f"must be at most {_MAX_REQUEST} bytes")
    try:
        pem = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        pem = b""
    if b"-----BEGIN CERTIFICATE REQUEST-----" not in pem:
        raise MalformedRequest("PEM block type must be CERTIFICATE REQUEST")
    try:
        found = x509.load_pem_x509_csr(pem)
        key = found.public_key()
        known = isinstance(
            key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
        )
        if not known or (isinstance(key, rsa.RSAPublicKey) and key.key_size > _MAX_RSA_BITS):
            raise MalformedRequest("the public key is of a kind or size that is not supported")
        valid = found.is_signature_valid
        # Reading the extensions and the subject raises an exception if they are malformed.
        found.extensions  # noqa: B018
        found.subject.rfc4514_string()
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        InvalidSignature,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise MalformedRequest(f"x509: malformed certificate request: {error}") from None
    if not valid:
        raise MalformedRequest("x509: the signature of the certificate request is not right")
    return found


def check_certificates(data: str) -> None:
    """Raise MalformedRequest unless `data` (base64) is one or more certificates in PEM (`validateCertificate`)."""
    if len(data) > 4 * _MAX_REQUEST:
        raise MalformedRequest(f"must be at most {4 * _MAX_REQUEST} bytes")
    try:
        found = x509.load_pem_x509_certificates(base64.b64decode(data, validate=True))
    except (binascii.Error, ValueError):
        raise MalformedRequest("expected at least one PEM block") from None
    if not found:
        raise MalformedRequest("expected at least one PEM block")


def signer_problem(request: x509.CertificateSigningRequest, signer: str, usages: Sequence[str]) -> str:
    """Return why one of the cluster's signers must not sign a request; "" when it may."""
    wanted = set(usages)
    if signer == API_CLIENT:
        for one in usages:
            if one not in _CLIENT_USAGES:
                return f"invalid usage for client certificate: {one}"
        return "" if "client auth" in wanted else "missing required usage for client certificate: client auth"
    names = _alternative_names(request)
    organizations = [one.value for one in request.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if organizations != ["system:nodes"]:
        return "subject organization is not system:nodes"
    serving = signer == KUBELET_SERVING
    dns = any(isinstance(one, x509.DNSName) for one in names)
    ip = any(isinstance(one, x509.IPAddress) for one in names)
    if serving and not dns and not ip:
        return "DNS or IP subjectAltName is required"
    if not serving and dns:
        return "DNS subjectAltNames are not allowed"
    if any(isinstance(one, x509.RFC822Name) for one in names):
        return "Email subjectAltNames are not allowed"
    if not serving and ip:
        return "IP subjectAltNames are not allowed"
    if any(isinstance(one, x509.UniformResourceIdentifier) for one in names):
        return "URI subjectAltNames are not allowed"
    required = _SERVING_USAGES if serving else _CLIENT_USAGES
    if wanted not in (set(required), set(required) - {"key encipherment"}):
        return f"usages did not match [{' '.join(sorted(required))}]"
    common = [str(one.value) for one in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if not common or not common[-1].startswith("system:node:"):
        return "subject common name does not begin with system:node:"
    return ""


def _alternative_names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        return list(request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def issue(
    request: x509.CertificateSigningRequest,
    usages: Sequence[str],
    seconds: int | None,
    ca_certificate: Path,
    ca_key: Path,
    now: datetime.datetime,
) -> bytes:
    """Return a certificate (PEM) for a request, signed by the CA in `ca_certificate` and `ca_key`.

    The certificate is never a CA's certificate. seconds: its lifetime; None for one year, which is also the maximum.
    """
    ca = x509.load_pem_x509_certificate(ca_certificate.read_bytes())
    key = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    life = _LIFE if seconds is None else min(max(datetime.timedelta(seconds=seconds), _SHORTEST), _LIFE)
    # The start is backdated for machines whose clocks are slow.
    start = now - _BACKDATE
    end = min(now + life if life < _SHORT else start + life, ca.not_valid_after_utc)
    public = request.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(request.subject)
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
    )
    if any(one in _KEY_USAGES for one in usages):
        # An extension without any usage would be invalid (RFC 5280 section 4.2.1.3).
        builder = builder.add_extension(_key_usage(usages), critical=True)
    if extended := list(dict.fromkeys(_EXTENDED[one] for one in usages if one in _EXTENDED)):
        builder = builder.add_extension(x509.ExtendedKeyUsage(extended), critical=False)
    if names := _alternative_names(request):
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_usage(usages: Sequence[str]) -> x509.KeyUsage:
    wanted = {_KEY_USAGES[one] for one in usages if one in _KEY_USAGES}
    agreement = "key_agreement" in wanted
    # The usages "cert sign" and "crl sign" are left out: only certificates of CAs have them.
    return x509.KeyUsage(
        digital_signature="digital_signature" in wanted,
        content_commitment="content_commitment" in wanted,
        key_encipherment="key_encipherment" in wanted,
        data_encipherment="data_encipherment" in wanted,
        key_agreement=agreement,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=agreement and "encipher only" in usages,
        decipher_only=agreement and "decipher only" in usages,
    )
