"""The cluster's certificate authority and the certificates that it has signed.

Files below `StateDir.pki`, all 0600: pairs `NAME.crt` and `NAME.key` (PEM) with kubeadm's names, and the keys that sign
tokens. `ensure` makes missing files. It also renews certificates that are about to expire, or that lack one of the
cluster's names (after a node was added).

| name                       | subject                                                  | use             |
|----------------------------|----------------------------------------------------------|-----------------|
| ca                         | CN hatchway-ca                                           | signs the rest  |
| apiserver                  | CN kube-apiserver                                        | server          |
| apiserver-kubelet-client   | CN kube-apiserver-kubelet-client, O system:masters       | client          |
| admin                      | CN kubernetes-admin, O system:masters                    | client          |
| kube-proxy                 | CN system:kube-proxy                                     | client          |
| front-proxy-ca             | CN front-proxy-ca                                        | signs the next  |
| front-proxy-client         | CN front-proxy-client                                    | client          |
| kubelet-NODE               | CN system:node:NODE, O system:nodes                      | server, client  |
| sa.key, sa.pub             | signs service-account tokens                             |                 |
| user-tokens.key, .pub      | signs the tokens that `hatchway token --user` mints      |                 |
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hatchway.cluster import plan
from hatchway.errors import HatchwayError
from hatchway.files import write_private

_CA_LIFE = datetime.timedelta(days=3650)
_LIFE = datetime.timedelta(days=365)
# A certificate is renewed when less than this time is left, so that it does not expire in a cluster that runs for
# months without a restart.
_MARGIN = datetime.timedelta(days=90)
_SKEW = datetime.timedelta(minutes=5)

# The name of the API server as the front proxy of other API servers.
FRONT_PROXY = "front-proxy-client"
SIGNING_KEYS = ("sa", "user-tokens")


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Paths of a PEM certificate and of its key."""

    cert: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Subject:
    """The subject of a certificate, its alternative names, and its uses."""

    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    server: bool = False
    client: bool = False


class Pki:
    """The certificate authority of a cluster and its certificates. `ensure` makes them; other processes call `load`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = self.pair("ca")
        # This CA signs only one certificate. That certificate proves to other API servers that the X-Remote-* fields
        # of a request come from this API server.
        self.front_proxy_ca = self.pair("front-proxy-ca")
        self.front_proxy_client = self.pair("front-proxy-client")
        self.apiserver = self.pair("apiserver")
        self.kubelet_client = self.pair("apiserver-kubelet-client")
        self.admin = self.pair("admin")
        self.sa_key = directory / "sa.key"
        self.sa_pub = directory / "sa.pub"
        self.user_tokens_key = directory / "user-tokens.key"
        self.user_tokens_pub = directory / "user-tokens.pub"

    def pair(self, name: str) -> KeyPair:
        """Return the files of the pair called `name`, whether they exist or not."""
        return KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")

    def kubelet(self, node: str) -> KeyPair:
        """Return the pair of a node's kubelet: its server certificate and its identity as a client of the API."""
        return self.pair(f"kubelet-{node}")

    @property
    def ca_pem(self) -> bytes:
        """Return the CA's certificate in PEM, as pods find it in ca.crt."""
        return self.ca.cert.read_bytes()

    def issue(
        self,
        name: str,
        common_name: str,
        *,
        organizations: Sequence[str] = (),
        dns: Iterable[str] = (),
        ips: Iterable[str] = (),
        server: bool = False,
        client: bool = False,
    ) -> KeyPair:
        """Return the pair called `name` (an add-on's server certificate, for example); make or renew it when necessary.

        Raises HatchwayError.
        """
        subject = _Subject(common_name, tuple(organizations), tuple(dns), tuple(ips), server, client)
        return _ensure_pair(self, name, subject, self.ca)

    def server_context(self, pair: KeyPair | None = None, *, client_certificates: bool = True) -> ssl.SSLContext:
        """Return the TLS context of a listener: TLS 1.2 and newer, HTTP/1.1, `pair` (the API server's by default).

        client_certificates: True to request a certificate. Clients may send none; a certificate that the CA has not
        signed ends the handshake.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        chosen = pair or self.apiserver
        context.load_cert_chain(chosen.cert, chosen.key)
        context.set_alpn_protocols(["http/1.1"])
        if client_certificates:
            context.verify_mode = ssl.CERT_OPTIONAL
            context.load_verify_locations(self.ca.cert)
        return context

    def client_context(self, pair: KeyPair | None = None) -> ssl.SSLContext:
        """Return the TLS context of a client. pair: the client's certificate, or None.

        The server's certificate must be from this CA.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(self.ca.cert)
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        context.set_alpn_protocols(["http/1.1"])
        return context


def load(pki_dir: Path) -> Pki:
    """Return the authority that `ensure` has made. Raises HatchwayError when the cluster has not been started yet."""
    pki = Pki(pki_dir)
    if not pki.ca.cert.exists():
        raise HatchwayError(f"{pki_dir} holds no certificates yet", "start the cluster once: `hatchway up`")
    return pki


