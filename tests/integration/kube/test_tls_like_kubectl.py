"""Server certificates are checked, and client certificates presented, as by kubectl at the same server."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from hatchway.errors import HatchwayError
from hatchway.kube.connection import Connection
from tests.conftest import find_kubectl
from tests.integration.kube.world import ApiServer, write_kubeconfig

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
PEM = serialization.Encoding.PEM
NOT_ENCRYPTED = serialization.NoEncryption()


class Issued:
    """A certificate and its key; it can issue others. san: None for a certificate with a common name only."""

    def __init__(
        self,
        name: str,
        by: Issued | None = None,
        *,
        ca: bool = False,
        san: bool = True,
        key: Key | None = None,
        days: int = 1,
    ) -> None:
        self.key: Key = key or ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.name)
            .issuer_name(by.name if by else self.name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if san and not ca:
            names = [x509.DNSName("localhost"), x509.DNSName("k8s.test"), x509.IPAddress(ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        signer = by.key if by else self.key
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256()
        self.certificate = builder.sign(signer, algorithm)
        self.pem = self.certificate.public_bytes(PEM)
        self.der = self.certificate.public_bytes(serialization.Encoding.DER)

    def key_pem(
        self,
        form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
        how: serialization.KeySerializationEncryption = NOT_ENCRYPTED,
    ) -> bytes:
        return self.key.private_bytes(PEM, form, how)


class Chain:
    """The server's certificate chain (`root`, `middle`, `leaf`), and certificates that do not belong to it."""

    def __init__(self, directory: Path) -> None:
        self.root = Issued("root", ca=True)
        self.middle = Issued("middle", self.root, ca=True)
        self.leaf = Issued("server", self.middle)
        self.stranger = Issued("stranger", ca=True)
        self.expired = Issued("root", ca=True, key=self.root.key, days=-1)
        self._directory = directory

    def context(self, *shown: Issued) -> ssl.SSLContext:
        own, *others = shown or (self.leaf, self.middle)
        file = self._directory / "server.pem"
        file.write_bytes(own.pem + b"".join(other.pem for other in others) + own.key_pem())
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    return Chain(tmp_path_factory.mktemp("chain"))


@pytest.fixture
async def api(chain: Chain) -> AsyncIterator[ApiServer]:
    server = ApiServer()
    await server.start(chain.context())
    yield server
    await server.stop()


