"""Users of client certificates: CN is the user, every O a group.

The behaviour is that of apiserver's `pkg/authentication/request/x509/x509.go`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hatchway.cluster.auth.user import UserInfo


@dataclass(frozen=True, slots=True)
class CertificateUser:
    """The user of a certificate, and the time when the certificate expires (POSIX seconds)."""

    user: UserInfo
    not_after: float


def user_of(der: bytes) -> CertificateUser | None:
    """Return the user of a certificate (DER), whose chain TLS has verified.

    None when the certificate cannot be read, is not for clients, has no CN, or is not valid at the moment.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        organizations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        try:
            uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        except x509.ExtensionNotFound:
            return None
    except ValueError:
        return None
    if not names or ExtendedKeyUsageOID.CLIENT_AUTH not in uses:
        return None
    now = datetime.datetime.now(datetime.UTC)
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        return None
    # If there are several CNs, the last (most specific) one is used, as in Go's pkix.Name.
    name = _text(names[-1].value)
    if not name:
        return None
    groups = tuple(_text(item.value) for item in organizations)
    return CertificateUser(UserInfo(name, groups), certificate.not_valid_after_utc.timestamp())


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode(errors="replace")