def ensure(
    pki_dir: Path,
    *,
    cluster_name: str,
    node_names: Sequence[str],
    node_ips: Sequence[str],
    api_ips: Sequence[str] = (),
    api_names: Sequence[str] = (),
) -> Pki:
    """Make or renew all keys and certificates of a cluster.

    node_ips: the address of each node in `node_names`.
    api_ips, api_names: addresses and names of the API server, besides loopback, its cluster address and its service
        names.

    Raises HatchwayError.
    """
    pki = Pki(pki_dir)
    try:
        pki_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _ensure_ca(pki.ca, f"hatchway-ca-{cluster_name}"[:64])
        _ensure_ca(pki.front_proxy_ca, "front-proxy-ca")
        for name in SIGNING_KEYS:
            _ensure_signing_key(pki_dir, name)
        for name, subject in _subjects(node_names, node_ips, api_ips, api_names).items():
            _ensure_pair(pki, name, subject, pki.ca)
        _ensure_pair(pki, FRONT_PROXY, _Subject(FRONT_PROXY, client=True), pki.front_proxy_ca)
    except OSError as error:
        raise HatchwayError(f"cannot write the certificates in {pki_dir}: {error.strerror}") from error
    return pki


def _subjects(
    node_names: Sequence[str], node_ips: Sequence[str], api_ips: Sequence[str], api_names: Sequence[str]
) -> dict[str, _Subject]:
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    names += [f"kubernetes.default.svc.{plan.CLUSTER_DOMAIN}", *api_names]
    ips = ["127.0.0.1", "::1", plan.API_SERVICE_IP, *api_ips]
    found = {
        "apiserver": _Subject("kube-apiserver", dns=_unique(names), ips=_unique(ips), server=True),
        "apiserver-kubelet-client": _Subject("kube-apiserver-kubelet-client", ("system:masters",), client=True),
        "admin": _Subject("kubernetes-admin", ("system:masters",), client=True),
        "kube-proxy": _Subject("system:kube-proxy", client=True),
    }
    for node, ip in zip(node_names, node_ips, strict=True):
        found[f"kubelet-{node}"] = _Subject(
            f"system:node:{node}", ("system:nodes",), dns=(node,), ips=(ip,), server=True, client=True
        )
    return found


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(
        path,
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return key


def load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Return an EC private key. Raises HatchwayError when it does not exist or is not an EC key."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise HatchwayError(f"{path} does not exist", "start the cluster once: `hatchway up`") from error
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise HatchwayError(f"cannot read the key {path}: {error}", _DAMAGED) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise HatchwayError(f"the key {path} is not an EC key", _DAMAGED)
    return key


_DAMAGED = "move the pki directory away to have a new one made; clients then need new credentials"


def _load_certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise HatchwayError(f"cannot read the certificate {path}: {error}", _DAMAGED) from error


def _is_fresh(certificate: x509.Certificate) -> bool:
    """Return True when a certificate is valid and need not be renewed yet.

    The certificate's start may be in the future when this machine's clock was set back.
    """
    now = _now()
    return certificate.not_valid_before_utc <= now and now + _MARGIN < certificate.not_valid_after_utc


def _same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()


def _ensure_ca(pair: KeyPair, common_name: str) -> None:
    certificate = _load_certificate(pair.cert)
    if certificate is not None and _is_fresh(certificate):
        if not _same_key(certificate, load_key(pair.key)):
            raise HatchwayError(f"{pair.cert} does not belong to {pair.key}", _DAMAGED)
        return
    key = _new_key(pair.key)
    now = _now()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "hatchway"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(pair.cert, certificate.public_bytes(serialization.Encoding.PEM))


def _ensure_signing_key(directory: Path, name: str) -> None:
    path = directory / f"{name}.key"
    key = load_key(path) if path.exists() else _new_key(path)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    known = directory / f"{name}.pub"
    if not known.exists() or known.read_bytes() != public:
        write_private(known, public)


def _ensure_pair(pki: Pki, name: str, subject: _Subject, authority: KeyPair) -> KeyPair:
    """Return the pair called `name`, signed by `authority`; make or renew it when necessary."""
    pair = pki.pair(name)
    ca = _load_certificate(authority.cert)
    if ca is None:
        raise HatchwayError(f"{authority.cert} does not exist", "start the cluster once: `hatchway up`")
    certificate = _load_certificate(pair.cert)
    if certificate is not None and pair.key.exists():
        key = load_key(pair.key)
        if _same_key(certificate, key) and _is_fresh(certificate) and _covers(certificate, subject, ca):
            return pair
    key = _new_key(pair.key)
    certificate = _sign(key, subject, ca, load_key(authority.key))
    write_private(pair.cert, certificate.public_bytes(serialization.Encoding.PEM))
    return pair


def _covers(certificate: x509.Certificate, subject: _Subject, ca: x509.Certificate) -> bool:
    """Return True when a certificate that was made now would have the same contents, except for the dates."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError, TypeError):
        return False
    if certificate.subject != _name(subject):
        return False
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    if set(uses) != set(_uses(subject)):
        return False
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return not subject.dns and not subject.ips
    known = {*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))}
    return known == {*subject.dns, *(str(ipaddress.ip_address(ip)) for ip in subject.ips)}


def _name(subject: _Subject) -> x509.Name:
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.ORGANIZATION_NAME, item) for item in subject.organizations),
            x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name),
        ]
    )


def _uses(subject: _Subject) -> list[x509.ObjectIdentifier]:
    found = []
    if subject.server:
        found.append(ExtendedKeyUsageOID.SERVER_AUTH)
    if subject.client:
        found.append(ExtendedKeyUsageOID.CLIENT_AUTH)
    return found


def _sign(
    key: ec.EllipticCurvePrivateKey, subject: _Subject, ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = _now()
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
        ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(min(now + _LIFE, ca.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_uses(subject)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(authority, critical=False)
    )
    if subject.dns or subject.ips:
        names: list[x509.GeneralName] = [x509.DNSName(item) for item in subject.dns]
        names += [x509.IPAddress(ipaddress.ip_address(item)) for item in subject.ips]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(ca_key, hashes.SHA256())


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