async def reached(config: Path, cluster: dict[str, Any], user: dict[str, Any]) -> tuple[bool, bool, str]:
    """Return (whether kubectl got an answer, whether Hatchway did, Hatchway's error)."""
    write_kubeconfig(config, cluster, user)
    process = await asyncio.create_subprocess_exec(
        find_kubectl(), f"--kubeconfig={config}", "get", "--raw", "/x",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    code = await asyncio.wait_for(process.wait(), 30)
    try:
        connection = Connection.load(str(config))
        try:
            status, _ = await connection.client.exchange("GET", "/x")
        finally:
            await connection.aclose()
        return code == 0, status == 200, ""
    except HatchwayError as error:
        return code == 0, False, error.message


def crlf(pem: bytes) -> bytes:
    return pem.replace(b"\n", b"\r\n")


BROKEN = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
UNFINISHED = b"-----BEGIN CERTIFICATE-----\nMIIB\n"
BUNDLES: dict[str, tuple[Callable[[Chain], bytes], bool]] = {
    "root": (lambda c: c.root.pem, True),
    "intermediate": (lambda c: c.middle.pem, True),
    "leaf": (lambda c: c.leaf.pem, True),
    "stranger": (lambda c: c.stranger.pem, False),
    "comment": (lambda c: "# Zertifikat für Köln\n".encode() + c.root.pem + "Ende … ✓".encode(), True),
    "latin-1": (lambda c: b"# \xe9\xff\n" + c.root.pem, True),
    "one unparsable": (lambda c: BROKEN + c.root.pem + BROKEN, True),
    "one unfinished": (lambda c: UNFINISHED + c.root.pem, True),
    "only unparsable": (lambda c: BROKEN, False),
    "nothing": (lambda c: b"nothing", False),
    "CRLF": (lambda c: crlf(c.root.pem), True),
    "no newline": (lambda c: c.stranger.pem + c.root.pem.rstrip(b"\n"), True),
    "glued": (lambda c: c.stranger.pem.rstrip(b"\n") + c.root.pem, False),
    "indented": (lambda c: b"".join(b"  " + line + b"\n" for line in c.root.pem.splitlines()), False),
    "blanks at the ends": (lambda c: b"".join(line + b" \t\n" for line in c.root.pem.splitlines()), True),
    "DER": (lambda c: c.root.der, False),
    "twice": (lambda c: c.root.pem * 2 + c.middle.pem * 2, True),
    "expired": (lambda c: c.expired.pem, False),
    "expired and good": (lambda c: c.expired.pem + c.root.pem, True),
    "trusted certificate": (lambda c: c.root.pem.replace(b"CERTIFICATE", b"TRUSTED CERTIFICATE"), False),
    "X509": (lambda c: c.root.pem.replace(b"CERTIFICATE", b"X509 CERTIFICATE"), False),
    "headers": (lambda c: c.root.pem.replace(b"-----\n", b"-----\nA: b\n\n", 1), False),
    "a key beside": (lambda c: c.root.key_pem() + c.root.pem, True),
    "another end": (lambda c: c.root.pem.replace(b"END CERTIFICATE", b"END X"), False),
}


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("inline", [True, False])
async def test_bundles(name: str, inline: bool, chain: Chain, api: ApiServer, tmp_path: Path) -> None:
    make, good = BUNDLES[name]
    bundle = make(chain)
    cluster: dict[str, Any] = {"server": f"https://127.0.0.1:{api.port}"}
    if inline:
        cluster["certificate-authority-data"] = base64.b64encode(bundle).decode()
    else:
        (tmp_path / "ca.crt").write_bytes(bundle)
        cluster["certificate-authority"] = "ca.crt"
    theirs, ours, why = await reached(tmp_path / "config", cluster, {"token": "t"})
    assert (theirs, ours) == (good, good), why


@pytest.mark.parametrize(
    ("settings", "good"),
    [
        ({"server": "https://localhost:PORT"}, True),
        ({"server": "https://127.0.0.2:PORT"}, False),
        ({"server": "https://127.0.0.2:PORT", "tls-server-name": "k8s.test"}, True),
        ({"server": "https://127.0.0.1:PORT", "tls-server-name": "other.test"}, False),
        ({"server": "https://127.0.0.2:PORT", "tls-server-name": "127.0.0.1"}, True),
        ({"server": "https://127.0.0.2:PORT", "insecure-skip-tls-verify": True, "certificate-authority": ""}, True),
        ({"insecure-skip-tls-verify": True}, False),
    ],
)
async def test_names(settings: dict[str, Any], good: bool, chain: Chain, tmp_path: Path) -> None:
    server = ApiServer()
    await server.start(chain.context(), host="0.0.0.0")
    (tmp_path / "ca.crt").write_bytes(chain.root.pem)
    cluster = {"server": "https://127.0.0.1:PORT", "certificate-authority": "ca.crt", **settings}
    cluster["server"] = cluster["server"].replace("PORT", str(server.port))
    theirs, ours, why = await reached(tmp_path / "config", cluster, {"token": "t"})
    await server.stop()
    assert (theirs, ours) == (good, good), why


async def test_a_common_name_does_not_count_as_a_name(chain: Chain, tmp_path: Path) -> None:
    server = ApiServer()
    await server.start(chain.context(Issued("localhost", chain.root, san=False)))
    (tmp_path / "ca.crt").write_bytes(chain.root.pem)
    cluster = {"server": f"https://localhost:{server.port}", "certificate-authority": "ca.crt"}
    assert (await reached(tmp_path / "config", cluster, {"token": "t"}))[:2] == (False, False)
    await server.stop()


FORMS = serialization.PrivateFormat
CLIENTS: dict[str, tuple[Callable[[Issued], tuple[bytes, bytes]], bool]] = {
    "PKCS 8": (lambda c: (c.pem, c.key_pem()), True),
    "traditional": (lambda c: (c.pem, c.key_pem(FORMS.TraditionalOpenSSL)), True),
    "CRLF": (lambda c: (crlf(c.pem), crlf(c.key_pem())), True),
    "one file for both": (lambda c: (c.pem + c.key_pem(), c.pem + c.key_pem()), True),
    "key first": (lambda c: (c.key_pem() + c.pem, c.key_pem() + c.pem), True),
    "parameters": (lambda c: (c.pem, b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
                              + c.key_pem()), True),
    "comments": (lambda c: ("für\n".encode() + c.pem, "Schlüssel\n".encode() + c.key_pem()), True),
    "encrypted": (lambda c: (c.pem, c.key_pem(how=serialization.BestAvailableEncryption(b"x"))), False),
    "another key": (lambda c: (c.pem, Issued("x").key_pem()), False),
    "no key": (lambda c: (c.pem, c.pem), False),
    "no certificate": (lambda c: (c.key_pem(), c.key_pem()), False),
}  # fmt: skip


async def client_tried(tmp_path: Path, chain: Chain, shown: bytes, key: bytes) -> tuple[bool, bool, str]:
    """Connect to a server that demands a client certificate and trusts only `chain.root`; return the results."""
    context = chain.context()
    context.load_verify_locations(cadata=chain.root.pem.decode())
    context.verify_mode = ssl.CERT_REQUIRED
    server = ApiServer()
    await server.start(context)
    (tmp_path / "ca.crt").write_bytes(chain.root.pem)
    cluster = {"server": f"https://127.0.0.1:{server.port}", "certificate-authority": "ca.crt"}
    encoded = [base64.b64encode(data).decode() for data in (shown, key)]
    user = {"client-certificate-data": encoded[0], "client-key-data": encoded[1]}
    try:
        return await reached(tmp_path / "config", cluster, user)
    finally:
        await server.stop()


@pytest.mark.parametrize("name", CLIENTS)
async def test_client_certificates(name: str, chain: Chain, tmp_path: Path) -> None:
    make, good = CLIENTS[name]
    theirs, ours, why = await client_tried(tmp_path, chain, *make(Issued("me", chain.root)))
    assert (theirs, ours) == (good, good), why


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "through an intermediate"])
async def test_kinds_of_client_certificates(kind: str, chain: Chain, tmp_path: Path) -> None:
    if kind == "through an intermediate":
        middle = Issued("team", chain.root, ca=True)
        client, more = Issued("me", middle), middle.pem
    else:
        key: Key = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else rsa.generate_private_key(65537, 2048)
        client, more = Issued("me", chain.root, key=key), b""
    theirs, ours, why = await client_tried(tmp_path, chain, client.pem + more, client.key_pem())
    assert (theirs, ours) == (True, True), why
