"""The cluster's certificates: their contents, their use in TLS, and their renewal."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from hatchway.cluster.auth import certificates, pki
from hatchway.cluster.auth.pki import KeyPair, Pki
from hatchway.errors import HatchwayError


def ensure(directory: Path, *nodes: str) -> Pki:
    names = list(nodes) or ["node-1"]
    return pki.ensure(
        directory, cluster_name="c", node_names=names, node_ips=[f"172.18.0.{i + 2}" for i in range(len(names))]
    )


def read(pair: KeyPair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pair.cert.read_bytes())


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Do a TLS handshake in memory. Raises ssl.SSLError if one of the sides refuses."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=name),
    ]
    for _ in range(6):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends[0], ends[1]


def test_every_file_is_private(tmp_path: Path) -> None:
    ensure(tmp_path / "pki")
    files = [*(tmp_path / "pki").iterdir()]
    assert {"ca.crt", "ca.key", "apiserver.crt", "admin.key", "kubelet-node-1.crt", "sa.key", "sa.pub"} <= {
        file.name for file in files
    }
    assert [file.name for file in files if file.stat().st_mode & 0o077] == []


def test_subjects_and_names(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    names = read(found.apiserver).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    }
    assert {str(ip) for ip in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.96.0.1"}

    def user(pair: KeyPair) -> tuple[str, tuple[str, ...]] | None:
        known = certificates.user_of(read(pair).public_bytes(pki.serialization.Encoding.DER))
        return (known.user.name, known.user.groups) if known else None

    assert user(found.admin) == ("kubernetes-admin", ("system:masters",))
    assert user(found.kubelet_client) == ("kube-apiserver-kubelet-client", ("system:masters",))
    assert user(found.kubelet("node-1")) == ("system:node:node-1", ("system:nodes",))
    # A server's certificate does not authenticate a client.
    assert user(found.apiserver) is None


def test_tls_accepts_the_certificates(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    server = found.server_context()
    for name in ("127.0.0.1", "localhost", "kubernetes.default.svc"):
        accepted, _ = handshake(server, found.client_context(found.admin), name)
        der = accepted.getpeercert(binary_form=True)
        assert der is not None
        known = certificates.user_of(der)
        assert known is not None
        assert known.user.name == "kubernetes-admin"
    accepted, client = handshake(server, found.client_context(), "localhost")
    assert accepted.getpeercert(binary_form=True) is None
    assert client.version() in ("TLSv1.2", "TLSv1.3")
    assert client.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, found.client_context(), "example.com")
    kubelet = found.server_context(found.kubelet("node-1"))
    handshake(kubelet, found.client_context(found.kubelet_client), "172.18.0.2")


def test_strict_verification_accepts_the_certificates(tmp_path: Path) -> None:
    """Python 3.13 makes these checks by default."""
    found = ensure(tmp_path)
    client = found.client_context(found.admin)
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = found.server_context()
    server.verify_flags |= ssl.VERIFY_X509_STRICT
    handshake(server, client, "localhost")


def test_another_clusters_certificates_are_refused(tmp_path: Path) -> None:
    mine, other = ensure(tmp_path / "a"), ensure(tmp_path / "b")
    with pytest.raises(ssl.SSLError):
        handshake(mine.server_context(), other.client_context(), "localhost")
    trusting = mine.client_context(None)
    trusting.load_cert_chain(other.admin.cert, other.admin.key)
    with pytest.raises(ssl.SSLError):
        handshake(mine.server_context(), trusting, "localhost")


def test_existing_files_are_not_replaced(tmp_path: Path) -> None:
    ensure(tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    ensure(tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_a_new_name_renews_only_the_certificates_that_need_it(tmp_path: Path) -> None:
    before = ensure(tmp_path)
    kept = read(before.admin), read(before.kubelet("node-1")), before.ca_pem
    server = read(before.apiserver)
    found = pki.ensure(
        tmp_path,
        cluster_name="c",
        node_names=["node-1", "node-2"],
        node_ips=["172.18.0.2", "172.18.0.3"],
        api_ips=["192.0.2.1"],
        api_names=["api.test"],
    )
    assert (read(found.admin), read(found.kubelet("node-1")), found.ca_pem) == kept
    assert read(found.apiserver) != server
    assert found.kubelet("node-2").cert.exists()
    handshake(found.server_context(), found.client_context(), "192.0.2.1")
    handshake(found.server_context(), found.client_context(), "api.test")


def test_certificates_that_expire_soon_are_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ensure(tmp_path)
    before = read(found.admin)
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=300)
    monkeypatch.setattr(pki, "_now", lambda: later)
    assert read(ensure(tmp_path).admin).not_valid_after_utc > before.not_valid_after_utc
    # The certificate authority is renewed, and so are all certificates that it signed.
    later += datetime.timedelta(days=3650)
    ca = found.ca_pem
    renewed = ensure(tmp_path)
    assert renewed.ca_pem != ca
    monkeypatch.undo()
    handshake_subject = read(renewed.admin)
    handshake_subject.verify_directly_issued_by(read(renewed.ca))


def test_certificates_that_begin_in_the_future_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate begins in the future if the clock was set back since the last start."""
    earlier = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    ensure(tmp_path)
    monkeypatch.setattr(pki, "_now", lambda: earlier)
    made = ensure(tmp_path)
    for pair in (made.ca, made.admin, made.kubelet("node-1")):
        assert read(pair).not_valid_before_utc < earlier
    read(made.admin).verify_directly_issued_by(read(made.ca))


def test_a_key_without_its_certificate_is_replaced(tmp_path: Path) -> None:
    """A crash between the two writes leaves a key without its certificate."""
    found = ensure(tmp_path)
    found.admin.key.write_bytes(found.apiserver.key.read_bytes())
    handshake(ensure(tmp_path).server_context(), found.client_context(found.admin), "localhost")


@pytest.mark.parametrize("name", ["ca.crt", "ca.key", "sa.key", "admin.crt"])
def test_errors_name_damaged_files(tmp_path: Path, name: str) -> None:
    ensure(tmp_path)
    (tmp_path / name).write_bytes(b"garbage")
    with pytest.raises(HatchwayError, match=name):
        ensure(tmp_path)


def test_a_foreign_authority_key_is_an_error(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    found.ca.key.write_bytes(found.admin.key.read_bytes())
    with pytest.raises(HatchwayError, match="does not belong"):
        ensure(tmp_path)


def test_load_needs_a_started_cluster(tmp_path: Path) -> None:
    with pytest.raises(HatchwayError, match="no certificates"):
        pki.load(tmp_path)


def test_an_addons_certificate(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    pair = found.issue(
        "elasticsearch-logging", "elasticsearch-logging", dns=["es.test"], ips=["10.96.0.7"], server=True
    )
    handshake(found.server_context(pair), found.client_context(), "es.test")
    first = read(pair)
    assert (
        read(
            found.issue(
                "elasticsearch-logging", "elasticsearch-logging", dns=["es.test"], ips=["10.96.0.7"], server=True
            )
        )
        == first
    )


def test_a_certificate_for_another_use_is_issued_anew(tmp_path: Path) -> None:
    found = ensure(tmp_path)
    first = read(found.issue("x", "x", dns=["x.test"], server=True))
    assert read(found.issue("x", "x", dns=["x.test"], server=True, client=True)) != first


@pytest.mark.parametrize("der", [b"", b"garbage", b"\x30\x03\x02\x01\x01"])
def test_invalid_certificates_have_no_user(der: bytes) -> None:
    assert certificates.user_of(der) is None
